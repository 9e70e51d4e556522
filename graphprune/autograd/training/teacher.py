"""What the dense model says to a draw: run in ONNX Runtime, and kept for the next time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Array
from graphprune.run import Run
from graphprune.runtime.session import Session, open_session

Feed = Mapping[str, Array]
KEPT = 1 << 28
"""Bytes of answers that are kept."""


@dataclass(eq=False)
class Teacher:
    """The dense model, asked for some of its values.

    Args:
        session: that returns them.
        names: of the values.
        timeout: seconds that a run may take.

    Attributes:
        seconds: that the last answer took.
    """

    session: Session
    names: tuple[str, ...]
    timeout: float | None
    seconds: float = 0.0
    _kept: dict[object, dict[str, Array]] = field(default_factory=dict)
    _bytes: int = 0

    def answer(self, key: object, feed: Feed) -> dict[str, Array]:
        """Its values for one sample, by a key that is the sample's own."""
        if key in self._kept:
            return self._kept[key]
        began = time.monotonic()
        found = self.session.run(feed, self.timeout)
        self.seconds = time.monotonic() - began
        answer = {name: _plain(found[name]) for name in self.names}
        size = sum(array.nbytes for array in answer.values())
        if self._bytes + size <= KEPT:
            self._kept[key] = answer
            self._bytes += size
        return answer


def _plain(array: Array) -> Array:
    """Numbers in a type that numpy has itself, and no less precise."""
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def teacher(model: ir.Model, names: Sequence[str], run: Run) -> Teacher:
    """The dense model, ready to be asked for values of its main graph.

    Raises:
        ModelError: ONNX Runtime does not load it.
        ArgumentError: it has no value of one of these names.
    """
    outputs = {value.name for value in model.graph.outputs}
    inner = [name for name in names if name not in outputs]
    return Teacher(open_session(model, extra_outputs=inner), tuple(names), run.timeout)
