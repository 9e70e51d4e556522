"""The inputs that models are run on: what the user gave, or generated ones that the model accepts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx_ir as ir

from graphprune.errors import DataError, did_you_mean
from graphprune.ir.names import quote
from graphprune.pipeline.settings import Settings

Feeds = tuple[dict[str, np.ndarray], ...]
Given = Path | Mapping[str, np.ndarray] | None
"""A file or folder of arrays, arrays by input name, or nothing."""


@dataclass(frozen=True)
class Samples:
    """Batches of what the user gave for a model; generated inputs where a proof has none.

    Args:
        model: the model that the samples are for.
        inputs: what to prove and time on; generated if None.
        calibration: samples for criteria that need data.
        settings: seed, shapes and time limit of generated inputs.
    """

    model: ir.Model
    inputs: Given
    calibration: Given
    settings: Settings

    def check(self) -> None:
        """Read what was given now, so that a bad file ends a compile before it works.

        Raises:
            DataError: it does not fit the model.
        """
        if self.inputs is not None or self.calibration is not None:
            _ = self.feeds

    @cached_property
    def batches(self) -> Feeds:
        """Calibration batches; none if there is no calibration data."""
        return read(self.calibration, self.model) if self.calibration is not None else ()

    @cached_property
    def feeds(self) -> Feeds:
        """The inputs of proofs: given or generated ones, and one calibration batch."""
        return (*feeds_for(self.model, self.inputs, self.settings), *self.batches[:1])


def feeds_for(model: ir.Model, inputs: Given, settings: Settings) -> Feeds:
    """Batches of the given inputs, or one generated batch that the model runs on.

    Raises:
        DataError: the given inputs do not fit the model.
        ModelError: no generated input runs.
    """
    from graphprune.runtime.inputs import runnable_inputs

    if inputs is not None:
        return read(inputs, model)
    return (runnable_inputs(model, settings.shapes, settings.seed, timeout_s=settings.timeout),)


def read(given: Path | Mapping[str, np.ndarray], model: ir.Model) -> Feeds:
    """What was given as batches for a model.

    Raises:
        DataError: it cannot be read, or does not fit the model.
    """
    from graphprune.runtime.data import batches, load_inputs

    sets = load_inputs(given, model) if isinstance(given, Path) else [_checked(given, model)]
    return tuple(feed for arrays in sets for feed in batches(arrays, model))


def _checked(arrays: Mapping[str, np.ndarray], model: ir.Model) -> dict[str, np.ndarray]:
    known = [value.name or "" for value in model.graph.inputs]
    needed = [value.name or "" for value in model.graph.inputs if value.const_value is None]
    for name in arrays:
        if name not in known:
            raise DataError(f"the model has no input {quote(name)}", did_you_mean(name, known))
    for name in needed:
        if name not in arrays:
            raise DataError(f"there is no array for the input {quote(name)}", f"given: {', '.join(arrays)}")
    return {name: np.asarray(array) for name, array in arrays.items()}
