"""Do two models agree on the same inputs? The result of `graphprune validate`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Arrays
from graphprune.ir.fixed import NOTHING
from graphprune.ir.names import quote
from graphprune.pipeline.alike import require_alike
from graphprune.pipeline.opened import load_to_run
from graphprune.pipeline.opensizes import open_sizes
from graphprune.pipeline.samples import Batches, Given, feeds_for
from graphprune.pipeline.settings import Comparing, Timing
from graphprune.run import CPU_ALONE
from graphprune.shown import Shown

if TYPE_CHECKING:
    from graphprune.runtime.compare import Agreement
    from graphprune.runtime.session import Session

Outputs = dict[str, np.ndarray]
ROUNDS = "the kernels of this CPU round otherwise"
TRIED = 16
"""Batches, the first ones, on which weights whose products saturate are looked for."""


@dataclass(frozen=True)
class OutputComparison:
    """One output of both models over all batches; `top1` is the share of rows with the same argmax.

    `difference` says what kind there is: numbers, answers, not finite or form; empty where they agree.
    """

    name: str
    ok: bool
    max_abs: float
    relative: float
    cosine: float
    top1: float | None
    note: str
    difference: str = ""


@dataclass(frozen=True)
class Comparison(Shown):
    """Two models on the same inputs: `ok` when every output agrees and at least one says something.

    `outputs` are what this CPU computes, which is what people get. `exact` is the same with products of bytes
    that no CPU saturates, where a model has such products; `saturation` says why the two verdicts differ.
    `providers` are those of ONNX Runtime that ran at least one node.
    """

    reference: str
    candidate: str
    ok: bool
    tolerance: float
    batches: int
    inputs: str
    outputs: tuple[OutputComparison, ...]
    exact: tuple[OutputComparison, ...] = ()
    saturation: str = ""
    generated: dict[str, int] = field(default_factory=dict)
    providers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Judged:
    """How two models agree as this CPU runs them, and exactly where they multiply bytes.

    Attributes:
        native: what people get on this CPU.
        exact: what any CPU should give; None where no operator multiplies bytes.
        saturation: one line where the two verdicts differ, else empty.
    """

    native: Agreement
    exact: Agreement | None = None
    saturation: str = ""


@dataclass(frozen=True)
class OpenedOnce:
    """A model that several checks run: opened, as it is then, for the first. That is most of their cost."""

    model: ir.Model
    settings: Comparing

    @cached_property
    def optimise(self) -> bool:
        """Whether ONNX Runtime rewrites the graph: where that pays for a few runs."""
        from graphprune.runtime.brief import rewriting_pays

        return rewriting_pays(self.model)

    @property
    def session(self) -> Session:
        """The model in ONNX Runtime; a new session each time where a run says how many there were before."""
        from graphprune.runtime.brief import counts_runs

        return self._open() if counts_runs(self.model) else self._shared

    @cached_property
    def _shared(self) -> Session:
        return self._open()

    def _open(self) -> Session:
        from graphprune.runtime.session import open_session

        threads = self.settings.threads
        return open_session(self.model, threads=threads, optimise=self.optimise, rearrange=False)


def compare(
    models: tuple[object, object],
    names: tuple[str, str],
    inputs: Given,
    settings: Comparing,
) -> Comparison:
    """Run both models, the reference first, on given inputs or on generated ones.

    Raises:
        GraphpruneError: a model does not load or run, or the inputs do not fit.
    """
    settings.progress(0, 0, "load")
    one, two = (load_to_run(model, settings) for model in models)
    first, second = one.model, two.model
    require_alike((first, second), names)
    feeds = feeds_for(first, inputs, settings, one.constants)
    settings.progress(0, 0, "run both models")
    judged = judge(first, second, feeds, settings)
    shapes = {name: array.shape for name, array in feeds[0].items()}
    generated = {} if inputs is not None else open_sizes(first, shapes, settings.shape)
    made = "given" if inputs is not None else f"generated, seed {settings.seed}"
    return Comparison(
        *names,
        _verdict(judged.native),
        settings.tolerance,
        len(feeds),
        made,
        _compared(judged.native),
        _compared(judged.exact),
        judged.saturation,
        generated,
        judged.native.providers,
    )


def _compared(agreed: Agreement | None) -> tuple[OutputComparison, ...]:
    return tuple(
        OutputComparison(o.name, o.ok, o.max_abs, o.relative, o.cosine, o.top1, o.note, o.difference)
        for o in (agreed.outputs if agreed else ())
    )


def _verdict(agreed: Agreement) -> bool:
    return agreed.ok and agreed.proves


def judge(first: ir.Model, second: ir.Model, feeds: Batches, settings: Comparing) -> Judged:
    """The agreement of two models as people get it, with the exact one beside it."""
    from graphprune.runtime.exact import has_products

    native = agree(first, second, feeds, settings, providers=settings.providers)
    if not (has_products(first) or has_products(second)):
        return Judged(native)
    exact = agree(first, second, feeds, settings, exact=True)
    if _verdict(native) == _verdict(exact):
        return Judged(native, exact)
    error = max((output.relative for output in exact.outputs), default=0.0)
    how = "agree" if _verdict(exact) else "disagree"
    why = saturation((first, second), feeds, settings) or ROUNDS
    return Judged(native, exact, f"in exact arithmetic they {how} (error {error:.2g}): {why}")


def saturation(models: Sequence[ir.Model], feeds: Iterable[Arrays], settings: Timing) -> str:
    """That this CPU saturates products of bytes, and in which weights of these models; empty if in none.

    Where something else runs them, it is what computes otherwise.
    """
    if settings.providers != CPU_ALONE:
        return f"{', '.join(settings.providers)} computes products of bytes otherwise"
    from graphprune.runtime.saturation import MOST, saturated_factors

    given = list(islice(feeds, TRIED))
    found: dict[str, None] = {}
    for model in models:
        own = [{name: feed[name] for name in _inputs(model) if name in feed} for feed in given]
        names = saturated_factors(model, own, settings.run)
        found |= dict.fromkeys(names)
    if not found:
        return ""
    more = " and more" if len(found) >= MOST else ""
    shown = ", ".join(quote(name) for name in [*found][:MOST])
    return f"this CPU saturates products of unsigned and signed bytes, here those with {shown}{more}"


def _inputs(model: ir.Model) -> set[str]:
    return {value.name or "" for value in model.graph.inputs}


def agree(
    first: ir.Model | Path,
    second: ir.Model | Path,
    feeds: Batches,
    settings: Comparing,
    optimise: bool = True,
    fixed: Arrays = NOTHING,
    exact: bool = False,
    once: OpenedOnce | None = None,
    providers: Sequence[str] = CPU_ALONE,
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
        once: the second, for where it is to run as it is opened there.
        providers: what runs both.
    """
    from graphprune.runtime.compare import agreement, merge
    from graphprune.runtime.exact import has_products
    from graphprune.runtime.providers import together
    from graphprune.runtime.session import lie_well, open_session

    # A file is not read to find out: what it multiplies, the model in memory beside it does, too.
    exact = exact and any(has_products(model) for model in (first, second) if isinstance(model, ir.Model))
    given = tuple({**feed, **fixed} for feed in feeds)
    opened = partial(
        open_session,
        threads=settings.threads,
        optimise=optimise,
        exact=exact,
        providers=providers,
    )
    # What a file holds is what the model in memory beside it does, here as well.
    models = [model for model in (first, second) if isinstance(model, ir.Model)]
    packed = not all(lie_well(model) for model in models)
    ran, reference = _outputs(opened(first, rearrange=_is_file(first) and packed), given, settings)
    shared = once is not None and not exact and optimise == once.optimise
    session = once.session if once and shared else opened(second, rearrange=_is_file(second) and packed)
    also, candidate = _outputs(session, feeds, settings)
    if _stackable(reference) and _stackable(candidate):
        reference, candidate = [_stacked(reference)], [_stacked(candidate)]
    found = merge(agreement(a, b, settings.tolerance) for a, b in zip(reference, candidate, strict=True))
    return replace(found, providers=together(ran, also))


def _is_file(model: ir.Model | Path) -> bool:
    return isinstance(model, Path)


def _outputs(session: Session, feeds: Batches, settings: Comparing) -> tuple[tuple[str, ...], list[Outputs]]:
    """What runs a model, and what it gives for each feed; the session is gone then."""
    return session.providers, [session.run(feed, timeout_s=settings.timeout) for feed in feeds]


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
