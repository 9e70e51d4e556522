"""The columns that a Site multiplies, row by row: tokens of a product, windows of a convolution."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from graphprune.ir.arrays import Array, Bools, Doubles, Floats, Ids
from graphprune.statistics.measures import Gram, Rows, Second, between
from graphprune.statistics.sites import Site

Zeros = Callable[[tuple[int, ...]], Doubles]
CHUNK_ROWS = 4096
CHUNK_ELEMENTS = 2**22
"""Rows are multiplied in chunks: bounds both the memory of a chunk and the length of a float32 sum."""
OUTER_ELEMENTS = 2**17
"""Of a product of two vectors at a time: they stay where the processor has them at hand."""
GRAM_COLUMNS = 4608
"""Most columns (512 channels of 3 x 3) whose products are summed unless the whole matrix is asked for."""
DUAL_WORK = 3 * 10**11
"""Rows times squared columns that a repair works with, where columns are more: bounds time and memory."""
LEAST_ROWS = 256
FEW_ROWS = 8192
"""Rows that are always looked at where columns are few."""
SCORED, REPAIRED = 4, 8
"""Rows per column: an order of Units needs fewer than new weights."""
SMALL = 2.0**-40
"""Rows whose largest entry is below, or above its inverse, are scaled before they are multiplied."""


@dataclass(frozen=True)
class Sampling:
    """Which rows of a batch are looked at.

    Attributes:
        seed: of the choice.
        rows: most rows per Site over all batches, whatever else is asked for.
        share: of all calibration data that is in this batch.
        batch: number of the batch.
    """

    seed: int = 0
    rows: int | None = None
    share: float = 1.0
    batch: int = 0

    def choose(self, site: Site, valid: Ids, most: int) -> Ids:
        """At most so many of all batches' rows, in order; the same ones for every Site of an edge."""
        if self.rows is not None:
            most = min(self.rows, most)
        quota = int(np.ceil(most * self.share))
        if len(valid) <= quota:
            return valid
        salt = zlib.crc32((site.edge.name or "").encode())
        draw = np.random.default_rng([self.seed, salt, self.batch])
        return valid[np.sort(draw.choice(len(valid), quota, replace=False, shuffle=False))]


