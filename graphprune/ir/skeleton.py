"""A model without its weights, in a form that onnx's checker and shape inference accept."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import onnx
import onnx_ir as ir

from graphprune.errors import ModelError
from graphprune.ir.domains import canonical
from graphprune.ir.names import quote
from graphprune.ir.nodes import is_literal
from graphprune.ir.preflight.proto import graphs
from graphprune.ir.preflight.structure import Contents, Nodes
from graphprune.ir.preflight.wire import INLINE_BYTES
from graphprune.ir.swap import Tensor, swapped

_MAX_ZEROS = 2**28
_STUB_LOCATION = "weight"


_Item = TypeVar("_Item", contravariant=True)


class _Repeated(Protocol[_Item]):
    def __delitem__(self, index: slice, /) -> None: ...
    def extend(self, elem_seq: Iterable[_Item], /) -> None: ...


@dataclass(frozen=True)
class Skeleton:
    """A model as a proto in which every tensor above a few kB is a stub: dims and dtype, no bytes."""

    proto: onnx.ModelProto
    tensors: list[Tensor]

    def initializers(self) -> Iterator[onnx.TensorProto]:
        """Stubs among the initializers of all graphs."""
        for graph in graphs(self.proto.graph):
            yield from (tensor for tensor in graph.initializer if is_stub(tensor))

    def attributes(self) -> Iterator[onnx.TensorProto]:
        """Stubs among the attributes of all nodes."""
        yield from _attribute_stubs(self.proto)

    def original(self, stub: onnx.TensorProto) -> Tensor:
        """The tensor that a stub stands for."""
        return self.tensors[next(int(e.value) for e in stub.external_data if e.key == "offset")]


def skeleton(model: ir.Model) -> Skeleton:
    """The model without its big weights; it is unchanged afterwards."""
    originals: list[Tensor] = []
    with swapped(model, lambda tensor: _stub(tensor, originals)):
        return Skeleton(ir.to_proto(model), originals)


def is_stub(tensor: onnx.TensorProto) -> bool:
    """Whether the bytes of this tensor are elsewhere."""
    return tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.HasField("segment")


def lift_stubs(model: onnx.ModelProto, every: Sequence[onnx.GraphProto]) -> frozenset[str]:
    """Turn stubs into graph inputs, in place, because the checker wants bytes in tensors; their names.

    Args:
        model: the model.
        every: all graphs of the model, the main one first.

    Raises:
        ModelError: a big weight sits where it cannot become an input (a function, an unusual attribute).
    """
    lifted: dict[str, onnx.TensorProto] = {}
    for depth, graph in enumerate(every):
        _lift(graph, f"weight/{depth}/" if depth else "", lifted)
    present = {value.name for value in model.graph.input}
    for name, tensor in lifted.items():
        if name not in present:
            model.graph.input.append(onnx.helper.make_tensor_value_info(name, tensor.data_type, tensor.dims))
    _fill(_attribute_stubs(model))
    return frozenset(lifted)


def forget_value_info(model: onnx.ModelProto, every: Sequence[onnx.GraphProto]) -> None:
    """Drop declared intermediate shapes that inference can find out by itself: they may be stale."""
    versions = {canonical(entry.domain): entry.version for entry in model.opset_import}
    for graph in every:
        if not graph.value_info:
            continue
        opaque = set(_opaque_outputs(graph.node, versions))
        kept = [info for info in graph.value_info if info.name in opaque]
        del graph.value_info[:]
        graph.value_info.extend(kept)


def forget_unknown_dims(graph: onnx.GraphProto) -> None:
    """Read a declared dimension of -1, which Paddle exports write, as the unknown one that it stands for."""
    for info in (*graph.input, *graph.output, *graph.value_info):
        for dim in info.type.tensor_type.shape.dim:
            if dim.HasField("dim_value") and dim.dim_value == -1:
                dim.ClearField("dim_value")


def _opaque_outputs(nodes: Nodes, versions: dict[str, int]) -> Iterator[str]:
    known: dict[tuple[str, str], bool] = {}
    for node in nodes:
        key = (node.op_type, canonical(node.domain))
        if key not in known:
            known[key] = onnx.defs.has(key[0], versions.get(key[1], 1), key[1])
        if not known[key]:
            yield from node.output


def _attribute_stubs(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for nodes in (model.graph.node, *(function.node for function in model.functions)):
        for node in Contents.of_nodes(nodes).nodes:
            for attribute in node.attribute:
                if attribute.HasField("t") and is_stub(attribute.t):
                    yield attribute.t
                yield from (tensor for tensor in attribute.tensors if is_stub(tensor))


def _stub(tensor: Tensor, originals: list[Tensor]) -> Tensor:
    """A stand-in for a big tensor, with its number in `originals` as the offset."""
    if tensor.dtype == ir.DataType.STRING:
        return tensor
    if tensor.nbytes <= INLINE_BYTES:
        # An external tensor would be written with the location it was read from.
        external = isinstance(tensor, ir.ExternalTensor)
        return ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=tensor.name) if external else tensor
    originals.append(tensor)
    return ir.ExternalTensor(
        _STUB_LOCATION,
        len(originals) - 1,
        tensor.nbytes,
        tensor.dtype,
        shape=ir.Shape(tensor.shape.numpy()),
        name=tensor.name or "",
        doc_string=tensor.doc_string,
        metadata_props=dict(tensor.metadata_props),
    )


def _lift(graph: onnx.GraphProto, prefix: str, lifted: dict[str, onnx.TensorProto]) -> None:
    """Take the stubs of one graph out; those of subgraphs get a name that is unique in the model."""
    stubs = [tensor for tensor in graph.initializer if is_stub(tensor)]
    found = [(node, _stub_constant(node)) for node in graph.node]
    constants = [(node, tensor) for node, tensor in found if tensor is not None]
    for node, tensor in constants:
        stub = onnx.TensorProto()
        stub.CopyFrom(tensor)
        stub.name = node.output[0]
        stubs.append(stub)
    outputs = {value.name for value in graph.output}
    movable = {tensor.name: tensor for tensor in stubs if tensor.name not in outputs}
    _fill(tensor for tensor in graph.initializer if is_stub(tensor) and tensor.name not in movable)
    if prefix:
        _rename_reads(graph.node, {name: prefix + name for name in movable})
    lifted.update((prefix + name, tensor) for name, tensor in movable.items())
    _keep(graph.initializer, [t for t in graph.initializer if t.name not in movable])
    gone = {id(node) for node, _ in constants if node.output[0] in movable}
    if gone:
        _keep(graph.node, [node for node in graph.node if id(node) not in gone])


def _stub_constant(node: onnx.NodeProto) -> onnx.TensorProto | None:
    if not is_literal(node):
        return None
    return next((a.t for a in node.attribute if a.name == "value" and is_stub(a.t)), None)


def _rename_reads(nodes: Nodes, names: dict[str, str]) -> None:
    if not names:
        return
    for node in Contents.of_nodes(nodes).nodes:
        for index, name in enumerate(node.input):
            if name in names:
                node.input[index] = names[name]


def _fill(tensors: Iterable[onnx.TensorProto]) -> None:
    """Zeros in place of the bytes, for the few stubs that have to stay tensors."""
    for tensor in tensors:
        nbytes = math.ceil(ir.DataType(tensor.data_type).itemsize * math.prod(tensor.dims))
        if nbytes > _MAX_ZEROS:
            raise ModelError(
                f"tensor {quote(tensor.name)} of {nbytes} bytes sits in a function or an attribute",
                "make it an initializer of the graph",
            )
        tensor.ClearField("segment")
        tensor.ClearField("data_location")
        tensor.ClearField("external_data")
        tensor.raw_data = bytes(nbytes)


def _keep(field: _Repeated[_Item], kept: list[_Item]) -> None:
    del field[:]
    field.extend(kept)
