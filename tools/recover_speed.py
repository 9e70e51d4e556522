"""`python -m tools.recover_speed`: samples per second that `recover` trains, beside other code.

    git worktree add ../before COMMIT
    python -m tools.recover_speed --before ../before ppocr-direction deepcut

Each state of the code trains the same cut in a process of its own, in turns of one step; seconds of CPU, one
thread. `new` are steps whose draws the dense model has not answered yet, `known` those of later epochs, which
repeat them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

CUT = "obspa(macs=0.4)"
TRAINED, CHOSEN = 256, 128
MODELS = ("ppocr-direction", "mnist-resnet-se", "deepcut", "mnist-vit", "magika", "ppocr-detection")


def cut(name: str) -> tuple[Path, Path]:
    """The dense model and a cut of it, made once."""
    import onnx_ir as ir

    import graphprune
    from tools.accuracy.run import calibration_file
    from tools.real_models.registry import workload_named
    from tools.real_models.store import default_cache

    cache, workload = default_cache(), workload_named(name)
    folder = cache / "recover"
    folder.mkdir(exist_ok=True)
    paths = folder / f"{name}-dense.onnx", folder / f"{name}-cut.onnx"
    for path, passes in zip(paths, ("canonicalize", CUT), strict=True):
        if not path.exists():
            result = graphprune.compile(
                workload.fetch(cache),
                passes,
                calibration=calibration_file(workload, cache),
                fix=workload.fixed,
                allow_short=True,
                bench=False,
                lower=False,
                timeout=1200,
            )
            ir.save(result.model, path)
    return paths


def work(name: str, batch: int) -> None:
    """Trains a step for each line of input, and says what it took."""
    import onnx_ir as ir
    import torch

    from graphprune.autograd.training.begin import begin
    from graphprune.axes.goals import find_goals
    from graphprune.axes.outputs import judged
    from graphprune.ir.normalise import normalise
    from graphprune.ops import record_of
    from graphprune.pipeline.samples import read_sets
    from graphprune.run import Run
    from graphprune.runtime.data import batches, layout
    from tools.accuracy.run import calibration_file
    from tools.real_models.registry import workload_named
    from tools.real_models.store import default_cache

    torch.set_num_threads(1)
    dense, small = (ir.load(path) for path in cut(name))
    shapes = normalise(dense, record_of)
    normalise(small, record_of)
    sets = read_sets(calibration_file(workload_named(name), default_cache()), dense)
    feeds = [feed for arrays in sets for feed in batches(arrays, dense, 1)]
    order = np.random.default_rng(0).permutation(len(feeds))[: TRAINED + CHOSEN]
    feeds = [feeds[at] for at in order]
    held = layout(sets[0], dense)
    lesson = begin(
        dense=dense,
        model=small,
        goals=find_goals(small, judged(dense, shapes)),
        samples=feeds[:TRAINED],
        selection=feeds[TRAINED:],
        axes={} if held.stacked else dict(held.axes),
        narrow=dict,
        rank=0,
        run=Run(),
    )
    optimiser = lesson.optimiser(1e-4)
    lesson.step(optimiser, batch, 0)
    print("ready", flush=True)
    for line in sys.stdin:
        start = time.process_time()
        lesson.step(optimiser, batch, int(line))
        print(time.process_time() - start, flush=True)


def workers(roots: list[Path], name: str, batch: int) -> Iterator[list[subprocess.Popen[str]]]:
    """A process for each state of the code, ready to step."""
    command = [sys.executable, str(Path(__file__).resolve()), "--work", name, "--batch", str(batch)]
    running = []
    for root in roots:
        places = os.pathsep.join(map(str, (root, root / "passes")))
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": places},
        )
        assert process.stdout is not None
        while process.stdout.readline().strip() not in ("ready", ""):
            pass
        running.append(process)
    yield running
    for process in running:
        process.communicate()


def measured(running: list[subprocess.Popen[str]], numbers: list[int]) -> list[list[float]]:
    """Seconds of each step, for each process."""
    found: list[list[float]] = [[] for _ in running]
    for number in numbers:
        for process, seconds in zip(running, found, strict=True):
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(f"{number}\n")
            process.stdin.flush()
            seconds.append(float(process.stdout.readline()))
    return found


def main() -> None:
    """Prints a row per model."""
    parser = argparse.ArgumentParser(prog="python -m tools.recover_speed", description=__doc__)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--before", type=Path, help="root of a checkout of the other state")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work:
        work(asked.work, asked.batch)
        return
    here = Path(__file__).resolve().parents[1]
    roots = [here] if asked.before is None else [asked.before.resolve(), here]
    print("| model | new, samples/s | known, samples/s | ratios |\n|---|---|---|---|")
    for name in asked.models:
        cut(name)
        for running in workers(roots, name, asked.batch):
            new = measured(running, list(range(1, asked.steps + 1)))
            known = measured(running, [*range(1, asked.steps + 1)])
            cells = [
                " to ".join(f"{asked.batch / statistics.median(each):.0f}" for each in part)
                for part in (new, known)
            ]
            ratios = [
                statistics.median(a / b for a, b in zip(part[0], part[-1], strict=True))
                for part in (new, known)
            ]
            print(f"| {name} | {' | '.join(cells)} | {ratios[0]:.2f}, {ratios[1]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
