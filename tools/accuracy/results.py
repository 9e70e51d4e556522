"""Results on disk: a line per compile, and the score of every item, so that any two methods can be paired."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graphprune.errors import DataError
from tools.real_models.workload import Difference


@dataclass(frozen=True)
class Row:
    """One compile of one workload; `error` says why there is no result.

    `params` and `macs` are shares of the dense model's, times are milliseconds, `speedup` is interleaved.
    """

    workload: str
    method: str
    ratio: float
    pipeline: str
    metric: float = 0.0
    dense: float = 0.0
    params: float = 1.0
    macs: float = 1.0
    before_ms: float = 0.0
    after_ms: float = 0.0
    speedup: float = 1.0
    low: float = 1.0
    high: float = 1.0
    verdict: str = ""
    seconds: float = 0.0
    proof: float = 0.0
    density: float = 1.0
    error: str = ""

    @property
    def key(self) -> tuple[str, str, float]:
        return self.workload, self.method, self.ratio


@dataclass(frozen=True)
class Store:
    """A folder of results; the last line of a key counts."""

    folder: Path

    @property
    def _lines(self) -> Path:
        return self.folder / "accuracy.jsonl"

    def rows(self) -> dict[tuple[str, str, float], Row]:
        """Everything measured so far."""
        if not self._lines.exists():
            return {}
        read = (Row(**json.loads(line)) for line in self._lines.read_text().splitlines())
        return {row.key: row for row in read}

    def add(self, row: Row, items: NDArray[np.float64] | None) -> None:
        """Keep a result at once, so that a run that is stopped goes on where it was."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if items is not None:
            np.save(self._items(row), items)
        with self._lines.open("a") as file:
            file.write(json.dumps(asdict(row)) + "\n")

    def items(self, row: Row) -> NDArray[np.float64]:
        """Score of each item."""
        found: NDArray[np.float64] = np.load(self._items(row))
        return found

    def _items(self, row: Row) -> Path:
        text = "/".join(map(str, row.key))
        return self.folder / f"{row.workload}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.npy"

    def difference(self, row: Row, other: Row) -> Difference:
        """Mean of (row - other) over the same items, with its standard error.

        Raises:
            DataError: they were scored on different items.
        """
        ours, theirs = self.items(row), self.items(other)
        if len(ours) != len(theirs):
            raise DataError(
                f"{row.workload}: '{row.method}' and '{other.method}' were scored on different items",
                f"python -m tools.accuracy run --only {row.workload} --again",
            )
        change = ours - theirs
        return Difference(float(change.mean()), float(change.std(ddof=1) / np.sqrt(len(change))))

    def of(self, workload: str) -> Iterator[Row]:
        """Results of one workload."""
        return (row for row in self.rows().values() if row.workload == workload)
