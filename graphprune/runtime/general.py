"""What a node costs of which nobody measured the kind: told from the same operator at other sizes.

Every measured kind has a formula of its multiply-adds, of the elements that it reads and writes, and of its
weights. A straight line through those of one operator, in relative terms, says what such a node costs about;
how far its nearest neighbours are off that line corrects it.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Array, Doubles
from graphprune.ir.operators import Attributes
from graphprune.ops import BY_OP
from graphprune.ops.counting import At, Dims, UnknownSizeError
from graphprune.runtime.patterns import BLOCKED
from graphprune.runtime.work import work_of

NEIGHBOURS = 6
RESOLUTION = 1e-6
"""Seconds by which what a node costs is uncertain: what a chain of them takes, less what is around it."""
LEAST = 1e-7
"""Seconds of any node."""
FEWEST = 3
"""Sizes that an operator was measured at, below which its kind of work tells more."""
NEAR = 0.05
"""Distance, in natural logarithms of sizes, below which neighbours count alike."""
MOST_OFF = math.log(4)
"""How far from the line neighbours may be and count in full."""
OTHER = 0.7
"""How far another kind of node is away beside that: about twice the size."""


@dataclass(frozen=True)
class Kind:
    """A kind of node, read back from its text.

    Attributes:
        operator: with its domain.
        settings: attributes.
        inputs: type, whether constant, and sizes; a width is a text such as `4b`.
        output: sizes of the first output.
    """

    operator: str
    settings: Mapping[str, str]
    inputs: tuple[tuple[str, bool, tuple[int | str, ...]], ...]
    output: tuple[int | str, ...]

    @classmethod
    def read(cls, text: str) -> Kind:
        """From the text of a piece or a profile.

        Raises:
            ValueError: it is none.
        """
        operator, settings, inputs, output = json.loads(text)
        return cls(
            operator,
            dict(settings),
            tuple((str(type_), bool(constant), tuple(sizes)) for type_, constant, *sizes in inputs),
            tuple(output),
        )

    @property
    def node(self) -> ir.Node:
        """One of it, without inputs."""
        domain, _, name = self.operator.rpartition(":")
        return ir.node(name, [], domain=domain)

    @cached_property
    def family(self) -> tuple[str, str]:
        """What is compared: an operator, and of a convolution how its window is."""
        shapes = [sizes for _, _, sizes in self.inputs]
        if len(shapes) < 2 or len(shapes[1]) < 3 or not self.inputs[1][1]:
            return self.operator, ""
        channels, *window = shapes[1][1:]
        grouped = "each" if channels == 1 else "groups" if re.match(r"\d", str(shapes[1][0])) else ""
        return self.operator, f"{grouped} {'point' if set(window) == {1} else 'window'}"

    def sizes(self, widths: Sequence[int]) -> Doubles:
        """Multiply-adds, elements that are read or written, and weights."""
        if not self.inputs:
            return np.array([0.0, widths[0], 0.0])
        shapes = [_at(sizes, widths) for _, _, sizes in self.inputs]
        out = _at(self.output, widths)
        moved = [math.prod(shape) for shape, given in zip(shapes, self.inputs, strict=True) if not given[1]]
        weights = [math.prod(shape) for shape, given in zip(shapes, self.inputs, strict=True) if given[1]]
        return np.array([self._macs(shapes, out), sum(moved) + math.prod(out), sum(weights)], float)

    def _macs(self, shapes: Sequence[Dims], out: Dims) -> int:
        if self.operator.startswith(BLOCKED) and len(shapes) > 1 and self.inputs[1][1]:
            return math.prod(out) * math.prod(shapes[1][1:])
        row = BY_OP.get(self.operator)
        if row is None or row.macs is None:
            return 0
        try:
            terms = row.macs(cast("At", _Told(self, shapes, out)))
        except (UnknownSizeError, LookupError, ValueError):
            return 0
        return sum(term.macs for term in terms)


def _at(sizes: Sequence[int | str], widths: Sequence[int]) -> Dims:
    return tuple(
        size if isinstance(size, int) else int(size[:-1] or 1) * widths["ab".index(size[-1])]
        for size in sizes
    )


class _Told(Attributes):
    """A node of a kind, as counters ask for it."""

    def __init__(self, kind: Kind, shapes: Sequence[Dims], out: Dims) -> None:
        super().__init__(kind.node)
        self._kind, self._shapes, self._out = kind, shapes, out

    def number(self, name: str, default: int = 0) -> int:
        return int(self._kind.settings.get(name, default))

    def text(self, name: str, default: str = "") -> str:
        return self._kind.settings.get(name, default)

    def input(self, position: int) -> Dims:
        return self._shapes[position]

    def output(self, position: int = 0) -> Dims:
        return self._out


@dataclass(frozen=True)
class Line:
    """What nodes of one family cost.

    Attributes:
        factors: seconds of a node, and per multiply-add, element and weight.
        least: seconds of the quickest that was measured; no line goes below.
        places: logarithms of the sizes that were measured.
        off: logarithms of how many times the line's cost each took.
        kinds: of which each was.
    """

    factors: Doubles
    least: float
    places: Doubles
    off: Doubles
    kinds: Array

    @classmethod
    def through(cls, sizes: Doubles, seconds: Doubles, kinds: Sequence[str]) -> Line:
        """A line of least squares without negative factors, relative to costs and how far these can be told.

        Args:
            sizes: of nodes [points, 3].
            seconds: that each took.
            kinds: of which each is.
        """
        from scipy.optimize import nnls

        terms = np.column_stack([np.ones(len(sizes)), sizes])
        scale = np.maximum(terms.max(axis=0), 1.0)
        spread = seconds + RESOLUTION
        found, _ = nnls(terms / scale / spread[:, None], seconds / spread)
        factors = found / scale
        least = float(seconds.min())
        off = np.log(seconds) - np.log(np.maximum(terms @ factors, least))
        return cls(factors, least, np.log1p(sizes), np.clip(off, -MOST_OFF, MOST_OFF), np.array(kinds))

    def at(self, sizes: Doubles, kind: str) -> float:
        """Seconds of a kind at other sizes."""
        apart = np.abs(self.places - np.log1p(sizes)).sum(axis=1) + OTHER * (self.kinds != kind)
        nearest = np.argsort(apart, kind="stable")[:NEIGHBOURS]
        weights = 1 / (NEAR + apart[nearest]) ** 2
        off = float(weights @ self.off[nearest] / weights.sum())
        return max(float(self.factors[0] + self.factors[1:] @ sizes), self.least) * math.exp(off)


Point = tuple[tuple[int, ...], float]
"""Widths, and the seconds of a node that has them."""
Points = Mapping[str, Sequence[Point]]
"""Of each kind."""


class General:
    """Costs of kinds that nobody measured, from those that somebody did."""

    def __init__(self, points: Points) -> None:
        self._points = points

    @cached_property
    def _families(self) -> dict[tuple[str, str], Line]:
        """By operator and window, and by kind of work for operators that nobody measured."""
        found: dict[tuple[str, str], list[tuple[Doubles, float, str]]] = defaultdict(list)
        for text, kind, points in _readable(self._points):
            work = ("", work_of(kind.node))
            for widths, seconds in points:
                for family in (kind.family, work):
                    found[family].append((kind.sizes(widths), max(seconds, LEAST), text))
        return {
            family: Line.through(
                np.array([each[0] for each in rows]),
                np.array([each[1] for each in rows]),
                [each[2] for each in rows],
            )
            for family, rows in found.items()
            if not family[0] or len({tuple(sizes) for sizes, _, _ in rows}) >= FEWEST
        }

    def at(self, kind: str, widths: Sequence[int]) -> float | None:
        """Seconds about; None where nothing alike was measured."""
        told = Kind.read(kind)
        line = self._families.get(told.family) or self._families.get(("", work_of(told.node)))
        return None if line is None else line.at(told.sizes(widths), kind)


def _readable(points: Points) -> Iterator[tuple[str, Kind, Sequence[Point]]]:
    """Kinds in order; a text that is none, in a file that somebody wrote by hand, tells nothing."""
    for text in sorted(points):
        try:
            kind = Kind.read(text)
            kind.sizes(points[text][0][0])
        except (ValueError, TypeError, LookupError):
            continue
        yield text, kind, points[text]
