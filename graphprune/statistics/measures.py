"""What is measured on calibration data: sums that add up over batches, and what follows from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TypeVar

import numpy as np

from graphprune.ir.arrays import Doubles, Floats

ROUNDING = 2.0**-21
"""Share of a mean square, summed in single precision, below which a variance is nothing but rounding."""


@dataclass(frozen=True, eq=False)
class Vector:
    """Sums per channel of a value over samples and positions, padding left out.

    Attributes:
        count: samples times positions that were summed.
        sum, squares, absolute: sums of x, x^2 and |x|.
        zeros: how many elements are exactly zero.
        minitron_squares: sum over samples of the squared mean of |x| over the positions of a sample.
    """

    count: float
    sum: Doubles
    squares: Doubles
    absolute: Doubles
    zeros: Doubles
    minitron_squares: Doubles

    @property
    def mean(self) -> Doubles:
        """Mean per channel."""
        return self.sum / max(self.count, 1.0)

    @property
    def variance(self) -> Doubles:
        """Biased variance per channel; zero where rounding may have made it."""
        second = self.squares / max(self.count, 1.0)
        with np.errstate(invalid="ignore", over="ignore"):
            spread: Doubles = second - self.mean**2
        spread[spread <= ROUNDING * second] = 0  # what is not finite stays so
        return spread

    @property
    def norm2(self) -> Doubles:
        """L2 norm per channel."""
        return np.sqrt(self.squares)

    @property
    def minitron(self) -> Doubles:
        """L2 over samples of the mean |x| over positions (Minitron, width importance)."""
        return np.sqrt(self.minitron_squares)


@dataclass(frozen=True, eq=False)
class Gram:
    """Second moments of the columns of a Site.

    Attributes:
        count: rows that were summed (a sample of all rows where there are many).
        sum: [blocks, columns], sum of x.
        scatter: [blocks, columns, columns], sum of (x - mean) (x - mean)^T. In a sum of x x^T, columns
            far from zero have no digits left for how they vary.
    """

    count: float
    sum: Doubles
    scatter: Doubles

    @property
    def mean(self) -> Doubles:
        """[blocks, columns]."""
        return self.sum / max(self.count, 1.0)

    @property
    def gram(self) -> Doubles:
        """[blocks, columns, columns], sum of x x^T."""
        return self.scatter + self.sum[:, :, None] * self.mean[:, None]

    @property
    def second(self) -> Doubles:
        """[blocks, columns, columns], mean of x x^T."""
        return self.gram / max(self.count, 1.0)

    @property
    def covariance(self) -> Doubles:
        """[blocks, columns, columns], biased."""
        return self.scatter / max(self.count, 1.0)


@dataclass(frozen=True, eq=False)
class Rows:
    """What a Site reads, row by row: everything that second moments say, where rows are fewer than columns.

    Attributes:
        rows: [blocks, rows, columns].
    """

    rows: Floats

    @property
    def count(self) -> float:
        """Number of rows."""
        return float(self.rows.shape[1])

    @property
    def sum(self) -> Doubles:
        """[blocks, columns]."""
        return np.asarray(self.rows.sum(axis=1, dtype=np.float64))

    @property
    def mean(self) -> Doubles:
        """[blocks, columns]."""
        return self.sum / max(self.count, 1.0)

    @property
    def centred(self) -> Floats:
        """The rows about their mean."""
        return np.asarray(self.rows - self.mean[:, None].astype(self.rows.dtype))

    @property
    def gram(self) -> Doubles:
        """[blocks, columns, columns], sum of x x^T."""
        return np.asarray(np.matmul(self.rows.transpose(0, 2, 1), self.rows), np.float64)


Second = Gram | Rows


def between(count: float, total: Doubles, other_count: float, other: Doubles) -> Doubles:
    """The vector d with which sums of squares about two means become one about both's: s1 + s2 + d d^T.

    Pairwise updating (Chan, Golub and LeVeque 1979).
    """
    with np.errstate(invalid="ignore"):
        gap = total / max(count, 1.0) - other / max(other_count, 1.0)
        return np.asarray(gap * np.sqrt(count * other_count / max(count + other_count, 1.0)))


@dataclass(frozen=True, eq=False)
class Rank:
    """How much each channel's map varies.

    Attributes:
        count: maps per channel.
        ranks: sum over samples of the matrix rank of the channel's map; zero where values are no maps.
        weight, logs: sums over samples of s and of s log s, s the channel's largest singular value.
    """

    count: float
    ranks: Doubles
    weight: Doubles
    logs: Doubles

    @property
    def score(self) -> Doubles:
        """Mean rank (HRank); where values are no maps, entropy of the singular values over the samples."""
        if self.ranks.any():
            return self.ranks / max(self.count, 1.0)
        total = np.maximum(self.weight, np.finfo(np.float64).tiny)
        entropy: Doubles = np.where(self.weight > 0, np.log(total) - self.logs / total, 0.0)
        return entropy


@dataclass(frozen=True, eq=False)
class Angle:
    """How far one value turns away from another, token by token.

    Attributes:
        count: tokens.
        angles: sum of arccos(cos) / pi.
        distances: sum of 1 - cos.
    """

    count: float
    angles: float
    distances: float

    @property
    def mean(self) -> float:
        """Mean angle as a share of pi (CFSP)."""
        return self.angles / max(self.count, 1.0)

    @property
    def influence(self) -> float:
        """Mean of 1 - cos (block influence, ShortGPT)."""
        return self.distances / max(self.count, 1.0)


Sums = TypeVar("Sums", Vector, Rank, Angle)
Of = TypeVar("Of", Vector, Second, Rank)
Measure = Vector | Gram | Rows | Rank | Angle
Pair = tuple[str, str]


def added(one: Sums, two: Sums) -> Sums:
    """The measure of both data sets together."""
    return type(one)(*(getattr(one, item.name) + getattr(two, item.name) for item in fields(one)))


def summed(one: Second, two: Second) -> Second:
    """Second moments of both data sets together."""
    if isinstance(one, Rows) and isinstance(two, Rows) and one.count + two.count < one.rows.shape[2]:
        return Rows(np.concatenate((one.rows, two.rows), axis=1))
    first, second = as_gram(one), as_gram(two)
    apart = between(first.count, first.sum, second.count, second.sum)
    scatter = first.scatter + second.scatter + apart[:, :, None] * apart[:, None]
    return Gram(first.count + second.count, first.sum + second.sum, scatter)


def as_gram(second: Second) -> Gram:
    """Second moments as sums of products."""
    if isinstance(second, Gram):
        return second
    rows = second.centred
    return Gram(second.count, second.sum, np.matmul(rows.transpose(0, 2, 1), rows).astype(np.float64))


@dataclass(frozen=True)
class Wanted:
    """What to measure.

    Attributes:
        vectors: names of values.
        grams: names of Sites whose second moments are wanted, as sums or as rows.
        whole: those among them of which the matrix itself is needed, however wide.
        ranks: names of values.
        angles: pairs of names of values that have the same shape.
        axes: channel axis of values in `vectors` and `ranks` where it is not the obvious one: that of the
            Site that reads or computes the value, else 1 for four and more axes and the last one for fewer.
    """

    vectors: frozenset[str] = frozenset()
    grams: frozenset[str] = frozenset()
    ranks: frozenset[str] = frozenset()
    angles: tuple[Pair, ...] = ()
    axes: Mapping[str, int] = field(default_factory=dict)
    whole: frozenset[str] = frozenset()

    def __or__(self, other: Wanted) -> Wanted:
        """All of both."""
        return Wanted(
            self.vectors | other.vectors,
            self.grams | other.grams,
            self.ranks | other.ranks,
            tuple(sorted({*self.angles, *other.angles})),
            {**self.axes, **other.axes},
            self.whole | other.whole,
        )

    @property
    def empty(self) -> bool:
        """Whether nothing is wanted."""
        return not (self.vectors or self.grams or self.ranks or self.angles)


def _measured(found: Mapping[str, Of], name: str, what: str) -> Of:
    if name not in found:
        raise LookupError(f"{what} '{name}' were not measured: nobody asked for them")
    return found[name]


@dataclass(frozen=True, eq=False)
class Statistics:
    """Measures of one model on one set of calibration data.

    Several Sites that see the same columns share one Gram: `shared` leads from a Site to the Site that
    stands for it.
    """

    vectors: Mapping[str, Vector] = field(default_factory=dict)
    grams: Mapping[str, Second] = field(default_factory=dict)
    ranks: Mapping[str, Rank] = field(default_factory=dict)
    angles: Mapping[Pair, Angle] = field(default_factory=dict)
    shared: Mapping[str, str] = field(default_factory=dict)

    def vector(self, name: str) -> Vector:
        """Sums of the value of this name."""
        return _measured(self.vectors, name, "sums of value")

    def gram(self, site: str) -> Second:
        """Second moments of the columns of the Site of this name."""
        return _measured(self.grams, self.shared.get(site, site), "second moments at site")

    def rank(self, name: str) -> Doubles:
        """Rank score per channel of the value of this name."""
        return _measured(self.ranks, name, "ranks of value").score

    def angle(self, one: str, two: str) -> Angle:
        """How far the second value turns away from the first."""
        return self.angles[one, two]

    def missing(self, wanted: Wanted) -> Wanted:
        """What is wanted and not here."""
        known = {name for name, second in self.grams.items() if isinstance(second, Gram)}
        grams = {
            site
            for site in wanted.grams
            if self.shared.get(site, site) not in (known if site in wanted.whole else self.grams)
        }
        return Wanted(
            wanted.vectors - self.vectors.keys(),
            frozenset(grams),
            wanted.ranks - self.ranks.keys(),
            tuple(pair for pair in wanted.angles if pair not in self.angles),
            wanted.axes,
            wanted.whole & grams,
        )

    def __or__(self, other: Statistics) -> Statistics:
        """Everything of both, which measured the same data."""
        return self._joined(other, add=False)

    def merge(self, other: Statistics) -> Statistics:
        """The statistics of two data sets together; both must hold the same measures."""
        if not self.missing(other.wanted).empty or not other.missing(self.wanted).empty:
            raise ValueError("the two statistics do not hold the same measures")
        return self._joined(other, add=True)

    @property
    def wanted(self) -> Wanted:
        """What is here."""
        grams = {site for site, owner in self.shared.items() if owner in self.grams} | set(self.grams)
        return Wanted(
            frozenset(self.vectors), frozenset(grams), frozenset(self.ranks), tuple(sorted(self.angles))
        )

    def _joined(self, other: Statistics, *, add: bool) -> Statistics:
        return Statistics(
            _join(self.vectors, other.vectors, added, add),
            _join(self.grams, other.grams, summed, add),
            _join(self.ranks, other.ranks, added, add),
            _join(self.angles, other.angles, added, add),
            {**other.shared, **self.shared},
        )


Key = TypeVar("Key", str, Pair)


Part = TypeVar("Part", Vector, Second, Rank, Angle)


def _join(
    one: Mapping[Key, Part], two: Mapping[Key, Part], both: Callable[[Part, Part], Part], add: bool
) -> dict[Key, Part]:
    common = {key: both(one[key], two[key]) for key in one if key in two and add}
    return {**two, **one, **common}
