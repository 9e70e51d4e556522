"""The report of a mask: counts and compression that were measured, and which nodes could run 2:4."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from graphprune.pipeline import zeros
from tests.proof.building import model

TEXT = """(float[n,8] x, float[n,4,6,6] image) => (float[n,6] y, float[n,4,6,6] z) {
    a = MatMul(x, good)\n b = Relu(a)\n c = MatMul(b, dense)\n d = Relu(c)\n y = MatMul(d, odd)
    z = Conv<pads = [1,1,1,1]>(image, conv)
}"""


def two_of_four(shape: tuple[int, ...], axis: int) -> np.ndarray:
    array = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    keep = np.arange(shape[axis]) % 4 < 2
    return array * keep.reshape([-1 if a == axis else 1 for a in range(len(shape))])


def test_nodes_that_could_run_two_of_four() -> None:
    dense = model(
        TEXT, good=two_of_four((8, 8), 0), dense=(8, 7), odd=(7, 6), conv=two_of_four((4, 4, 3, 3), 1)
    )
    found = {node.weight: node for node in zeros.sparse_nodes(dense)}
    assert {name for name, node in found.items() if node.eligible} == {"good", "conv"}
    assert "more than 2" in found["dense"].why and "7 input channels" in found["odd"].why


def test_the_outputs_are_not_the_reduction_axis() -> None:
    dense = model(
        TEXT, good=two_of_four((8, 8), 1), dense=(8, 7), odd=(7, 6), conv=two_of_four((4, 4, 3, 3), 0)
    )
    assert not any(node.eligible for node in zeros.sparse_nodes(dense))


def test_the_last_row_counts() -> None:
    array = two_of_four((8, 4096), 0)
    array[:, -1] = 1
    dense = model("(float[n,8] x) => (float[n,4096] y) { y = MatMul(x, w) }", w=array)
    (node,) = zeros.sparse_nodes(dense)
    assert not node.eligible


def test_compression_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    array = two_of_four((256, 256), 0)
    dense = model("(float[n,256] x) => (float[n,256] y) { y = MatMul(x, w) }", w=array)
    found = zeros.count(dense, ["w"])
    assert found.sampled == 1
    assert found.compressed == pytest.approx(len(zlib.compress(array.tobytes(), 1)), rel=1e-3)
    assert (found.masked, found.zeros, found.bytes) == (65536, 32768, 262144)
    monkeypatch.setattr(zeros, "_SAMPLE", 65536)
    monkeypatch.setattr(zeros, "_CHUNK", 16384)
    part = zeros.count(dense, ["w"])
    assert part.sampled == 0.25 and part.compressed == pytest.approx(found.compressed, rel=0.1)
