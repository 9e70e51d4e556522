"""Repair as passes carry it out: which one, on what data, and what is said about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from graphprune.pipeline.passes import Context

if TYPE_CHECKING:
    import onnx_ir as ir

    from graphprune.axes import Analysis
    from graphprune.axes.kept import Kept
    from graphprune.axes.sublayers import Sublayer
    from graphprune.ir.arrays import Array
    from graphprune.labels.algebra import Label
    from graphprune.prune.repair import Cuts, Driver, Repaired

Repair = Literal["auto", "none", "bias", "refit", "match", "bias+match", "refit+match"]
AUTO = "refit"
"""What repair=auto does where there is calibration data."""
HELP = "what makes up for the cut; auto: refit where there is calibration data"


def settled(repair: Repair, context: Context) -> str:
    """The repair that is carried out."""
    if repair != "auto":
        return repair
    if not context.calibration:
        return "none"
    context.note(f"repair=auto: {AUTO} on the calibration data; repair=none leaves the weights as they are")
    return AUTO


def repaired(
    analysis: Analysis,
    cuts: Cuts,
    how: str,
    context: Context,
    *,
    bypassed: Sequence[Sublayer] = (),
    base: Mapping[str, Array] | None = None,
    driver: Driver = "sequential",
    refresh: bool = True,
) -> Repaired:
    """New weights and biases that make up for what goes; nothing where the rest stays as it is.

    Args:
        analysis: of the dense model.
        cuts: kept Units per Group id.
        how: none, bias, refit, match, or two of them.
        context: calibration data and settings.
        bypassed: sublayers that go.
        base: weights that the pass replaced itself, such as merged experts; they stay as they are.
        driver: behind the repaired prefix, or from statistics of the dense model.
        refresh: whether BatchNormalizations are re-estimated.
    """
    from graphprune.prune.repair import Change, Repaired, Way, repair, wanted_grams

    if how == "none" or not (cuts or bypassed):
        return Repaired({}, {})
    statistics = None
    if driver == "oneshot":
        statistics = context.collect(analysis.model, wanted_grams(analysis), f"repair={how}")
    return repair(
        analysis,
        Change(cuts, tuple(bypassed), base or {}),
        Way(how, driver, refresh),
        batches=context.calibration,
        statistics=statistics,
        run=context.run,
    )


def _counts(analysis: Analysis) -> list[tuple[tuple[Label, ...], int]]:
    """Constants that exact edits write beside a node, and the labels that have to shrink for it."""
    from graphprune.labels.edits import LayerNormExpansion, MeanCount, VarianceCount

    found: list[tuple[tuple[Label, ...], int]] = []
    for edit in analysis.edits:
        if isinstance(edit, MeanCount):
            found.append((edit.labels, 1))
        elif isinstance(edit, VarianceCount):
            found.append(((edit.label,), 2))
        elif isinstance(edit, LayerNormExpansion):
            found.append(((edit.label,), 3))
    return found


def added_by(analysis: Analysis, how: str, driver: Driver) -> Callable[[Kept], int]:
    """Elements that a cut adds: numbers of exact norms and means, and biases where repair finds none."""
    counts = _counts(analysis)

    def numbers(kept: Kept) -> int:
        return sum(count for labels, count in counts if any(kept.touches(label) for label in labels))

    if how == "none":
        return numbers
    from graphprune.statistics.sites import find_sites

    sites = find_sites(analysis.model, analysis.sizes)

    def label(value: ir.Value, axis: int) -> Label:
        labels = analysis.values.get(value, ())
        return labels[axis] if labels else ()

    def added(kept: Kept) -> int:
        total, cut = numbers(kept), False
        for site in sites:
            touched = kept.touches(label(site.edge, site.in_axis))
            cut = touched or (cut and driver == "sequential")
            if cut and site.bias is None and site.stored.grid is None and not site.hidden:
                total += kept.count(label(site.output, site.out_axis))
        return total

    return added


def tell(made: Repaired, how: str, context: Context) -> None:
    """What was left as it is, as warnings of the report."""
    for note in made.notes:
        context.warn(note)
    if how != "none" and not (made.replaced or made.biases):
        context.warn(f"repair={how} changed nothing: no weight or bias behind the cut could make up for it")
