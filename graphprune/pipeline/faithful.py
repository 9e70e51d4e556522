"""Does the normal form compute what the file computes? What a proof starts from is checked by running it."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from graphprune.errors import ModelError
from graphprune.ir.arrays import Arrays
from graphprune.ir.names import escape
from graphprune.pipeline.agreement import OpenedOnce, agree
from graphprune.pipeline.manager import BUG, ProofError, suspects
from graphprune.pipeline.samples import Batches
from graphprune.pipeline.settings import Comparing


def require_faithful(
    source: Path | ir.Model, once: OpenedOnce, feeds: Batches, settings: Comparing, fixed: Arrays
) -> str:
    """Run the model as it was given, with what is fixed, and its opened normal form, on the same inputs.

    Every pass is proved against the normal form; this closes the gap between it and the user's file.

    Returns:
        A line for the report where the comparison says nothing, else an empty string.

    Raises:
        ProofError: they compute different things.
        RunTimeoutError: a run was stopped, so nothing is known.
    """
    from graphprune.runtime.session import RunTimeoutError

    normal, pays = once.model, once.optimise
    given = tuple({**feed, **fixed} for feed in feeds)
    try:
        agreed = agree(source, normal, feeds, settings, pays, fixed, exact=True, once=once)
        if agreed.ok:
            return ""
        if not agree(source, source, given, settings, pays, exact=True).ok:
            return (
                "the model does not agree with itself (NaN, or random numbers): its normal form is unchecked"
            )
        # Fused kernels round differently, which may tip a comparison in the graph; node by node they agree.
        if agree(source, normal, feeds, settings, optimise=False, fixed=fixed, exact=True).ok:
            return ""
    except RunTimeoutError:
        raise
    except ModelError as error:
        return f"ONNX Runtime does not run the model as it was given: {error.message}"
    wrong = "".join(f"\n  output {escape(o.name)}: {o.relative:.3g}" for o in agreed.outputs if not o.ok)
    raise ProofError(f"normalising the model changed what it computes{wrong}", suspects(normal) or BUG)
