"""A metric of the user's own: what it says of a model, and how far that is below the dense model's."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from graphprune.doors import Origin, package
from graphprune.errors import ArgumentError
from graphprune.ir.arrays import Doubles
from graphprune.ir.names import quote
from graphprune.pipeline.function import named
from graphprune.pipeline.thresholds import Figure
from graphprune.runtime.estimate import ratio

Function = Callable[[object], object]
HINT = "name a function that takes the path of a model, e.g. --metric metric:accuracy for metric.py here"


@dataclass(frozen=True)
class Metric:
    """A function of a model; higher is better.

    Attributes:
        name: as it was given.
        function: takes the model as it was given, a path from the command line, and returns a number, or one
            per sample [N], always of the same samples: then there is an interval.
    """

    name: str
    function: Function

    def figures(self, dense: object, small: object) -> tuple[Figure, ...]:
        """The metric of the smaller model, and the loss against the dense one, paired by sample.

        Raises:
            PluginError: the function failed, or returned no numbers.
        """
        one, two = self._of(dense), self._of(small)
        if one.size != two.size:
            raise self._origin.fault(f"returns {one.size} numbers for one model and {two.size} for the other")
        return (_figure("metric", two, float(one.mean())), _figure("metric_loss", one - two))

    @property
    def _origin(self) -> Origin:
        return Origin(f"metric {quote(self.name)}", code=package(self.name.partition(":")[0]))

    def _of(self, model: object) -> Doubles:
        with self._origin.blamed():
            found = self.function(model)
        try:
            numbers = np.asarray(found, np.float64).reshape(-1)
        except (TypeError, ValueError):
            numbers = np.zeros(0)
        if not numbers.size:
            raise self._origin.fault(f"returns {type(found).__name__}, not a number or one per sample")
        return numbers


def _figure(name: str, numbers: Doubles, dense: float | None = None) -> Figure:
    """The mean of some numbers, with its interval where there are several."""
    value = float(numbers.mean())
    mean = ratio(numbers.tolist(), [1.0] * numbers.size) if numbers.size > 1 else None
    if mean is None or not math.isfinite(value):
        return Figure(name, value, dense=dense)
    return Figure(name, value, mean.low, mean.high, dense, number=numbers.size)


def load(given: str | Function, hint: str = HINT) -> Metric:
    """A metric from module:function, the working folder searched first; or a function itself.

    Args:
        given: the name, or the function.
        hint: what to do where there is none of that name.

    Raises:
        ArgumentError: there is no such module or function.
        PluginError: the module fails when it is imported.
    """
    if not isinstance(given, str) and not callable(given):
        message = f"metric must be a function or its name, got {type(given).__name__}"
        raise ArgumentError(message, "a name is module:function")
    if not isinstance(given, str):
        return Metric(getattr(given, "__name__", type(given).__name__), given)
    return Metric(given, named(given, "--metric", hint))
