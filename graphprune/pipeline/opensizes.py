"""Which sizes stand for those that a model leaves open."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir


def open_sizes(
    model: ir.Model, used: Mapping[str, tuple[int, ...]], given: Mapping[str, tuple[int, ...]]
) -> dict[str, int]:
    """Sizes that were used for dims that the model leaves open, by their symbol, or as input[axis].

    Args:
        model: in normal form.
        used: shapes of inputs.
        given: those that the user gave; what they say is not assumed.
    """
    found: dict[str, int] = {}
    said: set[str] = set()
    for value in model.graph.inputs:
        name = value.name or ""
        for axis, (dim, size) in enumerate(zip(value.shape or (), used.get(name, ()), strict=False)):
            if isinstance(dim, int) and dim > 0:
                continue
            symbol = None if isinstance(dim, int) else dim.value
            if name in given:
                said.add(symbol or "")
            else:
                found.setdefault(symbol or f"{name}[{axis}]", size)
    return {symbol: size for symbol, size in found.items() if symbol not in said}
