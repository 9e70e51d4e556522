"""A model as its users run it: on their providers, on the inputs that it has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from graphprune.pipeline.samples import Narrow
from graphprune.pipeline.settings import Timing
from graphprune.run import CPU_ALONE
from graphprune.runtime.session import Feeds

if TYPE_CHECKING:
    from graphprune.runtime.session import Session


@dataclass(frozen=True)
class Runner:
    """A model as its users run it, on the inputs that it has.

    Attributes:
        session: of the model.
        inputs: that it has.
        timeout: seconds that a run may take.
        narrow: makes feeds of the dense model feeds of this one.
    """

    session: Session
    inputs: frozenset[str]
    timeout: float
    narrow: Sequence[Narrow] = ()

    def __call__(self, feed: Feeds) -> dict[str, np.ndarray]:
        """What it gives for a sample of the dense model."""
        for step in self.narrow:
            feed = step(feed)
        given = {name: array for name, array in feed.items() if name in self.inputs}
        return self.session.run(given, timeout_s=self.timeout)


def runner(
    model: ir.Model,
    settings: Timing,
    exact: bool = False,
    narrow: Sequence[Narrow] = (),
    optimise: bool = True,
) -> Runner:
    """Runs a model as its users will: natively, optimised, on their providers; or exactly, on the CPU.

    `narrow` makes feeds of the dense model feeds of this one.
    """
    from graphprune.runtime.session import open_session

    session = open_session(
        model,
        threads=settings.threads,
        optimise=optimise,
        exact=exact,
        rearrange=False,
        providers=CPU_ALONE if exact else settings.providers,
    )
    return running(session, model, settings, narrow)


def running(session: Session, model: ir.Model, settings: Timing, narrow: Sequence[Narrow] = ()) -> Runner:
    """The same with a session that is open."""
    names = frozenset(value.name or "" for value in model.graph.inputs)
    return Runner(session, names, settings.timeout, narrow)


def ran(runs: Iterable[Runner]) -> tuple[str, ...]:
    """The execution providers that run at least one node of any of these models."""
    from graphprune.runtime.providers import together

    return together(*(each.session.providers for each in runs))
