"""What else is a model: bytes, and values of other packages that hold one, none of which is imported here."""

from __future__ import annotations

import os
import sys

import onnx
import onnx_ir as ir

from graphprune.errors import ModelError
from graphprune.ir.preflight.foreign import EXPORT

ACCEPTED = (
    "a path, bytes, an onnx.ModelProto, an onnx_ir.Model, an onnx_graphsurgeon.Graph, a torch ONNXProgram or "
    "a Result"
)
Plain = str | os.PathLike[str] | bytes | bytearray | memoryview | onnx.ModelProto | ir.Model
_PLAIN = (str, os.PathLike, bytes, bytearray, memoryview, onnx.ModelProto, ir.Model)


def plain(source: object, called: str = "the model") -> Plain:
    """A model in a form that `load` reads.

    Args:
        source: what ACCEPTED says.
        called: the argument that it was given as.

    Raises:
        ModelError: it is something else; the hint says what to do with it.
    """
    if isinstance(source, _PLAIN):
        return source
    held = getattr(source, "model", None)  # a Result of ours, an ONNXProgram of torch
    if isinstance(held, ir.Model):
        return held
    graphsurgeon = sys.modules.get("onnx_graphsurgeon")
    if graphsurgeon is not None and isinstance(source, graphsurgeon.Graph):
        exported = graphsurgeon.export_onnx(source)
        assert isinstance(exported, onnx.ModelProto)
        return exported
    raise ModelError(f"{called} is {_kind(source)}", _hint(source))


def _kind(source: object) -> str:
    kind = type(source)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def _hint(source: object) -> str:
    """How what was given becomes a model."""
    packages = {each.__module__.partition(".")[0] for each in type(source).__mro__}
    if "torch" in packages:
        return f"export it: {EXPORT}"
    if "onnxruntime" in packages:
        return "give the file that the session was opened from"
    if isinstance(source, onnx.GraphProto):
        return "onnx.helper.make_model(graph) is one"
    if hasattr(source, "getvalue"):
        return "its getvalue() is one"
    return f"give {ACCEPTED}"
