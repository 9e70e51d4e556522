"""Sparse initializers on request: which, whether ONNX Runtime reads them, and what they cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from graphprune.errors import OutputError
from graphprune.ir.sparse import MIN_IR, MIN_OPSET, worthwhile
from graphprune.pipeline.output import Sparse

if TYPE_CHECKING:
    import onnx_ir as ir

    from graphprune.pipeline.samples import Batches
    from graphprune.pipeline.settings import Settings


def sparse_output(model: ir.Model, feeds: Batches, settings: Settings) -> tuple[Sparse | None, str]:
    """What to write sparse, checked by a run before the file gets its name; and a line for the report."""
    names = worthwhile(model)
    if not names:
        why = "no initializer is smaller that way (two thirds of a float32 tensor have to be zero)"
        old = f"; it takes opset {MIN_OPSET} and IR version {MIN_IR}, and this model is older"
        is_old = (model.opset_imports.get("") or 0) < MIN_OPSET or model.ir_version < MIN_IR
        return None, f"sparse-initializers: none written: {why}{old if is_old else ''}"
    note = (
        f"sparse-initializers: {len(names)} initializers are sparse. ONNX Runtime makes them dense when it "
        "loads the model (no gain in memory or latency), and other tools may reject them: onnx.checker with "
        "full_check does, and shape inference."
    )
    return Sparse(names, lambda path: _verify(model, path, feeds, settings)), note


def _verify(model: ir.Model, path: Path, feeds: Batches, settings: Settings) -> None:
    """The written file computes what the model in memory does."""
    from graphprune.runtime.compare import agreement
    from graphprune.runtime.session import open_session

    expected = open_session(model, threads=settings.threads).run(feeds[0], settings.timeout)
    found = open_session(path, threads=settings.threads).run(feeds[0], settings.timeout)
    if not agreement(expected, found, settings.tolerance).ok:
        raise OutputError(
            "ONNX Runtime computes something else from the sparse initializers",
            "compile without --sparse-initializers, and please report this",
        )
