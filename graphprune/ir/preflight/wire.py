"""Read the protobuf wire format of a model file without its weights.

One bounded pass over the bytes cuts every big `raw_data` out, so that what protobuf has to parse is
small and the weights stay in the file. Malformed bytes, deep nesting and too many nodes end here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from graphprune.errors import ModelError
from graphprune.ir.limits import Limits

# Messages up to this size are copied whole: shapes, axes and scalars stay readable in the proto.
INLINE_BYTES = 4096
Span = tuple[int, int]
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# message -> field number -> message inside it that may hold weights. onnx.proto3 is the source.
_INSIDE: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 25: "FunctionProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto"},
    "FunctionProto": {7: "NodeProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {5: "TensorProto", 6: "GraphProto", 10: "TensorProto", 11: "GraphProto"},
    "TensorProto": {},
}
_SEGMENT, _RAW_DATA = 3, 9


@dataclass
class Stripped:
    """A serialised ModelProto whose big tensors hold a `segment` (begin, end in the file), not bytes."""

    proto: bytes
    payloads: set[Span]


def strip(data: memoryview, limits: Limits) -> Stripped:
    """Cut the big payloads out of a serialised model.

    Raises:
        ModelError: the bytes are not a protobuf message, or nest too deeply, or have too many nodes.
    """
    walk = _Walk(data, limits)
    chunks = walk.message("ModelProto", 0, len(data), 0)
    size = sum(map(len, chunks))
    if size > limits.max_proto_bytes:
        raise ModelError(
            f"the model holds {size} bytes besides its weights, more than {limits.max_proto_bytes}",
            "raise the limit if the file is trusted",
        )
    return Stripped(b"".join(chunks), walk.payloads)


def varint(value: int) -> bytes:
    """An unsigned integer as protobuf writes it."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _malformed(reason: str) -> ModelError:
    return ModelError(f"not an ONNX model: {reason}", "the file may be truncated or of another format")


@dataclass
class _Walk:
    data: memoryview
    limits: Limits
    payloads: set[Span] = field(default_factory=set)
    nodes: int = 0

    def message(self, kind: str, start: int, end: int, depth: int) -> list[bytes | memoryview]:
        """The message between two offsets as a list of chunks, payloads cut out."""
        inside = _INSIDE[kind]
        handle = self._entry(kind)
        chunks: list[bytes | memoryview] = []
        copied, position, graphs = start, start, 0
        while position < end:
            tag, body = self._varint(position, end)
            number, wire = tag >> 3, tag & 7
            if number == 0:
                raise _malformed("a field has number 0")
            first, after = self._extent(wire, body, end)
            handle(number)
            graphs += kind == "ModelProto" and number == 7
            if wire == _BYTES and after - first > INLINE_BYTES:
                cut = self._cut(kind, inside.get(number), number, first, after, depth)
                if cut is not None:
                    chunks += [self.data[copied:position], *cut]
                    copied = after
            position = after
        if graphs > 1:
            raise _malformed("it has two graphs")
        chunks.append(self.data[copied:end])
        return chunks

    def _entry(self, kind: str) -> Callable[[int], None]:
        """What to check of each field number of a message."""
        if kind == "GraphProto":
            return self._count_node
        return _refuse_segment if kind == "TensorProto" else _accept

    def _count_node(self, number: int) -> None:
        self.nodes += number == 1
        if self.nodes > self.limits.max_nodes:
            raise ModelError(f"the model has more than {self.limits.max_nodes} nodes")

    def _cut(
        self, kind: str, inner: str | None, number: int, first: int, after: int, depth: int
    ) -> list[bytes | memoryview] | None:
        """The field's replacement, or None where it is copied as it is."""
        if kind == "TensorProto" and number == _RAW_DATA:
            return [self._payload(first, after)]
        if inner is None:
            return None
        deeper = depth + (inner == "GraphProto")
        if deeper > self.limits.max_depth:
            raise ModelError(f"subgraphs are nested more than {self.limits.max_depth} deep")
        chunks = self.message(inner, first, after, deeper)
        head = varint(number << 3 | _BYTES) + varint(sum(map(len, chunks)))
        return [head, *chunks]

    def _payload(self, first: int, after: int) -> bytes:
        """A `segment` field that says where the bytes are."""
        if (first, after) in self.payloads:
            raise _malformed("two tensors share one payload")
        self.payloads.add((first, after))
        body = b"\x08" + varint(first) + b"\x10" + varint(after)
        return varint(_SEGMENT << 3 | _BYTES) + varint(len(body)) + body

    def _extent(self, wire: int, body: int, end: int) -> Span:
        """Where the value of a field starts and ends."""
        if wire == _BYTES:
            size, first = self._varint(body, end)
            after = first + size
        elif wire == _VARINT:
            first, after = body, self._varint(body, end)[1]
        elif wire in (_FIXED64, _FIXED32):
            first, after = body, body + (8 if wire == _FIXED64 else 4)
        else:
            raise _malformed(f"wire type {wire}")
        if after > end:
            raise _malformed("a field reaches past the end")
        return first, after

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while position < end and shift < 70:
            byte = self.data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, position
            shift += 7
        raise _malformed("a number does not end")


def _accept(_: int) -> None:
    """Any field may appear."""


def _refuse_segment(number: int) -> None:
    if number == _SEGMENT:
        raise ModelError("a tensor is stored in segments, which no runtime supports")
