"""The latency of a candidate, predicted: what its nodes cost by a profile of this machine, times one factor.

Kinds of nodes that there was no time to measure cost what they take within the dense model, in proportion to
their widths.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from graphprune.errors import ArgumentError
from graphprune.ir.names import quote
from graphprune.run import USUAL, Run
from graphprune.runtime.device import Cost, DeviceProfile, measured, this_machine
from graphprune.runtime.latency import Subject, measure
from graphprune.runtime.pieces import Piece, pieces
from graphprune.runtime.session import Feeds, open_session
from graphprune.tuning.deadline import OutOfTimeError, left_at, require_time

if TYPE_CHECKING:
    import onnx_ir as ir

INSTANT = 1e-8
"""Seconds that a node takes at least: traces have whole microseconds."""
SECONDS = 1.0
"""How long the dense model is timed, and traced, about."""


@dataclass(frozen=True)
class Predictor:
    """Predicts from a profile.

    Attributes:
        profile: costs of kinds of nodes.
        factor: by which the dense model takes longer than its nodes.
        threads: of ONNX Runtime.
    """

    profile: DeviceProfile
    factor: float
    threads: int = 1

    def seconds(self, model: ir.Model, feeds: Feeds) -> float:
        """Of one run."""
        return self.factor * _sum(pieces(model, feeds, self.threads), self.profile)


def predictor(
    model: ir.Model,
    feeds: Feeds,
    seconds: float,
    brief: float = SECONDS,
    threads: int = 1,
    run: Run = USUAL,
) -> Predictor:
    """Measures what is not known, the nodes that take most first, and fits the factor to the dense model.

    Args:
        model: lowered, as candidates are.
        feeds: of one sample.
        seconds: how long to measure, about.
        brief: how long the whole model is timed, and traced.
        threads: of ONNX Runtime.
        run: how long a run may take.
    """
    from graphprune.runtime.profile import profile as traced

    found = pieces(model, feeds, threads)
    profile = DeviceProfile(this_machine(threads))
    spent = traced(model, feeds, threads=threads, seconds=brief / 2, run=run)
    main = [node.seconds for node in spent.nodes if node.within is None]
    times = dict(zip(range(len(found)), main, strict=True)) if len(main) == len(found) else {}
    profile = _measured(found, times, profile, seconds, run)
    profile = replace(profile, costs={**_proportional(found, times), **profile.costs})
    subject = Subject("", open_session(model, threads=threads), feeds)
    timing = measure([subject], max_seconds=brief, min_seconds=brief / 2, run=run).timings[0]
    whole = timing.cpu_median if threads == 1 else timing.wall_median
    predicted = _sum(found, profile)
    return Predictor(profile, whole / predicted if predicted > 0 else 1.0, threads)


def load(path: Path, threads: int) -> DeviceProfile:
    """A profile that was given.

    Raises:
        DataError: it is none.
        ArgumentError: it is of another machine, ONNX Runtime or number of threads.
    """
    found = DeviceProfile.load(path)
    if found.machine != this_machine(threads):
        raise ArgumentError(
            f"{quote(str(path))} was measured elsewhere: ONNX Runtime {found.machine.runtime}, "
            f"threads {found.machine.threads}, {', '.join(found.machine.features)}",
            "measure this machine: graphprune profile MODEL -o FILE",
        )
    return found


def _measured(
    found: Sequence[Piece], times: Mapping[int, float], profile: DeviceProfile, seconds: float, run: Run
) -> DeviceProfile:
    order = sorted(range(len(found)), key=lambda at: (-times.get(at, 0.0), at))
    start = time.monotonic()
    if seconds <= 0:
        return profile
    with suppress(OutOfTimeError), left_at(start + seconds):
        for longer, left in measured([found[at] for at in order], profile):
            profile = longer
            run.progress(0, left, "measure this machine")
            require_time(start + seconds)
    return profile


def _proportional(found: Sequence[Piece], times: Mapping[int, float]) -> dict[str, Cost]:
    """Costs as they are within the dense model, of the largest piece of each kind."""
    costs: dict[str, Cost] = {}
    largest = sorted(times, key=lambda at: (math.prod(found[at].widths), times[at]))
    for at in largest:
        piece = found[at]
        if any(width < 1 for width in piece.widths):
            continue
        spent = max(times[at], INSTANT)
        if not piece.roles:
            costs[piece.kind] = Cost((piece.widths,), (spent,), 0)
            continue
        axes = tuple((1, width) if width > 1 else (width,) for width in piece.widths)
        whole = math.prod(piece.widths)
        seconds = tuple(spent * math.prod(widths) / whole for widths in product(*axes))
        costs[piece.kind] = Cost(axes, seconds)
    return costs


def _sum(found: Sequence[Piece], profile: DeviceProfile) -> float:
    """Seconds of all pieces; where nothing alike was measured, what half of the others exceed per element."""
    costs = [(piece, profile.at(piece.kind, piece.widths)) for piece in found]
    rates = sorted(seconds / _elements(piece) for piece, seconds in costs if seconds is not None)
    rate = rates[len(rates) // 2] if rates else 0.0
    spent = sum(rate * _elements(piece) if seconds is None else seconds for piece, seconds in costs)
    return profile.overhead + spent


def _elements(piece: Piece) -> int:
    return max(1, sum(math.prod(given.shape) for given in piece.inputs if not given.constant))
