"""Does the model run node by node? ONNX Runtime runs some files only since it fuses what no kernel takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import onnx_ir as ir

from graphprune.errors import ModelError
from graphprune.ir.graphs import all_nodes
from graphprune.ir.scales import takes_scales
from graphprune.pipeline.samples import Batches, Samples
from graphprune.pipeline.settings import Settings


def is_suspect(model: ir.Model) -> bool:
    """Whether the model holds codes and scales, which fused operators read another way than their nodes."""
    return any(takes_scales(node) for node in all_nodes(model.graph))


def require_unfused(model: ir.Model, feeds: Batches, settings: Settings) -> None:
    """Refuse a model that runs only as ONNX Runtime fuses it: what measures and proves takes it apart.

    Raises:
        ModelError: naming the node that no kernel runs as it is.
        RunTimeoutError: a run was stopped, so nothing is known.
    """
    from graphprune.runtime.session import RunTimeoutError

    try:
        _run(model, feeds, settings, optimise=False)
        return
    except RunTimeoutError:
        raise
    except ModelError as error:
        reason = error.message.removeprefix("the model does not run: ")
    try:
        _run(model, feeds, settings, optimise=True)
    except ModelError:
        return  # it does not run at all, which is for others to say
    hint = (
        "correct that node: it is invalid, though ONNX Runtime never runs it where it fuses it into another "
        "(with graph_optimization_level=ORT_DISABLE_ALL it has to run)"
    )
    raise ModelError(f"the model runs only as ONNX Runtime fuses it; node by node: {reason}", hint)


def _run(model: ir.Model, feeds: Batches, settings: Settings, optimise: bool) -> None:
    from graphprune.runtime.session import open_session

    session = open_session(model, threads=settings.threads, optimise=optimise, rearrange=False)
    session.run(feeds[0], timeout_s=settings.timeout)


@contextmanager
def taken_apart(model: ir.Model, samples: Samples, settings: Settings) -> Iterator[None]:
    """Around statistics, which run parts of a model: where they fail, one that runs only fused is blamed.

    Feeds are asked for no sooner: what the rules of operators say comes before what does not run.

    Raises:
        ModelError: naming the node that no kernel runs as it is, or what was raised inside.
    """
    from graphprune.runtime.session import RunTimeoutError

    try:
        yield
    except RunTimeoutError:
        raise
    except ModelError:
        require_unfused(model, samples.feeds, settings)
        raise
