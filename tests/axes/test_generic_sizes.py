"""Sizes at two generic points say what is static, and only that."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.ir.shapes import infer
from graphprune.ops import record_of
from tests.proof.building import model

# Only heights of 17 to 32 leave the one row that Squeeze takes, so the two generic heights are close.
NARROW = """(float[n,3,h,64] x) => (float[n,4,w] y, int64[2] s) {
    a = Conv <strides = [2, 1], kernel_shape = [1, 1]> (x, w1)
    b = Relu(a)
    c = MaxPool <strides = [2, 1], kernel_shape = [1, 1]> (b)
    s = Shape <start = 1, end = 3> (c)
    d = MaxPool <strides = [16, 1], kernel_shape = [1, 1]> (c)
    y = Squeeze(d, axes)
}"""


@pytest.fixture
def narrow():
    return model(NARROW, w1=(4, 3, 1, 1), axes=np.array([2]))


def test_generic_sizes_that_meet_behind_strides_are_not_static(narrow):
    sizes = infer(narrow, record_of)
    assert not sizes.failures
    values = {value.name: value for node in narrow.graph for value in node.outputs}
    (channels, rows) = sizes.data[values["s"]].dynamic
    a, b = sizes.shapes[values["c"]][2]
    assert a == b, "this test needs two heights that meet"
    assert rows and not channels
    assert sizes.data[values["s"]].doubtful