def enough(columns: int, each: int) -> int:
    """Rows that so many columns are known well enough by, at `each` per column.

    Very many columns get fewer: a row more costs as much as their square, and more the more rows there are.
    """
    if columns > GRAM_COLUMNS:
        most = min(GRAM_COLUMNS, DUAL_WORK // columns**2)
        return max(LEAST_ROWS, most * each // REPAIRED)
    return max(each * columns, FEW_ROWS)


def signature(site: Site) -> tuple[object, ...]:
    """Equal for Sites that multiply the same columns."""
    if not site.windowed:
        return (site.edge, site.in_axis, site.blocks)
    given = site.node.attributes
    names = ("strides", "pads", "dilations", "auto_pad")
    window = [str(given[name].value) if name in given else "" for name in names]
    return (site.edge, site.kernel, site.blocks, *window)


class Gathering:
    """Second moments of a Site in the making: its rows, until they are as many as its columns.

    Args:
        site: what reads the rows.
        zeros: makes the arrays of sums.
        whole: whether a matrix is asked for, so that no row is kept.
    """

    def __init__(self, site: Site, zeros: Zeros = np.zeros, whole: bool = False) -> None:
        self.site, self._zeros, self._whole = site, zeros, whole
        self._rows: list[Floats] = []
        self._total = self._empty() if whole else None
        self._most = max(REPAIRED * site.columns, FEW_ROWS) if whole else enough(site.columns, SCORED)

    def add(self, edge: Array, sampling: Sampling, mask: Bools | None = None) -> None:
        """Adds one batch; `mask` says which rows are no padding."""
        found = source(self.site, edge)
        for chosen in _chunks(self.site, sampling.choose(self.site, found.valid(mask), self._most)):
            rows = found.take(chosen)
            if self._total is None and len(chosen) + self._held < self.site.columns:
                self._rows.append(rows)
                continue
            if self._total is None:
                self._total = self._empty()
            for part in (*self._rows, rows):
                self._total = add_rows(self._total, part)
            self._rows.clear()

    @property
    def found(self) -> Second:
        """What is known now."""
        if self._total is not None:
            return self._total
        none = np.zeros((self.site.blocks, 0, self.site.columns), np.float32)
        rows: Floats = np.concatenate((none, *self._rows), axis=1)
        return Rows(rows)

    @property
    def _held(self) -> int:
        return sum(rows.shape[1] for rows in self._rows)

    def _empty(self) -> Gram:
        narrow = (self.site.blocks, self.site.columns)
        return Gram(0.0, self._zeros(narrow), self._zeros((*narrow, narrow[1])))


def add_rows(total: Gram, rows: Array) -> Gram:
    """Adds rows [blocks, rows, columns], in place of the arrays."""
    part = about_mean(rows)
    apart = between(total.count, total.sum, part.count, part.sum)
    part.add_products(total.scatter, part)
    add_outer(total.scatter, apart, apart)
    total.sum[...] += part.sum
    return replace(total, count=total.count + part.count)


@dataclass(frozen=True, eq=False)
class Centred:
    """Rows about their mean, in a scale in which single precision holds their products.

    Attributes:
        count: of rows.
        sum: of the rows as they were, [blocks, columns].
        rows: [blocks, rows, columns], less `shift` and times `scale`.
        rest: the sum of these rows, all but zero: `shift` is the mean as the rows' own type holds it.
        scale: a power of two, so that no digit is lost.
    """

    count: float
    sum: Doubles
    rows: Array
    rest: Doubles
    scale: float

    def add_products(self, total: Doubles, other: Centred) -> None:
        """Adds to `total` the sum over rows of x y^T about both means, [blocks, columns, other's columns]."""
        with np.errstate(invalid="ignore"):  # as in `about_mean`
            product = np.matmul(self.rows.transpose(0, 2, 1), other.rows)
        factor = 1 / (self.scale * other.scale)
        if factor == 1:
            total += product
        else:
            total += product.astype(np.float64) * factor
        add_outer(total, self.rest * (-factor / max(self.count, 1.0)), other.rest)

    @property
    def squares(self) -> Doubles:
        """Sum over rows of x^2 about the mean, [blocks, columns]."""
        found: Doubles = np.square(self.rows, dtype=np.float64).sum(axis=1)
        return np.asarray((found - self.rest**2 / max(self.count, 1.0)) / self.scale**2)


def about_mean(rows: Array) -> Centred:
    """Rows [blocks, rows, columns] made ready for sums of products."""
    count = rows.shape[1]
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is refused when it is read
        total = rows.sum(axis=1, dtype=np.float64)
        moved = rows - (total / max(1, count)).astype(rows.dtype)[:, None]
        peak = max(float(moved.max(initial=0.0)), -float(moved.min(initial=0.0)))
        power = 0
        if 0 < peak < np.inf and not SMALL < peak < 1 / SMALL:
            power = -int(np.frexp(peak)[1])
            moved = np.ldexp(moved, power)
        return Centred(float(count), total, moved, moved.sum(axis=1, dtype=np.float64), 2.0**power)


def add_outer(total: Doubles, one: Doubles, two: Doubles) -> None:
    """Total += x y^T per block, with little memory beside it."""
    step = max(1, OUTER_ELEMENTS // max(1, two.size))
    for start in range(0, one.shape[1], step):
        total[:, start : start + step] += one[:, start : start + step, None] * two[:, None]


def outputs(site: Site, output: Array) -> Array:
    """What a Site computes as [rows, output channels], in the order of the rows; not of a ConvTranspose."""
    moved = np.moveaxis(output, site.out_axis, -1)
    return moved.reshape(-1, moved.shape[-1])


def columns(site: Site, edge: Array) -> Array:
    """Every row as [blocks, rows, columns]."""
    found = source(site, edge)
    return found.take(found.valid(None))


def _chunks(site: Site, chosen: Ids) -> Iterator[Ids]:
    """Equal parts: a product passes over all of its sums, and would for a few rows that are left, too."""
    step = max(1, min(CHUNK_ROWS, CHUNK_ELEMENTS // (site.columns * site.blocks)))
    if len(chosen):
        yield from np.array_split(chosen, max(1, round(len(chosen) / step)))


@dataclass(frozen=True, eq=False)
class Product:
    """Rows of a product: all axes but the contracted one."""

    tokens: Array  # [rows, channels]
    site: Site

    def valid(self, mask: Bools | None) -> Ids:
        """Numbers of the rows that are no padding."""
        return np.arange(len(self.tokens)) if mask is None else np.flatnonzero(mask)

    def take(self, chosen: Ids) -> Floats:
        """These rows as [blocks, rows, columns]."""
        every = len(chosen) == len(self.tokens)
        rows = self.tokens if every else self.tokens[chosen]
        return blocked(exact(self.site.numbers(rows)), self.site.blocks)


@dataclass(frozen=True, eq=False)
class Windows:
    """Rows of a convolution: one per sample and output position."""

    padded: Array  # [samples, channels, *positions]
    grid: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    site: Site

    def valid(self, mask: Bools | None) -> Ids:
        """Numbers of all rows: images are not padded."""
        return np.arange(len(self.padded) * prod(self.grid))

    def take(self, chosen: Ids) -> Floats:
        """These rows as [blocks, rows, columns]."""
        sample, *positions = np.unravel_index(chosen, (len(self.padded), *self.grid))
        starts = [at * stride for at, stride in zip(positions, self.strides, strict=True)]
        spans = [d * (k - 1) + 1 for d, k in zip(self.dilations, self.kernel, strict=True)]
        axes = tuple(range(2, self.padded.ndim))
        windows = np.lib.stride_tricks.sliding_window_view(self.padded, spans, axes)
        for axis, dilation in enumerate(self.dilations, self.padded.ndim):
            windows = np.moveaxis(np.moveaxis(windows, axis, 0)[::dilation], 0, axis)
        found = np.moveaxis(windows, 1, len(positions) + 1)[(sample, *starts)]
        return blocked(exact(self.site.numbers(found.reshape(len(chosen), -1))), self.site.blocks)


def source(site: Site, edge: Array) -> Product | Windows:
    """The rows of a Site in a batch of its edge, numbered in the order of its output's positions."""
    if not site.windowed:
        moved = np.moveaxis(edge, site.in_axis, -1)
        return Product(moved.reshape(-1, moved.shape[-1]), site)
    rank = len(site.kernel)
    strides, dilations = _ints(site, "strides", (1,) * rank), _ints(site, "dilations", (1,) * rank)
    before, after = _pads(site, edge.shape[2:], strides, dilations)
    widths = [(0, 0), (0, 0), *zip(before, after, strict=True)]
    nothing = 0 if site.reads is None else site.reads.zero.astype(edge.dtype)
    padded = np.pad(edge, widths, constant_values=nothing) if any(before) or any(after) else edge
    spans = [d * (k - 1) + 1 for d, k in zip(dilations, site.kernel, strict=True)]
    grid = [(n - span) // s + 1 for n, span, s in zip(padded.shape[2:], spans, strides, strict=True)]
    return Windows(padded, tuple(max(0, n) for n in grid), site.kernel, strides, dilations, site)


def _pads(
    site: Site, sizes: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    rank = len(site.kernel)
    attributes = site.node.attributes
    mode = attributes.get_string("auto_pad", "NOTSET")
    if not mode.startswith("SAME"):
        pads = _ints(site, "pads", (0,) * 2 * rank) if mode in ("NOTSET", "") else (0,) * 2 * rank
        return pads[:rank], pads[rank:]
    totals = [
        max(0, (-(-n // s) - 1) * s + d * (k - 1) + 1 - n)
        for n, s, d, k in zip(sizes, strides, dilations, site.kernel, strict=True)
    ]
    small, big = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
    return (small, big) if mode == "SAME_UPPER" else (big, small)


def _ints(site: Site, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(site.node.attributes[name].as_ints()) if name in site.node.attributes else default


def exact(rows: Array) -> Floats:
    """At least float32: products in half precision overflow."""
    return np.asarray(rows, np.float64 if rows.dtype == np.float64 else np.float32)


def blocked(rows: Floats, blocks: int) -> Floats:
    """[blocks, rows, columns]."""
    found: Floats = rows.reshape(len(rows), blocks, -1).transpose(1, 0, 2)
    return found
