"""Rows of the comparison, kept as JSON lines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Row:
    """One training.

    Attributes:
        net: the model.
        macs: share that the cut left.
        setting: by name.
        seed: of the draws.
        steps: that were asked for.
        batch: samples of a step.
        rate: the largest.
        seconds: of CPU that the training took.
        begun: seconds of CPU before the first step.
        loss: on the selection part: of the cut, and in the end.
        chosen: the drop there.
        unseen: the drop on samples that nothing has seen.
        metric: of the task: of the dense model, the cut, and in the end.
    """

    net: str
    macs: float
    setting: str
    seed: int
    steps: int
    batch: int
    rate: float
    seconds: float
    begun: float
    loss: tuple[float, float]
    chosen: tuple[float, float]
    unseen: tuple[float, float]
    metric: tuple[float, float, float]


def read(path: Path) -> list[Row]:
    """Rows that are there."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [Row(**{name: _plain(value) for name, value in json.loads(line).items()}) for line in lines]


def _plain(value: object) -> Any:
    return tuple(value) if isinstance(value, list) else value
