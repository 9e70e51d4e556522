"""The verifier of a Model: run on every input, and again after every pass."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import onnx
import onnx.checker
import onnx.shape_inference
import onnx_ir as ir

from graphprune.errors import ModelError
from graphprune.ir.bounded import infer_shapes
from graphprune.ir.check_ops import verify
from graphprune.ir.check_view import Dims, dims_of
from graphprune.ir.limits import DEFAULT_LIMITS, Limits
from graphprune.ir.names import escape, quote
from graphprune.ir.preflight.flow import Flow
from graphprune.ir.preflight.proto import graphs
from graphprune.ir.preflight.structure import Contents, check_model
from graphprune.ir.skeleton import forget_value_info, lift_stubs, skeleton

Result = TypeVar("Result")
Given = TypeVar("Given", onnx.ModelProto, bytes)
Shapes = dict[str, Dims]
_MAX_REASON = 400


def check(model: ir.Model, limits: Limits = DEFAULT_LIMITS) -> None:
    """Verify a model that is in memory: structure, every operator's inputs and attributes, all known sizes.

    Raises:
        ModelError: naming the node or tensor and what is wrong with it.
    """
    for graph in model.graphs():
        for name, value in graph.initializers.items():
            _check_initializer(name, value)
    proto = skeleton(model).proto
    check_model(proto, Contents.of(proto.graph).nodes, limits)
    flow = Flow(limits.max_depth)
    flow.check_main(proto.graph)
    for function in proto.functions:
        flow.check_function(function)
    if not flow.sorted:
        raise ModelError("the nodes of the graph are not in topological order")
    check_semantics(proto, limits)


def check_semantics(proto: onnx.ModelProto, limits: Limits) -> Shapes:
    """What needs operator knowledge, on a weightless proto that is changed on the way; the inferred shapes.

    Raises:
        ModelError: onnx's checker, strict shape inference or our operator rules refuse the model.
    """
    every = graphs(proto.graph)
    forget_value_info(proto, every)
    weights = lift_stubs(proto, every)
    for info in (*proto.graph.input, *proto.graph.output):
        if info.name not in weights:
            _check_size(info.name, dims_of(info) or (), limits)
    _check_schemas(proto)
    data = _guarded(onnx.ModelProto.SerializeToString, proto)  # once: both inferences would do it again
    # Without propagation first: it finds most bombs for the price of their dims.
    plain = partial(onnx.shape_inference.infer_shapes, check_type=True, strict_mode=True)
    for info in _guarded(plain, data).graph.value_info:
        _check_size(info.name, dims_of(info) or (), limits)
    inferred = _guarded(infer_shapes, data)

    def check_size(name: str, dims: Dims) -> None:
        if name not in weights:  # their bytes exist in a file
            _check_size(name, dims, limits)

    return verify(inferred, check_size)


def _check_schemas(proto: onnx.ModelProto) -> None:
    """The checker of onnx, except that an interface of unknown rank is fine, as it is for ONNX Runtime."""
    types = [value.type for value in (*proto.graph.input, *proto.graph.output)]
    kinds = [kind.tensor_type for kind in types if kind.WhichOneof("value") == "tensor_type"]
    kinds = [kind for kind in kinds if not kind.HasField("shape")]
    for kind in kinds:
        kind.shape.SetInParent()
    _guarded(onnx.checker.check_model, proto)
    for kind in kinds:
        kind.ClearField("shape")


def _check_initializer(name: str, value: ir.Value) -> None:
    tensor = value.const_value
    if tensor is None:
        raise ModelError(f"initializer {quote(name)} has no value")
    if value.name != name:
        raise ModelError(f"initializer {quote(name)} is registered under another name")
    if value.shape is not None and value.shape.is_static() and value.shape.numpy() != tensor.shape.numpy():
        raise ModelError(f"initializer {quote(name)} is declared {value.shape}, its tensor is {tensor.shape}")


def _check_size(name: str, dims: Dims, limits: Limits) -> None:
    known = [dim for dim in dims if dim is not None]
    if known and min(known) < 0:
        raise ModelError(f"tensor {quote(name)} has a negative dimension: {known}")
    if math.prod(known) > limits.max_elements:
        raise ModelError(
            f"tensor {quote(name)} would have {math.prod(known)} elements, limit {limits.max_elements}",
            "a shape or attribute in the model is wrong, or the input size is",
        )


def _guarded(call: Callable[[Given], Result], model: Given) -> Result:
    try:
        return call(model)
    except (
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        RuntimeError,
        ValueError,
    ) as error:
        raise ModelError(f"invalid model: {one_line(str(error))}") from None


def one_line(text: str) -> str:
    """A library's message on one line, escaped and shortened."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    joined = escape(" ".join(lines))
    return joined if len(joined) <= _MAX_REASON else joined[:_MAX_REASON] + "..."
