"""Every weight that a product reads is masked, or it is said why not."""

from __future__ import annotations

import numpy as np

from graphprune.prune.masks.layers import Choice, find_layers
from graphprune.statistics.sites import find_sites
from tests.proof.building import parsed


def test_weights_that_are_no_matrix_of_a_site_are_named_with_the_reason() -> None:
    """Computed in one step and in two, of an Einsum, in a branch; and one that nothing follows."""
    model = parsed(
        """(float[4,6] x, bool c) => (float[4,6] y) { [one] a = MatMul(x, w1)
            t = Abs(w2)\n [two] b = MatMul(a, t)
            u = Transpose(w3)\n v = Neg(u)\n [three] d = MatMul(b, v)
            [four] e = Einsum <equation = "nc,cd->nd"> (d, w4)
            [five] f = If (c) <then_branch = g () => (float[4,6] p) { [six] p = MatMul(e, w5) },
                else_branch = h () => (float[4,6] q) { q = Neg(e) }>
            [seven] i = MatMul(f, w6)\n k = Add(i, table)\n y = Add(k, f) }""",
        w1=(6, 6), w2=(6, 6), w3=(6, 6), w4=(6, 6), w5=(6, 6), w6=(6, 6), table=(4, 6),
    )  # fmt: skip
    layers, left = find_layers(model, find_sites(model), Choice())
    assert [layer.name for layer in layers] == ["w1"]
    assert {each.name: each.why for each in left} == {
        "w6": "the last layer (head=true masks it)",
        "t": "computed by Abs",
        "v": "computed by Neg",
        "w4": "Einsum of FLOAT with 2 axes",
        "w5": "inside a subgraph (MatMul)",
    }


def test_a_layer_counts_as_followed_where_what_follows_it_is_no_site() -> None:
    """Of two products in a row the first is followed, also where the second takes its weight quantised."""
    model = parsed(
        """(float[4,6] x) => (float[4,3] y) { a = MatMul(x, w)\n r = Relu(a)
        v = DequantizeLinear(q, scale)\n y = MatMul(r, v) }""",
        w=(6, 6), q=np.ones((6, 3), np.int8), scale=np.float32(0.5),
    )  # fmt: skip
    layers, _ = find_layers(model, find_sites(model), Choice())
    assert [layer.name for layer in layers] == ["w"]


def test_a_layer_counts_as_followed_by_a_weight_of_any_operator() -> None:
    model = parsed(
        """(float[4,6] x) => (float[4,3] y) { a = MatMul(x, w)\n r = Relu(a)
        y = Einsum <equation = "nc,cd->nd"> (r, v) }""",
        w=(6, 6), v=(6, 3),
    )  # fmt: skip
    layers, left = find_layers(model, find_sites(model), Choice())
    assert [layer.name for layer in layers] == ["w"]
    assert {each.name: each.why for each in left} == {"v": "Einsum of FLOAT with 2 axes"}


def test_readers_of_a_weight_must_see_one_matrix() -> None:
    text = """(float[4,6] x) => (float[4,3] y) { a = Gemm <transB = FIRST> (x, w)\n r = Relu(a)
        b = Gemm <transB = SECOND> (r, w)\n s = Relu(b)\n y = MatMul(s, v) }"""
    for first, second in ((0, 0), (1, 1), (0, 1), (1, 0)):
        model = parsed(text.replace("FIRST", str(first)).replace("SECOND", str(second)), w=(6, 6), v=(6, 3))
        layers, left = find_layers(model, find_sites(model), Choice(head=True))
        why = {each.name: each.why for each in left}
        assert why == ({} if first == second else {"w": "its readers see different matrices"})
        assert [layer.name for layer in layers] == (["w", "v"] if first == second else ["v"])
