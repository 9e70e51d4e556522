"""What the dense model says: in ONNX Runtime, samples together where each gets what it gets alone."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import torch

from graphprune.autograd.training.stacks import Stack, stacked
from graphprune.ir.arrays import Array
from graphprune.ops.torch.call import Tensor
from graphprune.run import Run
from graphprune.runtime.session import Session, open_session

Feed = Mapping[str, Array]


@dataclass(eq=False)
class Teacher:
    """The dense model, asked for some of its values.

    Args:
        session: that returns them.
        names: of the values.
        timeout: seconds that a run may take.
        stack: how samples run together.

    Attributes:
        seconds: that the last answer took, per sample.
    """

    session: Session
    names: tuple[str, ...]
    timeout: float | None
    stack: Stack
    seconds: float = 0.0

    def answers(self, feeds: Sequence[Feed], names: Sequence[str] = ()) -> list[dict[str, Array]]:
        """Its values for samples: those named, or all."""
        began = time.monotonic()
        found: dict[int, dict[str, Array]] = {}
        for part in self.stack.parts(feeds):
            joined = {name: np.asarray(a) for name, a in self.stack.join([feeds[at] for at in part]).items()}
            values = _run(self.session, names or self.names, joined, self.timeout)
            singles = self.stack.split(values, len(part)) if self.stack.several else [values]
            found |= dict(zip(part, singles, strict=True))
        self.seconds = (time.monotonic() - began) / len(feeds)
        return [found[at] for at in range(len(feeds))]


def _run(session: Session, names: Sequence[str], feed: Feed, timeout: float | None) -> dict[str, Array]:
    found = session.run(feed, timeout)
    return {name: _plain(found[name]) for name in names}


def _plain(array: Array) -> Array:
    """Numbers in a type that numpy has itself, and no less precise."""
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def teacher(
    model: ir.Model, names: Sequence[str], samples: Sequence[Feed], axes: Mapping[str, int], run: Run
) -> Teacher:
    """The dense model, ready to be asked for values of its main graph.

    Args:
        model: the dense model.
        names: of the values.
        samples: some feeds, on which it is found out whether samples may run together.
        axes: of each input, along which samples follow each other; none if each is a whole feed.
        run: how long a run may take.

    Raises:
        ModelError: ONNX Runtime does not load it.
        ArgumentError: it has no value of one of these names.
    """
    outputs = {value.name for value in model.graph.outputs}
    inner = [name for name in names if name not in outputs]
    session = open_session(model, extra_outputs=inner)

    def runs(feed: Mapping[str, Tensor | Array]) -> dict[str, Tensor]:
        arrays = {name: np.asarray(array) for name, array in feed.items()}
        found = _run(session, names, arrays, run.timeout)
        return {name: torch.from_numpy(array) for name, array in found.items()}

    stack = stacked(runs, samples, axes, maps=False) if samples else Stack(axes)
    return Teacher(session, tuple(names), run.timeout, stack)
