"""What the elements of a tensor are to their storage."""

from __future__ import annotations

import onnx_ir as ir

UNSIZED = frozenset({ir.DataType.STRING, ir.DataType.UNDEFINED})
"""Types whose elements have no fixed number of bits."""
FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})
"""Types that products are computed in."""


def is_packed(dtype: ir.DataType) -> bool:
    """Whether several elements share a byte."""
    return dtype not in UNSIZED and dtype.bitwidth < 8
