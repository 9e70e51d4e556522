"""Where what a layer makes is read: behind activations, whatever their kind."""

from __future__ import annotations

import pytest

from graphprune.prune.evidence import joined, settled
from tests.proof.building import model


@pytest.mark.parametrize(
    "activation", ["Relu(m)", "Softsign(m)", "Shrink(m)", "Sum(m, b)", "com.microsoft.BiasGelu(m, b)"]
)
def test_a_value_settles_behind_the_activation_that_alone_reads_it(activation: str) -> None:
    weights = {"w": (6, 4), "v": (4, 3)} | ({"b": (4,)} if "b)" in activation else {})
    graph = model(
        f"(float[2,6] x) => (float[2,3] y) {{ m = MatMul(x, w) a = {activation} y = MatMul(a, v) }}",
        **weights,
    ).graph
    value = graph[0].outputs[0]
    assert settled(value).name == "a"
    assert joined(value).name == ("a" if "Sum" in activation else "m")


@pytest.mark.parametrize("reader", ["Softmax(m)", "Mul(m, m)", "Exp(m)"])
def test_what_mixes_or_squares_is_no_activation(reader: str) -> None:
    graph = model(
        f"(float[2,6] x) => (float[2,3] y) {{ m = MatMul(x, w) a = {reader} y = MatMul(a, v) }}",
        w=(6, 4),
        v=(4, 3),
    ).graph
    assert settled(graph[0].outputs[0]).name == "m"
