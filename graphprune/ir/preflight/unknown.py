"""Protobuf fields that onnx.proto3 does not define: legal, so they are accepted, named and left behind."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

_MOST = 1000
"""Messages with unknown fields that are looked at: enough to name them."""


def drop_unknown(model: onnx.ModelProto, data: bytes) -> tuple[str, ...]:
    """Takes unknown fields out of a model, in place.

    Args:
        model: what was parsed from `data`.
        data: parsed again to name them, where there are any.

    Returns:
        Message and number of each kind, such as "NodeProto 100", in order.
    """
    size = model.ByteSize()
    model.DiscardUnknownFields()
    if model.ByteSize() == size:
        return ()
    whole = onnx.ModelProto()
    whole.ParseFromString(data)
    return tuple(sorted(set(_named(whole))))


def _named(root: Message) -> Iterator[str]:
    waiting, found = [root], 0
    while waiting and found < _MOST:
        message = waiting.pop()
        unknown = UnknownFieldSet(message)
        found += bool(len(unknown))
        numbers = (unknown[index].field_number for index in range(len(unknown)))
        yield from (f"{message.DESCRIPTOR.name} {number}" for number in numbers)
        for field, value in message.ListFields():
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                waiting += value if field.is_repeated else [value]
