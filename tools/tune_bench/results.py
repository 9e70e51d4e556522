"""Results on disk: a line per search, so that a run that was stopped goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

Key = tuple[str, str, float, int]
DIGITS = 6


@dataclass(frozen=True)
class Row:
    """One search; `error` says why there is no result.

    Metrics are of the task on test data; `change` is small minus dense, paired by item, with its standard
    error. `drop` lies from `drop_low` to `drop_high` as tune reports it, `unseen_drop` is on inputs that tune
    never saw, where the model has more than tune gets. Speed-ups are against the file as given: at batch 1,
    and at the batch at which the file takes a millisecond. `shifted` is what the dense model loses against
    itself with its input shifted by one, where the metric is agreement. `place` is the machine: its
    instruction set and ONNX Runtime.
    """

    workload: str
    minutes: float
    seed: int
    kind: str
    place: str = ""
    commit: str = ""
    pipeline: str = ""
    tried: int = 0
    seconds: float = 0.0
    dense: float = 0.0
    metric: float = 0.0
    change: float = 0.0
    change_error: float = 0.0
    shifted: float = 0.0
    drop: float = 0.0
    drop_low: float = 0.0
    drop_high: float = 0.0
    unseen_drop: float | None = None
    before_ms: float = 0.0
    speedup: float = 1.0
    low: float = 1.0
    high: float = 1.0
    batch: int = 1
    batch_speedup: float = 1.0
    stopped: str = ""
    error: str = ""

    @property
    def key(self) -> Key:
        return self.place, self.workload, self.minutes, self.seed


@dataclass(frozen=True)
class Store:
    """A file of results, one line of a key."""

    path: Path

    def rows(self) -> dict[Key, Row]:
        if not self.path.exists():
            return {}
        found = map(_read, self.path.read_text(encoding="utf-8").splitlines())
        return {row.key: row for row in found}

    def add(self, row: Row) -> None:
        rows = self.rows() | {row.key: row}
        partial = self.path.with_name(f".{self.path.name}")
        partial.write_text("".join(f"{line}\n" for line in _lines(rows)), encoding="utf-8")
        partial.replace(self.path)


def _lines(rows: dict[Key, Row]) -> Iterator[str]:
    for key in sorted(rows):
        told = {
            name: round(v, DIGITS) if isinstance(v, float) else v for name, v in asdict(rows[key]).items()
        }
        yield json.dumps(told)


def _read(line: str) -> Row:
    told, known = json.loads(line), {each.name for each in fields(Row)}
    return Row(**{name: value for name, value in told.items() if name in known})
