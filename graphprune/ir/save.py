"""Save a model: all or nothing, never over an input, one tensor in memory at a time."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import EncodeError

from graphprune.errors import ModelError, OutputError
from graphprune.ir.digested import Digested
from graphprune.ir.element import is_packed
from graphprune.ir.journal import NO_LINKS, sidecar_name
from graphprune.ir.limits import Limits
from graphprune.ir.load import Source, check_file
from graphprune.ir.mapped import MappedTensor
from graphprune.ir.names import quote
from graphprune.ir.preflight.proto import graphs
from graphprune.ir.preflight.wire import varint
from graphprune.ir.publish import Staged, create, identity, publish, refuse_unsafe, temporaries, unwritable
from graphprune.ir.skeleton import Skeleton, is_stub, skeleton
from graphprune.ir.sparse import sparsify
from graphprune.ir.swap import Tensor, tensors

EXTERNAL_THRESHOLD = 256 * 2**20
_PROTOBUF_LIMIT = 2**31 - 1
_EMBEDDED_MAX = _PROTOBUF_LIMIT - 2**24  # leaves room for the graph itself
_PAGE = 4096  # big weights start on a page, so that runtimes can map them
_LINE = 64
_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9  # field numbers in onnx.proto3
_LENGTH_DELIMITED = 2


def save(
    model: ir.Model,
    out: str | os.PathLike[str],
    source: Source | None,
    *,
    overwrite: bool = True,
    external_threshold: int = EXTERNAL_THRESHOLD,
    beside: Sequence[Staged] = (),
    sparse: frozenset[str] = frozenset(),
    verify: Callable[[Path], None] | None = None,
) -> dict[Path, str]:
    """Write a model; the files written, the model first, with the SHA-256 of each.

    Weights go to `<out>.<hash of its content>.data` where the source kept them outside the model or they
    exceed `external_threshold` bytes. Nothing appears under the final names before it was written, flushed
    and read back; the model in memory stays as it is. The files in `beside` get their names together
    with the model. The initializers in `sparse` are written as sparse tensors. `verify` is called with a
    path under which the written model can be run, before it gets its name; what it raises stops that.
    Without `overwrite` nothing that exists by then is replaced.

    Raises:
        OutputError: the output would overwrite an input, cannot be written, or does not read back.
    """
    target = Path(os.path.realpath(out))
    held = list(tensors(model))
    size = sum(tensor.nbytes for tensor in held if tensor.dtype != ir.DataType.STRING)
    external = size > min(external_threshold, _EMBEDDED_MAX) or (source is not None and source.had_external)
    inputs = _inputs(held, source)
    try:
        refuse_unsafe((target, *(final for _, final in beside)), inputs)
        with temporaries((target, target.with_name(f"{target.name}.data"))) as (temporary, data):
            digests = _write(model, temporary, data if external else None, target, sparse)
            written = tuple(zip((temporary, data), digests, strict=False))
            refuse_unsafe((final for _, final in written), inputs)
            _read_back(written)
            if verify is not None:
                _verified(verify, written)
            taken = {found for path in inputs if (found := identity(path)) is not None}
            publish(written[0], (*written[1:], *beside), overwrite=overwrite, inputs=taken)
    except OSError as error:
        raise unwritable(target, error) from None
    return digests


def _inputs(held: Iterable[Tensor], source: Source | None) -> set[Path]:
    """Every file that the model's tensors still read from."""
    paths = {source.path, *source.external_files} if source is not None else set()
    for tensor in held:
        if isinstance(tensor, ir.ExternalTensor | MappedTensor):
            paths.add(Path(tensor.path))
    return {path for path in paths if path is not None}


def _write(
    model: ir.Model, path: Path, data: Path | None, target: Path, sparse: frozenset[str]
) -> dict[Path, str]:
    """Write the model, and big weights into `data` if that is given; the names they must get, and hashes."""
    bare = skeleton(model)
    if sparse:
        sparsify(bare.proto.graph, sparse, bare.original)
    if data is None:
        inner = (graph.initializer for graph in graphs(bare.proto.graph) if graph is not bare.proto.graph)
        _inline(bare, (tensor for group in inner for tensor in group if is_stub(tensor)))
        _inline(bare, bare.attributes())
        with create(path) as file:
            embedded = Digested(file)
            _write_embedded(bare, embedded)
        return {target: embedded.digest}
    with create(data) as file:
        weights = Digested(file)
        places = _write_sidecar(bare, weights)
    sidecar = sidecar_name(target, weights.digest)
    _refer(places, sidecar.name)
    with create(path) as file:
        small = Digested(file)
        small.write(_serialise(bare.proto))
    return {target: small.digest} | ({sidecar: weights.digest} if places else {})


