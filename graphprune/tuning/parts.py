"""The samples of a search in three parts: to repair on, to choose by, and to report on."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graphprune.errors import DataError
from graphprune.ir.arrays import Arrays, Bools
from graphprune.ir.paths import is_folder
from graphprune.pipeline.samples import Judging

if TYPE_CHECKING:
    import onnx_ir as ir

FEW = 4
"""Quick candidates are repaired on one in so many samples of the part."""
REPAIRED, RUNS = 0.1, 8.0
"""Share of the time that a repair may take, which runs every sample so many times, about."""
JUDGED, TWICE = 0.05, 2.0
"""Share of the time that judging a candidate may take, which runs every sample so often."""
LEAST_REPAIRED, LEAST_JUDGED = 32, 64
"""Samples that a repair, and a judgement, have at least."""


@dataclass(frozen=True)
class Counts:
    """How many samples a search has time for.

    Attributes:
        repair: that candidates are made with.
        judge: that they are chosen by, and as many that the result is reported on.
    """

    repair: int
    judge: int


def counts(seconds: float, run: float) -> Counts:
    """What a search of so many seconds has time for, where one sample runs for so long."""
    many = seconds / max(run, 1e-9)
    repair, judge = REPAIRED / RUNS * many, JUDGED / TWICE * many
    return Counts(max(LEAST_REPAIRED, int(repair)), max(LEAST_JUDGED, int(judge)))


@dataclass(eq=False)
class Parts:
    """Samples by what they are for.

    Attributes:
        repair: that candidates are made with.
        few: some of these, for quick candidates.
        selection: that candidates are chosen by.
        reads: how often the rest was read.
    """

    repair: Sequence[Arrays]
    few: Sequence[Arrays]
    selection: Judging
    _report: Judging
    reads: int = field(default=0)

    def keep(self, most: Counts, model: ir.Model, seed: int) -> None:
        """Leaves some out where there are more than that of a part."""
        from graphprune.runtime.holding import LEAST, count

        self.repair = _some(self.repair, model, most.repair, seed)[0]
        number = max(LEAST // 2, count(self.repair, model) // FEW)
        self.few = _some(self.repair, model, number, seed)[0]
        self.selection, self._report = (
            _fewer(each, most.judge, seed) for each in (self.selection, self._report)
        )

    @property
    def reported(self) -> int:
        """How many samples that is."""
        return len(self._report.numbers)

    def report(self) -> Judging:
        """What the result is reported on; to be read once, after the last decision."""
        self.reads += 1
        return self._report


def divide(sets: Sequence[Arrays], model: ir.Model, seed: int) -> Parts:
    """Half for repair, a quarter each to choose by and to report on; ordered data in blocks.

    Raises:
        DataError: there are too few.
    """
    from graphprune.runtime.holding import LEAST, count, parted, picked
    from graphprune.runtime.ordered import parts

    total = count(sets, model)
    if total < LEAST:
        raise DataError(
            f"too few samples to search with ({total}): some repair, some choose, some report",
            f"give {LEAST} or more; a few hundred are better",
        )
    taken, _ = parts(sets, model, parted(total, whole=False), seed)
    rest = [~(one | two) for one, two in zip(*taken, strict=True)]
    repair = picked(sets, model, rest)
    few, _ = _some(repair, model, max(LEAST // 2, count(repair, model) // FEW), seed)
    selection, report = (_judging(sets, model, mine) for mine in taken)
    return Parts(repair, few, selection, report)


def _some(sets: Sequence[Arrays], model: ir.Model, number: int, seed: int) -> tuple[Sequence[Arrays], Bools]:
    """So many samples, ordered data in blocks, and which these are of all."""
    from graphprune.runtime.holding import count, picked
    from graphprune.runtime.ordered import parts

    total = count(sets, model)
    if number >= total:
        return sets, np.ones(total, bool)
    (taken,), _ = parts(sets, model, (number,), seed)
    return picked(sets, model, taken), np.concatenate(taken)


def _fewer(judging: Judging, number: int, seed: int) -> Judging:
    """The same with so many samples at most."""
    sets, taken = _some(judging.sets, judging.model, number, seed)
    return Judging(sets, judging.source, judging.model, tuple(np.array(judging.numbers)[taken].tolist()))


def _judging(sets: Sequence[Arrays], model: ir.Model, taken: Sequence[Bools]) -> Judging:
    from graphprune.runtime.holding import picked

    numbers = tuple(np.flatnonzero(np.concatenate(taken)).tolist())
    return Judging(picked(sets, model, taken), "inputs", model, numbers)


def write(sets: Sequence[Arrays], folder: Path) -> None:
    """A folder of .npz files, one per set, as `--calibration` reads it."""
    if is_folder(folder):
        return
    partial = folder.with_name(f".{folder.name}.new")
    partial.mkdir(parents=True, exist_ok=True)
    for number, arrays in enumerate(sets):
        with zipfile.ZipFile(partial / f"{number:04}.npz", "w", allowZip64=True) as file:
            for name, array in arrays.items():
                with file.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, _plain(array), allow_pickle=False)
    partial.rename(folder)


def _plain(array: np.ndarray) -> np.ndarray:
    """In a type that .npy files have."""
    if array.dtype.kind == "O":
        return array.astype(np.str_)
    return array.astype(np.float32) if array.dtype.kind == "V" else array
