"""The first thing in which two files differ, in words."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper


def difference(kind: str, one: bytes | None, two: bytes | None) -> str:
    """What differs first; empty where the bytes are equal."""
    if one == two:
        return ""
    if one is None or two is None:
        return f"only {'the second' if one is None else 'the first'} has it"
    if kind.endswith(".onnx"):
        return next(_models(onnx.load_from_string(one), onnx.load_from_string(two)), _bytes(one, two))
    if kind.endswith((".json", "report")):
        return next(_values("", json.loads(one), json.loads(two)), _bytes(one, two))
    if kind.endswith(".safetensors"):
        return next(_tensors(one, two), _bytes(one, two))
    if kind == "error":
        return f"{one.decode().strip()} -> {two.decode().strip()}"
    return _bytes(one, two)


def _bytes(one: bytes, two: bytes) -> str:
    at = next(
        (at for at, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two))
    )
    return f"bytes differ from {at} on ({len(one)} and {len(two)} bytes)"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _values(at: str, one: Any, two: Any) -> Iterator[str]:
    """Differences of JSON values, by their path."""
    if isinstance(one, dict) and isinstance(two, dict):
        for key in dict.fromkeys([*one, *two]):
            path = f"{at}.{key}" if at else key
            if key in one and key in two:
                yield from _values(path, one[key], two[key])
            else:
                yield f"{path} is only in the {'first' if key in one else 'second'}"
    elif isinstance(one, list) and isinstance(two, list):
        for number, (a, b) in enumerate(zip(one, two, strict=False)):
            yield from _values(f"{at}[{number}]", a, b)
        if len(one) != len(two):
            yield f"{at} has {len(one)} and {len(two)} entries"
    elif one != two or type(one) is not type(two):
        yield f"{at}: {_short(one)} -> {_short(two)}"


def _models(one: onnx.ModelProto, two: onnx.ModelProto) -> Iterator[str]:
    """Differences of models: nodes, then weights, then whatever else they say of themselves."""
    yield from _sequence("node", one.graph.node, two.graph.node, _node)
    yield from _sequence("initializer", one.graph.initializer, two.graph.initializer, _tensor)
    for part in ("input", "output", "value_info", "sparse_initializer"):
        yield from _sequence(part, getattr(one.graph, part), getattr(two.graph, part), _message)
    for model in (one, two):
        model.ClearField("graph")
    if one != two:
        yield _message(one, two)


def _sequence(what: str, one: Sequence[Any], two: Sequence[Any], compare: Any) -> Iterator[str]:
    for number, (a, b) in enumerate(zip(one, two, strict=False)):
        if a != b:
            name = getattr(a, "name", "") or str(number)
            yield f"{what} {number} '{_short(name)}': {compare(a, b)}"
            return
    if len(one) != len(two):
        yield f"{len(one)} and {len(two)} {what}s"


def _node(one: onnx.NodeProto, two: onnx.NodeProto) -> str:
    if one.op_type != two.op_type:
        return f"{one.op_type} -> {two.op_type}"
    for part in ("input", "output"):
        if getattr(one, part) != getattr(two, part):
            return f"{part}s {_short(list(getattr(one, part)))} -> {_short(list(getattr(two, part)))}"
    mine, others = ({a.name: a for a in node.attribute} for node in (one, two))
    for name in sorted({*mine, *others}):
        if mine.get(name) != others.get(name):
            return f"attribute {name}"
    return _message(one, two)


def _tensor(one: onnx.TensorProto, two: onnx.TensorProto) -> str:
    if (one.name, one.data_type, list(one.dims)) != (two.name, two.data_type, list(two.dims)):
        return f"{one.name} {list(one.dims)} -> {two.name} {list(two.dims)}"
    return _arrays(numpy_helper.to_array(one), numpy_helper.to_array(two))


def _arrays(one: np.ndarray, two: np.ndarray) -> str:
    if one.shape != two.shape or one.dtype != two.dtype:
        return f"{one.dtype} {list(one.shape)} -> {two.dtype} {list(two.shape)}"
    wrong = np.flatnonzero(np.atleast_1d(one != two).ravel())
    if not wrong.size or one.dtype.kind not in "fiu":
        return f"{wrong.size} of {one.size} elements"
    gap = np.abs(one.astype(np.float64) - two.astype(np.float64)).max()
    return f"{wrong.size} of {one.size} elements, the first at {wrong[0]}, by at most {gap:.3g}"


def _message(one: Any, two: Any) -> str:
    for mine, other in zip(str(one).splitlines(), str(two).splitlines(), strict=False):
        if mine != other:
            return f"{_short(mine.strip())} -> {_short(other.strip())}"
    return "one says more than the other"


def _tensors(one: bytes, two: bytes) -> Iterator[str]:
    """Differences of safetensors files."""
    (first, a), (second, b) = _opened(one), _opened(two)
    yield from _values("", first, second)
    for name, entry in first.items():
        if name != "__metadata__":
            start, end = entry["data_offsets"]
            if a[start:end] != b[start:end]:
                yield f"tensor '{_short(name)}': {_bytes(a[start:end], b[start:end])}"


def _opened(data: bytes) -> tuple[dict[str, Any], bytes]:
    (size,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + size]), data[8 + size :]