def _write_embedded(bare: Skeleton, file: Digested) -> None:
    """A serialised ModelProto, its main graph's initializers streamed to the end of the graph.

    Protobuf lets the fields of a message come in any order, so the graph is written as everything
    else followed by one length-delimited field per initializer.
    """
    graph = bare.proto.graph
    initializers = list(graph.initializer)
    del graph.initializer[:]
    body = _serialise(graph)
    bare.proto.ClearField("graph")
    heads = [_head(bare, tensor) for tensor in initializers]
    length = len(body) + sum(len(head) + nbytes for head, nbytes in heads)
    if length > _PROTOBUF_LIMIT:
        raise OutputError(f"{length} bytes do not fit one ONNX file", "keep the weights in an external file")
    file.write(_serialise(bare.proto) + _tag(_GRAPH, length) + body)
    for tensor, (head, nbytes) in zip(initializers, heads, strict=True):
        file.write(head)
        if nbytes:
            _write_bytes(bare.original(tensor), file)


def _head(bare: Skeleton, tensor: onnx.TensorProto) -> tuple[bytes, int]:
    """Everything of an initializer field before its payload, and the payload's size."""
    nbytes = bare.original(tensor).nbytes if is_stub(tensor) else 0
    message = onnx.TensorProto()
    message.CopyFrom(tensor)
    if nbytes:
        message.ClearField("data_location")
        del message.external_data[:]
    fields = _serialise(message) + (_tag(_RAW_DATA, nbytes) if nbytes else b"")
    return _tag(_INITIALIZER, len(fields) + nbytes) + fields, nbytes


def _write_sidecar(bare: Skeleton, file: Digested) -> list[tuple[onnx.TensorProto, int, int]]:
    """Every big initializer once; which stubs stand for it, its offset and length."""
    offsets: dict[int, int] = {}
    places = []
    _inline(bare, bare.attributes())
    for stub in bare.initializers():
        tensor = bare.original(stub)
        if id(tensor) not in offsets:
            alignment = _PAGE if tensor.nbytes >= _PAGE * 16 else _LINE
            file.write(bytes(-file.size % alignment))
            offsets[id(tensor)] = file.size
            _write_bytes(tensor, file)
        places.append((stub, offsets[id(tensor)], tensor.nbytes))
    return places


def _refer(places: Iterable[tuple[onnx.TensorProto, int, int]], location: str) -> None:
    for stub, offset, length in places:
        del stub.external_data[:]
        for key, value in {"location": location, "offset": offset, "length": length}.items():
            stub.external_data.add(key=key, value=str(value))


def _inline(bare: Skeleton, stubs: Iterable[onnx.TensorProto]) -> None:
    for stub in list(stubs):
        data = bare.original(stub).tobytes()
        stub.ClearField("data_location")
        del stub.external_data[:]
        stub.raw_data = data


def _write_bytes(tensor: Tensor, file: Digested) -> None:
    start = file.size
    if isinstance(tensor, MappedTensor | ir.ExternalTensor):
        tensor.tofile(file)  # in parts, or as it lies in memory
    elif not is_packed(tensor.dtype):
        array = np.ascontiguousarray(tensor.numpy())
        file.write(array.reshape(-1).view(np.uint8).data)  # the elements themselves, not a copy as bytes
    else:
        file.write(tensor.tobytes())
    if file.size - start != tensor.nbytes:
        raise OutputError(f"tensor {quote(tensor.name or '')} has other bytes than its shape needs")


def _tag(number: int, length: int) -> bytes:
    return varint(number << 3 | _LENGTH_DELIMITED) + varint(length)


def _serialise(message: onnx.ModelProto | onnx.GraphProto | onnx.TensorProto) -> bytes:
    try:
        data: bytes = message.SerializeToString(deterministic=True)
        return data
    except (EncodeError, ValueError):
        raise OutputError("the model does not fit one ONNX file", "make its Constants initializers") from None


def _read_back(written: Sequence[tuple[Path, Path]]) -> None:
    """What was written is what `load` accepts."""
    aliases = {final.name: path for path, final in written[1:]}
    try:
        check_file(written[0][0], Limits(max_bytes=2**63), aliases)
    except ModelError as error:
        problem = f"the written model does not read back: {error.message}"
        raise OutputError(problem, "please report this") from None


def _verified(verify: Callable[[Path], None], written: Sequence[tuple[Path, Path]]) -> None:
    """Look at the written files under their own names, in a folder beside, as one refers to the other."""
    model = written[0][1]
    with TemporaryDirectory(prefix=f"{model.name}.tmp.", dir=model.parent) as folder:
        for path, final in written:
            _duplicate(path, Path(folder) / final.name)
        verify(Path(folder) / model.name)


def _duplicate(path: Path, other: Path) -> None:
    try:
        os.link(path, other)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        shutil.copyfile(path, other)
