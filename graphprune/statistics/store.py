"""Statistics in a file: safetensors with one float64 tensor per number, read through a memory map.

The name of a tensor is the JSON list [key, kind, name, field]; the key says of which model and data.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from math import prod
from pathlib import Path

import numpy as np

from graphprune.errors import DataError
from graphprune.ir.arrays import Doubles
from graphprune.ir.names import quote
from graphprune.ir.paths import exists
from graphprune.ir.publish import create, publish, temporaries, unwritable
from graphprune.statistics.measures import Angle, Gram, Measure, Rank, Rows, Statistics, Vector

KINDS: dict[str, type[Measure]] = {"vectors": Vector, "grams": Gram, "ranks": Rank, "angles": Angle}
FORMAT = "graphprune statistics 2"
_HEADER_LIMIT = 2**27

Sections = dict[str, Statistics]


def load(path: Path) -> Sections:
    """Statistics by key; none if there is no such file. Arrays stay in the file until they are read.

    Raises:
        DataError: the file is no file of statistics.
    """
    if not exists(path):
        return {}
    try:
        return _parse(path)
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        message = f"{quote(str(path))} is no file of statistics"
        raise DataError(message, "name a new file, or one that --statistics wrote") from error


def save(path: Path, sections: Sections) -> None:
    """Write statistics; a file of that name is replaced in whole.

    Raises:
        OutputError: it cannot be written.
    """
    header: dict[str, object] = {"__metadata__": {"format": FORMAT, "shared": json.dumps(_shared(sections))}}
    at = 0
    for name, array in _tensors(sections):
        header[name] = {"dtype": "F64", "shape": array.shape, "data_offsets": (at, at + array.nbytes)}
        at += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    try:
        with temporaries([path]) as (temporary,):
            with create(temporary) as file:
                file.write(len(text).to_bytes(8, "little") + text)
                for _, array in _tensors(sections):
                    file.write(np.ascontiguousarray(array).data)
            publish((temporary, path), overwrite=True)
    except OSError as error:
        raise unwritable(path, error) from None


def _tensors(sections: Sections) -> Iterator[tuple[str, Doubles]]:
    for key, statistics in sorted(sections.items()):
        for kind in KINDS:
            measures: Mapping[str | tuple[str, str], Measure] = getattr(statistics, kind)
            for name in sorted(measures, key=str):
                for item in fields(measures[name]):
                    entry = json.dumps([key, kind, name, item.name])
                    yield entry, np.asarray(getattr(measures[name], item.name), np.float64)


def _shared(sections: Sections) -> dict[str, dict[str, str]]:
    return {key: dict(sorted(statistics.shared.items())) for key, statistics in sorted(sections.items())}


def _parse(path: Path) -> Sections:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _HEADER_LIMIT:
            raise ValueError("the header is too long")
        header = json.loads(file.read(length))
    about = header.pop("__metadata__")
    if about["format"] != FORMAT:
        raise ValueError("another format")
    content: Doubles = np.empty(0)
    if path.stat().st_size > 8 + length:
        content = np.memmap(path, np.float64, "r", offset=8 + length)
    found: dict[str, dict[str, dict[str | tuple[str, str], dict[str, Doubles]]]] = {}
    for entry, place in header.items():
        key, kind, name, field = json.loads(entry)
        name = tuple(name) if isinstance(name, list) else str(name)
        section = found.setdefault(key, {kind: {} for kind in KINDS})
        section[kind].setdefault(name, {})[field] = _view(content, place)
    shared = json.loads(about["shared"])
    return {
        key: Statistics(
            shared=shared[key],
            **{kind: {n: _measure(KINDS[kind], v) for n, v in section[kind].items()} for kind in KINDS},  # type: ignore[arg-type]
        )
        for key, section in found.items()
    }


def _view(content: Doubles, place: Mapping[str, list[int]]) -> Doubles:
    start, end = (offset // 8 for offset in place["data_offsets"])
    shape = place["shape"]
    if not 0 <= start <= end <= len(content) or end - start != prod(shape):
        raise ValueError("a tensor lies outside the file")
    return np.asarray(content[start:end]).reshape(shape)


def _measure(kind: type[Measure], values: Mapping[str, Doubles]) -> Measure:
    scalars = {name: float(array) if array.ndim == 0 else array for name, array in values.items()}
    if "rows" in scalars:
        rows = np.asarray(scalars["rows"])
        short = rows.astype(np.float32)
        return Rows(short if np.array_equal(short, rows) else rows)  # as they were measured
    return kind(**scalars)  # type: ignore[arg-type]
