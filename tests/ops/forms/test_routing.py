"""Tokens that NonZero picks for an expert: as many as a router sends, where it takes a constant number."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.axes.analyse import Analysis, analyse
from graphprune.axes.cost import CostModel, cost
from tests.axes.claims import sketch

TOKENS, D, H, E, K = 15, 6, 9, 4, 2
ROUTER = "p = Softmax(l)\n best, index = TopK <axis = -1> (p, k)\n"
HOT = ROUTER + "hot = OneHot <axis = -1> (index, depth, onoff)\n mask = Transpose <perm = [2, 1, 0]> (hot)\n"


def mixture(router: str, mask: str, graph_input: str = "", **more: object) -> Analysis:
    """Experts that read the rows which NonZero finds in a mask of their own, and add to a stream."""
    body, stream = f"l = MatMul(x, gate)\n {router}", "x"
    for e in range(E):
        body += f"""{mask.format(e=e)}\n at{e} = NonZero(m{e})\n s{e}, t{e} = Split <axis = 0> (at{e}, halves)
            i{e} = Squeeze(t{e}, zero)\n h{e} = Gather(x, i{e})\n u{e} = MatMul(h{e}, up{e})
            r{e} = Relu(u{e})\n d{e} = MatMul(r{e}, down{e})\n j{e} = Unsqueeze(i{e}, last)
            o{e} = ScatterND <reduction = "add"> ({stream}, j{e}, d{e})\n """
        stream = f"o{e}"
    weights = {f"up{e}": (D, H) for e in range(E)} | {f"down{e}": (H, D) for e in range(E)}
    numbers = {f"e{e}": np.array(e) for e in range(E)} | {"zero": np.array([0]), "last": np.array([1])}
    numbers |= {"halves": np.array([1, 1]), "k": np.array([K]), "depth": np.array(E)}
    text = (
        f"(float[{TOKENS},{D}] x{graph_input}) => (float[{TOKENS},3] y) {{ {body} y = MatMul({stream}, w) }}"
    )
    given = {"gate": (D, E), "w": (D, 3), "onoff": np.array([0, 1]), **weights, **numbers, **more}
    read = {name: array for name, array in given.items() if f"{name})" in text or f"{name}," in text}
    return sketch(text, **{name: array for name, array in read.items() if f"] {name}" not in text})


EQUAL = "q{e} = Equal(index, e{e})\n m{e} = Transpose(q{e})"
GATHERED = "g{e} = Gather <axis = 0> (mask, e{e})\n m{e} = Cast <to = 9> (g{e})"


@pytest.mark.parametrize(("router", "mask"), [(ROUTER, EQUAL), (HOT, GATHERED)])
def test_a_mixture_counts_the_experts_that_a_token_takes(router: str, mask: str) -> None:
    """30 rows of 4 experts: 8, 8, 7 and 7."""
    analysis = mixture(router, mask)
    experts = sum(D * H + H * D for _ in range(TOKENS) for _ in range(K))
    assert cost(analysis.model, {}).macs == TOKENS * D * E + experts + TOKENS * D * 3
    assert CostModel(analysis, {}).unknown == ()


def test_what_is_counted_is_not_taken_for_static() -> None:
    analysis = mixture(ROUTER, EQUAL)
    rows = next(value for node in analysis.model.graph for value in node.outputs if value.name == "h0")
    shape = analyse(analysis.model).sizes.shapes[rows]
    assert shape is not None
    assert shape[0][0] != shape[0][1]


@pytest.mark.parametrize(
    ("router", "mask", "more"),
    [
        (ROUTER, EQUAL, ", int64[1] k"),
        (HOT.replace("perm = [2, 1, 0]", "perm = [1, 0, 2]"), GATHERED.replace("e{e})", "zero)"), ""),
        (ROUTER + "many = Greater(p, half)\n", "m{e} = Identity(many)", ""),
    ],
    ids=["as many experts as a caller says", "a row of choices", "a threshold"],
)
def test_what_the_data_decide_is_unknown(router: str, mask: str, more: str) -> None:
    analysis = mixture(router, mask, more, half=np.array(0.5, np.float32))
    assert cost(analysis.model, {}).macs is None
