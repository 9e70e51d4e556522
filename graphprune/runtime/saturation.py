"""In which weights of a model does it show that this CPU saturates products of bytes?"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from graphprune.run import USUAL, Run
from graphprune.runtime.compare import agreement
from graphprune.runtime.exact import moved, unsaturated
from graphprune.runtime.session import Feeds, Outputs, open_session

MOST = 4
"""Weights that are named; the search ends there."""
NOISE = 1e-6
"""Two kernels that multiply exactly may still add floats in another order."""


def saturated_factors(model: ir.Model, feeds: Sequence[Feeds], run: Run = USUAL) -> tuple[str, ...]:
    """Names of weights, and of other factors, with which this CPU's kernels move an output; at most `MOST`.

    By halves: a part of the model's products runs as this CPU has it, the others exactly.
    """

    def outputs(native: Sequence[str]) -> list[Outputs]:
        session = open_session(unsaturated(model, native=native), threads=run.threads)
        return [session.run(feed, run.timeout) for feed in feeds]

    def search(names: tuple[str, ...]) -> None:
        if not names or len(found) == MOST:
            return
        if all(agreement(a, b, NOISE).ok for a, b in zip(exact, outputs(names), strict=True)):
            return
        if len(names) == 1:
            found.append(names[0])
            return
        search(names[: len(names) // 2])
        search(names[len(names) // 2 :])

    found: list[str] = []
    exact = outputs(())
    search(moved(model))
    return tuple(found)
