"""Fused attention: heads, groups of heads and head dims are separate decisions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from graphprune.axes import Options
from tests.ops.exotic_graphs import Case, NodeRow, analysed, floats, holds, reasons

B, S, C = 2, 3, 7
X = {"x": floats(B, S, C)}
MS = "com.microsoft:"
D, DV, H, K = 4, 5, 4, 2


def projected(q: int, k: int, v: int) -> tuple[dict[str, object], list[NodeRow]]:
    nodes: list[NodeRow] = [("MatMul", ["x", f"w{t}"], [t], {}) for t in "qkv"]
    return {"wq": (C, q), "wk": (C, k), "wv": (C, v)}, nodes


def case(
    name: str, sizes: tuple[int, int, int], middle: list[NodeRow], units: list[int], **more: object
) -> Case:
    """x -> Q, K, V -> `middle` -> a -> MatMul -> y."""
    weights, nodes = projected(*sizes)
    extra, out = more.pop("weights", {}), more.pop("out", None)
    feeds, outputs = more.pop("feeds", {}), more.pop("outputs", [])
    weights |= {"wo": (out, C), **extra}  # type: ignore[dict-item]
    nodes = [*nodes, *middle, ("MatMul", ["a", "wo"], ["y"], {})]
    return Case(name, X | feeds, weights, nodes, ["y", *outputs], units, **more)  # type: ignore[arg-type, operator, misc]


def split_heads(letter: str) -> list[NodeRow]:
    return [
        ("Reshape", [letter, f"to_{letter}"], [f"{letter}4"], {}),
        ("Transpose", [f"{letter}4"], [f"{letter}t"], {"perm": [0, 2, 1, 3]}),
    ]


GQA = {"q_num_heads": H, "kv_num_heads": K}
CACHE = {"pk": floats(B, K, 2, D), "pv": floats(B, K, 2, DV)}
FOUR = [
    *[row for letter in "qkv" for row in split_heads(letter)],
    ("Attention", ["qt", "kt", "vt"], ["a4"], {"is_causal": 1}),
    ("Transpose", ["a4"], ["at"], {"perm": [0, 2, 1, 3]}),
    ("Reshape", ["at", "to"], ["a"], {}),
]
FOUR_SHAPES = {
    "to_q": np.array([0, 0, H, D]),
    "to_k": np.array([0, 0, K, D]),
    "to_v": np.array([0, 0, K, DV]),
    "to": np.array([0, 0, H * DV]),
}
STANDARD = [
    case(
        "3-D with mask",
        (H * D, K * D, K * DV),
        [("Attention", ["q", "k", "v", "mask"], ["a"], {**GQA, "is_causal": 1})],
        [2, 2, 4, 5],
        weights={"mask": (1, H, S, S)},
        out=H * DV,
    ),
    case(
        "3-D with cache",
        (H * D, K * D, K * DV),
        [("Attention", ["q", "k", "v", "", "pk", "pv"], ["a", "nk", "nv"], GQA)],
        [2, 2, 4, 5],
        feeds=CACHE,
        outputs=["nk", "nv"],
        out=H * DV,
    ),
    case(
        "3-D with scale and softcap",
        (H * D, K * D, K * DV),
        [("Attention", ["q", "k", "v"], ["a"], {**GQA, "scale": 0.3, "softcap": 2.0})],
        [2, 2, 4, 5],
        out=H * DV,
    ),
    case("4-D", (H * D, K * D, K * DV), FOUR, [2, 2, 4, 5], weights=FOUR_SHAPES, out=H * DV),
]


@pytest.mark.parametrize("tested", STANDARD, ids=lambda tested: tested.name)
def test_attention_has_groups_repeats_and_two_head_dims(tested: Case) -> None:
    holds(tested)


def test_a_public_cache_pins_groups_and_head_dims() -> None:
    holds(replace(STANDARD[1], options=Options(io="fixed"), units=[2]))


HEADS = 3
BIAS = {"b": (HEADS * (2 * D + DV),)}
CONTRIB = [
    Case(
        "Attention",
        X,
        {"w0": (C, 6), "w": (6, HEADS * (2 * D + DV)), **BIAS, "wo": (HEADS * DV, C)},
        [
            ("MatMul", ["x", "w0"], ["h"], {}),
            (
                MS + "Attention",
                ["h", "w", "b"],
                ["a"],
                {"num_heads": HEADS, "qkv_hidden_sizes": [HEADS * D, HEADS * D, HEADS * DV]},
            ),
            ("MatMul", ["a", "wo"], ["y"], {}),
        ],
        ["y"],
        [3, 4, 5, 6],
    ),
    Case(
        "Attention with cache",
        X | {"past": floats(2, B, HEADS, 2, D)},
        {"w": (C, HEADS * 3 * D), "b": (HEADS * 3 * D,), "wo": (HEADS * D, C)},
        [
            (MS + "Attention", ["x", "w", "b", "", "past"], ["a", "now"], {"num_heads": HEADS}),
            ("MatMul", ["a", "wo"], ["y"], {}),
        ],
        ["y", "now"],
        [3, 4],
    ),
    case(
        "MultiHeadAttention",
        (HEADS * D, HEADS * D, HEADS * DV),
        [(MS + "MultiHeadAttention", ["q", "k", "v", "b", "", "ab"], ["a"], {"num_heads": HEADS})],
        [3, 4, 5],
        weights={**BIAS, "ab": (1, HEADS, S, S)},
        out=HEADS * DV,
    ),
    case(
        "MultiHeadAttention with cache",
        (HEADS * D,) * 3,
        [
            (
                MS + "MultiHeadAttention",
                ["q", "k", "v", "", "", "", "pk", "pv"],
                ["a", "nk", "nv"],
                {"num_heads": HEADS},
            )
        ],
        [3, 4],
        out=HEADS * D,
        outputs=["nk", "nv"],
        feeds={"pk": floats(B, HEADS, 2, D), "pv": floats(B, HEADS, 2, D, seed=8)},
    ),
    case(
        "MultiHeadAttention, K and V 4-D",
        (HEADS * D,) * 3,
        [
            *split_heads("k"),
            *split_heads("v"),
            (MS + "MultiHeadAttention", ["q", "kt", "vt"], ["a"], {"num_heads": HEADS}),
        ],
        [3, 4, 4],
        weights={"to_k": np.array([0, 0, HEADS, D]), "to_v": np.array([0, 0, HEADS, D])},
        out=HEADS * D,
    ),
    Case(
        "MultiHeadAttention, packed",
        X,
        {"w": (C, HEADS * 3 * D), "to": np.array([0, 0, HEADS, 3, D]), "wo": (HEADS * D, C)},
        [
            ("MatMul", ["x", "w"], ["p"], {}),
            ("Reshape", ["p", "to"], ["p5"], {}),
            (MS + "MultiHeadAttention", ["p5"], ["a"], {"num_heads": HEADS}),
            ("MatMul", ["a", "wo"], ["y"], {}),
        ],
        ["y"],
        [3, 4],
        runs=False,
    ),
]


@pytest.mark.parametrize("tested", CONTRIB, ids=lambda tested: tested.name)
def test_contrib_attention_has_heads_and_head_dims(tested: Case) -> None:
    holds(tested)


WIDE = 32
TOKENS = {"sl": np.full(B, S - 1, np.int32), "tl": np.array(S, np.int32)}
EMPTY = {"pk": np.zeros((B, K, 0, WIDE), np.float32), "pv": np.zeros((B, K, 0, WIDE), np.float32)}
TABLES = {"cos": (20, WIDE // 2), "sin": (20, WIDE // 2)}


def group_query(rotary: bool, packed: bool, interleaved: bool, units: list[int]) -> Case:
    attributes = {
        "num_heads": H,
        "kv_num_heads": K,
        "do_rotary": int(rotary),
        "rotary_interleaved": int(interleaved),
    }
    inputs = ["q", "" if packed else "k", "" if packed else "v", "pk", "pv", "sl", "tl"]
    fused = (
        MS + "GroupQueryAttention",
        [*inputs, *(TABLES if rotary else ())],
        ["a", "nk", "nv"],
        attributes,
    )
    tables = TABLES if rotary else {}
    name = f"rotary={rotary} packed={packed} interleaved={interleaved}"
    if not packed:
        return case(
            name,
            (H * WIDE, K * WIDE, K * WIDE),
            [fused],
            units,
            weights=tables,
            out=H * WIDE,
            feeds=TOKENS | EMPTY,
            outputs=["nk", "nv"],
        )
    return Case(
        name,
        X | TOKENS | EMPTY,
        {"w": (C, (H + 2 * K) * WIDE), "wo": (H * WIDE, C), **tables},
        [("MatMul", ["x", "w"], ["q"], {}), fused, ("MatMul", ["a", "wo"], ["y"], {})],
        ["y", "nk", "nv"],
        units,
    )


GROUP_QUERY = [
    group_query(False, False, False, [2, 2, 4]),
    group_query(True, False, False, [2, 2, 2]),
    group_query(True, True, False, [2, 2, 2]),
    group_query(True, True, True, [2, 2, 2]),
]


@pytest.mark.parametrize("tested", GROUP_QUERY, ids=lambda tested: tested.name)
def test_group_query_attention_cuts_head_dims_in_steps_its_kernel_takes(tested: Case) -> None:
    holds(tested)


def rotated(domain: str, interleaved: int, partial: int, units: list[int]) -> Case:
    dim, heads = 8, 2
    attributes = {
        "num_heads": heads,
        "interleaved": interleaved,
        **({"rotary_embedding_dim": partial} if partial else {}),
    }
    tail = ["pos", "cos", "sin"] if domain else ["cos", "sin", "pos"]
    middle: list[NodeRow] = [(f"{domain}RotaryEmbedding", [t, *tail], [f"{t}r"], attributes) for t in "qk"]
    middle += [("Attention", ["qr", "kr", "v"], ["a"], {"q_num_heads": heads, "kv_num_heads": heads})]
    half = (partial or dim) // 2
    tables = {"cos": (9, half), "sin": (9, half), "pos": np.tile(np.arange(S), (B, 1))}
    return case(
        f"{domain or 'onnx'} interleaved={interleaved} partial={partial}",
        (heads * dim,) * 3,
        middle,
        units,
        weights=tables,
        out=heads * dim,
    )


ROTATED = [
    rotated(domain, interleaved, partial, units)
    for domain in ("", MS)
    for interleaved in (0, 1)
    for partial, units in ((0, [2, 4, 8]), (4, [2, 2, 4, 8]))
]


@pytest.mark.parametrize("tested", ROTATED, ids=lambda tested: tested.name)
def test_rotary_embedding_ties_pairs(tested: Case) -> None:
    holds(tested)


def linear(rule: str) -> Case:
    nodes: list[NodeRow] = [
        ("MatMul", ["x", "wd"], ["d0"], {}),
        ("Sigmoid", ["d0"], ["d1"], {}),
        ("Neg", ["d1"], ["d"], {}),
        ("MatMul", ["x", "wb"], ["b0"], {}),
        ("Sigmoid", ["b0"], ["b"], {}),
    ]
    used = (nodes[:3] if "gated" in rule else []) + (nodes[3:] if "delta" in rule else [])
    weights = ({"wd": (C, K * D)} if "gated" in rule else {}) | ({"wb": (C, K)} if "delta" in rule else {})
    inputs = ["q", "k", "v", "", "d" if "gated" in rule else "", "b" if "delta" in rule else ""]
    attend = (MS + "LinearAttention", inputs, ["a", "state"], {**GQA, "update_rule": rule})
    return case(rule, (H * D, K * D, K * DV), [*used, attend], [2, 2, 4, 5], weights=weights, out=H * DV)


@pytest.mark.parametrize("rule", ["linear", "gated", "delta", "gated_delta"])
def test_linear_attention_has_groups_repeats_and_two_head_dims(rule: str) -> None:
    holds(linear(rule))


def test_an_operator_with_a_private_layout_is_kept_whole() -> None:
    inputs = ["q", "k", "v"]
    kept = case(
        "paged",
        (8, 8, 8),
        [(MS + "PackedMultiHeadAttention", inputs, ["a"], {"num_heads": 2})],
        [],
        out=8,
        runs=False,
        shapes={"a": (B, S, 8)},
    )
    assert "PackedMultiHeadAttention is kept whole" in reasons(analysed(kept))
    holds(kept)
