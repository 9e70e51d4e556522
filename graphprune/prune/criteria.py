"""The criteria that ship; those that read weights alone are made of what is in `saliency`."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np

from graphprune.axes.groups import Group, Slice
from graphprune.errors import ArgumentError
from graphprune.ir.arrays import Doubles, Floats, Ids, Scores
from graphprune.ir.names import quote
from graphprune.prune.criterion import (
    Criterion,
    Evidence,
    Score,
    activations,
    by_output,
    by_sink,
    inputs,
    moments,
    not_finite,
    outputs,
    ranks,
)
from graphprune.prune.dual import RowSheet
from graphprune.prune.evidence import Output, Sink, SiteIndex, joined
from graphprune.prune.gradient_criteria import GRADIENT_CRITERIA
from graphprune.prune.saliency import Weights, batch_norm_slices, fpgm, lamp, norm, per_unit, scored_slices
from graphprune.prune.shrink import damping_of, inverted, varying
from graphprune.prune.surgeon import CHUNK, ColumnSheet, Sheet, alike, eliminate
from graphprune.statistics.measures import Rows, Second, Wanted, as_gram
from graphprune.statistics.rows import GRAM_COLUMNS

Bars = Literal["row", "column"]


def _wanda(sink: Sink, evidence: Evidence) -> Doubles:
    """sum_i |W_ij| * ||x_j|| (Wanda on groups)."""
    vector = sink.vector(evidence.statistics)
    return sink.column_sums(1) * sink.per_column(vector.norm2)


def _fluctuation(group: Group, evidence: Evidence) -> Doubles | None:
    """var(x_j) * ||W_:j||^2 (FLAP, WIFV): what is lost once the mean is compensated.

    Heads are squared column by column before they are standardised, as the reference code does.
    """
    sinks = evidence.places.sinks(group)
    parts = [_fluctuations(sink, evidence) for sink in sinks]
    heads = evidence.kinds.get(group.id) == "heads"
    columns = (
        [_columns(group, sink, part**2) for sink, part in zip(sinks, parts, strict=True)] if heads else []
    )
    if columns and all(part is not None for part in columns):
        return np.concatenate([part for part in columns if part is not None], axis=1)
    return by_sink(_fluctuations)(group, evidence)


def _fluctuations(sink: Sink, evidence: Evidence) -> Doubles:
    vector = sink.vector(evidence.statistics)
    return sink.column_sums(2) * sink.per_column(vector.variance)


def _columns(group: Group, sink: Sink, values: Doubles) -> Doubles | None:
    """Values per column as [Units, columns of a Unit]; None where Units own unequally many."""
    if (np.bincount(sink.units, minlength=group.size) * group.size != len(sink.units)).any():
        return None
    return np.asarray(values[np.argsort(sink.units, kind="stable")].reshape(group.size, -1))


def _minitron(sink: Sink, evidence: Evidence) -> Doubles:
    """L2 over samples of the mean |x_j| over positions (Minitron), once per channel."""
    vector = sink.vector(evidence.statistics)
    return sink.per_column(vector.minitron) / sink.site.column_span


def _second(sink: Sink, evidence: Evidence) -> Second:
    """Second moments of what a Site reads."""
    second = sink.second(evidence.statistics)
    if not np.isfinite(second.sum).all():
        raise not_finite(f"what {quote(sink.site.name)} reads")
    return second


def _unit(sink: Sink, evidence: Evidence) -> float:
    """The unit of a Site's results, so that losses of Sites that differ in scale add up.

    It is the root of the total variance behind the residual Add: a branch that hardly moves the stream loses
    little when it is cut. A layer that is applied twice loses twice, on average over its readers.
    """
    if sink.site.hidden:
        energy = _energy(sink.matrix(), _second(sink, evidence))
    else:
        ends = [joined(site.output).name or "" for site in sink.readers]
        vectors = [evidence.statistics.vectors[name] for name in ends if name in evidence.statistics.vectors]
        energy = float(sum(vector.variance.sum() for vector in vectors)) / len(sink.readers)
    energy /= len(sink.readers)
    if not np.isfinite(energy):
        raise not_finite(f"what {quote(sink.site.name)} gives")
    return float(np.sqrt(energy)) if energy > 0 else 1.0


def _energy(matrix: Floats, second: Second) -> float:
    """Total variance of W x."""
    if isinstance(second, Rows):
        given = np.matmul(second.centred, matrix.transpose(0, 2, 1))
        return float(np.square(given, dtype=np.float64).sum() / second.count)
    covariance = second.covariance
    return float(np.einsum("bri,bij,brj->", matrix, covariance, matrix, optimize=True))


def _obs(group: Group, evidence: Evidence) -> Doubles | None:
    """Loss that each Unit adds when cheaper ones are gone, and the rest and a bias make up for them."""
    sheets = [sheet for sink in evidence.places.sinks(group) for sheet in _sheets(sink, evidence)]
    return eliminate(sheets, group.size) if sheets else None


def _sheets(sink: Sink, evidence: Evidence) -> Iterator[Sheet]:
    """Blocks of a Site of which the Group's columns vary, on the side that is smaller."""
    second, matrix, unit = _second(sink, evidence), sink.matrix(), _unit(sink, evidence)
    if isinstance(second, Rows) and 2 * second.count > sink.site.columns <= GRAM_COLUMNS:
        second = as_gram(second)  # what grows with the square of the rows costs more
    for block, units, columns in sink.by_block():
        if isinstance(second, Rows):
            rows = second.centred[block]
            moves = varying(np.square(rows, dtype=np.float64).mean(axis=0), second.mean[block])
            if moves[columns].any():
                rows *= moves
                yield RowSheet(matrix[block], rows, evidence.damping, units, columns, unit**-2)
            continue
        covariance = second.scatter[block] / max(second.count, 1.0)
        moves = varying(np.diagonal(covariance), second.mean[block])
        if moves[columns].any():
            covariance *= moves
            covariance *= moves[:, None]
            owned, places = np.unique(columns, return_inverse=True)
            others = np.setdiff1d(np.arange(len(moves)), owned)  # they stay: what they make up for is all
            if len(others):
                order = np.concatenate((others, owned))
                covariance = covariance[np.ix_(order, order)]
            damping = damping_of(covariance, second.count, evidence.damping)
            inverse = inverted(covariance, damping, len(others))
            mine = matrix[block][:, owned] * (moves[owned] / unit)
            yield ColumnSheet(mine, inverse, units, places)


