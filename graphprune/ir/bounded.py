"""Bounds on calls into libraries that allocate as much as a model tells them to."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import onnx.shape_inference

from graphprune.errors import ModelError

_STATM = Path("/proc/self/statm")
_EXTRA = 256 * 2**20
_PER_PROTO_BYTE = 16


def infer_shapes(model: bytes) -> onnx.ModelProto:
    """Strict shape inference with data propagation on a serialised model, in bounded memory.

    onnx propagates integer constants by writing them out: `Range(0, 2**40, 1)` alone asks for 20 GB.

    Raises:
        ModelError: the memory bound was hit.
        onnx.shape_inference.InferenceError: an operator's inputs do not fit.
    """
    try:
        with memory_cap(_EXTRA + _PER_PROTO_BYTE * len(model)):
            return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except MemoryError:
        raise ModelError("the graph computes a constant that is too big to write out") from None


@contextmanager
def memory_cap(extra: int) -> Iterator[None]:
    """Let the process map at most `extra` bytes more than now; allocations beyond raise MemoryError.

    Does nothing where the system does not say how much is mapped (it is Linux's /proc that does).
    """
    if not _STATM.exists():
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = int(_STATM.read_text().split()[0]) * resource.getpagesize() + extra
    bounds = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(wanted, *bounds, wanted), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
