"""Inputs that spell out sizes: those read from a Shape while the model runs follow a cut by themselves."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.axes import Analysis
from graphprune.runtime.session import open_session
from tests.axes.claims import cut, sketch, weight

TWICE = "h = Gather(s, first)\n t = Concat <axis = 0> (s, h)\n p = Gather(t, order)\n c = Reshape(b, p)"


@pytest.mark.parametrize("way", ["p = Gather(s, order)\n c = Reshape(b, p)", "c = Reshape(b, s)", TWICE])
def test_a_shape_that_is_read_while_the_model_runs_is_not_corrected(way: str) -> None:
    analysis = sketch(
        f"(float[n,4] x) => (float[n,3] y) {{ a = MatMul(x, u)\n s = Shape(a)\n b = Relu(a)\n {way}\n "
        "y = MatMul(c, v) }",
        u=(4, 6),
        v=(6, 3),
        **({"order": np.array([2, 1] if way == TWICE else [0, 1])} if "order" in way else {}),
        **({"first": np.array([0])} if way == TWICE else {}),
    )
    small = cut(analysis, u=(0, 2, 5))
    assert len(list(small.graph)) == len(list(analysis.model.graph))
    (found,) = open_session(small).run({"x": np.ones((2, 4), np.float32)}).values()
    assert found.shape == (2, 3)


def test_a_shape_that_is_sliced_by_steps_and_no_axes_is_not_corrected() -> None:
    """An input that is left out hands nothing on."""
    analysis = sketch(
        """(float[n,4] x) => (float[n,3] y) { a = MatMul(x, u)\n s = Shape(a)\n t = Concat <axis = 0> (s, s)
        p = Slice(t, from, to, , by)\n b = Relu(a)\n c = Reshape(b, p)\n y = MatMul(c, v) }""",
        **{"u": (4, 6), "v": (6, 3), "from": np.array([0]), "to": np.array([2]), "by": np.array([1])},
    )
    small = cut(analysis, u=(0, 2, 5))
    assert len(list(small.graph)) == len(list(analysis.model.graph))
    follows(analysis)


@pytest.mark.parametrize("factor", ["one", "ones"])
def test_a_shape_that_is_computed_while_the_model_runs_is_corrected(factor: str) -> None:
    """Arithmetic on a Shape sees the dense sizes, and what comes out counts the slots that stay."""
    analysis = sketch(
        f"(float[n,4] x) => (float[n,3] y) {{ a = MatMul(x, u)\n s = Shape(a)\n t = Mul(s, {factor})\n "
        "b = Relu(a)\n c = Reshape(b, t)\n y = MatMul(c, v) }",
        u=(4, 6),
        v=(6, 3),
        **{factor: np.array(1) if factor == "one" else np.array([1, 1])},
    )
    follows(analysis)
    small = cut(analysis, u=(0, 2, 5))
    (found,) = open_session(small).run({"x": np.ones((2, 4), np.float32)}).values()
    assert found.shape == (2, 3)


SPLIT = """(float[n,4] x) => (float[n,3] y) { a = MatMul(x, u)\n s = Shape(x)\n f = Gather(s, first)
    t = Concat <axis = 0> (f, whole)\n c = Reshape(a, t)\n y = MatMul(c, v) }"""


def test_the_constant_piece_of_a_shape_with_one_reader_is_rewritten_in_place() -> None:
    analysis = sketch(SPLIT, u=(4, 6), v=(6, 3), first=np.array([0]), whole=np.array([6]))
    small = cut(analysis, u=(0, 2, 5))
    assert len(list(small.graph)) == len(list(analysis.model.graph))
    follows(analysis)


def test_pieces_of_a_shape_with_two_readers_stay_as_the_other_reads_them() -> None:
    """Only one of the two layers is cut; what both are reshaped to has one name."""
    analysis = sketch(
        """(float[n,4] x) => (float[n,3] y, float[n,2] z) { a = MatMul(x, u)\n s = Shape(x)
        f = Gather(s, first)\n t = Concat <axis = 0> (f, whole)\n c = Reshape(a, t)\n y = MatMul(c, v)
        b = MatMul(x, w)\n d = Reshape(b, t)\n z = MatMul(d, q) }""",
        u=(4, 6), v=(6, 3), w=(4, 6), q=(6, 2), first=np.array([0]), whole=np.array([6]),
    )  # fmt: skip
    follows(analysis)
    small = cut(analysis, u=(0, 2, 5))
    found = open_session(small).run({"x": np.ones((2, 4), np.float32)})
    assert [found[name].shape for name in "yz"] == [(2, 3), (2, 2)]


def follows(analysis: Analysis) -> None:
    """The cut model gives what the dense one gives with the weights of the removed Units set to zero."""
    feeds = {"x": np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)}
    small = cut(analysis, u=(0, 2, 5))
    zeroed = weight(analysis.model, "u").copy()
    zeroed[:, [1, 3, 4]] = 0
    analysis.model.graph.initializers["u"].const_value = ir.tensor(zeroed, name="u")
    dense = open_session(analysis.model).run(feeds)
    for name, found in open_session(small).run(feeds).items():
        np.testing.assert_allclose(found, dense[name], rtol=1e-5, atol=1e-6)
