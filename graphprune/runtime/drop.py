"""How much worse an output is than the dense model's: a drop in [0, 1] for every kind of output.

Samples come one after the other, and only sums are kept, so outputs may be as large as they like. An array of
a sequence or map that the other model does not return is a drop of one for that sample, whatever its kind.

- classes: mean of p(argmax dense) - p(argmax small), p of the dense model: the accuracy that is lost if the
  dense model is calibrated.
- tokens: 1 - exp(-d), d the growth of the mean negative log-likelihood of each sample's own next tokens.
- scores: 1 - soft F1. With what both models say as fuzzy sets it is sum |p - q| / sum (p + q) over positions
  that either calls positive (above one half). Where the dense model is decided (p is 0 or 1) this is the soft
  F1 against its decisions; where it is not, it has no drop against itself.
- exact: share of elements that differ.
- values: squared error over the dense output's variance.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from graphprune.axes.outputs import Judged, OutputKind
from graphprune.ir.arrays import Array, Bools, Doubles
from graphprune.runtime.estimate import Estimate, difference, gap_of_ratios, ratio, relative, within
from graphprune.runtime.gaps import (
    centred,
    class_gap,
    distribution,
    exact_gap,
    kept,
    matched,
    next_tokens,
    rows_of,
    score_gap,
    surprise,
)
from graphprune.runtime.variance import Variance

CHUNK = 1 << 20
"""Elements that are converted to double precision at a time."""
WORST_SAMPLES = 10
"""A class is named as the worst if so many samples have it."""
DEAD_SAMPLES = 16
"""With fewer, nothing can be told from a constant answer."""
DEAD_ERRORS = 2.0
"""Standard errors by which a model has to be ahead of a constant answer."""
STILL = 1e-10
"""An output whose variance is a smaller share of its squares is constant."""
NOTHING: Mapping[OutputKind, str] = {
    "classes": "no row of numbers",
    "tokens": "no token has a next one",
    "scores": "neither model calls anything positive",
    "exact": "empty output",
    "values": "constant output",
}
"""Why samples say nothing about an output."""


@dataclass(frozen=True)
class Drop:
    """What an output lost, over all samples.

    Attributes:
        name: of the output.
        kind: how it was judged.
        drop: in [0, 1]; None where the samples say nothing about this output.
        top1: share of positions with the dense model's first class.
        worst: the class with the least agreement among those of enough samples, and that agreement.
        constant: top-1 agreement of the best constant answer.
        cosine: of all elements; None for what are no numbers.
        error: squared error over variance, for every output of floats.
        dead: whether the output tells no more than a constant would.
        note: why there is no drop; empty otherwise.
        drops: of each sample; NaN where it says nothing.
        drifts: how far the numbers of each sample moved, in standard deviations of the dense output over all
            samples; empty for what are no numbers.
        missing: samples of which the other model does not return it.
        extra: samples of which the other model alone returns it.
    """

    name: str
    kind: OutputKind
    drop: Estimate | None
    top1: Estimate | None = None
    worst: tuple[int | str, Estimate] | None = None
    constant: float | None = None
    cosine: float | None = None
    error: Estimate | None = None
    dead: bool = False
    note: str = ""
    drops: tuple[float, ...] = ()
    drifts: tuple[float, ...] = ()
    missing: int = 0
    extra: int = 0


def chunks(dense: Array, small: Array) -> Iterator[tuple[slice, Doubles, Doubles]]:
    """Rows of two arrays [rows, columns] in double precision, a few at a time."""
    step = max(1, CHUNK // max(1, dense.shape[-1]))
    for start in range(0, len(dense), step):
        rows = slice(start, start + step)
        yield rows, dense[rows].astype(np.float64), small[rows].astype(np.float64)


@dataclass(eq=False)
class Tally:
    """Sums of one output, sample by sample.

    Args:
        judged: the output.
    """

    judged: Judged
    lost: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    agreed: list[Counter[int | str]] = field(default_factory=list)
    seen: list[Counter[int | str]] = field(default_factory=list)
    wrong: list[float] = field(default_factory=list)
    energy: list[float] = field(default_factory=list)
    always: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))
    products: Doubles = field(default_factory=lambda: np.zeros(3))
    variance: Variance | None = None
    given: list[bool] = field(default_factory=list)
    extra: int = 0

    def add(self, dense: Array, small: Array, ids: Array | None = None, real: Bools | None = None) -> None:
        """One sample of both models.

        Args:
            dense: what the dense model returns.
            small: what the other returns.
            ids: tokens [rows, positions] of a language model.
            real: which positions [rows, positions] are no padding.
        """
        self.given.append(True)
        if self.judged.kind == "exact":
            self._exact(dense, small)
            return
        dense, small = matched(dense, small)
        if self.judged.kind in ("classes", "tokens") and dense.ndim:
            self._classes(dense, small, ids, real)
        else:
            self._numbers(kept(dense, real), kept(small, real))

    def miss(self, dense: Array) -> None:
        """One sample of which the other model does not return this at all: nothing of it agrees."""
        self.given.append(False)
        labels: list[int | str] = []
        if self.judged.kind == "exact":
            labels = dense.ravel().tolist() if dense.size == 1 else []
        else:
            numbers = np.nan_to_num(dense.astype(np.float64), posinf=0.0, neginf=0.0)
            self.products += [0.0, float(np.vdot(numbers, numbers)), 0.0]
            if self.judged.kind in ("classes", "tokens") and dense.ndim:
                labels = rows_of(numbers, self.judged.axis).argmax(axis=-1).tolist()
        if labels:
            self.seen.append(Counter(labels))
            self.agreed.append(Counter())

    def _exact(self, dense: Array, small: Array) -> None:
        wrong, size = exact_gap(dense, small)
        self.lost.append(wrong)
        self.whole.append(size)
        if dense.size == 1:  # a label
            label = dense.ravel().tolist()
            self.seen.append(Counter(label))
            self.agreed.append(Counter([] if wrong else label))

    def _classes(self, dense: Array, small: Array, ids: Array | None, real: Bools | None) -> None:
        """Gaps of classes or of likelihoods, and agreement, a few rows at a time."""
        targets, use = next_tokens(ids, real) if self.judged.kind == "tokens" else (None, None)
        one, two = (rows_of(array, self.judged.axis) for array in (dense, small))
        last = self.judged.axis in (-1, dense.ndim - 1)
        if use is None and last and real is not None and dense.shape[:-1] == real.shape:
            use = real.ravel()
        if use is not None:
            one, two = one[use], two[use]
        scale = self.judged.scale
        sums = np.zeros(4)  # lost, rows, squared error, squares
        seen, agreed = Counter[int | str](), Counter[int | str]()
        for rows, a, b in chunks(one, two):
            valid = ~np.isnan(a).any(axis=-1)
            a, b = a[valid], b[valid]
            if targets is None:
                gap, best, same = class_gap(distribution(a, scale), distribution(b, scale))
            else:  # in the order of logits, classes are those of their distribution
                gap, best, same = class_gap(a, b)
                gap = surprise(b, targets[rows][valid], scale) - surprise(a, targets[rows][valid], scale)
            seen.update(best.tolist())
            agreed.update(best[same].tolist())
            sums += [gap.sum(), len(a), *self._squares(centred(a), centred(b))]
        self.seen.append(seen)
        self.agreed.append(agreed)
        lists = (self.lost, self.whole, self.wrong, self.energy)
        for each, value in zip(lists, sums.tolist(), strict=True):
            each.append(value)

    def _squares(self, a: Doubles, b: Doubles) -> tuple[float, float]:
        """Squared error and squares of what the dense model gives as numbers; products for the cosine."""
        finite = np.isfinite(a)
        if not finite.all():
            a, b = np.where(finite, a, 0.0), np.where(finite, b, 0.0)
        with np.errstate(invalid="ignore", over="ignore"):
            apart = a - b
            pairs = ((a, a), (a, b), (b, b), (apart, apart))
            squares, both, other, gap = (float(np.vdot(one, two)) for one, two in pairs)
        if not math.isfinite(gap):
            self.products += [0.0, squares, 0.0]
            return math.inf, squares
        self.products += [both, squares, other]
        return gap, squares

    def _numbers(self, dense: Array, small: Array) -> None:
        """Scores and all else."""
        a, b = dense.astype(np.float64), small.astype(np.float64)
        wrong, _ = self._squares(a, b)
        self.wrong.append(wrong)
        self.variance = self.variance or Variance(self.judged.loose)
        self.variance.add(np.where(np.isfinite(a), a, 0.0))
        if self.judged.kind != "scores":
            return
        if self.judged.scale == "logits":
            a, b = 1 / (1 + np.exp(-a)), 1 / (1 + np.exp(-b))
        a, b = np.nan_to_num(a), np.nan_to_num(b)
        lost, whole = score_gap(a, b)
        self.lost.append(lost)
        self.whole.append(whole)
        lost, whole = score_gap(a, np.ones_like(a))
        self.always[0].append(lost)
        self.always[1].append(whole)

    def drop(self, samples: int = 0) -> Drop:
        """What was lost over all samples so far; `samples` is their number where not all have this array."""
        found = self._drop()
        found = replace(found, drops=self._drops(found.kind), drifts=self._drifts())
        missing = self.given.count(False)
        if not (missing or self.extra):
            return found
        parts = (
            (missing, f"the smaller model does not return it on {missing} of {samples} samples"),
            (self.extra, f"the smaller model alone returns it on {self.extra} of {samples} samples"),
        )
        note = "; ".join(words for number, words in parts if number)
        found = replace(found, missing=missing, extra=self.extra, note=note)
        return self._without(found, max(samples, len(self.given))) if missing else found

    def _without(self, found: Drop, samples: int) -> Drop:
        """With samples that lack the array as full drops: m + (1 - m) drop, m their share of all samples."""
        gone = [float(not given) for given in self.given] + [0.0] * (samples - len(self.given))
        share = ratio(gone, [1.0] * samples, jumps=True)
        assert share is not None
        rest = found.drop or Estimate(0.0, 0.0, 0.0, 0.0, 0)
        value, low, high = (
            m + (1 - m) * d
            for m, d in (
                (share.value, rest.value),
                (max(0.0, share.low), rest.low),
                (min(1.0, share.high), rest.high),
            )
        )
        error = math.hypot(share.error * (1 - rest.value), rest.error * (1 - share.value))
        found = self._with_classes(found) if self.seen and found.top1 is None else found
        return replace(
            found,
            drop=within(Estimate(value, low, high, error, samples)),
            drops=self._filled(found.drops, 1.0),
            drifts=self._filled(found.drifts, math.nan),
        )

    def _filled(self, values: tuple[float, ...], missing: float) -> tuple[float, ...]:
        """Values of samples that have the array, with one for each that has not."""
        left = iter(values)
        if len(values) != self.given.count(True):
            return values
        return tuple(next(left) if given else missing for given in self.given)

    def _drops(self, kind: OutputKind) -> tuple[float, ...]:
        """Of each sample by itself."""
        pair = (self.wrong, self.energy) if kind == "values" else (self.lost, self.whole)
        part, whole = (np.asarray(each, np.float64) for each in pair)
        if part.shape != whole.shape:
            return ()
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = np.where(whole > 0, part / whole, np.nan)
        if kind == "tokens":
            shares = -np.expm1(-np.maximum(shares, 0.0))
        return tuple(np.clip(shares, 0.0, 1.0).tolist())

    def _drifts(self) -> tuple[float, ...]:
        usual = float(np.mean(self.energy)) if self.energy else 0.0
        if not usual > 0 or len(self.wrong) != len(self.energy):
            return ()
        return tuple(np.sqrt(np.asarray(self.wrong, np.float64) / usual).tolist())

    def _drop(self) -> Drop:
        name, kind = self.judged.name, self.judged.kind
        if self.variance is not None:
            self.energy = self.variance.shares()
        if kind == "values" or (kind in ("classes", "tokens") and not self.seen):
            return self._of_values()
        estimate = ratio(self.lost, self.whole, jumps=kind in ("classes", "exact"))
        if estimate is None:
            return Drop(name, kind, None, cosine=self._cosine, note=NOTHING[kind])
        if kind == "tokens":
            estimate = relative(estimate)
        found = Drop(name, kind, within(estimate), cosine=self._cosine, error=self._error)
        if kind == "scores":
            return replace(found, dead=self._dead_scores())
        return self._with_classes(found) if self.seen else found

    def _of_values(self) -> Drop:
        name, total = self.judged.name, self.variance.energy if self.variance else 0.0
        if not sum(self.energy) > STILL * total:
            moved = sum(self.wrong) > STILL * total
            whole = Estimate(1.0, 0.0, 1.0, math.inf, len(self.wrong)) if moved else None
            return Drop(name, "values", whole, cosine=self._cosine, dead=moved, note=NOTHING["values"])
        estimate = self._error
        assert estimate is not None
        dead = estimate.samples > 1 and estimate.value >= 1
        return Drop(name, "values", within(estimate), None, None, None, self._cosine, estimate, dead)

    def _with_classes(self, found: Drop) -> Drop:
        """Agreement on the first class, and whether a constant would agree as well."""
        agreed = [float(sum(each.values())) for each in self.agreed]
        rows = [float(sum(each.values())) for each in self.seen]
        top1 = _agreement([n - k for n, k in zip(rows, agreed, strict=True)], rows)
        if top1 is None:
            return found
        total = Counter[int | str]()
        for each in self.seen:
            total.update(each)
        ((best, most),) = total.most_common(1)
        constant = [float(each[best]) for each in self.seen]
        ahead, error = difference(agreed, constant, rows)
        tells = most < sum(rows) and sum(agreed) < sum(rows) and len(rows) >= DEAD_SAMPLES
        return replace(
            found,
            top1=top1,
            worst=self._worst() if self.judged.kind != "tokens" else None,
            constant=most / sum(rows),
            dead=tells and ahead <= DEAD_ERRORS * error,
        )

    def _worst(self) -> tuple[int | str, Estimate] | None:
        samples = Counter(label for each in self.seen for label in each)
        often = sorted((label for label, count in samples.items() if count >= WORST_SAMPLES), key=str)
        shares = {
            label: sum(each[label] for each in self.agreed) / sum(each[label] for each in self.seen)
            for label in often
        }
        label = min(shares, key=lambda each: shares[each], default=None)
        return None if label is None else (label, self._agreement(label))

    def _agreement(self, label: int | str) -> Estimate:
        """Of one class, over the samples that have it."""
        counts = [
            (float(seen[label]), float(agreed[label]))
            for seen, agreed in zip(self.seen, self.agreed, strict=True)
            if seen[label]
        ]
        found = _agreement([n - k for n, k in counts], [n for n, _ in counts])
        assert found is not None
        return found

    def _dead_scores(self) -> bool:
        """Whether calling everything positive would do as well."""
        if len(self.lost) < DEAD_SAMPLES or not sum(self.lost):
            return False
        ahead, error = gap_of_ratios(self.always, (self.lost, self.whole))
        return ahead <= DEAD_ERRORS * error

    @property
    def _cosine(self) -> float | None:
        if self.judged.kind == "exact":
            return None
        both, one, two = self.products.tolist()
        if not one or not two:
            return 1.0 if one == two else 0.0
        return float(both / math.sqrt(one) / math.sqrt(two))

    @property
    def _error(self) -> Estimate | None:
        return ratio(self.wrong, self.energy)


def _agreement(apart: Sequence[float], rows: Sequence[float]) -> Estimate | None:
    """The share of rows that are not apart, counted by sample; None without rows."""
    found = ratio(apart, rows, jumps=True)
    if found is None:
        return None
    return within(Estimate(1 - found.value, 1 - found.high, 1 - found.low, found.error, found.samples))
