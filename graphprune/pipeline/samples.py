"""The inputs that models are run on: what the user gave, or generated ones that the model accepts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

import numpy as np
import onnx_ir as ir

from graphprune.errors import ArgumentError, DataError
from graphprune.ir.arrays import Arrays
from graphprune.ir.defaults import settings
from graphprune.ir.fixed import NOTHING
from graphprune.pipeline.onesample import Shapes, more_is_open, one_sample
from graphprune.pipeline.opensizes import open_sizes
from graphprune.pipeline.report import DataReport
from graphprune.pipeline.settings import Looking, Running

if TYPE_CHECKING:
    from graphprune.runtime.stream import Items

L = TypeVar("L", bound=Looking)
BATCH, BATCH_BYTES = 32, 1 << 22
"""Samples of a batch, and bytes of their inputs, at most."""
PROOF_ROWS = 4
"""Calibration samples that a proof runs on, besides its generated inputs."""

Batches = tuple[dict[str, np.ndarray], ...]
Sets = list[dict[str, np.ndarray]]
Narrow = Callable[[Arrays], Arrays]
"""Batches of the model before a pass as those of the model after it: a cache may have lost heads."""
Source = Literal["inputs", "selection", "held back", "repaired on", "given", "generated"]
InMemory: TypeAlias = "Items | Arrays | tuple[Arrays, ...]"
Given: TypeAlias = "Path | InMemory | None"
"""A file or folder of arrays, what Python gave, arrays by input name, several such sets, or nothing."""


def same(feed: Arrays) -> Arrays:
    """Batches that a pass left as they were."""
    return feed


@dataclass(frozen=True)
class _Calibration:
    """Samples that are held back to judge the result by, with their numbers, and those that passes see.

    `selection` are those that a pass that learns chooses by; `trained` and `chosen` are the numbers of those
    that it trains on and chooses by.
    """

    held: Sets = field(default_factory=list)
    rest: Sets = field(default_factory=list)
    numbers: Sequence[int] = ()
    samples: int = 0
    hash: str = ""
    selection: Sets = field(default_factory=list)
    trained: Sequence[int] = ()
    chosen: Sequence[int] = ()


@dataclass(frozen=True)
class Samples:
    """Batches of what the user gave for a model; generated inputs where a proof has none.

    Args:
        model: the model that the samples are for.
        inputs: what to prove and time on; generated if None.
        calibration: samples for criteria that need data.
        general: samples of all else, for passes that weigh a domain against it.
        selected: samples that passes that learn choose by; then nothing of the calibration is held back.
        settings: seed, shapes and time limit of generated inputs.
        lost: inputs that passes removed (caches of layers that are gone).
        fixed: inputs that became constants; samples may still hold them.
        narrow: what passes made of the inputs that are left.
        replay: whether a plan is repeated, which repairs nothing, so that nothing has to be held back.
        learner: the pass that learns, and so needs parts to train on, to choose by and for the report.
        whole: the same samples for the model as given, where passes changed its inputs.
    """

    model: ir.Model
    inputs: Given
    calibration: Given
    settings: Running
    general: Given = None
    selected: Given = None
    lost: frozenset[str] = frozenset()
    fixed: Arrays = field(default_factory=dict)
    narrow: tuple[Narrow, ...] = ()
    replay: bool = False
    learner: str = ""
    whole: Samples | None = None

    def without(self, names: Iterable[str], narrow: Narrow = same) -> Samples:
        """The same samples for a model that lost these inputs, and parts of others."""
        lost = self.lost | set(names)
        if lost == self.lost and narrow is same:
            return self
        return replace(self, lost=lost, narrow=(*self.narrow, narrow), whole=self.whole or self)

    def narrowed(self, feed: Arrays) -> dict[str, np.ndarray]:
        """A feed of the model as given for the model as it is now."""
        return self._left((dict(feed),))[0]

    def _left(self, feeds: Batches) -> Batches:
        """What the model still reads; parts of it need the defaults of its settings as well."""
        full: Iterable[Arrays] = ({**settings(self.model), **feed} for feed in feeds)
        for narrow in self.narrow:
            full = map(narrow, full)
        return tuple({k: v for k, v in feed.items() if k not in self.lost} for feed in full)

    def check(self) -> None:
        """Read what was given now, so that a bad file ends a compile before it works.

        Raises:
            DataError: it does not fit the model.
        """
        if self.inputs is not None or self.calibration is not None:
            _ = self.feeds
        _ = self._general, self._selected

    @cached_property
    def batches(self) -> Batches:
        """Calibration batches without what is held back; none if there is no calibration data."""
        return self._left(_batches(self._calibration.rest, self.model))

    @property
    def general_batches(self) -> Batches:
        """Batches of all else; none if none were given."""
        return self._left(_batches(self._general, self.model))

    @cached_property
    def _general(self) -> Sets:
        return [] if self.general is None else read_sets(self.general, self.model, self.fixed)

    @cached_property
    def _selected(self) -> Sets:
        return [] if self.selected is None else read_sets(self.selected, self.model, self.fixed)

    @cached_property
    def _calibration(self) -> _Calibration:
        """What was given to calibrate on; nothing of it is held back where the user said what to judge by."""
        from graphprune.runtime.holding import count, digest, divide, drawn, held_back

        if self.calibration is None:
            return _Calibration()
        sets = read_sets(self.calibration, self.model, self.fixed)
        samples = count(sets, self.model)
        if self.learner and not self.replay:
            return self._parted(sets, samples)
        judged = self.inputs is not None or self.selected is not None
        number = 0 if judged or self.replay else held_back(samples)
        if not number:
            return _Calibration([], sets, (), samples, digest(sets))
        seed = self.settings.seed
        numbers = drawn(sets, self.model, number, seed)
        return _Calibration(*divide(sets, self.model, number, seed), numbers, samples, digest(sets))

    def _parted(self, sets: Sets, samples: int) -> _Calibration:
        """A part to train on, one to choose by, and one for the report unless the user gave that.

        Raises:
            ArgumentError: there are too few.
        """
        from graphprune.runtime.holding import LEAST, count, digest, parted, picked
        from graphprune.runtime.ordered import parts

        given = samples + count(self._selected, self.model)
        if given < LEAST:
            raise ArgumentError(
                f"{self.learner} needs at least {LEAST} calibration samples, and has {given}",
                "give more: no labels are needed; a few hundred inputs as the model will see them are good",
            )
        if self._selected:
            trained = tuple(range(samples))
            return _Calibration([], sets, (), samples, digest(sets), self._selected, trained)
        sizes = parted(samples, whole=self.inputs is not None)
        (selection, held), _ = parts(sets, self.model, sizes, self.settings.seed)
        rest = [~(one | two) for one, two in zip(selection, held, strict=True)]
        numbers, trained, chosen = (
            tuple(np.flatnonzero(np.concatenate(taken)).tolist()) for taken in (held, rest, selection)
        )
        found = [
            picked(sets, self.model, taken) if sum(map(sum, taken)) else []
            for taken in (held, rest, selection)
        ]
        return _Calibration(found[0], found[1], numbers, samples, digest(sets), found[2], trained, chosen)

    @property
    def training(self) -> Judging:
        """What passes that learn train on."""
        return Judging(self._calibration.rest, "repaired on", self.model, self._calibration.trained)

    @property
    def selection(self) -> Judging:
        """What passes that learn choose by."""
        return Judging(self._calibration.selection, "repaired on", self.model, self._calibration.chosen)

    @property
    def calibrated(self) -> int:
        """Calibration samples, held back or not."""
        return self._calibration.samples

    @property
    def said(self) -> tuple[DataReport, ...]:
        """What was given, for a report."""
        from graphprune.runtime.holding import count, digest

        found, own = self._calibration, self._given
        rows = (
            DataReport(
                "calibration", _named(self.calibration), found.samples, len(found.numbers), found.hash
            ),
            DataReport(
                "general", _named(self.general), count(self._general, self.model), 0, digest(self._general)
            ),
            DataReport(
                "selection",
                _named(self.selected),
                count(self._selected, self.model),
                0,
                digest(self._selected),
            ),
            DataReport("inputs", _named(self.inputs), count(own, self.model), 0, digest(own)),
        )
        return tuple(row for row in rows if row.samples)

    def judging(self) -> Judging:
        """What the result is judged on: given inputs, what was held back, else what there is."""
        if self.inputs is not None:
            return Judging(self._given, "inputs", self.model)
        if self._selected:
            return Judging(self._selected, "selection", self.model)
        found = self._calibration
        if found.samples:
            source: Source = "given" if self.replay else "held back" if found.held else "repaired on"
            return Judging(found.held or found.rest, source, self.model, found.numbers)
        return Judging(list(self.feeds), "generated", self.model)

    def seen(self) -> Judging:
        """Some of the samples that passes saw."""
        from graphprune.runtime.holding import MOST, some

        return Judging(
            some(self._calibration.rest, self.model, MOST, self.settings.seed), "repaired on", self.model
        )

    @cached_property
    def feeds(self) -> Batches:
        """The inputs of proofs: given or generated ones, and one calibration batch."""
        if self.inputs is not None:
            return (*self._left(_batches(self._given, self.model)), *self._few)
        return (*self._left((self._made,)), *self._few)

    @property
    def timed(self) -> dict[str, np.ndarray]:
        """What models are timed on: one sample, at the sizes that multiply-adds are counted at."""
        return self.narrowed((self.whole or self)._one)

    @property
    def counted(self) -> Shapes:
        """Shapes that multiply-adds are counted at; the batch that they leave open is 1."""
        given = self.whole or self
        if not more_is_open(given.model, self.settings.shape):
            return self.settings.shape
        return {name: array.shape for name, array in given._one.items()}

    @cached_property
    def _one(self) -> dict[str, np.ndarray]:
        found = self._calibration
        batches = _batches((self._given or found.rest or found.held)[:1], self.model)
        given = batches[0] if batches else self._made
        return one_sample(self.model, self.settings, given, normal=True)

    @property
    def generated(self) -> dict[str, int]:
        """Sizes of generated inputs that the model leaves open; none where inputs were given."""
        if self.inputs is not None:
            return {}
        shapes = {name: array.shape for name, array in self.feeds[0].items()}
        return open_sizes(self.model, shapes, self.settings.shape)

    @cached_property
    def _made(self) -> dict[str, np.ndarray]:
        return feeds_for(self.model, None, self.settings)[0]

    @cached_property
    def _given(self) -> Sets:
        """Samples of `--inputs`."""
        return [] if self.inputs is None else read_sets(self.inputs, self.model, self.fixed)

    @property
    def _few(self) -> Batches:
        """A few calibration samples: outputs of a whole batch of token windows fill gigabytes."""
        from graphprune.runtime.data import batches

        return tuple(next(batches(batch, self.model, size=PROOF_ROWS)) for batch in self.batches[:1])


@dataclass(frozen=True)
class Judging:
    """Samples to judge a result on, and where they come from.

    Attributes:
        numbers: which of those that were given they are; empty where they are all.
    """

    sets: Sequence[Arrays]
    source: Source
    model: ir.Model
    numbers: Sequence[int] = ()

    def __len__(self) -> int:
        from graphprune.runtime.holding import count

        return count(self.sets, self.model)

    def feeds(self, size: int = 1) -> Iterator[dict[str, np.ndarray]]:
        """So many samples at a time."""
        from graphprune.runtime.data import batches

        return (feed for arrays in self.sets for feed in batches(arrays, self.model, size))


def _named(given: Given) -> str:
    """The path of samples, or what they are."""
    return str(given) if isinstance(given, Path) else "arrays in memory"


def feeds_for(model: ir.Model, inputs: Given, settings: Running, fixed: Arrays = NOTHING) -> Batches:
    """Batches of the given inputs, or one generated batch that the model runs on.

    Raises:
        DataError: the given inputs do not fit the model.
        ModelError: no generated input runs.
    """
    from graphprune.runtime.inputs import runnable_inputs

    if inputs is not None:
        return read(inputs, model, fixed)
    return (runnable_inputs(model, settings.shape, run=settings.run),)


def timed_feed(
    model: ir.Model, inputs: Given, settings: Running, fixed: Arrays = NOTHING
) -> dict[str, np.ndarray]:
    """What any model is timed on, which need not be in normal form: one sample, of the given inputs if any.

    Raises:
        DataError: the given inputs do not fit the model.
        ModelError: no generated input runs.
    """
    settings = with_shapes(settings, inputs, model, fixed)
    return one_sample(model, settings, NOTHING if inputs is None else read(inputs, model, fixed)[0])


def read(given: Path | InMemory, model: ir.Model, fixed: Arrays = NOTHING) -> Batches:
    """What was given as batches for a model, without what is fixed.

    Raises:
        DataError: it cannot be read, or does not fit the model.
    """
    return _batches(read_sets(given, model, fixed), model)


def _batches(sets: Sequence[Arrays], model: ir.Model) -> Batches:
    """Of large samples fewer at a time, so that batches run side by side and fit into memory."""
    from graphprune.runtime.data import batches, layout

    found = list[dict[str, np.ndarray]]()
    for arrays in sets:
        each = sum(array.nbytes for array in arrays.values()) / max(1, layout(arrays, model).count)
        found += batches(arrays, model, max(1, min(BATCH, int(BATCH_BYTES // max(1, each)))))
    return tuple(found)


def read_sets(given: Path | InMemory, model: ir.Model, fixed: Arrays = NOTHING) -> Sets:
    """What was given as sets of arrays, checked against a model.

    Raises:
        DataError: it cannot be read, or does not fit the model.
    """
    from graphprune.runtime.data import load_inputs

    return load_inputs(given, model, fixed) if isinstance(given, Path) else as_sets(given, model, fixed)


def with_shapes(settings: L, inputs: Given, model: ir.Model, fixed: Arrays) -> L:
    """Settings that know the shapes of one sample of the given inputs; what the user said of sizes wins.

    Raises:
        DataError: the inputs cannot be read, or do not fit the model.
        ArgumentError: the shapes that the user gave do not.
    """
    if inputs is None:
        return settings
    from graphprune.runtime.data import batches
    from graphprune.runtime.dimensions import bound_sizes, data_inputs

    sets = read_sets(inputs, model, fixed)
    sample = next(batches(sets[0], model, size=1))
    wanted = data_inputs(model)  # the size of a setting is known
    said = bound_sizes(wanted, settings.shape)
    shapes = {}
    for value in wanted:
        if (name := value.name or "") in sample:
            sizes = sample[name].shape
            dims = [getattr(dim, "value", None) or "" for dim in value.shape or sizes]
            shapes[name] = tuple(said.get(dim, size) for dim, size in zip(dims, sizes, strict=True))
    return replace(settings, shape={**shapes, **settings.shape})


def as_sets(given: InMemory, model: ir.Model, fixed: Arrays = NOTHING) -> Sets:
    """Arrays in memory, checked against a model.

    Raises:
        DataError: they do not fit, or there are none.
    """
    from graphprune.runtime.data import checked
    from graphprune.runtime.stream import Items, Store, gather, named

    items = given if isinstance(given, Items) else gather(given, "the samples")
    assert isinstance(items, Items)
    store = Store(items.called)
    for where, arrays in named(items, model):
        store.hold(checked(arrays, model, where, fixed), arrays)
    if not items.sets:
        raise DataError(f"{items.called} are empty" if " " in items.called else f"{items.called} is empty")
    return store.arrays()
