"""Candidates that are made side by side by processes of this machine, in the folder of the study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from graphprune.pipeline.samples import Judging, read_sets
from graphprune.pipeline.settings import Tuning
from graphprune.run import silent
from graphprune.tuning.case import Case, Job
from graphprune.tuning.evaluate import Evaluator, Maker, Place
from graphprune.tuning.trial import Asked, Trial

if TYPE_CHECKING:
    import onnx_ir as ir

    from graphprune.axes.outputs import UserKind
    from graphprune.tuning.study import Study

HEAVY = 2**28
"""Bytes of a model, or of its samples, from which on there is one of each in memory, not several."""


@dataclass(frozen=True)
class Making:
    """What a candidate is made and judged by, but for files.

    Attributes:
        numbers: of the samples that choose.
        settings: of the search.
        shapes: of one sample.
        share: of the time that the model takes as it was given, what it takes lowered.
        kinds: what outputs are, besides what the user said.
    """

    numbers: tuple[int, ...]
    settings: Tuning
    shapes: Mapping[str, tuple[int, ...]]
    share: float
    kinds: Mapping[str, UserKind]

    def labelled(self, labels: str) -> Making:
        """The same with labels in that file."""
        return replace(self, settings=replace(self.settings, labels=labels))

    def evaluator(self, model: Path, place: Place) -> Evaluator:
        """Makes and judges candidates of a model, with the samples of a study."""
        case = Case(Job(model, None), self.settings)
        sets = read_sets(place.samples("selection"), case.model)
        selection = Judging(sets, "inputs", case.model, self.numbers)
        maker = Maker(model, place, self.settings, self.shapes, self.share, self.kinds)
        return Evaluator(maker, case.judge, selection)


def making(study: Study) -> Making:
    """Those of a study, as they travel."""
    case = study.case
    settings = replace(case.settings, progress=silent, profile=None, study=None, force=True, resume=False)
    numbers = tuple(case.parts.selection.numbers)
    return Making(numbers, settings, case.shapes, study.maker.share, case.kinds)


@dataclass(frozen=True)
class Here:
    """What a process needs to make candidates: files that it finds, and what they are made and judged by."""

    model: Path
    place: Place
    making: Making
    key: str


def here(study: Study) -> Here | None:
    """A study whose candidates may be made side by side; None where that takes too much memory.

    It is that, too, where the model is in no file.
    """
    case = study.case
    size = sum(array.nbytes for arrays in case.parts.repair for array in arrays.values())
    if case.source.path is None or max(case.source.bytes, size) > HEAVY:
        return None
    found = making(study)
    alone = replace(found, settings=replace(found.settings, jobs=1))
    return Here(case.source.path, study.place, alone, str(study.place.folder))


_EVALUATORS: dict[str, Evaluator] = {}
"""Of a process: the one of the study that it works on."""


def make_here(given: Here, item: tuple[int, Asked]) -> Trial:
    """One candidate, in its place; its latency is predicted by whoever asked."""
    if given.key not in _EVALUATORS:
        _EVALUATORS[given.key] = given.making.evaluator(given.model, given.place)
    return _EVALUATORS[given.key].trial(*item, later)


def later(model: ir.Model) -> float:
    """Latency is predicted where the search is."""
    return 0.0
