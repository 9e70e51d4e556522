"""Minitron: widths by mean absolute activation on a small calibration set (arXiv 2407.14679)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphprune.pipeline.structured import Structured


@dataclass(frozen=True)
class Minitron(
    Structured, criterion="minitron", scope="local", repair="none", kinds=("heads", "neurons", "stream")
):
    """Removes heads, neurons and stream channels of small activation, as before distillation."""

    name: ClassVar[str] = "minitron"
