"""Results on disk: a line per compile, with the state of the code that it was measured at."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graphprune.errors import DataError
from tools.real_models.workload import Difference

Key = tuple[str, str, float]
DENSE, CONTROL = "dense", "random"  # what every row is compared with
DIGITS = 6  # of a number in a line


@dataclass(frozen=True)
class Row:
    """One compile of one workload; `error` says why there is no result.

    `params` and `macs` are shares of the dense model's, times are milliseconds, `speedup` is interleaved and
    lies from `low` to `high`. Differences are over the same items, which are not kept.
    """

    workload: str
    method: str
    ratio: float
    pipeline: str
    commit: str = ""
    metric: float = 0.0
    dense: float = 0.0
    against_dense: Difference | None = None
    against_random: Difference | None = None
    params: float = 1.0
    macs: float = 1.0
    before_ms: float = 0.0
    after_ms: float = 0.0
    speedup: float = 1.0
    low: float = 0.0
    high: float = 0.0
    verdict: str = ""
    seconds: float = 0.0
    error: str = ""

    @property
    def key(self) -> Key:
        return self.workload, self.method, self.ratio


@dataclass(frozen=True)
class Store:
    """A file of results, one line of a key, and a folder of what their differences are made of.

    Args:
        lines: results as JSON, a row each; committed.
        items: score of every item of the rows that this machine measured; may be lost.
    """

    lines: Path
    items: Path

    def rows(self) -> dict[Key, Row]:
        """Everything measured so far."""
        if not self.lines.exists():
            return {}
        read = (_read(line) for line in self.lines.read_text(encoding="utf-8").splitlines())
        return {row.key: row for row in read}

    def of(self, workload: str) -> Iterator[Row]:
        """Results of one workload."""
        return (row for row in self.rows().values() if row.workload == workload)

    def current(self, commit: str) -> dict[Key, Row]:
        """Rows of this state; those that others are compared with only where their items are here."""
        return {
            key: row
            for key, row in self.rows().items()
            if row.commit == commit and (row.method not in (DENSE, CONTROL) or self._scores(row).exists())
        }

    def add(self, row: Row, items: NDArray[np.float64] | None) -> None:
        """Keep a result at once, so that a run that is stopped goes on where it was."""
        self.items.mkdir(parents=True, exist_ok=True)
        if items is not None:
            np.save(self._scores(row), items)
        rows = self.rows() | {row.key: row}
        beside = [each for each in rows.values() if _comparable(each, row)]
        self._write({**rows, **{each.key: self._paired(each, rows) for each in beside}}.values())

    def _write(self, rows: Iterable[Row]) -> None:
        partial = self.lines.with_name(f".{self.lines.name}")
        partial.write_text("".join(f"{_written(row)}\n" for row in rows), encoding="utf-8")
        partial.replace(self.lines)

    def _paired(self, row: Row, rows: dict[Key, Row]) -> Row:
        """The row with its differences, as far as the items are here."""
        dense, control = rows.get((row.workload, DENSE, 0.0)), rows.get((row.workload, CONTROL, row.ratio))
        return replace(
            row,
            against_dense=self._difference(row, dense) or row.against_dense,
            against_random=self._difference(row, control) or row.against_random,
        )

    def _difference(self, row: Row, other: Row | None) -> Difference | None:
        """Mean of (row - other) over the same items, with its standard error.

        Raises:
            DataError: they were scored on different items.
        """
        if other is None or other.key == row.key or other.commit != row.commit or row.error or other.error:
            return None
        if not (self._scores(row).exists() and self._scores(other).exists()):
            return None
        ours, theirs = np.load(self._scores(row)), np.load(self._scores(other))
        if len(ours) != len(theirs):
            raise DataError(
                f"{row.workload}: '{row.method}' and '{other.method}' were scored on different items",
                f"delete the lines of {row.workload} in {self.lines} and run again",
            )
        change = ours - theirs
        return Difference(float(change.mean()), float(change.std(ddof=1) / math.sqrt(len(change))))

    def _scores(self, row: Row) -> Path:
        text = "/".join(map(str, (*row.key, row.commit)))
        return self.items / f"{row.workload}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.npy"


def _comparable(one: Row, other: Row) -> bool:
    """At one ratio of one workload, of one state."""
    return (one.workload, one.ratio, one.commit) == (other.workload, other.ratio, other.commit)


def _read(line: str) -> Row:
    found = json.loads(line)
    pairs = {name: Difference(*found[name]) for name in ("against_dense", "against_random") if name in found}
    return Row(**{**found, **pairs})


def _written(row: Row) -> str:
    """What differs from the defaults, numbers as short as they are sure."""
    kept = {field.name: _short(getattr(row, field.name)) for field in fields(row)}
    defaults = {field.name: field.default for field in fields(row)}
    return json.dumps({name: value for name, value in kept.items() if value != defaults[name]})


def _short(value: object) -> object:
    if isinstance(value, Difference):
        return [_short(value.mean), _short(value.standard_error)]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
