"""One node as torch runs it: its attributes as plain values, and what else its function needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import onnx_ir as ir
import torch

from graphprune.errors import GraphpruneError

Tensor: TypeAlias = torch.Tensor
Body = Callable[..., Sequence[object]]
"""Runs a nested graph on its inputs."""

DTYPES = {
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.DOUBLE: torch.float64,
    ir.DataType.FLOAT16: torch.float16,
    ir.DataType.BFLOAT16: torch.bfloat16,
    ir.DataType.COMPLEX64: torch.complex64,
    ir.DataType.COMPLEX128: torch.complex128,
    ir.DataType.BOOL: torch.bool,
    ir.DataType.INT8: torch.int8,
    ir.DataType.INT16: torch.int16,
    ir.DataType.INT32: torch.int32,
    ir.DataType.INT64: torch.int64,
    ir.DataType.UINT8: torch.uint8,
    # torch computes little with wide unsigned types, and has none of less than a byte
    ir.DataType.UINT16: torch.int32,
    ir.DataType.UINT32: torch.int64,
    ir.DataType.UINT64: torch.int64,
    ir.DataType.INT4: torch.int8,
    ir.DataType.UINT4: torch.uint8,
    ir.DataType.INT2: torch.int8,
    ir.DataType.UINT2: torch.uint8,
    ir.DataType.FLOAT8E4M3FN: torch.float8_e4m3fn,
    ir.DataType.FLOAT8E4M3FNUZ: torch.float8_e4m3fnuz,
    ir.DataType.FLOAT8E5M2: torch.float8_e5m2,
    ir.DataType.FLOAT8E5M2FNUZ: torch.float8_e5m2fnuz,
}
"""What holds the elements of an ONNX type."""
PRECISIONS = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})
"""Types that one precision replaces where one is asked for."""


class UnsupportedError(GraphpruneError):
    """A node that torch cannot run here.

    Attributes:
        operator: its operator.
        constant: whether it may be treated as a constant: no gradient would pass through it.
    """

    def __init__(self, operator: str, name: str, why: str, constant: bool) -> None:
        message = f"{operator} '{name}' has no gradient here: {why}"
        hint = (
            "no gradient passes through it anyway: cut the graph behind it and feed its result as an input"
            if constant
            else "a gradient would pass through it, so it cannot be treated as a constant"
        )
        super().__init__(message, hint)
        self.operator, self.constant = operator, constant


@dataclass(frozen=True, eq=False)
class Call:
    """What a node says besides its inputs.

    Attributes:
        op: its operator, after its domain unless that is the default one.
        name: of the node.
        opset: version of the operator set it belongs to.
        attributes: plain values: numbers, text, tuples of them, tensors; a nested graph is what runs it.
        wanted: per output, whether anybody reads it.
        kinds: per input, the number of its ONNX type, 0 where it is not known: several share one of torch's.
        precision: the type in place of every floating one; None keeps each.
        device: where new tensors are made that are no sizes.
    """

    op: str
    name: str
    opset: int
    attributes: Mapping[str, object] = field(default_factory=dict)
    wanted: tuple[bool, ...] = (True,)
    kinds: tuple[int, ...] = ()
    precision: torch.dtype | None = None
    device: str = "cpu"

    def integer(self, name: str, default: int = 0) -> int:
        """An integer attribute."""
        value = self.attributes.get(name, default)
        assert isinstance(value, int)
        return value

    def real(self, name: str, default: float = 0.0) -> float:
        """A number."""
        value = self.attributes.get(name, default)
        assert isinstance(value, float | int)
        return float(value)

    def text(self, name: str, default: str = "") -> str:
        """Text."""
        return str(self.attributes.get(name, default))

    def integers(self, name: str) -> list[int] | None:
        """Integers; None where the node has none."""
        value = self.attributes.get(name)
        assert value is None or isinstance(value, tuple)
        return None if value is None else list(value)

    def texts(self, name: str) -> list[str] | None:
        """Several texts; None where the node has none."""
        value = self.attributes.get(name)
        assert value is None or isinstance(value, tuple)
        return None if value is None else [str(each) for each in value]

    def body(self, name: str) -> Body:
        """What runs a nested graph."""
        value = self.attributes[name]
        assert callable(value)
        return value

    def wants(self, position: int) -> bool:
        """Whether anybody reads this output."""
        return position < len(self.wanted) and self.wanted[position]

    def kind(self, position: int) -> int:
        """The number of the ONNX type of an input, 0 where it is not known or the input is left out."""
        return self.kinds[position] if position < len(self.kinds) else 0

    def dtype(self, number: int) -> torch.dtype:
        """What holds the elements of an ONNX type, by its number."""
        return torch_type(ir.DataType(number), self.precision, self)

    def refuse(self, why: str, constant: bool = False) -> UnsupportedError:
        """The error for a form of the operator that torch does not run here."""
        return UnsupportedError(self.op, self.name, why, constant)


def torch_type(kind: ir.DataType, precision: torch.dtype | None, call: Call | None = None) -> torch.dtype:
    """What holds the elements of an ONNX type.

    Raises:
        GraphpruneError: torch has no such type.
    """
    if precision is not None and kind in PRECISIONS:
        return precision
    if kind not in DTYPES:
        if call is not None:
            raise call.refuse(f"torch has no type {kind.name}", constant=True)
        raise GraphpruneError(f"torch has no type {kind.name}")
    return DTYPES[kind]


def sizes(tensor: Tensor) -> list[int]:
    """The numbers that a tensor of sizes or positions holds."""
    values: list[int] = tensor.reshape(-1).tolist()
    return [int(value) for value in values]


def axes_of(call: Call, axes: Tensor | None, rank: int) -> list[int] | None:
    """Axes from an input or (older opsets) the attribute, none negative; None where the node has neither."""
    found = call.integers("axes") if axes is None else sizes(axes)
    return None if found is None else [axis % rank if rank else 0 for axis in found]


def number(tensor: Tensor) -> float | int:
    """The one number that a tensor holds."""
    value: float | int = tensor.item()
    return value


def along(vector: Tensor, rank: int, axis: int) -> Tensor:
    """A vector with axes of size 1, so that it lies along one axis of a tensor of that rank."""
    shape = [1] * rank
    shape[axis] = -1
    return vector.reshape(shape)


def unpacked(codes: Tensor, bits: int) -> Tensor:
    """Codes of few bits out of bytes, the lowest bits first: the last axis grows by 8 / bits."""
    shifts = torch.arange(8 // bits, dtype=torch.int32, device=codes.device) * bits
    spread = (codes.to(torch.int32).unsqueeze(-1) >> shifts) & (2**bits - 1)
    return spread.flatten(-2)
