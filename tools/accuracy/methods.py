"""What is compared: a name, the pipeline text, and for which models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RATIOS = (0.2, 0.35, 0.5)


@dataclass(frozen=True)
class Method:
    """One line of the tables.

    Attributes:
        name: as the page calls it.
        pipeline: text with {ratio}, or {kept}, which is the rest; {params} is the share of parameters that
            `same_size_as` left.
        suite: which models it is for.
        kind: what it removes, so that only like is compared with like.
        ratios: at which it runs.
        same_size_as: another method whose size it has to match; it runs after that one.
    """

    name: str
    pipeline: str
    suite: Literal["general", "language"] = "general"
    kind: Literal["units", "weights"] = "units"
    ratios: tuple[float, ...] = RATIOS
    same_size_as: str = ""


def _masks() -> tuple[Method, ...]:
    passes = {"magnitude": "", "wanda": "", "gblm": "", "sparsegpt": "", "sparsegpt+refit": ", repair=refit"}
    patterns = {"50 %": "ratio=0.5", "2:4": "pattern=2:4"}
    return tuple(
        Method(
            f"{name} {label}",
            f"{name.partition('+')[0]}({pattern}{extra})",
            "language",
            "weights",
            (0.5,),
        )
        for label, pattern in patterns.items()
        for name, extra in passes.items()
    )


def _language(name: str, pipeline: str) -> Method:
    return Method(name, pipeline, "language", "units", (0.2,))


def _like_flap(name: str, pipeline: str) -> Method:
    """Of flap's size: a ratio of Units cuts whole heads or none, and so leaves every method another size."""
    return Method(name, pipeline, "language", "units", (0.2,), same_size_as="flap")


def _like_obspa(criterion: str) -> Method:
    """Of obspa's size, without repair: what the criterion alone is worth."""
    text = f"prune(params={{params}}, criterion={criterion}, repair=none)"
    return Method(f"{criterion}, size of obspa", text, same_size_as="obspa")


INNER = "kinds=[heads, neurons]"
METHODS = (
    Method("random", "prune(ratio={ratio}, criterion=random, repair=none)"),
    Method("random+refit", "prune(ratio={ratio}, criterion=random, repair=refit, driver=sequential)"),
    Method("l2", "prune(ratio={ratio}, criterion=l2, repair=none)"),
    Method("l2+refit", "prune(ratio={ratio}, criterion=l2, repair=refit, driver=sequential)"),
    Method("obs, oneshot", "prune(ratio={ratio}, criterion=obs, repair=refit, driver=oneshot)"),
    Method("obspa", "obspa(ratio={ratio})"),
    Method("obspa, MACs", "obspa(macs={kept:g}, allocate=local)", ratios=(0.5, 0.65)),
    Method("obspa+recover", "obspa(macs={kept:g}, allocate=local), recover(time=3m)", ratios=(0.5, 0.65)),
    Method("flap", "flap(ratio={ratio}, kinds=all, driver=oneshot)"),
    *map(_like_obspa, ("l2", "taylor", "taylor-activation", "fisher", "lrp")),
    *_masks(),
    _language("flap", "flap(ratio={ratio}, driver=oneshot)"),
    _language("flap, centred refit", "flap(ratio={ratio}, repair=refit, driver=oneshot)"),
    _like_flap("random", f"prune(params={{params}}, criterion=random, repair=none, {INNER})"),
    _like_flap("l2", f"prune(params={{params}}, criterion=l2, repair=none, {INNER})"),
    _like_flap("wanda-sp", "wanda-sp(params={params})"),
    _like_flap("cfsp", "cfsp(params={params})"),
    _like_flap("llm-pruner", "llm-pruner(params={params})"),
    _like_flap("lrp", f"prune(params={{params}}, criterion=lrp, repair=none, {INNER})"),
    _language("depth, block influence", "depth(ratio={ratio}, criterion=influence)"),
    _language("depth, divergence", "depth(ratio={ratio}, search=oneshot)"),
)


def methods(suite: str) -> tuple[Method, ...]:
    """Methods for general or language models, in the order of the tables."""
    return tuple(method for method in METHODS if method.suite == suite)
