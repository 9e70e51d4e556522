"""In plain words: why a search ends where it does, and what would lead further."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Literal

import onnx_ir as ir

from graphprune.ir.names import escape, quote
from graphprune.lowering.lower import lowered, opened
from graphprune.lowering.rules import BY_NAME
from graphprune.tuning.denormals import NO_DENORMALS, Denormals
from graphprune.tuning.propose import ROOM
from graphprune.tuning.trial import FULL, History, Trial
from graphprune.tuning.ways import DENSE

if TYPE_CHECKING:
    from graphprune.axes import Analysis

End = Literal["time", "steps", "tried"]
ENOUGH = 256
"""Samples from which on more of them hardly help repair."""
PINNED = 0.3
"""Share of the groups that is worth a line where they are pinned."""
ENDS = ("graph input ", "graph output ")
"""What pins say of the two ends that every model has."""


@dataclass(frozen=True)
class Ending:
    """What is known at the end.

    Attributes:
        history: all candidates.
        chosen: the result; None where it is no candidate.
        end: what ended the search.
        samples: all of them.
        seconds: that the search took.
        each: seconds that a cut takes, about.
        decisions: whether classes that change are what is lost.
        denormals: weights that are denormal.
    """

    history: History
    chosen: Trial | None
    end: End
    samples: int
    seconds: float
    each: float
    decisions: bool = False
    denormals: Denormals = NO_DENORMALS

    @property
    def next(self) -> Trial | None:
        """The candidate of least loss among those that cost less than the result."""
        share = 1.0 if self.chosen is None else self.history.share(self.chosen)
        made = (each for each in self.history.trials if each.made and each.asked.level == FULL)
        cheaper = [each for each in made if self.history.share(each) < share]
        losses = {each.number: each.loss.cautious for each in cheaper if each.loss is not None}
        return min(cheaper, key=lambda each: (losses[each.number], each.number), default=None)


def stopped(ending: Ending, analysis: Analysis) -> tuple[str, ...]:
    """Why it ends there."""
    return (*_by_loss(ending), *_by_end(ending), *_by_pins(analysis), *_by_failures(ending))


def helps(ending: Ending, analysis: Analysis) -> tuple[str, ...]:
    """What would lead further."""
    more = (_data(ending), _labels(ending), _longer(ending))
    other = (_denormals(ending.denormals), _opset(analysis.model), _unblock(analysis))
    return tuple(chain.from_iterable((*more, *other)))


def _by_loss(ending: Ending) -> Iterator[str]:
    after, bound = ending.next, ending.history.bound
    if after is None or after.loss is None:
        return
    left = f"{100 * ending.history.share(after):.0f} % of the cost"
    spread = f"{after.loss.value:.3f} ± {after.loss.error:.3f}"
    if after.loss.cautious > bound:
        what = f"output {quote(after.loss.where)} loses {spread}"
        yield f"loss: with {left} left {what}, and {bound:g} may be lost"


def _by_end(ending: Ending) -> Iterator[str]:
    cuts = len(_cuts(ending))
    noun = "cut" if cuts < 2 else "cuts"
    said = {
        "time": f"time: {ending.seconds:.0f} s were enough for {cuts or 'no'} {noun} in full",
        "steps": f"steps: {len(ending.history.trials)} were asked for",
        "tried": "nothing new is left to try",
    }
    yield said[ending.end]


def _cuts(ending: Ending) -> list[Trial]:
    """Candidates that may be the result, besides the model itself."""
    trials = ending.history.trials
    return [each for each in trials if each.asked.level == FULL and each.asked.way != DENSE]


def _by_pins(analysis: Analysis) -> Iterator[str]:
    pinned = {group.id: group.pin for group in analysis.groups if group.pin is not None}
    if pinned and not analysis.prunable:
        yield f"pins: all {len(pinned)} groups are pinned, such as {escape(next(iter(pinned)))}"
        return
    inner = [name for name, pin in pinned.items() if not pin.reason.startswith(ENDS)]
    every = len(inner) + len(analysis.prunable)
    if inner and len(inner) >= PINNED * every:
        yield f"pins: {len(inner)} of {every} groups may not shrink; graphprune inspect says why"


def _by_failures(ending: Ending) -> Iterator[str]:
    failed = [each for each in ending.history.trials if each.why]
    if failed:
        noun = "candidate" if len(failed) == 1 else "candidates"
        first = f"{escape(failed[0].pipeline)}: {escape(failed[0].why)}"
        yield f"{len(failed)} {noun} came to nothing, such as {first}"


def _data(ending: Ending) -> Iterator[str]:
    after, bound = ending.next, ending.history.bound
    if after is not None and after.loss is not None and after.loss.value <= bound < after.loss.cautious:
        if after.loss.value < bound:
            factor = (after.loss.error / (bound - after.loss.value)) ** 2
            many = max(ending.samples + 1, int(ending.samples * factor) + 1)
            less = f"{after.loss.value:.3f} is no more than {bound:g}"
            yield f"more inputs: about {many} could tell that {less}"
        else:
            yield "more inputs: the next candidate is as good as on the bound"
    elif ending.samples < ENOUGH:
        yield f"more inputs: {ending.samples} samples are few to repair with; {2 * ENOUGH} do better"


def _labels(ending: Ending) -> Iterator[str]:
    """Where decisions stand in for what is right, and a cut was refused for them."""
    after = ending.next
    if ending.decisions and after is not None and not after.holds(ending.history.bound):
        yield "labels: --metric top1 --labels FILE.npy counts only answers that become wrong"


def _denormals(found: Denormals) -> Iterator[str]:
    """Weights that this processor multiplies slowly."""
    if found.felt:
        gain = f"without them the model is {found.gain:.2f} times as fast here"
        yield f"denormals: {found.count} weights are denormal floats; {gain}: session.set_denormal_as_zero=1"


def _opset(model: ir.Model) -> Iterator[str]:
    """A later opset, where lowering would use it."""
    given = model.opset_imports.get("", 0)
    model, uses = lowered(model, opened("portable", raising=True))
    after = model.opset_imports.get("", 0)
    if after > given:
        rules = dict.fromkeys(use.rule for use in uses if BY_NAME[use.rule].needs > given)
        how = f"graphprune lower --opset auto raises {given} to {after}"
        yield f"a later opset: {how}, for {', '.join(rules)}"


def _longer(ending: Ending) -> Iterator[str]:
    if ending.end != "time":
        return
    if _cuts(ending):
        yield "longer: --resume goes on with this study"
        return
    took = ending.history.trials[0].seconds
    minutes = math.ceil(ROOM * ending.each / 60)
    how = f"--resume --time {minutes}m goes on"
    yield f"longer: the model itself took {took:.0f} s to judge, and a cut takes longer; {how}"


def _unblock(analysis: Analysis) -> Sequence[str]:
    found = [group.pin.unblock for group in analysis.groups if group.pin is not None and group.pin.unblock]
    return [f"to free pinned groups: {each}" for each in dict.fromkeys(found)][:2]
