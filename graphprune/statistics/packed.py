"""Weights of few bits, several in a byte and in blocks along their columns: B of a MatMulNBits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Array, Singles
from graphprune.ir.nodes import input_of
from graphprune.labels.state import Use
from graphprune.labels.stored import is_stored
from graphprune.ops import layer_of, record_of

REORDER, PREPACKED = 4, "weight_prepacked"


@dataclass(frozen=True)
class Packing:
    """How codes [rows, columns] lie in bytes [rows, blocks, bytes of a block], the lowest bits first.

    Attributes:
        rows, columns: of the weight as its node reads it.
        block: columns of a block.
        bits: of a code.
    """

    rows: int
    columns: int
    block: int
    bits: int

    @property
    def highest(self) -> int:
        """The largest code."""
        return int(2**self.bits - 1)

    def unpack(self, packed: Array) -> Array:
        """Bytes to codes."""
        return self._spread(packed).reshape(self.rows, self.columns)

    def pack(self, codes: Array) -> Array:
        """Codes to bytes."""
        parts = codes.astype(np.uint8).reshape(self.rows, self.columns // self.block, -1, 8 // self.bits)
        shifts = np.arange(8 // self.bits, dtype=np.uint8) * np.uint8(self.bits)
        packed: Array = np.bitwise_or.reduce(parts << shifts, axis=-1)
        return packed

    def parameters(self, node: ir.Node) -> tuple[Singles, Singles] | None:
        """Scale and zero point of every code; None where they are no constants."""
        values = [input_of(node, at) for at in (2, 3)]
        if not is_stored(values[0]) or any(v is not None and not is_stored(v) for v in values):
            return None
        scale, zero = (None if v is None or v.const_value is None else v.const_value.numpy() for v in values)
        blocks = self.columns // self.block
        if zero is None:
            zeros = np.full((self.rows, blocks), 2 ** (self.bits - 1))
        elif zero.dtype.kind in "iu":  # packed as the codes are, row by row
            zeros = self._spread(zero.reshape(self.rows, -1))[:, :blocks]
        else:
            zeros = zero.reshape(self.rows, blocks)
        return self._each(np.asarray(scale).reshape(self.rows, blocks)), self._each(zeros)

    def _spread(self, packed: Array) -> Array:
        shifts = np.arange(8 // self.bits, dtype=np.uint8) * np.uint8(self.bits)
        codes = (packed.astype(np.uint8)[..., None] >> shifts) & np.uint8(self.highest)
        return codes.reshape(*packed.shape[:-1], -1)

    def _each(self, of_blocks: Array) -> Singles:
        return of_blocks.astype(np.float32).repeat(self.block, axis=1)


def packing_of(use: Use) -> Packing | None:
    """How the weight of a node is packed; None where it is not, or in another order."""
    node, record = use.node, record_of(use.node)
    held = None if record is None else record.data(use.position)
    if held is None or held.bits is None or layer_of(node) is None:
        return None
    reordered = len(node.inputs) > REORDER and node.inputs[REORDER] is not None
    rows, columns, block, bits = (_int(node, name) for name in ("N", "K", "block_size", "bits"))
    whole = block > 0 and columns % block == 0 and bits in (2, 4, 8)
    return (
        Packing(rows, columns, block, bits) if whole and not reordered and not _int(node, PREPACKED) else None
    )


def _int(node: ir.Node, name: str) -> int:
    return node.attributes.get_int(name, 4 if name == "bits" else 0)
