"""The few operators that ir itself names: what holds a constant or a graph, and what reads sizes."""

from __future__ import annotations

from typing import Protocol, TypeGuard

import onnx_ir as ir

from graphprune.ir.domains import is_default


class Named(Protocol):
    """A node, here or in protobuf."""

    @property
    def domain(self) -> str:
        """The operator set."""

    @property
    def op_type(self) -> str:
        """The operator."""


def operator_of(node: Named) -> str:
    """The operator, after its domain unless that is the default one."""
    return node.op_type if is_default(node.domain) else f"{node.domain}:{node.op_type}"


def input_of(node: ir.Node, position: int) -> ir.Value | None:
    """An input; None where it is left out."""
    return node.inputs[position] if position < len(node.inputs) else None


def is_constant(value: ir.Value | None) -> TypeGuard[ir.Value]:
    """Whether this value is an initializer that no caller can override."""
    return (
        value is not None
        and value.const_value is not None
        and value.producer() is None
        and not value.is_graph_input()
    )


def is_literal(node: Named) -> bool:
    """A Constant."""
    return node.op_type == "Constant" and is_default(node.domain)


def is_alias(node: Named) -> bool:
    """An Identity: its result is its input."""
    return node.op_type == "Identity" and is_default(node.domain)


def is_if(node: Named) -> bool:
    """An If, which runs one of two graphs."""
    return node.op_type == "If" and is_default(node.domain)


def is_loop(node: Named) -> bool:
    """A Loop, whose graph runs until a condition fails."""
    return node.op_type == "Loop" and is_default(node.domain)


def is_scan(node: Named) -> bool:
    """A Scan, whose graph runs once for each slot."""
    return node.op_type == "Scan" and is_default(node.domain)


def is_shape(node: Named) -> bool:
    """A Shape, which reads sizes."""
    return node.op_type == "Shape" and is_default(node.domain)


def is_size(node: Named) -> bool:
    """A Size, which reads their product."""
    return node.op_type == "Size" and is_default(node.domain)


def is_slice(node: Named) -> bool:
    """A Slice, which may be empty at some sizes."""
    return node.op_type == "Slice" and is_default(node.domain)
