"""Masks of weights that are stored in another form: the zeros are those that the node multiplies with."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.errors import PromiseError
from graphprune.statistics.sites import Site, find_sites
from tests.axes.claims import weight
from tests.proof.building import model

from .mask_graphs import compiled, zeros

Array = np.ndarray
BODY = """(float[n,8] x) => (float[n,4] y) {
    FORM\n a = MatMul(x, w)\n b = Relu(a)\n c = MatMul(b, free)\n d = Relu(c)\n y = MatMul(d, last) }"""
SCALES = np.linspace(0.01, 0.03, 12, dtype=np.float32)
CODES = np.random.default_rng(0).integers(1, 100, (8, 12)).astype(np.int8)
CODES[::2] *= -1
HALVES = np.random.default_rng(1).standard_normal((8, 12)).astype(np.float16)
FORMS: dict[str, tuple[str, dict[str, Array]]] = {
    "a scale": ("w = DequantizeLinear(q, s)", {"q": CODES, "s": SCALES[0]}),
    "a scale per output": ("w = DequantizeLinear <axis = 1> (q, s)", {"q": CODES, "s": SCALES}),
    "zero points of 0": (
        "w = DequantizeLinear <axis = 1> (q, s, z)",
        {"q": CODES, "s": SCALES, "z": np.zeros(12, np.int8)},
    ),
    "transposed": (
        "t = DequantizeLinear <axis = 0> (q, s)\n w = Transpose(t)",
        {"q": CODES.T.copy(), "s": SCALES},
    ),
    "reshaped": (
        "t = DequantizeLinear <axis = 2> (q, s)\n w = Reshape(t, to)",
        {"q": CODES[:, None], "s": SCALES, "to": np.array([8, 12])},
    ),
    "cast": ("w = Cast <to = 1> (q)", {"q": HALVES}),
}
EVERY = (
    "magnitude(budget=uniform)",
    "nowag",
    "sparsegpt",
    "wanda(repair=refit)",
    "wanda(pattern=2:4)",
)


def built(form: str) -> ir.Model:
    steps, held = FORMS[form]
    return model(BODY.replace("FORM", steps), 21, free=(12, 12), last=(12, 4), **held)


def plain(form: str) -> ir.Model:
    """The same with the weight that the form stands for."""
    dense = first(built(form)).dense[0].T.copy()
    return model(BODY.replace("FORM", ""), 21, w=dense, free=(12, 12), last=(12, 4))


def first(of: ir.Model) -> Site:
    return next(site for site in find_sites(of) if site.weight.name == "q")


def inputs() -> dict[str, Array]:
    draw = np.random.default_rng(2)
    return {"x": (draw.standard_normal((48, 5)) @ draw.standard_normal((5, 8))).astype(np.float32)}


@pytest.mark.parametrize(
    ("form", "text"),
    [*((form, "wanda") for form in FORMS), *(("a scale per output", text) for text in EVERY)],
)
def test_half_goes_and_the_node_sees_it(form: str, text: str) -> None:
    result = compiled(built(form), text, inputs())
    stored = weight(result.model, "q")
    assert stored.dtype == FORMS[form][1]["q"].dtype
    seen = first(result.model).dense
    if text == "sparsegpt" or "refit" in text:  # what stays moves, on a grid perhaps to zero
        assert 0.5 <= np.mean(stored == 0) < 0.6
        assert np.array_equal(np.sort(stored.ravel() == 0), np.sort(seen.ravel() == 0))
        return
    assert zeros(result, "q") == 0.5
    twin = weight(compiled(plain(form), text, inputs()).model, "w")
    np.testing.assert_array_equal(seen[0].T, twin, "the mask of the weight that it stands for")


def test_where_zero_is_no_code_of_zero_one_line_says_so() -> None:
    asymmetric = model(
        BODY.replace("FORM", "w = DequantizeLinear(q, s, z)"),
        21, q=CODES, s=SCALES[0], z=np.array(3, np.int8), free=(12, 12), last=(12, 4),
    )  # fmt: skip
    told = [line for line in compiled(asymmetric, "magnitude").report.warnings if "'q'" in line]
    assert told == ["left alone: 'q': quantised with zero points that a zero is none of; dequantize it first"]


def test_a_model_of_integer_products_says_why_there_is_nothing_to_mask() -> None:
    codes = {f"w{n}": np.ones(shape, np.uint8) for n, shape in ((1, (8, 12)), (2, (12, 4)))}
    dense = model(
        """(float[n,8] x) => (float[n,4] y) {
        q, s, z = DynamicQuantizeLinear(x)\n i = MatMulInteger(q, w1, z)\n f = Cast <to = 1> (i)\n r = Relu(f)
        p, t, u = DynamicQuantizeLinear(r)\n j = MatMulInteger(p, w2, u)\n y = Cast <to = 1> (j) }""",
        21,
        **codes,
    )
    with pytest.raises(PromiseError, match="multiplied so by MatMulInteger; masks reach what Dequantize"):
        compiled(dense, "magnitude")
