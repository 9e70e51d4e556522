"""Load a model from a file or from memory: checked, weights left where they are."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError
from onnx_ir import serde

from graphprune.errors import ModelError
from graphprune.ir.check import Shapes, check, check_semantics, one_line
from graphprune.ir.check_view import Dims
from graphprune.ir.element import is_packed
from graphprune.ir.interop import plain
from graphprune.ir.lift import lift_constants
from graphprune.ir.limits import DEFAULT_LIMITS, Limits
from graphprune.ir.mapped import FiledTensor, MappedTensor
from graphprune.ir.preflight.domains import one_spelling, two_spellings
from graphprune.ir.preflight.external import WeightFiles
from graphprune.ir.preflight.files import map_model, refuse_other_formats
from graphprune.ir.preflight.flow import Flow
from graphprune.ir.preflight.foreign import explained
from graphprune.ir.preflight.proto import check_proto, graphs
from graphprune.ir.preflight.sparse import densify
from graphprune.ir.preflight.tensors import Located, TensorCheck
from graphprune.ir.preflight.unknown import drop_unknown
from graphprune.ir.preflight.wire import INLINE_BYTES, strip
from graphprune.ir.skeleton import forget_unknown_dims
from graphprune.ir.swap import Tensor, swap

_PAYLOAD = "payload"
Placer = Callable[[ir.ExternalTensor], Tensor]


@dataclass
class Source:
    """A loaded model and where it came from.

    Args:
        model: the model; embedded weights of a file are MappedTensor, external ones ExternalTensor.
        path: the model file, None for a model from memory.
        external_files: the files that hold external weights.
        had_external: whether any weight was external.
        opset: version of the default operator set, 0 where the model does not import it.
        bytes: size of the model file and its external files.
        unknown: protobuf fields that onnx does not define, as message and number.
        data: the map of the model file that weights are read from; None where none are.
    """

    model: ir.Model
    path: Path | None
    external_files: tuple[Path, ...]
    had_external: bool
    opset: int
    bytes: int
    unknown: tuple[str, ...] = ()
    data: mmap.mmap | None = field(default=None, repr=False, compare=False)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What there is to say about the file."""
        if not self.unknown:
            return ()
        return (f"protobuf fields that onnx does not define are not written: {', '.join(self.unknown[:8])}",)


def load(source: object, limits: Limits = DEFAULT_LIMITS, *, lift: bool = False) -> Source:
    """Load and verify a model.

    Args:
        source: a path, or a model in memory, as `interop` says.
        limits: bounds.
        lift: read Constants of a file as the initializers that its normal form makes of them.

    Raises:
        ModelError: the model is malformed, unsafe, or beyond a limit.
    """
    given = plain(source)
    if isinstance(given, ir.Model):
        return _from_ir(given, limits)
    if isinstance(given, onnx.ModelProto):
        return _from_proto(given, limits)
    if isinstance(given, bytes | bytearray | memoryview):
        return _from_bytes(given, limits, lift)
    return _from_file(Path(given), limits, lift)


def check_file(path: Path, limits: Limits, aliases: Mapping[str, Path]) -> None:
    """Check a file as `load` does, up to where operator knowledge begins.

    Args:
        path: the model file.
        limits: bounds.
        aliases: location of weights -> the file that holds them until it gets its final name.

    Raises:
        ModelError: as for `load`.
    """
    files = WeightFiles(path.absolute().parent, limits, dict(aliases))
    _read(map_model(path, limits), path, files, limits)


@dataclass(frozen=True)
class _File:
    data: mmap.mmap
    path: Path
    proto: onnx.ModelProto
    tensors: TensorCheck
    flow: Flow
    unknown: tuple[str, ...]


