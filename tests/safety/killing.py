"""A script: forks processes that write the same output over and over, and signals them at random moments.

    python killing.py FOLDER SIGNAL TRIALS SEED

FOLDER holds in.onnx with external weights. After each signal the folder must hold nothing broken; what is
wrong is printed, one line each, and a last line says how many trials found temporary files.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import graphprune
from graphprune.errors import GraphpruneError
from graphprune.ir.load import load
from graphprune.ir.publish import settle
from graphprune.pipeline.output import write

TEMPORARY = re.compile(r"out\.(onnx|onnx\.data|plan\.json)\.tmp\.[0-9a-f]{16}")
SIDECAR = re.compile(r"out\.onnx\.[0-9a-f]{16}\.data")
RATIOS = ("prune(ratio=0.25)", "prune(ratio=0.75)")
FINALS = ("out.onnx", "out.plan.json")
Digests = dict[str, str]


def digests() -> Digests:
    """The final files that are there."""
    found = (path for path in Path().iterdir() if path.name in FINALS or SIDECAR.fullmatch(path.name))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def compile_forever() -> None:
    """The whole way from one file to the other."""
    while True:
        for ratio in RATIOS:
            graphprune.compile("in.onnx", ratio, "out.onnx", force=True)


def writer() -> Callable[[], None]:
    """Only the last step, with the results ready."""
    source = load("in.onnx")
    results = [graphprune.compile("in.onnx", ratio) for ratio in RATIOS]

    def write_forever() -> None:
        while True:
            for result in results:
                write(result.model, Path("out.onnx"), source, result.plan_file, overwrite=True)

    return write_forever


def trial(work: Callable[[], None], number: signal.Signals, seconds: float) -> None:
    """One process that works until it is signalled."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell started us behind &
        try:
            work()
        except KeyboardInterrupt:
            os._exit(130)
        finally:
            os._exit(1)
    time.sleep(seconds)
    os.kill(child, number)
    os.waitpid(child, 0)


def wrong(complete: list[Digests], inputs: Digests, number: signal.Signals) -> list[str]:
    """What a signal broke."""
    found = []
    settle(Path("out.onnx").resolve(), [Path("out.plan.json").resolve()], [])
    if digests() not in complete:
        found.append("neither set is there")
    try:
        load("out.onnx")
    except GraphpruneError as error:
        found.append(f"the model does not load: {error.message}")
    for name in sorted(path.name for path in Path().iterdir()):
        if name in digests() or name in inputs:
            continue
        if not (TEMPORARY.fullmatch(name) and number == signal.SIGKILL):
            found.append(f"left behind: {name}")
    now = {name: hashlib.sha256(Path(name).read_bytes()).hexdigest() for name in inputs}
    return [*found, *(f"changed: {name}" for name in inputs if now[name] != inputs[name])]


def main(folder: str, number: signal.Signals, trials: int, seed: int) -> None:
    """All trials; half of them write only, so that many signals hit a write."""
    os.chdir(folder)
    inputs = {
        name: hashlib.sha256(Path(name).read_bytes()).hexdigest() for name in ("in.onnx", "in.onnx.data")
    }
    complete = []
    for ratio in RATIOS:
        graphprune.compile("in.onnx", ratio, "out.onnx", force=True)
        complete.append(digests())
    works, rng = (writer(), compile_forever), random.Random(seed)
    leftovers = 0
    for at in range(trials):
        trial(works[at % 2], number, rng.uniform(0.05, 0.4))
        for line in wrong(complete, inputs, number):
            print(f"trial {at}: {line}")
        temporary = [path for path in Path().iterdir() if TEMPORARY.fullmatch(path.name)]
        leftovers += bool(temporary)
        for path in temporary:
            path.unlink()
    print(f"{trials} trials, {leftovers} with temporary files")


if __name__ == "__main__":
    main(sys.argv[1], signal.Signals(int(sys.argv[2])), int(sys.argv[3]), int(sys.argv[4]))
