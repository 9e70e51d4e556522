"""What criteria may ask of gradients, and what they are told; how it is measured needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from graphprune.ir.arrays import Array, Doubles

Element = Literal["mean", "absolute", "square", "cube", "fourth", "flow", "curvature", "synflow"]
"""Per element of an initializer: means over samples of gradients, of their absolute values and their powers;
the Hessian times the mean gradient; its diagonal; |w| times its gradient in a net of absolute weights."""
ELEMENTS: tuple[Element, ...] = get_args(Element)


@dataclass(frozen=True)
class Reading:
    """Something to measure by gradients of a loss without labels (docs/autograd.md#losses-without-labels).

    Attributes:
        what: per element of every initializer; the gradients in gates of the Units, sample by sample; or the
            relevance of what their sources compute.
        drawn: whether labels are drawn from the model's distribution instead of being the most likely ones.
        temperature: what logits are divided by.
    """

    what: Element | Literal["gates", "relevance"]
    drawn: bool = False
    temperature: float = 1.0

    @property
    def blind(self) -> bool:
        """Whether it needs no data."""
        return self.what == "synflow"


@dataclass(frozen=True)
class Gradients:
    """What was measured.

    Attributes:
        elements: by what was asked for and the name of an initializer, in its shape.
        gates: [samples, Units] by Group id.
        relevance: sum of absolute relevance per channel, by name of what a source computes.
    """

    elements: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)
    gates: Mapping[str, Doubles] = field(default_factory=dict)
    relevance: Mapping[str, Doubles] = field(default_factory=dict)
