"""Decoder blocks in primitive operators: what may go, with and without cache, and that each cut is proved."""

from __future__ import annotations

import re

import numpy as np
import pytest

from graphprune.axes import Analysis, Options, analyse
from graphprune.ir.shapes import infer
from graphprune.ops import record_of
from graphprune.pipeline.summary import resized

from .claims import cut, pins, proves, sketch, units

C, H, K, D = 12, 4, 2, 6
"""Hidden width, query heads, key heads, head size."""

SHAPES = {
    "heads": np.array([0, 0, H, D]),
    "keys": np.array([0, 0, K, D]),
    "flat": np.array([0, 0, H * D]),
    "wide": np.array([0, H, -1, D]),
    "copies": np.array([1, 1, H // K, 1, 1]),
    "two": np.array([2]),
    "last": np.array([-1]),
    "scale": np.array(D**-0.5, np.float32),
    "half": np.array([D // 2]),
    "zero": np.array([0]),
    "end": np.array([1 << 40]),
    "cos": np.cos(np.arange(D // 2)).astype(np.float32),
    "sin": np.sin(np.arange(D // 2)).astype(np.float32),
    "halves": np.array([D // 2, D // 2]),
    "pairs": np.array([0, 0, 0, D // 2, 2]),
    "evens": np.array(0),
    "odds": np.array(1),
    "eps": np.array(1e-5, np.float32),
    "square": np.array(2.0, np.float32),
}
WEIGHTS = {
    "wq": (C, H * D), "wk": (C, K * D), "wv": (C, K * D), "wo": (H * D, C), "wqkv": (C, 3 * H * D),
    "gain": (C,), "up": (C, 9), "gate": (C, 9), "down": (9, C), "fused": (C, 18), "table": (7, C),
    "wkh": (C, H * D), "wvh": (C, H * D), "shift": (C,),
}  # fmt: skip
X, Y = f"float[b,t,{C}] x", f"float[b,t,{C}] y"


def block(inputs: str, outputs: str, body: str, options: Options | None = None, opset: int = 17) -> Analysis:
    text = f"({inputs}) => ({outputs}) {{ {body} }}"
    words = set(re.findall(r"\w+", text))
    return sketch(text, options, opset, **{n: w for n, w in (SHAPES | WEIGHTS).items() if n in words})


def project(letter: str, weight: str, shape: str) -> str:
    return f"""{letter}0 = MatMul(n, {weight})
        {letter}1 = Reshape({letter}0, {shape})
        {letter} = Transpose <perm = [0, 2, 1, 3]> ({letter}1)
        """


def attend(q: str, k: str, v: str) -> str:
    return f"""kt = Transpose <perm = [0, 1, 3, 2]> ({k})
        s0 = MatMul({q}, kt)\n s = Mul(s0, scale)\n p = Softmax <axis = -1> (s)\n a0 = MatMul(p, {v})
        a1 = Transpose <perm = [0, 2, 1, 3]> (a0)\n a2 = Reshape(a1, flat)\n o = MatMul(a2, wo)
        """


def rotated(name: str) -> str:
    """Half layout: dim i turns with i + D/2."""
    return f"""{name}l = Slice({name}, zero, half, last)\n {name}h = Slice({name}, half, end, last)
        {name}n = Neg({name}h)\n {name}s = Concat <axis = -1> ({name}n, {name}l)
        cc = Concat <axis = -1> (cos, cos)\n ss = Concat <axis = -1> (sin, sin)
        {name}a = Mul({name}, cc)\n {name}b = Mul({name}s, ss)\n {name}r = Add({name}a, {name}b)
        """


def turned(name: str) -> str:
    """Interleaved layout: dim 2i turns with 2i + 1."""
    return f"""{name}p = Reshape({name}, pairs)
        {name}e = Gather <axis = -1> ({name}p, evens)\n {name}o = Gather <axis = -1> ({name}p, odds)
        {name}c1 = Mul({name}e, cos)\n {name}c2 = Mul({name}o, sin)\n {name}c = Sub({name}c1, {name}c2)
        {name}d1 = Mul({name}e, sin)\n {name}d2 = Mul({name}o, cos)\n {name}d = Add({name}d1, {name}d2)
        {name}cu = Unsqueeze({name}c, last)\n {name}du = Unsqueeze({name}d, last)
        {name}j = Concat <axis = -1> ({name}cu, {name}du)\n {name}r = Reshape({name}j, wide)
        """


def repeated(name: str) -> str:
    """Key heads for every query head: Unsqueeze, Expand, Reshape."""
    return f"""{name}u = Unsqueeze({name}, two)
        {name}x = Expand({name}u, copies)\n {name}w = Reshape({name}x, wide)
        """


def appended(name: str) -> str:
    """The Concat of one input is how a lazily started cache is traced."""
    return f"""old_{name} = Concat <axis = 2> (past_{name})
        now_{name} = Concat <axis = 2> (old_{name}, {name})
        """


NORM = """sq = Pow(x, square)\n m = ReduceMean <axes = [-1]> (sq)\n me = Add(m, eps)\n r = Sqrt(me)
    d = Div(x, r)\n n = Mul(d, gain)
    """
"""RMSNorm in primitive operators."""
PASTS = f"float[b,{H},p,{D}] past_k, float[b,{H},p,{D}] past_v"
NOWS = f"float[b,{H},q,{D}] now_k, float[b,{H},q,{D}] now_v"
MHA = project("q", "wq", "heads") + project("k", "wkh", "heads") + project("v", "wvh", "heads")
GQA = project("q", "wq", "heads") + project("k", "wk", "keys") + project("v", "wv", "keys")
SAME = "n = Identity(x)\n"
END = "y = Add(x, o)"


def test_heads_and_head_dims_of_a_decoder_are_free() -> None:
    found = block(X, Y, SAME + MHA + attend("q", "k", "v") + END)
    assert units(found) == [H, D, D]
    proves(found)


def test_a_cache_frees_heads_and_dims_and_changes_both_of_its_ends() -> None:
    body = SAME + MHA + appended("k") + appended("v") + attend("q", "now_k", "now_v") + END
    found = block(f"{X}, {PASTS}", f"{Y}, {NOWS}", body)
    assert units(found) == [H, D, D]
    proves(found)
    small = cut(found, wq=(0, 3))
    lines = list(resized(found.model, small))
    assert len(lines) == 4
    assert lines[0] == f"input 'past_k' changed its shape from [b, {H}, p, {D}] to [b, 2, p, {D}]"
    fixed = block(f"{X}, {PASTS}", f"{Y}, {NOWS}", body, Options(io="fixed"))
    assert units(fixed) == []
    assert "graph input 'past_k'" in pins(fixed).values()


def test_tokens_of_a_cache_are_never_units() -> None:
    """A past of a known length is still a length, not a width."""
    body = SAME + MHA + appended("k") + appended("v") + attend("q", "now_k", "now_v") + END
    found = block(f"{X}, {PASTS.replace(',p,', ',6,')}", f"{Y}, {NOWS}", body)
    assert units(found) == [H, D, D]
    proves(found)


def test_the_end_of_a_cache_without_a_past_stays_as_it_is() -> None:
    """A prefill graph hands its keys out: nobody feeds them back in here, so their shape is the caller's."""
    body = SAME + MHA + "now_k = Identity(k)\n" + attend("q", "k", "v") + END
    found = block(X, f"{Y}, float[b,{H},t,{D}] now_k", body)
    assert units(found) == [D]
    assert "graph output 'now_k'" in pins(found).values()


def test_grouped_queries_go_with_their_key_head_or_as_a_repeat() -> None:
    found = block(X, Y, SAME + GQA + repeated("k") + repeated("v") + attend("q", "kw", "vw") + END)
    assert units(found) == [2, 2, D, D]
    proves(found)


@pytest.mark.parametrize("cache", [False, True], ids=["prefill", "cache"])
def test_half_rotary_dims_go_in_pairs(cache: bool) -> None:
    grown = ("kr", "v")
    body = (
        SAME
        + GQA
        + rotated("q")
        + rotated("k")
        .replace("cc = Concat <axis = -1> (cos, cos)", "")
        .replace("ss = Concat <axis = -1> (sin, sin)", "")
    )
    inputs, outputs = X, Y
    if cache:
        body += "".join(appended(name) for name in grown)
        inputs += f", float[b,{K},p,{D}] past_kr, float[b,{K},p,{D}] past_v"
        outputs += f", float[b,{K},q,{D}] now_kr, float[b,{K},q,{D}] now_v"
        grown = ("now_kr", "now_v")
    keys, values = grown
    body += repeated(keys) + repeated(values) + attend("qr", f"{keys}w", f"{values}w")
    found = block(inputs, outputs, body + END)
    assert units(found) == [2, 2, D // 2, D]
    proves(found)


def test_interleaved_rotary_dims_go_in_pairs() -> None:
    found = block(X, Y, SAME + MHA + turned("q") + turned("k") + attend("qr", "kr", "v") + END)
    assert units(found) == [D // 2, H, D]
    proves(found)


def test_packed_qkv_is_cut_in_three_places() -> None:
    body = "n = MatMul(x, wqkv)\n q0, k0, v0 = Split <axis = -1> (n)\n"
    for name in "qkv":
        body += f"{name}1 = Reshape({name}0, heads)\n {name} = Transpose <perm = [0, 2, 1, 3]> ({name}1)\n"
    found = block(X, Y, body + attend("q", "k", "v") + END)
    assert units(found) == [H, D, D]
    heads = next(group for group in found.prunable if group.size == H)
    small = cut(found, **{heads.id: (0, 2, 3)})
    assert small.graph.initializers["wqkv"].shape == (C, 3 * (H - 1) * D)
    proves(found)


def test_a_hidden_width_under_rms_norm_goes_exactly() -> None:
    """The embedding makes the width, so that it is free; gate and up projections share theirs."""
    body = f"""x = Gather <axis = 0> (table, ids)\n {NORM}
        u = MatMul(n, up)\n g0 = MatMul(n, gate)\n g1 = Sigmoid(g0)\n g = Mul(g0, g1)\n f = Mul(u, g)
        o = MatMul(f, down)\n z = Add(x, o)\n y = MatMul(z, wq) """
    found = block("int64[b,t] ids", f"float[b,t,{H * D}] y", body)
    assert units(found) == [9, C]
    proves(found, adds=1)  # epsilon is scaled for the narrower width


def test_a_gate_fused_with_its_up_projection_shares_units_with_it() -> None:
    body = "f0 = MatMul(x, fused)\n u, g0 = Split <axis = -1> (f0)\n g = Sigmoid(g0)\n f = Mul(u, g)\n"
    found = block(X, Y, body + "o = MatMul(f, down)\n" + END)
    assert units(found) == [9]
    assert found.prunable[0].span == 1
    proves(found)


def test_parallel_attention_and_feed_forward_share_the_stream() -> None:
    body = f"x = Gather <axis = 0> (table, ids)\n {SAME}{MHA}{attend('q', 'k', 'v')}"
    body += "u = MatMul(n, up)\n f = Relu(u)\n h = MatMul(f, down)\n z0 = Add(x, o)\n z = Add(z0, h)\n"
    body += "y = MatMul(z, gate)"
    found = block("int64[b,t] ids", "float[b,t,9] y", body)
    assert units(found) == [H, D, D, 9, C]
    proves(found)


@pytest.mark.parametrize("layernorm", ["refuse", "expand", "slice"])
def test_a_post_norm_stream_goes_only_as_its_norm_allows(layernorm: str) -> None:
    body = f"x = Gather <axis = 0> (table, ids)\n {SAME}{MHA}{attend('q', 'k', 'v')}"
    body += "z = Add(x, o)\n l = LayerNormalization(z, gain, shift)\n y = MatMul(l, gate)"
    options = Options(layernorm, layernorm == "slice")  # type: ignore[arg-type]
    found = block("int64[b,t] ids", "float[b,t,9] y", body, options)
    assert units(found) == [H, D, D] + ([] if layernorm == "refuse" else [C])
    proves(found, adds=3 if layernorm == "expand" else 0)


def test_one_table_for_words_and_logits_is_cut_for_both() -> None:
    body = "x = Gather <axis = 0> (table, ids)\n t = Transpose <perm = [1, 0]> (table)\n y = MatMul(x, t)"
    found = block("int64[b,t] ids", "float[b,t,7] y", body)
    assert units(found) == [C]
    small = cut(found, table=(0, 2, 3))
    shapes = {tuple(v.shape) for v in small.graph.initializers.values() if v.shape is not None}
    assert shapes <= {(7, 3), (3, 7)}
    proves(found)


def test_a_mask_is_as_long_as_past_and_present_together() -> None:
    """Positions come from the mask behind the past (OPT): its length is learned, or nothing fits."""
    body = """s0 = Shape(past)\n p0 = Gather <axis = 0> (s0, odds)\n p = Unsqueeze(p0, zero)
        c = CumSum(mask, odds)\n places = Slice(c, p, end, one)\n e = Gather <axis = 0> (table, places)
        x0 = Gather <axis = 0> (table, ids)\n n = Add(x0, e)\n k = MatMul(n, wk)
        now = Concat <axis = 1> (past, k)\n q = MatMul(n, wk2)\n kt = Transpose <perm = [0, 2, 1]> (now)
        s = MatMul(q, kt)\n m = Cast <to = 1> (mask)\n m1 = Unsqueeze(m, one)\n b = Add(s, m1)
        w = Softmax <axis = -1> (b)\n y = MatMul(w, now)"""
    inputs = f"int64[b,1] ids, int64[b,total] mask, float[b,past,{K * D}] past"
    outputs = f"float[b,1,{K * D}] y, float[b,all,{K * D}] now"
    text = f"({inputs}) => ({outputs}) {{ {body} }}"
    constants = {"odds": np.array(1), "one": np.array([1]), "zero": np.array([0]), "end": np.array([1 << 40])}
    found = sketch(text, None, 17, wk=(C, K * D), wk2=(C, K * D), table=(7, C), **constants)
    assert not found.sizes.failures
    assert C in units(found)
    assert analyse(found.model, None, infer(found.model, record_of)).groups
