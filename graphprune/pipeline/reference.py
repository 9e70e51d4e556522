"""What a pass that learns may learn from: the dense model, and samples that it may see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from graphprune.pipeline.samples import Judging

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir

    from graphprune.axes.outputs import Judged
    from graphprune.runtime.drop import Drop

    Feed = Mapping[str, np.ndarray]
    Lost = Callable[[Sequence[ir.Model]], tuple[tuple[Drop, ...], ...]]


@dataclass(frozen=True)
class Reference:
    """The dense model, and samples of it apart from those that the report is made on.

    Attributes:
        model: the model as given, normalised.
        outputs: how each of its outputs is judged.
        training: samples to train on.
        selection: samples to choose by.
        narrow: makes a feed of that model one of the model that the pass sees.
        lost: what the outputs of models like the one that the pass sees lost, on the selection part.
        samples: how many calibration samples there are, in all parts.
        scratch: a file for what lets a pass that was stopped go on; None where nothing is written.
    """

    model: ir.Model
    outputs: tuple[Judged, ...]
    training: Judging
    selection: Judging
    narrow: Callable[[Feed], dict[str, np.ndarray]]
    lost: Lost
    samples: int = 0
    scratch: Path | None = None
