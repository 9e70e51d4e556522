"""Does this CPU saturate products of bytes, and in which weights of a model does it show?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import onnx_ir as ir

from graphprune.runtime.compare import agreement
from graphprune.runtime.exact import moved, unsaturated
from graphprune.runtime.session import Feeds, Outputs, open_session

MOST = 4
"""Weights that are named; the search ends there."""
NOISE = 1e-6
"""Two kernels that multiply exactly may still add floats in another order."""


@cache
def saturates() -> bool:
    """Whether ONNX Runtime's kernel for unsigned times signed bytes loses bits on this CPU."""
    a, y = (ir.Value(name=name, shape=ir.Shape((1, n))) for name, n in (("a", 4), ("y", 1)))
    a.dtype, y.dtype = ir.DataType.UINT8, ir.DataType.INT32
    b = ir.Value(name="b", const_value=ir.Tensor(np.full((4, 1), 127, np.int8), name="b"))
    node = ir.Node("", "MatMulInteger", [a, b], outputs=[y])
    graph = ir.Graph([a], [y], nodes=[node], initializers=[b], opset_imports={"": 13}, name="probe")
    found = open_session(ir.Model(graph, ir_version=8)).run({"a": np.full((1, 4), 255, np.uint8)})
    return int(found["y"][0, 0]) != 4 * 255 * 127


def saturated_factors(
    model: ir.Model, feeds: Sequence[Feeds], *, threads: int = 1, timeout_s: float | None = None
) -> tuple[str, ...]:
    """Names of weights, and of other factors, with which this CPU's kernels move an output; at most `MOST`.

    By halves: a part of the model's products runs as this CPU has it, the others exactly.
    """

    def run(native: Sequence[str]) -> list[Outputs]:
        session = open_session(unsaturated(model, native=native), threads=threads)
        return [session.run(feed, timeout_s) for feed in feeds]

    def search(names: tuple[str, ...]) -> None:
        if not names or len(found) == MOST:
            return
        if all(agreement(a, b, NOISE).ok for a, b in zip(exact, run(names), strict=True)):
            return
        if len(names) == 1:
            found.append(names[0])
            return
        search(names[: len(names) // 2])
        search(names[len(names) // 2 :])

    found: list[str] = []
    exact = run(())
    search(moved(model))
    return tuple(found)
