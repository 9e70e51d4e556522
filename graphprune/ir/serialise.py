"""A Model as protobuf bytes without its weights, for a runtime that takes the weights by pointer."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
from google.protobuf.message import EncodeError
from onnx_ir import serde

from graphprune.errors import ArgumentError, ModelError, did_you_mean
from graphprune.ir.element import is_packed
from graphprune.ir.graphs import every_graph, graphs_of
from graphprune.ir.mapped import FiledTensor, MappedTensor, Span
from graphprune.ir.spill import Spill, SpillError

if TYPE_CHECKING:
    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

PROTOBUF_LIMIT = 2**31 - 1
# Small tensors stay in the file: shape inference reads shapes, axes and scales from there.
INLINE_BYTES = 4096
# Weights from here on are worth a look into the file that they come from, where they need not be copied.
FILED_BYTES = 2**20
# A stub location, never opened: the caller must hand over the weight of that name.
STUB_LOCATION = "in-memory"

Tensor = ir.TensorProtocol
Function = onnx.FunctionProto


@dataclass(frozen=True)
class Weight:
    """The bits of one initializer: `array` in the initializer's own shape, `dtype` as ONNX calls it.

    numpy has no bfloat16 or float8; those arrays are views as unsigned integers of the same width.
    """

    array: np.ndarray
    dtype: ir.DataType


@dataclass(frozen=True)
class Weightless:
    """Protobuf bytes of a model, and what they only refer to.

    Attributes:
        proto: the bytes.
        weights: what has to be handed over, by name.
        folder: where the files are that hold other weights; None where none are left in files.
        large: bytes of weights outside of the proto.
        floating: whether all of these are floats.
    """

    proto: bytes
    weights: Mapping[str, Weight]
    folder: Path | None = None
    large: int = 0
    floating: bool = True


def weightless(
    model: ir.Model,
    *,
    extra_outputs: Sequence[str] = (),
    inline_bytes: int = INLINE_BYTES,
    in_files: bool = False,
    spill: Spill | None = None,
    functions: Sequence[Function] = (),
) -> Weightless:
    """Serialise a model, leaving initializers above `inline_bytes` out; the model is not touched.

    Weights of subgraphs cannot be handed over by pointer, so they move to the main graph where
    their name is unique, and are written inline where it is not. With `in_files` large weights that lie in a
    file as they are stay there, and the bytes say where; with `spill` all other large ones are written to
    it, one at a time. `functions` define operators that the model has.

    Raises:
        ArgumentError: an extra output names no value of the main graph.
        ModelError: a weight cannot be read, or what has to stay inline exceeds protobuf's 2 GiB.
        SpillError: `spill` has no room.
    """
    writer = _Writer(inline_bytes, Counter(_value_names(model.graph)), in_files, spill)
    proto = onnx.ModelProto(ir_version=model.ir_version, producer_name=model.producer_name or "")
    for domain, version in model.opset_imports.items():
        proto.opset_import.add(domain=domain, version=version)
    for function in model.functions.values():
        writer.function(proto.functions.add(), function, model.ir_version)
    proto.functions.extend(functions)
    for domain, version in _lacking(model.opset_imports, functions).items():
        proto.opset_import.add(domain=domain, version=version)
    writer.graph(proto.graph, model.graph, main=True)
    proto.graph.initializer.extend(writer.hoisted)
    _add_outputs(proto.graph, extra_outputs)
    folder = _below_one_folder(proto.graph.initializer)
    return Weightless(_bytes(proto), writer.weights, folder, writer.large, writer.floating)


def loose_bytes(model: ir.Model) -> int:
    """Bytes of the large weights of a model that lie in no file as they are."""
    graphs = graphs_of(model)
    weights = (value.const_value for graph in graphs for value in graph.initializers.values())
    return sum(
        tensor.nbytes
        for tensor in weights
        if tensor is not None and tensor.nbytes >= FILED_BYTES and _span(tensor) is None
    )


def read_function(text: str) -> Function:
    """A function from ONNX's text form.

    Raises:
        ValueError: it is not one.
    """
    try:
        return onnx.parser.parse_function(text)
    except onnx.parser.ParseError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _lacking(known: Mapping[str, int], functions: Sequence[Function]) -> dict[str, int]:
    """Operator sets that functions import, and a model does not."""
    asked = {item.domain: item.version for function in functions for item in function.opset_import}
    return {domain: version for domain, version in asked.items() if domain not in known}


def element_type(dtype: ir.DataType) -> np.dtype | None:
    """The numpy type that holds one element's bits, or None where elements are packed or are strings."""
    if dtype == ir.DataType.STRING or is_packed(dtype):
        return None
    native = np.dtype(dtype.numpy())
    return native if native.kind in "biufc" else np.dtype(f"u{native.itemsize}")


