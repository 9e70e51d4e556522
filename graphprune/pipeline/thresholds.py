"""What `graphprune check` may ask of a model: a threshold is a bound on a figure, and one record here."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from graphprune.errors import ArgumentError
from graphprune.ir.names import quote
from graphprune.pipeline import recipe
from graphprune.pipeline.report import Interval
from graphprune.pipeline.settings import Checking
from graphprune.pipeline.stored import Toml, text
from graphprune.pipeline.verdict import inconclusive

Source = Literal["samples", "clock", "files", "metric"]
"""What a figure is measured with."""
Verdict = Literal["pass", "fail", "inconclusive"]


@dataclass(frozen=True)
class Figure:
    """Something measured of the smaller model.

    Attributes:
        name: as in the table of thresholds.
        value: the estimate; None where the samples say nothing.
        low: lower end of its interval (95 %, of a speed-up 99 %); None where it is exact or has none.
        high: upper end.
        dense: the same of the dense model, where that has one.
        where: the output, or the class, that it is of.
        number: samples or rounds that it rests on; 0 where none.
        exact: of a drop the same where no CPU saturates products of bytes; None where a model has none.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    dense: float | None = None
    where: str = ""
    number: int = 0
    exact: float | None = None


@dataclass(frozen=True)
class Threshold:
    """A bound that may be asked for.

    Attributes:
        option: the field of the settings that holds the bound.
        figure: what it bounds.
        title: the figure for people.
        most: whether the figure may at most be the bound; at least otherwise.
        source: what the figure is measured with.
        unit: of the figure: x (times), B (bytes), or none.
        rounding: by how much the figure may differ between CPUs.
    """

    option: str
    figure: str
    title: str
    most: bool
    source: Source
    unit: str = ""
    rounding: float = 0.0

    @property
    def flag(self) -> str:
        """What the command line calls it."""
        return f"--{self.option.replace('_', '-')}"


THRESHOLDS = (
    Threshold("max_drop", "drop", "drop", True, "samples"),
    Threshold("min_top1", "top1", "top-1 agreement", False, "samples"),
    Threshold("min_worst_class", "worst_class", "worst class", False, "samples"),
    Threshold("min_cosine", "cosine", "cosine", False, "samples", rounding=1e-4),
    Threshold("min_speedup", "speedup", "speed-up", False, "clock", "x"),
    Threshold("max_bytes", "bytes", "file size", True, "files", "B"),
    Threshold("min_metric", "metric", "metric", False, "metric"),
    Threshold("max_metric_loss", "metric_loss", "metric loss", True, "metric"),
)
OF = {each.figure: each for each in THRESHOLDS}
"""Thresholds by the figure that they bound."""


@dataclass(frozen=True)
class Judgement:
    """A figure against a bound: `threshold` is the option that asked, `remark` why it is no plain verdict."""

    threshold: str
    figure: Figure
    bound: float
    verdict: Verdict
    remark: str = ""


def asked(settings: Checking) -> tuple[Threshold, ...]:
    """The thresholds that settings name."""
    return tuple(each for each in THRESHOLDS if getattr(settings, each.option) is not None)


def judge(threshold: Threshold, figure: Figure, settings: Checking) -> Judgement:
    """A figure against what was asked; sizes up to 1 are shares of the dense model's."""
    bound = float(getattr(settings, threshold.option))
    if threshold.unit == "B" and bound <= 1 and figure.dense is not None:
        bound *= figure.dense
    return _judged(threshold, threshold.flag, figure, bound)


def against(stored: Figure, figure: Figure) -> Judgement:
    """A figure against that of an earlier check: the bound is the worse end of the interval that it had."""
    threshold = OF[stored.name]
    end = stored.high if threshold.most else stored.low
    bound = stored.value if end is None else end
    assert bound is not None
    bound += threshold.rounding if threshold.most else -threshold.rounding
    return _judged(threshold, "--baseline", figure, bound)


def _judged(threshold: Threshold, flag: str, figure: Figure, bound: float) -> Judgement:
    value, low, high = figure.value, figure.low, figure.high
    if value is None or not math.isfinite(value):
        return Judgement(flag, figure, bound, "fail", figure.where or "no number came out")
    beyond = value > bound if threshold.most else value < bound
    unsure = ""
    if low is not None and high is not None:
        noun = "rounds" if threshold.source == "clock" else "samples"
        unsure = inconclusive(Interval(value, low, high), bound, figure.number, threshold.most, noun)
    verdict: Verdict = "fail" if beyond else "inconclusive" if unsure else "pass"
    return Judgement(flag, figure, bound, verdict, unsure)


def read(path: Path) -> dict[str, object]:
    """Thresholds from a TOML file that holds nothing else, or from a recipe.

    Raises:
        ArgumentError: the file cannot be read, or holds something else.
    """
    toml = Toml(text(path, "thresholds"), str(path), path.parent)
    if toml.content.keys() & set(recipe.KEYS):
        return recipe.made(toml).thresholds
    return toml.options(recipe.asked(), noun="threshold")


@dataclass(frozen=True)
class Baseline:
    """An earlier check: its figures, and hashes of the dense model and of the samples."""

    figures: tuple[Figure, ...]
    dense: str
    data: str


def baseline(path: Path) -> Baseline:
    """What an earlier check stored with `--report FILE.json` or `--format json`.

    Raises:
        ArgumentError: the file cannot be read, or is no such document.
    """
    wrong = ArgumentError(
        f"baseline {quote(str(path))} is no result of a check",
        "store one with graphprune check ... --report result.json",
    )
    try:
        stored = json.loads(text(path, "baseline"))
        figures = tuple(_figure(each) for each in stored["figures"])
        dense, data = stored["dense"], stored["data"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise wrong from None
    if not (isinstance(dense, str) and isinstance(data, str)):
        raise wrong
    return Baseline(tuple(each for each in figures if each.value is not None), dense, data)


def _figure(stored: Mapping[str, object]) -> Figure:
    name, numbers = stored["name"], [stored[key] for key in ("value", "low", "high")]
    if not (isinstance(name, str) and name in OF):
        raise ValueError(name)
    value, low, high = (None if number is None else _number(number) for number in numbers)
    return Figure(name, value, low, high)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(value)
    return float(value)
