"""The inputs that a compile runs models on, checked early and generated late."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx_ir as ir

from graphprune.pipeline import data
from graphprune.pipeline.agreement import Feeds, feeds_for
from graphprune.pipeline.settings import Settings

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Samples:
    """What the user gave for a model, as batches; generated inputs where a proof needs some and has none.

    Args:
        model: the model that was loaded.
        inputs: arrays to prove and time on, None to generate them.
        calibration: arrays for criteria that need data, None for none.
        settings: seed, shapes and limits of generated inputs.
    """

    model: ir.Model
    inputs: Arrays | None
    calibration: Arrays | None
    settings: Settings

    @cached_property
    def batches(self) -> Feeds:
        """Calibration batches."""
        if self.calibration is None:
            return ()
        return data.batches(self.calibration, self.model, "the calibration data")

    @cached_property
    def feeds(self) -> Feeds:
        """The inputs of proofs: given or generated ones, and one calibration batch."""
        return (*feeds_for(self.model, self.inputs, self.settings), *self.batches[:1])
