"""Do two models agree on the same inputs? The result of `graphprune validate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from graphprune.ir.fixed import NOTHING
from graphprune.ir.load import load
from graphprune.pipeline.samples import Arrays, Feeds, Given, feeds_for
from graphprune.pipeline.settings import Settings

if TYPE_CHECKING:
    from graphprune.runtime.compare import Agreement

Outputs = dict[str, np.ndarray]


@dataclass(frozen=True)
class OutputComparison:
    """One output of both models over all batches; `top1` is the share of rows with the same argmax."""

    name: str
    ok: bool
    max_abs: float
    relative: float
    cosine: float
    top1: float | None
    note: str


@dataclass(frozen=True)
class Comparison:
    """Two models on the same inputs: `ok` when every output agrees and at least one says something."""

    reference: str
    candidate: str
    ok: bool
    tolerance: float
    batches: int
    inputs: str
    outputs: tuple[OutputComparison, ...]


def compare(
    models: tuple[object, object],
    names: tuple[str, str],
    inputs: Given,
    settings: Settings,
) -> Comparison:
    """Run both models, the reference first, on given inputs or on generated ones.

    Raises:
        GraphpruneError: a model does not load or run, or the inputs do not fit.
    """
    first, second = (load_model(model, settings) for model in models)
    feeds = feeds_for(first, inputs, settings)
    agreed = agree(first, second, feeds, settings)
    outputs = tuple(
        OutputComparison(o.name, o.ok, o.max_abs, o.relative, o.cosine, o.top1, o.note)
        for o in agreed.outputs
    )
    made = "given" if inputs is not None else f"generated, seed {settings.seed}"
    ok = agreed.ok and agreed.proves
    return Comparison(*names, ok, settings.tolerance, len(feeds), made, outputs)


def load_model(model: object, settings: Settings) -> ir.Model:
    """A checked model from a path or from memory, under the limits of the settings."""
    return load(model, settings.limits).model


def agree(
    first: ir.Model | Path,
    second: ir.Model | Path,
    feeds: Feeds,
    settings: Settings,
    optimise: bool = True,
    fixed: Arrays = NOTHING,
    exact: bool = False,
) -> Agreement:
    """How far two models agree over all batches; only one of them is open at a time.

    Args:
        first: the reference.
        second: what is compared with it.
        feeds: inputs of the second.
        settings: tolerance, threads, time limit.
        optimise: let ONNX Runtime rewrite the graphs.
        fixed: inputs of the first that the second does not have.
        exact: whatever this CPU makes of products of bytes.
    """
    from graphprune.runtime.compare import agreement, merge
    from graphprune.runtime.exact import has_products

    # A file is not read to find out: what it multiplies, the model in memory beside it does, too.
    exact = exact and any(has_products(model) for model in (first, second) if isinstance(model, ir.Model))
    given = tuple({**feed, **fixed} for feed in feeds)
    reference = _outputs(first, given, settings, optimise, exact)
    candidate = _outputs(second, feeds, settings, optimise, exact)
    if _stackable(reference) and _stackable(candidate):
        reference, candidate = [_stacked(reference)], [_stacked(candidate)]
    return merge(agreement(a, b, settings.tolerance) for a, b in zip(reference, candidate, strict=True))


def _outputs(
    model: ir.Model | Path, feeds: Feeds, settings: Settings, optimise: bool = True, exact: bool = False
) -> list[Outputs]:
    from graphprune.runtime.session import open_session

    session = open_session(model, threads=settings.threads, optimise=optimise, exact=exact)
    return [session.run(feed, timeout_s=settings.timeout) for feed in feeds]


def _stackable(runs: list[Outputs]) -> bool:
    """Whether batches differ only in their number of rows, so that they compare as one."""
    first = runs[0]
    return all(
        run.keys() == first.keys()
        and all(
            a.ndim and a.shape[1:] == first[name].shape[1:] and a.dtype == first[name].dtype
            for name, a in run.items()
        )
        for run in runs
    )


def _stacked(runs: list[Outputs]) -> Outputs:
    return {name: np.concatenate([run[name] for run in runs]) for name in runs[0]}