def _read(data: mmap.mmap, path: Path, files: WeightFiles, limits: Limits) -> _File:
    stripped = strip(memoryview(data), limits)
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(stripped.proto)
    except DecodeError:
        raise ModelError("not an ONNX model: protobuf cannot parse it", "the file may be truncated") from None
    tensors = TensorCheck(files, stripped.payloads)
    unknown = drop_unknown(proto, stripped.proto)
    flow = check_proto(proto, tensors, limits)
    if b"ai.onnx" in stripped.proto:
        one_spelling(proto)
    return _File(data, path, proto, tensors, flow, unknown)


def _from_file(path: Path, limits: Limits, lift: bool) -> Source:
    try:
        files = WeightFiles(path.absolute().parent, limits, {})
        file = _read(map_model(path, limits), path, files, limits)
    except ModelError as error:
        raise explained(error, path) from None
    sizes = file.tensors.files.sizes
    _inline_small(file.tensors)
    model = _convert(file, limits, lift)
    external = tuple(sorted(sizes))
    size = len(file.data) + sum(sizes.values())
    data = file.data if file.tensors.cut else None
    return Source(model, path, external, bool(external), _opset(model), size, file.unknown, data)


def _from_bytes(given: bytes | bytearray | memoryview, limits: Limits, lift: bool) -> Source:
    """As a file of these bytes, with no folder that weights could lie in."""
    path, size = Path("the given bytes"), memoryview(given).nbytes
    if not size:
        raise ModelError("the given bytes are none")
    if size > limits.max_bytes:
        raise ModelError(f"the given bytes are {size}, more than {limits.max_bytes}")
    data = mmap.mmap(-1, size)
    data.write(given)
    refuse_other_formats(data[:64], path)
    file = _read(data, path, WeightFiles(None, limits), limits)
    model = _convert(file, limits, lift)
    return Source(model, None, (), False, _opset(model), size, file.unknown)


def _from_proto(proto: onnx.ModelProto, limits: Limits) -> Source:
    spelled = two_spellings(proto)
    if spelled or any(graph.sparse_initializer for graph in graphs(proto.graph)):
        private = onnx.ModelProto()
        private.CopyFrom(proto)
        proto = private
    tensors = TensorCheck(WeightFiles(None, limits))
    flow = check_proto(proto, tensors, limits)
    if spelled:
        one_spelling(proto)
    for graph in graphs(proto.graph):
        densify(graph)
    model = _deserialise(proto)
    if not flow.sorted:
        _sort(model)
    check(model, limits)
    return Source(model, None, (), False, _opset(model), proto.ByteSize())


def _from_ir(model: ir.Model, limits: Limits) -> Source:
    check(model, limits)
    return Source(model, None, (), False, _opset(model), 0)


def _convert(file: _File, limits: Limits, lift: bool) -> ir.Model:
    """From a checked proto to the IR, with every weight that was cut out or external put in place."""
    for graph in graphs(file.proto.graph):
        densify(graph)
        forget_unknown_dims(graph)
    placers = _mark(file.tensors, file.data, file.path)
    if lift:
        lift_constants(file.proto)
    shapes: Shapes = {}
    if file.flow.sorted:
        private = onnx.ModelProto()
        private.CopyFrom(file.proto)
        shapes = check_semantics(private, limits)
    model = _deserialise(file.proto)
    swap(model, lambda tensor: _place(tensor, placers))
    if not file.flow.sorted:
        _sort(model)
        check(model, limits)
    _forget_stale(model, shapes)
    return model


def _inline_small(tensors: TensorCheck) -> None:
    """Bring small external tensors into the proto: they are shapes and axes that checks want to see."""
    big = []
    maps: dict[Path, memoryview] = {}
    for proto, at in tensors.external:
        if at.nbytes > INLINE_BYTES:
            big.append((proto, at))
            continue
        if at.nbytes and at.path not in maps:
            maps[at.path] = memoryview(map_model(at.path, tensors.files.limits))
        proto.ClearField("data_location")
        del proto.external_data[:]
        proto.raw_data = bytes(maps[at.path][at.offset : at.offset + at.nbytes]) if at.nbytes else b""
    tensors.external = big


