"""What a mask buys, measured: zeros, archive size, and which nodes could run 2:4."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Array
from graphprune.ops import has
from graphprune.ops.traits import Trait
from graphprune.pipeline.report import SparseNode, TensorZeros, ZerosReport
from graphprune.prune.masks.layers import no_sites
from graphprune.statistics.sites import Site, find_products

CODEC = "zlib level 1"
LATENCY = "ONNX Runtime has no sparse kernels: zeros gain no latency and no memory"
_SAMPLE = 32 * 2**20
_CHUNK = 2**17
_PROBE = 4096
_TYPES = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})
_OTHER = (Trait.SPREAD, Trait.RECURRENT, Trait.CODES)


def count(model: ir.Model, masked: Sequence[str]) -> ZerosReport:
    """The report on a model in which these initializers were masked (those that are still there)."""
    values = [found for name in masked if (found := model.graph.initializers.get(name)) is not None]
    total = sum(_nbytes(value) for value in values)
    share = min(1.0, _SAMPLE / max(1, total))
    tensors, seen, packed = [], 0, 0
    for value in values:
        array = _array(value)
        tensors.append(TensorZeros(value.name or "", array.size, array.size - int(np.count_nonzero(array))))
        for chunk in _chunks(array, share):
            seen += len(chunk)
            packed += len(zlib.compress(chunk, 1))
    return ZerosReport(
        masked=sum(tensor.size for tensor in tensors),
        zeros=sum(tensor.zeros for tensor in tensors),
        bytes=total,
        compressed=round(packed * total / max(1, seen)),
        codec=CODEC,
        sampled=seen / max(1, total),
        latency=LATENCY,
        tensors=tuple(tensors),
        sparse_nodes=tuple(sparse_nodes(model)),
    )


def sparse_nodes(model: ir.Model) -> Iterator[SparseNode]:
    """Every node with a constant weight, and whether TensorRT could run it with 2:4 kernels.

    TensorRT takes Conv, Gemm and MatMul whose weights have at most two values in every four along the input
    channels, the number of which is a multiple of four (as polygraphy's sparsity tool checks).
    """
    sites = find_products(model)
    for site in sites:
        why = _why_not(site)
        yield SparseNode(site.node.name or site.output.name or "", site.weight.name or "", not why, why)
    for left in no_sites(model, {site.weight for site in sites}):
        yield SparseNode("", left.name, False, left.why)


def _why_not(site: Site) -> str:
    if has(site.node, *_OTHER):
        return f"{site.node.op_type} has no 2:4 kernel"
    if site.weight.dtype not in _TYPES:
        return f"no 2:4 kernel for {site.weight.dtype.name if site.weight.dtype else 'its type'}"
    channels = site.columns // site.column_span
    if channels % 4:
        return f"{channels} input channels are no multiple of 4"
    matrix = site.matrix(_array(site.weight)).reshape(-1, channels // 4, 4, site.column_span)
    step = max(1, _PROBE // (channels * site.column_span))
    for start in (0, step):  # a few rows say no at once where weights are not masked
        part = matrix[start : start + step] if not start else matrix[start:]
        if np.any(np.count_nonzero(part, axis=2) > 2):
            return "more than 2 of 4 weights along the input channels are not zero"
    return ""


def _chunks(array: Array, share: float) -> Iterator[bytes]:
    """Evenly spread pieces that make up a share of the bytes, at least one."""
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    pieces = max(1, -(-data.size // _CHUNK))
    wanted = max(1, round(pieces * share))
    for piece in np.linspace(0, pieces - 1, wanted).round().astype(int):
        yield data[piece * _CHUNK : (piece + 1) * _CHUNK].tobytes()


def _array(value: ir.Value) -> Array:
    assert value.const_value is not None
    return np.asarray(value.const_value.numpy())


def _nbytes(value: ir.Value) -> int:
    return value.const_value.nbytes if value.const_value is not None else 0
