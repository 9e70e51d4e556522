"""Biases are added where there is a place for them, and proved to be what was declared."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.errors import ArgumentError
from graphprune.ir.check import check
from graphprune.proof.biases import undeclared
from graphprune.prune.bias import with_biases
from graphprune.runtime.session import open_session
from tests.proof.building import model

Array = np.ndarray
B = np.array([0.5, -2.0, 3.0, 0.25], np.float32)
NCHW = B.reshape(-1, 1, 1)

CASES: dict[str, tuple[str, dict[str, object], str, Array, int]] = {
    # body, weights, biased value, what the output gains, nodes that are added
    "conv": (
        "(float[n,3,5,5] x) => (float[n,4,3,3] y) { y = Conv(x, w, b) }",
        {"w": (4, 3, 3, 3), "b": (4,)},
        "y",
        NCHW,
        0,
    ),
    "conv without bias": (
        "(float[n,3,5,5] x) => (float[n,4,3,3] y) { y = Conv(x, w) }",
        {"w": (4, 3, 3, 3)},
        "y",
        NCHW,
        0,
    ),
    "transposed conv": (
        "(float[n,3,5,5] x) => (float[n,4,7,7] y) { y = ConvTranspose(x, w) }",
        {"w": (3, 4, 3, 3)},
        "y",
        NCHW,
        0,
    ),
    "gemm": (
        "(float[n,6] x) => (float[n,4] y) { y = Gemm <transB = 1, beta = 0.5> (x, w, b) }",
        {"w": (4, 6), "b": (4,)},
        "y",
        B,
        0,
    ),
    "gemm with a scalar": (
        "(float[n,6] x) => (float[n,4] y) { y = Gemm(x, w, b) }",
        {"w": (6, 4), "b": np.float32(2)},
        "y",
        B,
        0,
    ),
    "gemm that ignores its bias": (
        "(float[n,6] x) => (float[n,4] y) { y = Gemm <beta = 0.0> (x, w) }",
        {"w": (6, 4)},
        "y",
        B,
        1,
    ),
    "gemm with a computed addend": (
        "(float[n,6] x, float[n,4] c) => (float[n,4] y) { y = Gemm(x, w, c) }",
        {"w": (6, 4)},
        "y",
        B,
        1,
    ),
    "gemm with its weight on the left": (
        "(float[6,n] x) => (float[4,n] y) { y = Gemm(w, x) }",
        {"w": (4, 6)},
        "y",
        B.reshape(-1, 1),
        1,
    ),
    "conv with a computed bias": (
        "(float[n,3,5,5] x, float[4] c) => (float[n,4,3,3] y) { y = Conv(x, w, c) }",
        {"w": (4, 3, 3, 3)},
        "y",
        NCHW,
        1,
    ),
    "matmul": (
        "(float[n,5,6] x) => (float[n,5,4] y) { y = MatMul(x, w) }",
        {"w": (6, 4)},
        "y",
        B,
        1,
    ),
    "matmul and add": (
        "(float[n,5,6] x) => (float[n,5,4] y) { a = MatMul(x, w)\n y = Add(b, a) }",
        {"w": (6, 4), "b": (4,)},
        "a",
        B,
        0,
    ),
    "matmul with its weight on the left": (
        "(float[n,6,5] x) => (float[n,4,5] y) { y = MatMul(w, x) }",
        {"w": (4, 6)},
        "y",
        B.reshape(-1, 1),
        1,
    ),
    "matmul that two nodes read": (
        "(float[n,6] x) => (float[n,4] y) { a = MatMul(x, w)\n c = Add(a, b)\n y = Sub(c, a) }",
        {"w": (6, 4), "b": (4,)},
        "a",
        np.zeros(4, np.float32),
        1,
    ),
    "an add that another product shares": (
        """(float[n,6] x) => (float[n,4] y, float[n,4] z) {
        a = MatMul(x, w)\n y = Add(a, b)\n c = MatMul(x, v)\n z = Add(c, b) }""",
        {"w": (6, 4), "v": (6, 4), "b": (4,)},
        "a",
        B,
        0,
    ),
    "an addend that is returned": (
        "(float[n,6] x) => (float[n,4] y, float[4] b) { a = MatMul(x, w)\n y = Add(a, b) }",
        {"w": (6, 4), "b": (4,)},
        "a",
        B,
        1,
    ),
    "a number that a caller may set": (
        "(float[n,6] x, float c) => (float[n,4] y) { a = MatMul(x, w)\n y = Add(a, c) }",
        {"w": (6, 4), "c": np.float32(2)},
        "a",
        B,
        1,
    ),
    "half precision": (
        "(float16[n,6] x) => (float16[n,4] y) { y = Gemm(x, w, b) }",
        {"w": np.ones((6, 4), np.float16), "b": np.ones(4, np.float16)},
        "y",
        B,
        0,
    ),
}


def built(name: str) -> tuple[ir.Model, str, Array, int]:
    body, weights, value, gain, nodes = CASES[name]
    return model(body, **weights), value, gain, nodes


def feeds(graph: ir.Model) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    shapes = {v: [d if isinstance(d, int) else 2 for d in v.shape or ()] for v in graph.graph.inputs}
    return {
        v.name or "": rng.standard_normal(s).astype((v.dtype or ir.DataType.FLOAT).numpy())
        for v, s in shapes.items()
    }


def outputs(graph: ir.Model) -> dict[str, Array]:
    return open_session(graph).run(feeds(graph))


@pytest.mark.parametrize("name", CASES)
def test_every_reader_sees_the_bias(name: str) -> None:
    dense, value, gain, nodes = built(name)
    before, count = outputs(dense), len(list(dense.graph))
    biased = with_biases(dense, {value: B})
    check(biased)
    after = outputs(biased)
    assert list(after) == list(before) and len(list(biased.graph)) == count + nodes
    for place, output in enumerate(before):
        wanted = before[output] + (gain if place == 0 else 0)
        np.testing.assert_allclose(after[output], wanted, rtol=2e-3 if after[output].itemsize == 2 else 1e-5)
        assert after[output].dtype == before[output].dtype
    same = outputs(dense)
    assert all(np.array_equal(before[output], same[output]) for output in before)


@pytest.mark.parametrize("name", CASES)
def test_the_proof_accepts_it_and_nothing_else(name: str) -> None:
    dense, value, _, _ = built(name)
    biased = with_biases(dense, {value: B})
    assert undeclared(dense, biased, {value: B}) == ()
    assert undeclared(dense, biased, {value: B + np.float32(0.5) * (np.arange(4) == 2)})
    assert undeclared(dense, biased, {})
    assert undeclared(dense, dense, {value: B})
    twice = with_biases(biased, {value: B}) if value in _values(biased) else None
    assert twice is None or undeclared(dense, twice, {value: B})


def _values(graph: ir.Model) -> set[str]:
    kinds = ("Conv", "ConvTranspose", "Gemm", "MatMul")
    return {node.outputs[0].name or "" for node in graph.graph if node.op_type in kinds}


def test_the_proof_sees_a_single_bit_and_a_stray_change() -> None:
    dense, value, _, _ = built("conv")
    for name in ("b", "w"):
        biased = with_biases(dense, {value: B})
        tensor = biased.graph.initializers[name]
        assert tensor.const_value is not None
        array = np.array(tensor.const_value.numpy())
        array.reshape(-1).view(np.uint32)[1] ^= 1
        tensor.const_value = ir.tensor(array, name=name)
        assert undeclared(dense, biased, {value: B})


def test_the_proof_sees_nodes_that_are_missing_at_the_end() -> None:
    dense, value, _, _ = built("matmul that two nodes read")
    biased = with_biases(dense, {value: B})
    last = biased.graph[-1]
    biased.graph.outputs[0] = last.inputs[0]  # type: ignore[assignment]
    biased.graph.remove(last, safe=True)
    (problem,) = undeclared(dense, biased, {value: B})
    assert problem == "Sub of 'y' has no counterpart in the model with biases"


@pytest.mark.parametrize("readers", ["y = Add(a, b)", "c = Add(a, b)\n y = Relu(c)"])
def test_a_bias_is_none_of_a_product_that_is_returned_as_well(readers: str) -> None:
    """The constant behind it is added to one reader; what a caller gets would go without."""
    dense = model(
        f"(float[n,6] x) => (float[n,4] y, float[n,4] a) {{ a = MatMul(x, w)\n {readers} }}", w=(6, 4), b=(4,)
    )
    wrong = dense.clone()
    held = wrong.graph.initializers["b"]
    assert held.const_value is not None
    held.const_value = ir.tensor(held.const_value.numpy() + B, name="b")
    assert (
        undeclared(dense, wrong, {"a": B}) and undeclared(dense, with_biases(dense, {"a": B}), {"a": B}) == ()
    )


def test_the_proof_sees_an_add_that_some_readers_miss() -> None:
    dense, value, _, _ = built("matmul that two nodes read")
    biased = with_biases(dense, {value: B})
    last = next(node for node in biased.graph if node.op_type == "Sub")
    product = next(node for node in biased.graph if node.op_type == "MatMul")
    last.replace_input_with(1, product.outputs[0])
    assert undeclared(dense, biased, {value: B})


@pytest.mark.parametrize("value", ["y", "nothing"])
def test_a_bias_of_zeros_declares_no_other_constant(value: str) -> None:
    dense, _, _, _ = built("conv")
    wrong = dense.clone()
    held = wrong.graph.initializers["b"]
    assert held.const_value is not None
    held.const_value = ir.tensor(held.const_value.numpy() + B, name="b")
    found = undeclared(dense, wrong, {value: np.zeros(4, np.float32)})
    assert len(found) == 1 and "no bias explains it" in found[0]


def test_a_bias_that_rounds_away_is_there() -> None:
    dense, value, _, _ = built("conv")
    tiny = np.full(4, 1e-30, np.float32)
    assert undeclared(dense, with_biases(dense, {value: tiny}), {value: tiny}) == ()


def test_several_biases_at_once() -> None:
    dense = model(
        "(float[n,6] x) => (float[n,4] y) { a = MatMul(x, w)\n b = Relu(a)\n y = MatMul(b, v) }",
        w=(6, 4),
        v=(4, 4),
    )
    both = {"a": B, "y": -B}
    biased = with_biases(with_biases(dense, {"a": B}), {})
    assert undeclared(dense, with_biases(dense, both), both) == ()
    assert undeclared(dense, biased, both) and undeclared(dense, with_biases(dense, both), {"a": B})


@pytest.mark.parametrize(
    ("biases", "words"),
    [
        ({"nothing": B}, "no Conv, Gemm or MatMul"),
        ({"x": B}, "no Conv, Gemm or MatMul"),
        ({"y": B[:3]}, "4 channels"),
    ],
)
def test_what_cannot_be_added_is_refused(biases: dict[str, Array], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        with_biases(built("gemm")[0], biases)


def test_a_sum_of_an_earlier_step_is_part_of_the_dense_model() -> None:
    """It is inserted, too, by its name, and not new: what a later step adds stands beside it."""
    first = model(
        "(float[n,6] x) => (float[n,4] y) { a = MatMul(x, w)\n b = Relu(a)\n y = MatMul(b, v) }",
        w=(6, 4),
        v=(4, 4),
    )
    dense = with_biases(first, {"a": B})
    biased = with_biases(dense, {"y": 2 * B})
    assert undeclared(dense, dense, {}) == undeclared(dense, biased, {"y": 2 * B}) == ()
    assert undeclared(dense, biased, {"y": B})
    assert undeclared(dense, first, {})