def _thinet(group: Group, evidence: Evidence) -> Doubles | None:
    """Greedy: next goes the Unit that adds least to E||sum of removed W_c x_c||^2 (ThiNet, eq. 6)."""
    energy = np.zeros((group.size, group.size))
    for sink in evidence.places.sinks(group):
        second, matrix, unit = _second(sink, evidence), sink.matrix(), _unit(sink, evidence)
        for block, units, columns in sink.by_block():
            if isinstance(second, Rows):
                part = _products(matrix[block], second.rows[block], units, columns, group.size)
            else:
                part = _summed(matrix[block], second.second[block], units, columns, group.size)
            energy += part / unit**2
    return greedy(energy) if energy.any() else None


def _summed(matrix: Floats, second: Doubles, units: Ids, columns: Ids, size: int) -> Doubles:
    """E[(W_P x_P)' (W_Q x_Q)] of every pair of Units, from second moments."""
    wide = matrix.astype(np.float64)
    part = (wide.T @ wide * second)[np.ix_(columns, columns)]
    order = np.argsort(units, kind="stable")
    names, starts = np.unique(units[order], return_index=True)
    found = np.zeros((size, size))
    part = np.add.reduceat(np.add.reduceat(part[np.ix_(order, order)], starts, 0), starts, 1)
    found[np.ix_(names, names)] = part
    return found


