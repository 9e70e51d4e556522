"""Time the models of a kit: `python run.py`. It needs Python 3.8, numpy and onnxruntime, and nothing else.

Written by `graphprune bench-kit`. Copy the whole folder to the machine that counts, run this there, and bring
the folder `results` back: `graphprune profile --from results -o device.json`. A run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import time
from operator import truediv
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

FORMAT = 1
HERE = Path(__file__).resolve().parent
ABOUT, POOL, REFERENCE = "kit.json", "weights.bin", "reference.onnx"
OPTIMISED, LEFT = "optimised.onnx", "left.bin"
WARMUP, LEAST, MOST = 3, 12, 200
"""Runs that do not count, and how many do at least and at most."""
QUIET = (0.1, 0.5)
"""Ranks of the runs in which nothing else came between."""
CHUNK = 1 << 20
Times = list[float]


def fill(pools: list[dict[str, Any]], path: Path) -> None:
    """Random weights, as large as those of the models; models are written without theirs."""
    if path.exists() and path.stat().st_size == sum(pool["bytes"] for pool in pools):
        return
    rng = np.random.default_rng(0)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        for pool in pools:
            dtype, left = np.dtype(pool["dtype"]), pool["bytes"]
            while left:
                array = _drawn(rng, min(left // dtype.itemsize, CHUNK), dtype, pool["scale"])
                left -= file.write(array.tobytes())
    partial.replace(path)


def _drawn(rng: Any, count: int, dtype: Any, scale: float) -> Any:
    if dtype.kind == "f":
        return (rng.standard_normal(count) * scale).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, count, dtype, endpoint=True)


def features() -> list[str]:
    """Words that say which instructions the processor has."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return []
    named = (
        line.partition(":")[2].split() for line in lines if line.lower().startswith(("flags", "features"))
    )
    return next(named, [])


def opened(path: Path, given: argparse.Namespace, folder: Path | None = None) -> Any:
    """A session; with a folder it traces, and writes down the graph that it runs."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = given.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    if folder is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(folder / "trace")
        options.optimized_model_filepath = str(folder / OPTIMISED)
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", LEFT)
    return ort.InferenceSession(str(path), options, providers=given.providers)


def events(trace: Path, bodies: list[str]) -> list[list[dict[str, Any]]]:
    """Nodes of the main graph, run by run; what runs in a body is part of its node."""
    runs: list[list[dict[str, Any]]] = []
    now: list[dict[str, Any]] = []
    for event in json.loads(trace.read_text(encoding="utf-8", errors="replace")):
        if event["cat"] == "Session" and event["name"] == "model_run":
            runs.append(now)
            now = []
        elif event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
            if event["args"]["op_name"] in bodies:
                now = [each for each in now if each["ts"] < event["ts"]]
            now.append(event)
    return runs


def quiet(spent: list[float], slow: list[float]) -> float:
    """How many times the fixed product it takes: the mean of the runs in which nothing else came between."""
    times = list(map(truediv, spent, slow))
    low, high = (round(rank * len(times)) for rank in QUIET)
    return float(np.mean(sorted(times)[low : max(high, low + 1)]))


class Reference:
    """A fixed product, timed beside every run: a machine that is busy or hot is slower for all alike."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._session = opened(HERE / "models" / REFERENCE, given)
        self._feeds = {"tick": np.zeros(1, np.float32), "x": np.ones((64, 256), np.float32)}
        self.best = min(self.seconds() for _ in range(LEAST))

    def seconds(self) -> float:
        """Of one run of it."""
        start = time.perf_counter()
        self._session.run(None, self._feeds)
        return time.perf_counter() - start

    def each(
        self, session: Any, feeds: dict[str, Any], count: int, most: float
    ) -> tuple[list[float], list[float]]:
        """Seconds of so many runs, or fewer where they take longer; and how slow the machine was at each."""
        spent: list[float] = []
        slow: list[float] = []
        before = self.seconds()
        while len(spent) < WARMUP + LEAST or (sum(spent) < most and len(spent) < count):
            start = time.perf_counter()
            session.run(None, feeds)
            spent.append(time.perf_counter() - start)
            after = self.seconds()
            slow.append((before + after) / 2)
            before = after
        self.best = min([self.best, *slow])
        return spent[WARMUP:], slow[WARMUP:]


def node(several: list[dict[str, Any]], slow: list[float], best: float) -> dict[str, Any]:
    """One node over all runs."""
    told = several[0]["args"]
    return {
        "operator": told["op_name"],
        "inputs": told.get("input_type_shape", []),
        "outputs": told.get("output_type_shape", []),
        "seconds": 1e-6 * best * quiet([event["dur"] for event in several], slow),
    }


def timed(
    path: Path, feeds: dict[str, Any], bodies: list[str], given: argparse.Namespace, folder: Path
) -> dict[str, Any]:
    """A model as it runs here: the whole of it without a trace, then every node."""
    reference = Reference(given)
    whole, slow = reference.each(opened(path, given), feeds, MOST, given.seconds)
    session = opened(path, given, folder)
    traced = reference.each(session, feeds, len(whole) + WARMUP, math.inf)[1]
    trace = Path(session.end_profiling())
    runs = events(trace, bodies)[WARMUP:]
    alike = [at for at, run in enumerate(runs) if len(run) == len(runs[-1])]
    for left in (trace, folder / LEFT):
        if left.exists():
            left.unlink()
    best, moods = reference.best, [traced[at] for at in alike]
    nodes = [node([runs[at][place] for at in alike], moods, best) for place in range(len(runs[-1]))]
    seconds = best * quiet(whole, slow)
    return {"seconds": seconds, "reference": best, "runs": len(alike), "nodes": nodes}


def run(kit: dict[str, Any], given: argparse.Namespace) -> None:
    """Every model in turn; what has a result is not run again."""
    about = {
        "format": FORMAT,
        "kit": kit["kit"],
        "architecture": platform.machine(),
        "features": features(),
        "runtime": ort.__version__,
        "threads": given.threads,
        "providers": given.providers,
    }
    given.results.mkdir(exist_ok=True, parents=True)
    for number, name in enumerate(kit["models"], 1):
        done, folder = given.results / f"{name}.json", given.results / name
        if done.exists():
            continue
        print(f"{number} of {len(kit['models'])}: {name}", file=sys.stderr, flush=True)
        folder.mkdir(exist_ok=True)
        with np.load(str(HERE / "inputs" / f"{kit['inputs'][name]}.npz")) as feeds:
            found = timed(HERE / "models" / f"{name}.onnx", dict(feeds), kit["bodies"], given, folder)
        partial = done.with_suffix(".partial")
        partial.write_text(json.dumps({**about, **found}))
        partial.replace(done)


def main() -> None:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="of ONNX Runtime")
    parser.add_argument("--seconds", type=float, default=1.0, help="of timing each model")
    usual = ["CPUExecutionProvider"]
    parser.add_argument("--providers", nargs="+", default=usual, help="as onnxruntime calls them")
    parser.add_argument(
        "--results", type=Path, default=HERE / "results", help="a folder for what is measured"
    )
    given = parser.parse_args()
    kit = json.loads((HERE / ABOUT).read_text())
    fill(kit["pools"], HERE / "models" / POOL)
    run(kit, given)
    print(f"done: bring {given.results} back", file=sys.stderr)


if __name__ == "__main__":
    main()
