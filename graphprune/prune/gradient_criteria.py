"""Criteria that read gradients, for which they need torch (docs/methods.md#criteria-from-gradients)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from graphprune.axes.groups import Group, Slice
from graphprune.ir.arrays import Doubles, Scores
from graphprune.prune.criterion import Criterion, Evidence, Score
from graphprune.prune.gradients import Element, Reading
from graphprune.prune.saliency import once, per_unit

ROLES = ("source", "sink", "scale")
Saliency = Callable[..., Doubles]
"""Of every element, from its weight and what was measured of it, in the order of the readings."""
Joining = Callable[[Doubles], Doubles]
"""Makes of the sums over the elements of one weight what it adds to a Unit."""


def by_element(saliency: Saliency, *read: Element, joined: Joining = lambda sums: sums) -> Score:
    """Sums over all elements that a Unit owns as a source, a sink or a scale, each once.

    Args:
        saliency: of the elements of one weight.
        read: what it reads.
        joined: what becomes of the sum over a Unit's elements of one weight.
    """

    def total(group: Group, evidence: Evidence) -> Doubles | None:
        found, seen = np.zeros(group.size), False
        for touched in _owned(group, evidence, read[0]):
            tables = (evidence.gradients.elements[what] for what in read)
            measured = [table[touched.initializer].astype(np.float64) for table in tables]
            weight = evidence.weights.tensor(touched).astype(np.float64)
            sums = slot_totals(saliency(weight, *measured), touched)
            found += joined(per_unit(group, touched, sums))
            seen = True
        return found if seen else None

    return total


def _owned(group: Group, evidence: Evidence, what: Element) -> Iterator[Slice]:
    """Slices whose weights have gradients."""
    known = evidence.gradients.elements.get(what, {})
    for touched in once(tuple(s for s in group.slices if s.role in ROLES)):
        if touched.initializer in known:
            yield touched


def slot_totals(elements: Doubles, touched: Slice) -> Scores:
    """Sums over everything but the axis of a Slice, per slot over all its blocks."""
    wide = elements
    if touched.blocks > 1:
        wide = wide.reshape(touched.blocks, -1, *wide.shape[1:])
        others = tuple(axis for axis in range(wide.ndim) if axis not in (0, touched.axis + 1))
    else:
        others = tuple(axis for axis in range(wide.ndim) if axis != touched.axis)
    return np.asarray(wide.sum(axis=others).ravel())


def by_gate(score: Callable[[Doubles], Doubles]) -> Score:
    """A function of the gradients in the gates of a Group's Units [samples, Units]."""

    def found(group: Group, evidence: Evidence) -> Doubles | None:
        gates = evidence.gradients.gates.get(group.id)
        return None if gates is None else score(gates)

    return found


def _relevance(group: Group, evidence: Evidence) -> Doubles | None:
    """Sum of |R| of what the Group's sources compute, before any residual sum, over its channels."""
    known = evidence.gradients.relevance
    found = [output for output in evidence.places.outputs(group) if output.name in known]
    if not found:
        return None
    sums = (np.bincount(o.units, weights=known[o.name][o.channels], minlength=group.size) for o in found)
    return np.asarray(np.sum(list(sums), axis=0), np.float64)


def _product(w: Doubles, g: Doubles) -> Doubles:
    return w * g


def _absolute(w: Doubles, g: Doubles) -> Doubles:
    return np.abs(w * g)


def _half_square(w: Doubles, f: Doubles) -> Doubles:
    return np.asarray(w * w * f / 2)


def _mixed(w: Doubles, g: Doubles, f: Doubles) -> Doubles:
    return np.asarray(np.abs(w * g - w * w * f / 2))


GRADIENT_CRITERIA: dict[str, Criterion] = {
    "taylor": Criterion(
        by_element(_absolute, "mean"),
        "|w g|, g the gradient of a loss (Taylor, first order)",
        gradients=(Reading("mean"),),
    ),
    "taylor-vector": Criterion(
        by_element(_product, "mean", joined=np.abs),
        "|sum of w g| of every weight of a Unit (LLM-Pruner, vector)",
        gradients=(Reading("mean"),),
        normaliser="none",
    ),
    "taylor-second": Criterion(
        by_element(_half_square, "square"),
        "w^2 times mean g^2 / 2 (Taylor, second order)",
        gradients=(Reading("square"),),
        normaliser="none",
    ),
    "taylor-mixed": Criterion(
        by_element(_mixed, "mean", "square"),
        "|w g - w^2 mean g^2 / 2| (Taylor, both orders)",
        gradients=(Reading("mean"), Reading("square")),
        normaliser="none",
    ),
    "taylor-activation": Criterion(
        by_gate(lambda gates: np.abs(gates.mean(axis=0))),
        "|mean of a times its gradient| of activations (Taylor)",
        gradients=(Reading("gates"),),
        normaliser="none",
    ),
    "fisher": Criterion(
        by_gate(lambda gates: np.square(gates).mean(axis=0) / 2),
        "mean square of a Unit's gradient / 2, labels drawn (Fisher)",
        gradients=(Reading("gates", drawn=True),),
        normaliser="none",
    ),
    "snip": Criterion(
        by_element(_absolute, "mean"),
        "|w g| as a share of the model's (SNIP)",
        gradients=(Reading("mean"),),
        normaliser="none",
    ),
    "grasp": Criterion(
        by_element(_product, "flow"),
        "w Hg: what gradients lose (GraSP)",
        gradients=(Reading("flow", temperature=200.0),),
        normaliser="none",
    ),
    "crop": Criterion(
        by_element(_absolute, "flow"),
        "|w Hg|: how gradients change (CroP)",
        gradients=(Reading("flow"),),
        normaliser="none",
    ),
    "synflow": Criterion(
        by_element(lambda w, flow: flow, "synflow"),
        "what flows through |w| without data (SynFlow)",
        gradients=(Reading("synflow"),),
        normaliser="none",
    ),
    "hessian": Criterion(
        by_element(_half_square, "curvature"),
        "w^2 times the diagonal of the Hessian / 2 (optimal brain damage)",
        gradients=(Reading("curvature"),),
        normaliser="none",
    ),
    "lrp": Criterion(
        _relevance,
        "relevance for the model's answer (Pruning by Explaining)",
        gradients=(Reading("relevance"),),
        normaliser="none",
    ),
}
