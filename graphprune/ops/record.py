"""What an operator is: one record per family: its rules, its multiply-adds, its weight and its traits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

from graphprune.doors import Origin
from graphprune.ir.operators import AlikeRule, Held, Pairs, Shaping, Sized
from graphprune.labels.visit import Visit
from graphprune.ops.counting import Counter
from graphprune.ops.shaping import scaled
from graphprune.ops.traits import LAYERS, WEIGHTED, Trait

Exactness = Literal["parallel", "contraction", "structural", "reduction", "count", "normaliser", "frozen"]


class Indices(NamedTuple):
    """An input whose elements are places along an axis of another input, the table.

    Attributes:
        position: of the input.
        table: position of the table; of OneHot, of the number of slots.
        axis: of the table; None where the attribute `axis` says it.
    """

    position: int
    table: int
    axis: int | None = None


@dataclass(frozen=True)
class Layer:
    """A weight that multiplies an activation, at input 0: W x + b.

    Attributes:
        weight: input that holds W.
        rows: axis of W that makes output channels, unless the node says `transB`; of a product negative, as
            others may come before it.
        columns: axis of W that is contracted, likewise.
        bias: input that holds b; None where another node adds it.
        channel: axis of x that is contracted, and of the result that the rows make.
        kernel: what the positions of a window belong to; None for a product.
        either: whether W may as well be input 0, and x input 1.
        factor: attribute with what b is multiplied by.
        result: "sum" where W x + b is the result; "hidden" where that is no value of the graph: gates of a
            recurrent net, or integers; "fused" where the node goes on with it, so that it is no Site.
    """

    weight: int
    rows: int
    columns: int
    bias: int | None = None
    channel: int = -1
    kernel: Literal["rows", "columns"] | None = None
    either: bool = False
    factor: str = "beta"
    result: Literal["sum", "hidden", "fused"] = "sum"

    def alike(self, at: Sized) -> Pairs:
        """What is contracted is as long in x as in W, once per group."""
        x, w = at.input(0), at.input(self.weight)
        if self.kernel is not None:
            groups = at.number("group", 1) if self.kernel == "columns" else 1
            return [(x[self.channel], scaled(w[self.columns], groups))]
        turned = len(w) == 1 or at.number("transB") == 1
        return [(x[-2 if at.number("transA") == 1 else -1], w[self.rows if turned else self.columns])]

    def __str__(self) -> str:
        """As `W 1: rows 0, columns 1; b 2`."""
        bias = "" if self.bias is None else f"; b {self.bias}"
        return (
            f"W {'0 or ' if self.either else ''}{self.weight}: rows {self.rows}, columns {self.columns}{bias}"
        )


@dataclass(frozen=True)
class Record:
    """What the operators of a family are to graphprune, at every opset that it reads.

    Attributes:
        ops: operator names; "domain:Name" outside the default domain.
        transfer: the label rule.
        labels: the rule in words.
        exactness: parallel, contraction and structural are exact by construction; reduction is exact because
            removed slots are masked at its input; count after correcting n; a normaliser by compensation
            (docs/theory.md#exactness).
        edits: what the rewriter changes besides slicing initializers.
        macs: counts the multiply-adds; None where there are none to speak of. A contraction has one.
        shaping: how shapes and types of the results follow; None leaves that to the onnx package.
        layer: where the weight is, and its bias; None where there is none, or several.
        held: which inputs hold data, of an operator on codes; empty for all others.
        caches: (past input, present output) of what a decoder keeps from one token to the next.
        indices: which inputs hold places in a table.
        traits: what the operators are, for all who read a graph.
        body: the function that computes an operator which ONNX Runtime does not know, in ONNX's text form.
        library: the path of a library of ONNX Runtime's custom operators that knows it, or what gives it.
        origin: whose the row is, where it is not ours.
    """

    ops: tuple[str, ...]
    transfer: Callable[[Visit], None] = field(repr=False)
    labels: str
    exactness: Exactness
    edits: str = ""
    macs: Counter | None = field(default=None, repr=False)
    shaping: Shaping | None = field(default=None, repr=False)
    layer: Layer | None = None
    held: tuple[Held, ...] = ()
    caches: tuple[tuple[int, int], ...] = ()
    indices: tuple[Indices, ...] = ()
    traits: frozenset[Trait] = frozenset()
    body: str = ""
    library: str | Callable[[], str] = ""
    origin: Origin | None = None

    def __post_init__(self) -> None:
        self._require_kinds()
        contracts, layers = self.exactness == "contraction", self.traits & LAYERS
        if (contracts or layers) and self.macs is None:
            raise self._lacks("is a contraction and counts no multiply-adds")
        if contracts and self.traits & WEIGHTED and self.layer is None:
            raise self._lacks("is a product with a weight and does not say where that is")
        if contracts and self.layer is None and self.held and not self.traits & {Trait.MIXTURE}:
            raise self._lacks("computes with codes of a weight and does not say where that is")
        known = {each.position for each in self.held}
        if self.layer is not None and known and not known >= {0, self.layer.weight}:
            raise self._lacks("holds codes, but not in its weight")

    def _require_kinds(self) -> None:
        """Refuse what Python would take: most rows of other packages have never met a type checker."""
        if isinstance(self.ops, str):
            raise TypeError(f"ops is the string {self.ops!r}, not a tuple: ({self.ops!r},)")
        if self.exactness not in get_args(Exactness):
            known = ", ".join(get_args(Exactness))
            raise self._lacks(f"has the exactness {self.exactness!r}: known: {known}")
        if not isinstance(self.shaping, Shaping | None):
            raise self._lacks("has a shaping that is no Shaping: write Shaping(same) rather than same")
        if not isinstance(self.body, str):
            raise self._lacks("has a body that is no text: body is the text of an ONNX function")

    def __str__(self) -> str:
        """Its facts, one per line, without those that there are none of."""
        facts = {
            "rule": self.labels,
            "exactness": self.exactness,
            "edits": self.edits,
            "weight": "" if self.layer is None else str(self.layer),
            "data": ", ".join(str(each.position) for each in self.held),
            "traits": ", ".join(
                trait.name.lower().replace("_", " ") for trait in Trait if trait in self.traits
            ),
        }
        return "\n".join(
            [" ".join(self.ops), *(f"  {name:9}  {fact}" for name, fact in facts.items() if fact)]
        )

    def _lacks(self, what: str) -> TypeError:
        return TypeError(f"the row of {', '.join(self.ops)} {what}")

    @property
    def alike(self) -> AlikeRule | None:
        """Sizes that must be equal for a node to run: what a weight says about the data that meets it."""
        stated = None if self.shaping is None else self.shaping.alike
        return stated or (None if self.layer is None else self.layer.alike)

    def data(self, position: int) -> Held | None:
        """What is known of an input that holds data, of an operator on codes."""
        return next((each for each in self.held if each.position == position), None)

    @property
    def believed(self) -> bool:
        """Whether what the operator computes is known from its body alone."""
        return bool(self.body) and not self.library


def ops(names: str, domain: str = "") -> tuple[str, ...]:
    """Splits a list of operator names, with an optional domain for all of them."""
    return tuple(f"{domain}:{name}" if domain else name for name in names.split())


def held(*positions: int) -> tuple[Held, ...]:
    """Inputs that hold data, nothing else about them."""
    return tuple(Held(position) for position in positions)


def traits(*names: Trait) -> frozenset[Trait]:
    """The traits of a record."""
    return frozenset(names)
