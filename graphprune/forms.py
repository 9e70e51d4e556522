"""What Python may give as a model and as samples, and how the pipeline gets it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from textwrap import shorten
from typing import TYPE_CHECKING, Protocol, TypeAlias, Union

if TYPE_CHECKING:
    import numpy.typing
    import onnx
    import onnx_graphsurgeon
    import onnx_ir

    from graphprune.pipeline.samples import Given


class Exported(Protocol):
    """A value that holds an `onnx_ir.Model`: a Result of graphprune, an ONNXProgram of torch."""

    @property
    def model(self) -> onnx_ir.Model:
        """The model."""
        ...


PathLike: TypeAlias = Union[str, "os.PathLike[str]"]
ModelLike: TypeAlias = Union[
    PathLike,
    bytes,
    bytearray,
    memoryview,
    "onnx.ModelProto",
    "onnx_ir.Model",
    "onnx_graphsurgeon.Graph",
    Exported,
]
Sample: TypeAlias = "numpy.typing.ArrayLike | Mapping[str, numpy.typing.ArrayLike]"
Data: TypeAlias = "PathLike | Sample | Iterable[Sample | Sequence[numpy.typing.ArrayLike]] | None"
"""Samples: a file or folder, an array, arrays by input name, or several such sets one after the other."""


def as_model(called: str, given: object) -> object:
    """A model as `load` takes it; the error of one that is none names the argument."""
    from graphprune.ir.interop import plain

    return plain(given, called)


def name_of(model: object) -> str:
    """How messages and reports call a model: its path, how a result came about, or what it is."""
    if isinstance(model, str | os.PathLike):
        return os.fsdecode(model)
    report = getattr(model, "report", None)
    made = getattr(report, "output", "") or getattr(report, "pipeline", "")
    return shorten(made, 60, placeholder=" ...") if made else type(model).__name__


def as_samples(called: str, data: object) -> Given:
    """Samples as the pipeline reads them; the error of what is none names the argument."""
    if data is None:
        return None
    from graphprune.runtime.stream import gather

    return gather(data, called)
