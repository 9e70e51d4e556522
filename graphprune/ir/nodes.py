"""The few operators that the form of a graph is made of: what holds a constant, and what holds a graph."""

from __future__ import annotations

from typing import Protocol

from graphprune.ir.domains import is_default


class Named(Protocol):
    """A node, here or in protobuf."""

    @property
    def domain(self) -> str:
        """The operator set."""

    @property
    def op_type(self) -> str:
        """The operator."""


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
