"""Parts of samples: disjoint, seeded, and in blocks where neighbours tell of each other."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx_ir as ir

from graphprune.runtime.ordered import parts
from tests.proof.building import model


def net() -> ir.Model:
    return model("(float[n,6] x) => (float[n,4] y) {\ny = MatMul(x, w)\n}", 21, w=(6, 4))


def taken(x: np.ndarray, sizes: tuple[int, ...] = (50, 50), seed: int = 0) -> tuple[list[np.ndarray], int]:
    found, width = parts([{"x": x}], net(), sizes, seed)
    return [np.concatenate(each) for each in found], width


def random(count: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 6)).astype(np.float32)


def test_parts_are_disjoint_of_their_size_and_the_seeds_own() -> None:
    (one, two), width = taken(random(200))
    assert width == 1 and one.sum() == two.sum() == 50 and not (one & two).any()
    assert (taken(random(200))[0][0] == one).all()
    assert not (taken(random(200), seed=1)[0][0] == one).all()


def test_samples_in_an_order_stay_together_in_blocks() -> None:
    walk = np.cumsum(random(480), axis=0)
    (one, two), width = taken(walk, (120, 120))
    assert width == 10
    borders = sum(a != b for each in (one, two) for a, b in pairwise(each.tolist()))
    assert one.sum() == two.sum() == 120 and borders <= 2 * 2 * 12