def _mark(tensors: TensorCheck, data: mmap.mmap, path: Path) -> list[Placer]:
    """Give every weight outside the proto a running number as its offset; how to make each tensor."""
    placers: list[Placer] = []
    for proto, (start, end) in tensors.cut:
        placers.append(_mapped(data, (start, end), path))
        _number(proto, len(placers) - 1)
    maps: dict[Path, mmap.mmap] = {}
    for proto, at in tensors.external:
        if tensors.files.limits.allow_external_links:
            # onnx_ir refuses links when it opens a file; this one was allowed and is opened here.
            file = maps.get(at.path) or map_model(at.path, tensors.files.limits)
            maps[at.path] = file
            placers.append(_mapped(file, (at.offset, at.offset + at.nbytes), at.path))
        else:
            placers.append(_external(at, cast(Path, tensors.files.base)))
        _number(proto, len(placers) - 1)
    return placers


def _number(proto: onnx.TensorProto, index: int) -> None:
    proto.ClearField("segment")
    del proto.external_data[:]
    proto.data_location = onnx.TensorProto.EXTERNAL
    proto.external_data.add(key="location", value=_PAYLOAD)
    proto.external_data.add(key="offset", value=str(index))


def _place(tensor: Tensor, placers: list[Placer]) -> Tensor:
    if not isinstance(tensor, ir.ExternalTensor):
        return _read_once(tensor)
    return placers[tensor.offset or 0](tensor)


def _read_once(tensor: Tensor) -> Tensor:
    """A small tensor that need not ask its proto for shape, type and elements whenever somebody asks it."""
    if not (isinstance(tensor, serde.TensorProtoTensor) and tensor.raw.HasField("raw_data")):
        return tensor
    dtype = tensor.dtype
    if is_packed(dtype) or len(tensor.raw.raw_data) > INLINE_BYTES:
        return tensor
    made = ir.Tensor(tensor.numpy(), dtype, name=tensor.name, doc_string=tensor.doc_string)
    if tensor.raw.metadata_props:
        made.metadata_props.update(tensor.metadata_props)
    return made


def _mapped(data: mmap.mmap, span: tuple[int, int], path: Path) -> Placer:
    def place(stub: ir.ExternalTensor) -> Tensor:
        tensor = MappedTensor(data, span, stub.dtype, ir.Shape(stub.shape.numpy()), stub.name, path)
        tensor.doc_string = stub.doc_string
        tensor.metadata_props.update(stub.metadata_props)
        return tensor

    return place


def _external(at: Located, base: Path) -> Placer:
    def place(stub: ir.ExternalTensor) -> Tensor:
        shape = ir.Shape(stub.shape.numpy())
        tensor = FiledTensor(at.path, base, (at.offset, at.nbytes), stub.dtype, shape, stub.name)
        tensor.doc_string = stub.doc_string
        tensor.metadata_props.update(stub.metadata_props)
        return tensor

    return place


def _deserialise(proto: onnx.ModelProto) -> ir.Model:
    try:
        return ir.from_proto(proto)
    except (serde.SerdeError, ValueError, TypeError, NotImplementedError) as error:
        raise ModelError(f"invalid model: {one_line(str(error))}") from None


def _sort(model: ir.Model) -> None:
    for graph in (model.graph, *(function.graph for function in model.functions.values())):
        graph.sort()


def _forget_stale(model: ir.Model, shapes: Shapes) -> None:
    """Drop declared shapes of intermediate values that inference found to be wrong."""
    for node in model.graph:
        for value in node.outputs:
            inferred = shapes.get(value.name or "")
            if inferred is None or value.shape is None:
                continue
            declared = tuple(dim if isinstance(dim, int) else None for dim in value.shape)
            if not _agree(declared, inferred):
                value.shape = None


def _agree(a: Dims, b: Dims) -> bool:
    return len(a) == len(b) and all(None in pair or pair[0] == pair[1] for pair in zip(a, b, strict=True))


def _opset(model: ir.Model) -> int:
    return model.opset_imports.get("", 0)
