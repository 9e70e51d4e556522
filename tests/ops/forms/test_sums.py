"""What a node of its own adds to a product."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.ops.forms.sums import added, adder
from tests.proof.building import parsed

GRAPH = "(float[n,6] x) => (float[n,4] y) {{ h = MatMul(x, w)\n {0} }}"


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ("y = Add(h, b)", "b"),
        ("y = Add(b, h)", "b"),
        ("y = Sum(h, b)", None),  # the proof knows no bias there
        ("y = Sub(h, b)", None),
        ("z = Add(h, b)\n y = Add(z, h)", None),
        ("y = Add(h, h)\n z = Neg(b)", None),
    ],
)
def test_only_an_add_that_alone_reads_a_product_holds_its_bias(body: str, name: str | None) -> None:
    model = parsed(GRAPH.format(body), 21, np.float32, w=(6, 4), b=(4,))
    product = model.graph[0].outputs[0]
    found, place = added(product), adder(product)
    assert (None if found is None else found.name) == name
    assert place is None or place.value is found


def test_a_product_that_is_returned_as_it_is_has_none() -> None:
    model = parsed(
        "(float[n,6] x) => (float[n,4] h, float[n,4] y) { h = MatMul(x, w)\n y = Add(h, b) }",
        21,
        np.float32,
        w=(6, 4),
        b=(4,),
    )
    assert adder(model.graph[0].outputs[0]) is None