@dataclass
class _Writer:
    """Writes graphs, and collects the weights that were left out on the way."""

    inline_bytes: int
    names: Counter[str]
    in_files: bool = False
    spill: Spill | None = None
    anchor: str = ""
    large: int = 0
    floating: bool = True
    weights: dict[str, Weight] = field(default_factory=dict)
    hoisted: list[onnx.TensorProto] = field(default_factory=list)

    def graph(
        self, proto: onnx.GraphProto, graph: ir.Graph, *, main: bool = False, hoist: bool = True
    ) -> None:
        proto.name = graph.name or "graph"
        for value in graph.inputs:
            serde.serialize_value_into(proto.input.add(), value)
        for value in graph.outputs:
            serde.serialize_value_into(proto.output.add(), value)
        outputs = {value.name for value in graph.outputs}
        for name, value in graph.initializers.items():
            if value.const_value is None:
                continue
            # ONNX Runtime drops initializers that nothing reads, and then cannot find them by name.
            free = bool(value.uses()) and (main or (hoist and name not in outputs and self.names[name] == 1))
            stub = self.tensor(name, value.const_value, by_pointer=free)
            (self.hoisted if not main and stub.data_location else proto.initializer).append(stub)
        for node in graph:
            self.node(proto.node.add(), node, hoist=hoist)
            _value_info(proto.value_info, (v for v in node.outputs if v.name not in outputs))

    def function(self, proto: onnx.FunctionProto, function: ir.Function, ir_version: int) -> None:
        proto.domain, proto.name, proto.overload = function.domain, function.name, function.overload
        proto.input.extend(value.name or "" for value in function.inputs)
        proto.output.extend(value.name or "" for value in function.outputs)
        for attribute in function.attributes.values():
            if attribute.value is None:
                proto.attribute.append(attribute.name)
            else:
                serde.serialize_attribute_into(proto.attribute_proto.add(), attribute)
        for domain, version in function.opset_imports.items():
            proto.opset_import.add(domain=domain, version=version)
        for node in function:
            self.node(proto.node.add(), node, hoist=False)
            if ir_version >= 10:  # FunctionProto has had value_info since then
                _value_info(proto.value_info, node.outputs)

    def node(self, proto: onnx.NodeProto, node: ir.Node, *, hoist: bool) -> None:
        proto.op_type, proto.domain, proto.overload = node.op_type, node.domain, node.overload
        proto.name = node.name or ""
        proto.input.extend(value.name or "" if value is not None else "" for value in node.inputs)
        proto.output.extend(value.name or "" for value in node.outputs)
        for attribute in node.attributes.values():
            self.attribute(proto.attribute.add(), attribute, hoist=hoist)

    def attribute(self, proto: onnx.AttributeProto, attribute: ir.Attr, *, hoist: bool) -> None:
        if attribute.is_ref():
            serde.serialize_reference_attribute_into(proto, attribute)
            return
        kinds = ir.AttributeType
        if attribute.type not in (kinds.TENSOR, kinds.TENSORS, kinds.GRAPH, kinds.GRAPHS):
            serde.serialize_attribute_into(proto, attribute)
            return
        proto.name = attribute.name
        proto.type = cast("onnx.AttributeProto.AttributeType", attribute.type.value)
        if attribute.type == kinds.TENSOR:
            proto.t.CopyFrom(self.tensor(attribute.as_tensor().name, attribute.as_tensor()))
        elif attribute.type == kinds.TENSORS:
            proto.tensors.extend(self.tensor(tensor.name, tensor) for tensor in attribute.as_tensors())
        elif attribute.type == kinds.GRAPH:
            self.graph(proto.g, attribute.as_graph(), hoist=hoist)
        else:
            for graph in attribute.as_graphs():
                self.graph(proto.graphs.add(), graph, hoist=hoist)

    def tensor(self, name: str | None, tensor: Tensor, *, by_pointer: bool = False) -> onnx.TensorProto:
        proto = onnx.TensorProto(name=name or "", data_type=tensor.dtype.value, dims=tensor.shape.numpy())
        try:
            bits = element_type(tensor.dtype)
            if by_pointer and bits is not None and tensor.nbytes > self.inline_bytes:
                self._outside(proto, tensor, bits)
            elif tensor.dtype == ir.DataType.STRING:
                proto.string_data.extend(_strings(tensor))
            else:
                proto.raw_data = tensor.tobytes()
        except SpillError:
            raise
        except Exception as error:  # a malformed tensor fails in many ways, asserts of onnx_ir included
            raise ModelError(f"cannot read the tensor {name!r}: {error}") from error
        return proto

    def _outside(self, proto: onnx.TensorProto, tensor: Tensor, bits: np.dtype) -> None:
        """Leaves the bytes of a tensor out."""
        self.large += tensor.nbytes
        self.floating = self.floating and tensor.dtype.is_floating_point()
        proto.data_location = onnx.TensorProto.EXTERNAL
        span = self._filed(tensor)
        if span is None and self.spill is not None and tensor.nbytes >= FILED_BYTES:
            span = self._here(self.spill.put(_weight(tensor, bits).array))
        if span is None:
            self.weights[proto.name] = _weight(tensor, bits)
            proto.external_data.add(key="location", value=STUB_LOCATION)
            return
        entries = {"location": str(span.path), "offset": str(span.offset), "length": str(span.length)}
        for key, value in entries.items():
            proto.external_data.add(key=key, value=value)

    def _filed(self, tensor: Tensor) -> Span | None:
        """Where a large weight lies in a file that the runtime can be told."""
        if not self.in_files or tensor.nbytes < FILED_BYTES:
            return None
        return self._here(_span(tensor))

    def _here(self, span: Span | None) -> Span | None:
        """The same if all files are below one folder, and names are text."""
        if span is None or self.anchor not in ("", span.path.anchor):
            return None
        try:
            str(span.path).encode()
        except UnicodeError:  # bytes of a name that are no UTF-8
            return None
        self.anchor = span.path.anchor
        return span


