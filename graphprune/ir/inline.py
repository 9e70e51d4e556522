"""Model-local functions written out at their calls."""

from __future__ import annotations

import onnx.inliner
import onnx_ir as ir

from graphprune.errors import ModelError
from graphprune.ir.names import quote
from graphprune.ir.skeleton import skeleton
from graphprune.ir.swap import Tensor, swap


def inline(model: ir.Model) -> None:
    """Writes functions out, in place.

    By onnx's own inliner: onnx_ir's looks for a free name from 1 up each time, so a body that is called
    n times costs n² (a file of 1 kB kept it busy for minutes).

    Raises:
        ModelError: a function is written for another version of an operator set than the model.
    """
    if not model.functions:
        return
    bare = skeleton(model)
    flat = ir.from_proto(onnx.inliner.inline_local_functions(bare.proto))
    for key in flat.functions:
        raise ModelError(
            f"function {quote(key[1])} imports other operator sets than the model",
            "onnx.inliner.inline_local_functions(model, convert_version=True) converts them",
        )

    def original(tensor: Tensor) -> Tensor:
        return bare.tensors[tensor.offset or 0] if isinstance(tensor, ir.ExternalTensor) else tensor

    swap(flat, original)
    model.functions.clear()
    model.graph = flat.graph
    model.opset_imports.update(flat.opset_imports)
