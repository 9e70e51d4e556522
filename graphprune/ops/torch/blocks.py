"""Weights of few bits in blocks: a byte holds several codes, the lowest bits first."""

from __future__ import annotations

from collections.abc import Callable

from graphprune.ops.torch.call import Call, Tensor, unpacked
from graphprune.ops.torch.select import positions


def nbits_weight(
    packed: Tensor, scales: Tensor, zeros: Tensor | None, rows: int, columns: int, block: int, bits: int
) -> Tensor:
    """[rows, columns] numbers of codes [rows, blocks, bytes]."""
    codes = unpacked(packed.reshape(rows, -1), bits).reshape(rows, -1, block)
    count = codes.shape[1]
    if zeros is None:
        offset: Tensor | float = float(2 ** (bits - 1))
    elif zeros.is_floating_point():
        offset = zeros.reshape(rows, count, 1)
    else:
        offset = unpacked(zeros.reshape(rows, -1), bits)[:, :count].reshape(rows, count, 1)
    numbers = (codes.to(scales.dtype) - offset) * scales.reshape(rows, count, 1)
    return numbers.reshape(rows, -1)[:, :columns]


def matmul_nbits(
    call: Call,
    a: Tensor,
    b: Tensor,
    scales: Tensor,
    zeros: Tensor | None = None,
    order: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """A product with a weight of few bits."""
    if order is not None or call.integer("weight_prepacked"):
        raise call.refuse("weights in another order than their columns' are not written out")
    rows, columns, block = call.integer("N"), call.integer("K"), call.integer("block_size")
    weight = nbits_weight(b, scales, zeros, rows, columns, block, call.integer("bits", 4))
    out = a @ weight.mT.to(a.dtype)
    return out if bias is None else out + bias


def gather_nbits(
    call: Call, data: Tensor, index: Tensor, scales: Tensor, zeros: Tensor | None = None
) -> Tensor:
    """Rows of a table of few bits."""
    bits, block, packed = call.integer("bits", 4), call.integer("block_size", 128), call.kind(0) in (0, 2)
    axis = call.integer("quantize_axis", 1) % data.dim()
    if packed and axis != data.dim() - 1:
        raise call.refuse("codes are packed along the last axis only")
    codes = unpacked(data, bits) if packed else data
    if zeros is None:
        offset: Tensor | float = float(2 ** (bits - 1)) if packed else 0.0
    else:
        wide = unpacked(zeros, bits)[..., : scales.shape[-1]] if packed else zeros
        offset = wide.repeat_interleave(block, axis).narrow(axis, 0, codes.shape[axis]).to(scales.dtype)
    factor = scales.repeat_interleave(block, axis).narrow(axis, 0, codes.shape[axis])
    table = (codes.to(scales.dtype) - offset) * factor
    at = call.integer("gather_axis") % data.dim()
    found = table.index_select(at, positions(index, table.shape[at]).reshape(-1))
    return found.reshape(*table.shape[:at], *index.shape, *table.shape[at + 1 :])


ROWS: dict[str, Callable[..., object]] = {
    "com.microsoft:MatMulNBits": matmul_nbits,
    "com.microsoft:GatherBlockQuantized": gather_nbits,
}
HOST: dict[str, tuple[int, ...]] = {}