def _span(tensor: Tensor) -> Span | None:
    return tensor.span if isinstance(tensor, MappedTensor | FiledTensor) else None


def _below_one_folder(tensors: Iterable[onnx.TensorProto]) -> Path | None:
    """Says where weights in files are as seen from the innermost folder that holds them all; that folder."""
    places = [entry for tensor in tensors for entry in tensor.external_data if entry.key == "location"]
    filed = [entry for entry in places if entry.value != STUB_LOCATION]
    if not filed:
        return None
    folder = Path(os.path.commonpath([Path(entry.value).parent for entry in filed]))
    for entry in filed:
        entry.value = str(Path(entry.value).relative_to(folder))
    return folder


def _weight(tensor: Tensor, bits: np.dtype) -> Weight:
    # A view stays a view (mmapped weights are never copied); a strided one has to become dense,
    # since the runtime reads the pointer and ignores strides.
    array = np.asarray(tensor.numpy()).reshape(tensor.shape.numpy())
    return Weight(np.ascontiguousarray(array).view(bits).reshape(array.shape), tensor.dtype)


def _strings(tensor: Tensor) -> Iterator[bytes]:
    for item in tensor.numpy().ravel().tolist():
        yield item if isinstance(item, bytes) else str(item).encode()


def _value_info(
    target: RepeatedCompositeFieldContainer[onnx.ValueInfoProto], values: Iterable[ir.Value]
) -> None:
    for value in values:
        if value.name and value.type is not None:
            serde.serialize_value_into(target.add(), value)


def _value_names(graph: ir.Graph) -> Iterator[str]:
    """Every name that a value has anywhere in the graph, once per value."""
    for scope in every_graph(graph):
        yield from scope.initializers
        yield from (v.name for v in scope.inputs if v.name and v.name not in scope.initializers)
        yield from (value.name for node in scope for value in node.outputs if value.name)


def _add_outputs(proto: onnx.GraphProto, names: Sequence[str]) -> None:
    known = {value.name for value in (*proto.input, *proto.output)}
    known.update(tensor.name for tensor in proto.initializer)
    known.update(name for node in proto.node for name in node.output)
    present = {value.name for value in proto.output}
    for name in dict.fromkeys(names):
        if not name or name not in known:
            raise ArgumentError(f"the graph has no value named {name!r}", did_you_mean(name, known))
        if name not in present:
            proto.output.add().name = name  # the runtime infers the type


def _bytes(proto: onnx.ModelProto) -> bytes:
    size = proto.ByteSize()
    if size > PROTOBUF_LIMIT:
        raise ModelError(f"{size} bytes cannot be passed by pointer; protobuf holds 2 GiB at most")
    try:
        content: bytes = proto.SerializeToString()
    except (ValueError, EncodeError) as error:
        raise ModelError(f"the model cannot be serialised: {error}") from error
    return content
