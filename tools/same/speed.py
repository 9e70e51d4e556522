"""CPU time of two states of the code, in turns: the start of the command, and a handful of compiles."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from graphprune.errors import ArgumentError

from .sides import ROOT, Side, run

SHIPPED = ROOT / "models" / "digits_cnn"
COMPILE = (
    "-m",
    "graphprune",
    "compile",
    str(SHIPPED / "model.onnx"),
    "--no-bench",
    "--force",
    "-o",
    "timed.onnx",
)
COMMANDS: dict[str, tuple[str, ...]] = {
    "graphprune --help": ("-m", "graphprune", "--help"),
    "inspect": ("-m", "graphprune", "inspect", str(SHIPPED / "model.onnx")),
    "compile prune(macs=0.6)": (*COMPILE, "--passes", "prune(macs=0.6)"),
    "compile obspa(macs=0.6)": (
        *COMPILE, "--passes", "obspa(macs=0.6)", "--calibration", str(SHIPPED / "calibration.npz"),
    ),
}  # fmt: skip
TIMEOUT = 900.0


def compare_speed(sides: Sequence[Side], folder: Path, rounds: int) -> Iterator[str]:
    """A line per command: median CPU seconds of both, and their ratio with the spread over rounds."""
    yield f"CPU seconds, {sides[0].name} -> {sides[1].name}, median of {rounds} rounds in turns:"
    for name, command in COMMANDS.items():
        spent: tuple[list[float], list[float]] = ([], [])
        for number in range(rounds):
            for which in (0, 1) if number % 2 == 0 else (1, 0):  # neither is always the one that warms caches
                spent[which].append(_timed(command, sides[which], folder))
        ratios = sorted(two / one for one, two in zip(*spent, strict=True))
        one, two = (statistics.median(times) for times in spent)
        yield f"  {name}: {one:.2f} -> {two:.2f}, x{two / one:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


def _timed(command: Sequence[str], side: Side, folder: Path) -> float:
    end = run(command, side, TIMEOUT, folder / "timed.log")
    if end.status != 0:
        raise ArgumentError(f"{' '.join(command)} under {side.name} ended with {end.status}: {end.said}")
    return end.seconds
