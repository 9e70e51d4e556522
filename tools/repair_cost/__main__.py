"""Command line: ``python -m tools.repair_cost [NAME ...]`` prints the table, a process per model."""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx

import graphprune

from . import detector, models
from .watch import Layers, anonymous

PASSES = "obspa(macs=0.6)"
MEGABYTE = 1 << 20
LAYER = 512
"""MB that no layer may need beside its own weight."""
TIMES, SECONDS = 3.0, 5.0
"""The bound of the detector: so many times the dense model node by node, and so many seconds beside."""


@dataclass(frozen=True)
class Work:
    """A model to repair.

    Attributes:
        make: makes it.
        samples: of its calibration data.
        seconds: bound of CPU time; None for that of the detector.
        memory: bound of what the process takes, in MB; None for none.
    """

    make: Callable[[], onnx.ModelProto]
    samples: int
    seconds: float | None
    memory: int | None = None


WORKS = {
    "detector": Work(detector.detector, 512, None),
    "pitch": Work(models.pitch, 32, 30),
    "classifier": Work(models.classifier, 32, 30),
    "kernels": Work(models.kernels, 32, 20, 1024),
    "flat": Work(models.flat, 32, 5),
}


@dataclass(frozen=True)
class Cost:
    """What a compile took: CPU seconds, and MB beside those of the process before it."""

    seconds: float
    bound: float
    layer: float
    peak: float


def measured(work: Work, passes: str, samples: int | None) -> Cost:
    """One compile in this process, after a small one that imports whatever it takes."""
    proto, count = work.make(), samples or work.samples
    arrays = {"x": detector.images(count)} if work.seconds is None else models.noise(proto, count)
    small = models.flat()
    graphprune.compile(small, passes, calibration=models.noise(small, 2))
    bound = _bound(proto, arrays) if work.seconds is None else work.seconds
    layers = Layers()
    with tempfile.TemporaryDirectory() as folder, layers.watched():
        source, target = Path(folder) / "model.onnx", Path(folder) / "small.onnx"
        onnx.save(proto, source)
        del proto
        before = anonymous()
        seconds = spent(lambda: graphprune.compile(source, passes, target, calibration=arrays))
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return Cost(seconds, bound, layers.most / MEGABYTE, peak / MEGABYTE)


def _bound(proto: onnx.ModelProto, arrays: dict[str, models.Array]) -> float:
    return TIMES * spent(lambda: detector.node_by_node(proto, arrays)) + SECONDS


def spent(work: Callable[[], object]) -> float:
    """CPU seconds of this process."""

    def used() -> float:
        found = resource.getrusage(resource.RUSAGE_SELF)
        return found.ru_utime + found.ru_stime

    start = used()
    work()
    return used() - start


def line(name: str, work: Work, cost: Cost) -> str:
    """A row of the table, and whether all bounds are kept."""
    kept = cost.seconds <= cost.bound and cost.layer <= LAYER
    kept = kept and (work.memory is None or cost.peak <= work.memory)
    cells = (f"{cost.seconds:.1f}", f"{cost.bound:.1f}", f"{cost.layer:.0f}", f"{cost.peak:.0f}")
    return f"| {name} | {work.samples} | {' | '.join(cells)} | {'kept' if kept else 'missed'} |"


def main() -> None:
    """Prints a row per model."""
    parser = argparse.ArgumentParser(prog="python -m tools.repair_cost", description=__doc__)
    parser.add_argument(
        "names", nargs="*", choices=[[], *WORKS], default=[], metavar="NAME", help=", ".join(WORKS)
    )
    parser.add_argument("--samples", type=int, help="other than each model's own number")
    parser.add_argument("--passes", default=PASSES)
    parser.add_argument("--here", action="store_true", help="one model, in this process, as JSON")
    options = parser.parse_args()
    if options.here:
        (name,) = options.names
        print(json.dumps(asdict(measured(WORKS[name], options.passes, options.samples))))
        return
    print("| Model | samples | CPU s | bar | layer MB | peak MB | |")
    print("|---|---|---|---|---|---|---|")
    for name in options.names or WORKS:
        more = ["--samples", str(options.samples)] if options.samples else []
        command = [
            sys.executable,
            "-m",
            "tools.repair_cost",
            name,
            "--here",
            "--passes",
            options.passes,
            *more,
        ]
        found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        print(line(name, WORKS[name], Cost(**json.loads(found.splitlines()[-1]))), flush=True)


if __name__ == "__main__":
    main()
