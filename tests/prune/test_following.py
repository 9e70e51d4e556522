"""Nodes are found again after a cut that is fused otherwise in some of many equal blocks."""

from __future__ import annotations

import onnx_ir as ir

from graphprune.prune.latency.following import _named_alike, _places
from graphprune.runtime.pieces import Piece


def piece(op_type: str, name: str = "") -> Piece:
    return Piece("", (1,), (), ir.node(op_type, [], name=name or None), ())


def block(number: int, pooled: bool) -> list[Piece]:
    """Squeeze and excitation behind a Conv: convolutions, or products that have numbers for names."""
    squeeze = ["ReduceMean", "Gemm", "Gemm", "Reshape"] if pooled else ["GlobalAveragePool", "Conv", "Conv"]
    inner = [piece(op, f"token_{number}" if op == "Reshape" else "") for op in squeeze]
    return [
        piece("Conv", f"block{number}"),
        *inner,
        piece("Mul", f"gate{number}"),
        piece("ReorderInput", "Reorder"),
    ]


def test_blocks_keep_their_places_where_some_are_fused_otherwise() -> None:
    dense = [each for number in range(6) for each in block(number, pooled=number == 5)]
    after = [each for number in range(6) for each in block(number, pooled=number in (0, 1, 4))]
    places = _places(dense, after)
    for at, each in enumerate(dense):
        if each.node.name and each.node.name.startswith(("block", "gate")):
            assert places[at].node.name == each.node.name
    whole = [at for at, each in enumerate(dense) if each.node.op_type == "GlobalAveragePool"]
    assert [at in places for at in whole] == [False, False, True, True, False]


def test_names_that_come_up_elsewhere_do_not_count() -> None:
    dense = [piece("Conv", name) for name in ("a", "token_1", "b", "c")]
    after = [piece("Conv", name) for name in ("a", "b", "c", "token_1")]
    assert _named_alike(dense, after) == [(0, 0), (2, 1), (3, 2)]
    assert _named_alike([piece("Conv", "a")], [piece("Gemm", "a")]) == []
    assert _named_alike([piece("Conv"), piece("Conv")], [piece("Conv")]) == []


def test_without_names_the_order_tells() -> None:
    dense = [piece(op) for op in ("Conv", "Relu", "Conv", "Gemm")]
    after = [piece(op) for op in ("Conv", "Conv", "Gemm")]
    assert _places(dense, after) == {0: after[0], 2: after[1], 3: after[2]}
