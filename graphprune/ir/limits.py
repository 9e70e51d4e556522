"""What a model may cost before it is refused."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds that a hostile or broken model cannot pass; each has a default that real models stay under.

    Args:
        max_bytes: model file and external weights together.
        max_proto_bytes: what protobuf has to parse, i.e. the model file without its embedded weights.
        max_nodes: nodes after inlining every model-local function.
        max_elements: elements of any input or intermediate value whose size is known.
        max_depth: subgraphs nested in subgraphs.
        allow_external_links: accept symbolic and hard links as external weight files.
        allow_undefined_ops: accept operators of domains that nobody defines, as barriers.
    """

    max_bytes: int = 64 * 2**30
    max_proto_bytes: int = 2**30
    max_nodes: int = 10**6
    max_elements: int = 2**31
    max_depth: int = 32
    allow_external_links: bool = False
    allow_undefined_ops: bool = False


DEFAULT_LIMITS = Limits()
