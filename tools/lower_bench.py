"""How much faster `graphprune lower` makes files: ``python -m tools.lower_bench run FILE... [--peers
PYTHON]``.

Every model is timed as it was given, lowered for both targets, and as onnxsim and onnxslim leave it (of the
interpreter that --peers names), interleaved in one process, in three processes. A row per model, machine and
process is added to docs/lower.jsonl, so a run can be stopped and taken up again; ``page`` writes the table
into docs/lower.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir

import graphprune
from graphprune.errors import GraphpruneError
from graphprune.lowering.rules import RULES
from graphprune.lowering.table import here, table
from graphprune.pipeline.opened import load_to_run
from graphprune.pipeline.settings import Timing
from graphprune.pipeline.timed import times_of
from graphprune.runtime.inputs import runnable_inputs
from graphprune.runtime.latency import Subject, measure
from graphprune.runtime.profile import profile
from graphprune.runtime.session import open_session

DOCS = Path(__file__).resolve().parents[1] / "docs"
ROWS, PAGE = DOCS / "lower.jsonl", DOCS / "lower.md"
PROCESSES = 3
TARGETS = ("portable", "native")
PEERS = {"onnxsim": ("-m", "onnxsim"), "onnxslim": ("-m", "onnxslim")}
CHANGED = 0.25
"""Share of time outside contractions from which on a model counts for the geometric mean."""
SHAPES: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "ch_PP-OCRv4_det_infer": {"x": (1, 3, 640, 480)},
    "ch_PP-OCRv4_rec_infer": {"x": (1, 3, 48, 320)},
    "ch_ppocr_mobile_v2.0_cls_infer": {"x": (1, 3, 48, 192)},
    "320n": {"images": (1, 3, 320, 320)},
    "swift_f0": {"audio": (1, 16000)},
    "pnet": {"input_1": (1, 120, 160, 3)},
    "attacut-c": {"input": (1, 120)},
    "attacut-sc": {"input": (1, 2, 120)},
    "common": {"input1": (1, 1, 64, 160)},
    "common_old": {"input1": (1, 1, 64, 160)},
}
"""Sizes at which models with open ones are used; the others run at the sizes that graphprune generates."""


def inputs(path: Path) -> dict[str, np.ndarray]:
    """One input of a model, of the batch of one."""
    model, shapes = ir.load(path), SHAPES.get(name_of(path))
    if shapes is None:
        return runnable_inputs(model, batch=1)
    feed = runnable_inputs(model, batch=1)
    random = np.random.default_rng(0)
    return feed | {
        name: random.standard_normal(shape).astype(feed[name].dtype) for name, shape in shapes.items()
    }


def outside(path: Path, feed: Mapping[str, np.ndarray]) -> float:
    """Share of time that ONNX Runtime spends outside contractions, as `inspect --time` says it."""
    return times_of(profile(load_to_run(path, Timing()).model, feed, seconds=1)).outside


def made(path: Path, folder: Path) -> dict[str, Path]:
    """The lowered files, by target."""
    files = {target: folder / f"{target}.onnx" for target in TARGETS}
    for target, file in files.items():
        if not file.exists():
            graphprune.lower(path, file, target=target)
    return files


def simplified(path: Path, folder: Path, peers: str | None) -> dict[str, Path]:
    """What onnxsim and onnxslim make of a file, where they make something."""
    files = {}
    for name, call in PEERS.items() if peers else ():
        out = folder / f"{name}.onnx"
        if not out.exists():
            subprocess.run([str(peers), *call, str(path), str(out)], capture_output=True, check=False)
        if out.exists():
            files[name] = out
    return files


def one(path: Path, files: Mapping[str, Path]) -> dict[str, object]:
    """Times as fast as the file as given, with 99 % intervals; the lowered file is the baseline of none."""
    feed = inputs(path)
    subjects = []
    for name, file in files.items():
        try:
            session = open_session(file)
            session.run(feed, 60)
        except GraphpruneError:
            continue  # a peer's file that does not run
        subjects.append(Subject(name, session, feed))
    found = measure(subjects, min_seconds=0.5, max_seconds=3.0)
    ratios = {
        each.name: {
            "speedup": round(1 / each.value, 3),
            "interval": [round(1 / each.high, 3), round(1 / each.low, 3)],
            "verdict": each.verdict,
        }
        for each in found.ratios
    }
    return {"ms": round(1e3 * found.timings[0].cpu_median, 4), "ratios": ratios}


def stored() -> list[dict[str, object]]:
    """Rows of earlier runs."""
    return (
        [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()] if ROWS.exists() else []
    )


def run(paths: list[Path], peers: str | None) -> None:
    """Add what the rows lack: one process of every model, then the second, so that a stopped run has all."""
    with tempfile.TemporaryDirectory() as folder:
        for wanted in range(1, PROCESSES + 1):
            for path in paths:
                own = Path(folder, name_of(path))
                own.mkdir(exist_ok=True)
                try:
                    _process(path, own, peers, wanted)
                except GraphpruneError as error:
                    print(f"{name_of(path)}: {error.message}", file=sys.stderr)


def _process(path: Path, folder: Path, peers: str | None, wanted: int) -> None:
    """Add one row of a model, if it has less than the wanted ones."""
    lowered = {"given": path, **made(path, folder)}
    key = {"model": name_of(path), "place": here(), "lowered": digest(lowered)}
    if sum(row.items() >= key.items() for row in stored()) >= wanted:
        return
    share = outside(path, inputs(path))
    call = [sys.executable, "-m", "tools.lower_bench", "one", str(path)]
    call += [f"{name}={file}" for name, file in (lowered | simplified(path, folder, peers)).items()]
    found = json.loads(subprocess.run(call, capture_output=True, check=True, text=True).stdout)
    with ROWS.open("a", encoding="utf-8") as file:
        file.write(json.dumps({**key, "outside": round(share, 3), **found}) + "\n")
    print(*key.values(), {name: each["speedup"] for name, each in found["ratios"].items()}, flush=True)


def name_of(path: Path) -> str:
    """What a model is called: as its file, or the folder of one that every folder has."""
    return path.parent.name if path.stem == "model" else path.stem


def digest(files: Mapping[str, Path]) -> str:
    """Of what lowering makes of a model; figures of other rules stay, where they make the same."""
    found = hashlib.sha256()
    for target in TARGETS:
        found.update(files[target].read_bytes())
    return found.hexdigest()[:16]


def rows() -> Iterator[tuple[str, str, list[dict[str, object]]]]:
    """Rows of every model and machine as it is lowered last there, three at most."""
    last = {(str(row["model"]), str(row["place"])): row["lowered"] for row in stored()}
    for (name, place), key in sorted(last.items(), key=lambda item: (item[0][0].lower(), item[0][1])):
        wanted = (name, place, key)
        found = [row for row in stored() if (row["model"], row["place"], row["lowered"]) == wanted]
        yield name, place, found[:PROCESSES]


def page() -> None:
    """Write rules and rows into the page."""
    text = PAGE.read_text(encoding="utf-8")
    for name, lines in (("rules", _rules()), ("models", _models())):
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, _, rest = text.partition(start)
        text = "\n".join([before + start, *lines, end + rest.partition(end)[2]])
    PAGE.write_text(text, encoding="utf-8")


def _rules() -> list[str]:
    places = list(table().cells)
    lines = [
        f"| rule | from | to | equal where | exact | {' | '.join(places)} |",
        "|---" * (5 + len(places)) + "|",
    ]
    for rule in RULES:
        speedups = [f"{table().cells[place][rule.name].speedup:.2f}" for place in places]
        portable = rule.name in table().rules("portable", places[-1])
        mark = "" if portable else " (native only)"
        cells = [
            f"`{rule.name}`{mark}",
            rule.pattern,
            rule.replacement,
            rule.condition,
            rule.exactness,
            *speedups,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _models() -> list[str]:
    names = [*TARGETS, *PEERS]
    lines = [
        "| model | machine | processes | as given, ms | outside contractions | " + " | ".join(names) + " |",
        "|---|---|--:|--:|--:" + "|--:" * len(names) + "|",
    ]
    means: dict[str, dict[str, list[float]]] = {}
    for model, place, found in rows():
        ratios = {name: [row["ratios"][name] for row in found if name in row["ratios"]] for name in names}  # type: ignore[index,operator]
        share = float(found[0]["outside"])  # type: ignore[arg-type]
        cells = []
        for name, each in ratios.items():
            middle = float(np.median([ratio["speedup"] for ratio in each])) if each else None
            if middle is not None and share >= CHANGED:
                means.setdefault(place, {name: [] for name in names})[name].append(middle)
            slower = len(each) == PROCESSES and all(ratio["verdict"] == "slower" for ratio in each)
            cells.append(
                "does not run" if middle is None else f"{middle:.2f}" + (" slower" if slower else "")
            )
        ms = float(np.median([float(row["ms"]) for row in found]))  # type: ignore[arg-type]
        told = [model, place, str(len(found)), f"{ms:.3g}", f"{100 * share:.0f} %", *cells]
        lines.append(f"| {' | '.join(told)} |")
    for place, found_there in sorted(means.items()):
        mean = [f"{np.exp(np.mean(np.log(each))):.2f}" if each else "" for each in found_there.values()]
        count = len(found_there[TARGETS[0]])
        title = f"geometric mean of {count} from {100 * CHANGED:.0f} % on"
        lines.append(f"| {title} | {place} | | | | {' | '.join(mean)} |")
    return lines


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("run", "page", "one"))
    parser.add_argument("files", nargs="*")
    parser.add_argument("--peers", help="an interpreter that has onnxsim and onnxslim")
    given = parser.parse_args()
    if given.what == "run":
        run([Path(name) for name in given.files], given.peers)
    elif given.what == "page":
        page()
    else:
        pairs = (each.partition("=") for each in given.files[1:])
        print(json.dumps(one(Path(given.files[0]), {name: Path(file) for name, _, file in pairs})))


if __name__ == "__main__":
    main()
