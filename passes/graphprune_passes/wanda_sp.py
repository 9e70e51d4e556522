"""Wanda-sp: Wanda's score summed over heads and neurons, the same share in every layer (FLAP's baseline)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphprune.pipeline.structured import Structured


@dataclass(frozen=True)
class WandaSp(
    Structured, criterion="wanda", scope="local", allocate="local", repair="none", kinds=("heads", "neurons")
):
    """Removes heads and neurons of small weight times activation norm (arXiv 2306.11695), without repair."""

    name: ClassVar[str] = "wanda-sp"