def _products(matrix: Floats, rows: Floats, units: Ids, columns: Ids, size: int) -> Doubles:
    """The same from rows, for a few rows of W at a time."""
    found = np.zeros((size, size))
    step = max(1, CHUNK // (size * len(rows)))
    for start in range(0, len(matrix), step):
        mine = matrix[start : start + step]
        given = np.zeros((size, len(rows), len(mine)))
        for names, owned in alike(units, columns):
            given[names] = np.matmul(rows[:, owned].transpose(1, 0, 2), mine[:, owned].transpose(1, 2, 0))
        flat = given.reshape(size, -1)
        found += flat @ flat.T
    return found / len(rows)


def greedy(energy: Doubles) -> Doubles:
    """Scores that rise in the order of removal: each step takes the Unit that adds least to 1' E 1."""
    added = np.diagonal(energy).copy()
    scores = np.empty(len(energy))
    left = np.ones(len(energy), bool)
    reached = 0.0
    for _ in range(len(energy)):
        unit = int(np.argmin(np.where(left, added, np.inf)))
        reached = np.nextafter(max(reached, float(added[unit])), np.inf)
        scores[unit], left[unit] = reached, False
        added += 2 * energy[unit]
    return scores


def _rank(output: Output, evidence: Evidence) -> Doubles:
    """Mean rank of a channel's maps (HRank)."""
    return evidence.statistics.rank(output.name)


def _apoz(group: Group, evidence: Evidence) -> Doubles | None:
    """1 - share of zeros behind the activation (APoZ), mean over sources; none where nothing is ever zero."""
    outputs = evidence.places.activations(group)
    vectors = [evidence.statistics.vector(o.name) for o in outputs]
    if not any(vector.zeros.any() for vector in vectors):
        return None
    alive = [
        o.per_unit(group.size, 1 - v.zeros / max(v.count, 1)) for o, v in zip(outputs, vectors, strict=True)
    ]
    return np.asarray(np.mean(alive, axis=0)) if alive else None


def _spreads(group: Group, places: SiteIndex) -> Wanted:
    return Wanted() if batch_norm_slices(group) else outputs(group, places)


def _spread(group: Group, evidence: Evidence) -> Doubles | None:
    """|gamma| (Network Slimming), mean over the Group's BatchNormalization nodes.

    Where it was folded away it is the standard deviation of a source's result
    (docs/methods.md#folded-batchnormalization).
    """
    gammas = batch_norm_slices(group)
    if gammas:
        parts = [per_unit(group, s, evidence.weights.slot_sums(s, 1)) for s in gammas]
        return np.asarray(np.mean(parts, axis=0))
    if not evidence.statistics.vectors:
        raise ArgumentError(
            f"criterion=bn-scale: no BatchNormalization scales group '{group.id}'",
            "its scale was folded into the weights: give --calibration to estimate it, or use criterion=l2",
        )
    return by_output(_deviation)(group, evidence)


def _deviation(output: Output, evidence: Evidence) -> Doubles:
    return np.sqrt(evidence.statistics.vector(output.name).variance)


def cfsp(bars: Bars = "row") -> Criterion:
    """a_j * mean over weights' entries of |w| / sum of its row (CFSP, fine-grained score).

    A row is what one input or output sees of all Units; the weight that reads the Group is times a_j first.
    With bars=column, as in the authors' code, every entry is divided by its own Unit's sum instead, which
    leaves only a_j.
    """

    def score(group: Group, evidence: Evidence) -> Doubles | None:
        sinks = evidence.places.sinks(group)
        if not sinks:
            return None
        activity = np.zeros(group.size)
        total = np.zeros(group.size)
        for sink in sinks:
            vector = sink.vector(evidence.statistics)
            level = vector.norm2 / np.sqrt(max(vector.count, 1))
            activity += np.bincount(sink.units, sink.per_column(level) / sink.site.column_span, group.size)
            matrix = np.concatenate([np.abs(block) for block in sink.matrix()], axis=1)
            entries = matrix[:, sink.columns] * sink.per_column(level)
            total += _relative(_per_unit_rows(group, sink.units, entries), bars)
        for touched in scored_slices(group):
            if touched.role == "source":
                total += _relative(_source_rows(group, touched, evidence), bars)
        return total * activity

    return Criterion(score, "activation times |w| relative to its row (CFSP)", inputs)


def _relative(rows: Doubles, bars: Bars) -> Doubles:
    """[entries, Units], each divided by the sum of its row (or of its Unit); mean over entries."""
    sums = rows.sum(axis=1 if bars == "row" else 0, keepdims=True)
    return np.asarray(np.divide(rows, sums, out=np.zeros_like(rows), where=sums > 0).mean(axis=0))


def _per_unit_rows(group: Group, units: Ids, entries: Doubles) -> Doubles:
    order = np.argsort(units, kind="stable")
    names, starts = np.unique(units[order], return_index=True)
    found = np.zeros((len(entries), group.size))
    found[:, names] = np.add.reduceat(entries[:, order], starts, axis=1)
    return found


def _source_rows(group: Group, touched: Slice, evidence: Evidence) -> Doubles:
    weight = np.moveaxis(evidence.weights.tensor(touched), touched.axis, 0)
    units, slots = touched.pairs
    entries = np.abs(weight.reshape(len(weight), -1).astype(np.float64)).T
    return _per_unit_rows(group, units, entries[:, slots])


def _random(group: Group, evidence: Evidence) -> Scores:
    return np.random.default_rng([evidence.seed, zlib.crc32(group.id.encode())]).random(group.size)


def _weighed(score: Callable[[Group, Weights], Scores]) -> Score:
    return lambda group, evidence: score(group, evidence.weights)


CRITERIA: dict[str, Criterion] = {
    "l1": Criterion(_weighed(norm(1)), "sum of |w|"),
    "l2": Criterion(_weighed(norm(2)), "root of the sum of w^2"),
    "lamp": Criterion(_weighed(lamp), "w^2 among those of no smaller Units (LAMP)", normaliser="none"),
    "fpgm": Criterion(_weighed(fpgm), "distance to all other Units (FPGM)"),
    "bn-scale": Criterion(
        _spread,
        "|gamma| of BatchNormalization, or the spread of results where it was folded",
        _spreads,
        "none",
        optional=True,
    ),
    "random": Criterion(_random, "drawn", normaliser="none"),
    "wanda": Criterion(by_sink(_wanda), "|w| times the norm of its input (Wanda)", inputs),
    "fluctuation": Criterion(_fluctuation, "variance of the input times w^2 (FLAP)", inputs, "robust"),
    "hrank": Criterion(by_output(_rank, activated=True), "rank of maps behind the activation (HRank)", ranks),
    "apoz": Criterion(_apoz, "share behind the activation that is not zero (APoZ)", activations),
    # Losses relative to what they disturb compare as they are.
    "thinet": Criterion(_thinet, "error that greedy removal adds (ThiNet)", moments, "none"),
    "obs": Criterion(_obs, "error that removal adds once the rest makes up for it", moments, "none"),
    "minitron": Criterion(by_sink(_minitron), "mean |x| over positions (Minitron)", inputs),
    "cfsp": cfsp(),
    **GRADIENT_CRITERIA,
}
