"""Tensors of a model as torch's, and back."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import torch

from graphprune.errors import ModelError
from graphprune.ir.arrays import Array
from graphprune.ops.torch.call import DTYPES, PRECISIONS, Tensor, torch_type

BITS = {2: (np.int16, torch.int16), 1: (np.uint8, torch.uint8)}
"""Integers of as many bytes as a type that numpy lacks, by bytes."""


def from_array(array: Array, kind: ir.DataType, precision: torch.dtype | None = None) -> Tensor:
    """A torch tensor with its own memory.

    Args:
        array: as `numpy()` of an onnx_ir tensor gives it.
        kind: its type.
        precision: the type in place of a floating one.

    Raises:
        ModelError: text, or a type that torch lacks.
    """
    if kind == ir.DataType.STRING or array.dtype.kind in "OSU":
        raise ModelError("torch has no tensors of text")
    wanted = torch_type(kind, precision)
    array = np.array(array, order="C")
    if array.dtype.type.__module__ == "numpy":
        return torch.from_numpy(array).to(wanted)
    if kind.bitwidth < 8:  # several to a byte in files, one each in memory
        return torch.from_numpy(array.astype(np.int32)).to(wanted)
    numpy_bits, torch_bits = BITS[kind.bitwidth // 8]
    same = torch_type(kind, None)
    return torch.from_numpy(array.view(numpy_bits)).view(torch_bits).view(same).to(wanted)


def to_array(tensor: Tensor, kind: ir.DataType) -> Array:
    """A numpy array of the given type."""
    tensor = tensor.detach().cpu().contiguous()
    if kind in PRECISIONS:
        tensor = tensor.to(torch_type(kind, None))
    if tensor.dtype in (torch.bfloat16, *_eights()):
        numpy_bits, torch_bits = BITS[tensor.element_size()]
        array: Array = tensor.view(torch_bits).numpy().astype(numpy_bits, copy=False)
        return array.view(kind.numpy())
    if not kind.is_floating_point() and tensor.is_floating_point():
        tensor = tensor.round().to(torch.int64)  # codes that carried a gradient
    return np.asarray(tensor.numpy()).astype(kind.numpy(), copy=False)


def numpy_kind(tensor: Tensor) -> ir.DataType:
    """The ONNX type of a tensor whose own is not declared."""
    return next(kind for kind, held in DTYPES.items() if held == tensor.dtype)


def _eights() -> tuple[torch.dtype, ...]:
    return torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz
