"""How far a training is, kept in a file so that it goes on where it was stopped."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from graphprune.autograd.training.lesson import Watch
from graphprune.autograd.training.setting import Pace, Point
from graphprune.ir.publish import write_file
from graphprune.ops.torch.call import Tensor

OFTEN = 20.0
"""Seconds between two writes at least."""
FORMAT = "graphprune-recover-2"


@dataclass(eq=False)
class State:
    """A training between two steps.

    Attributes:
        pace: how it runs.
        weights: as the last step left them, by type.
        average: of the weights of the last steps.
        best: the average that was best on the selection part.
        optimiser: what the optimiser keeps.
        curve: losses so far; the last is of the last step.
    """

    pace: Pace
    weights: dict[str, Tensor]
    average: dict[str, Tensor]
    best: dict[str, Tensor]
    optimiser: dict[str, Any]
    curve: list[Point]

    @property
    def step(self) -> int:
        """Steps that were taken."""
        return self.curve[-1].step


@dataclass(eq=False)
class Checkpoint:
    """The file that a training keeps its state in.

    Args:
        path: of the file; None keeps nothing.
        key: of model, samples and arguments: a state of others is not read.
    """

    path: Path | None = None
    key: str = ""
    _since: Watch = field(default_factory=Watch)

    @property
    def due(self) -> bool:
        """Whether it is time to write."""
        return self.path is not None and self._since() > OFTEN

    def read(self) -> State | None:
        """The state of a training that was stopped; None where there is none of this key."""
        if self.path is None or not self.path.is_file():
            return None
        try:
            found = torch.load(self.path, weights_only=True)
        except Exception:  # not a file of torch: whatever it is, it is no state of ours
            return None
        if not isinstance(found, Mapping) or found.get("format") != FORMAT or found["key"] != self.key:
            return None
        curve = [Point(**point) for point in found["curve"]]
        pace = Pace(**found["pace"])
        return State(pace, found["weights"], found["average"], found["best"], found["optimiser"], curve)

    def write(self, state: State) -> None:
        """Keep a state in place of the one before.

        Raises:
            OutputError: the file cannot be written.
        """
        assert self.path is not None
        content = {
            "format": FORMAT,
            "key": self.key,
            "pace": asdict(state.pace),
            "weights": state.weights,
            "average": state.average,
            "best": state.best,
            "optimiser": state.optimiser,
            "curve": [asdict(point) for point in state.curve],
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        write_file(self.path, buffer.getvalue())
        self._since = Watch()

    def remove(self) -> None:
        """The training ended: nothing goes on from here."""
        if self.path is not None and self.read() is not None:
            self.path.unlink(missing_ok=True)
