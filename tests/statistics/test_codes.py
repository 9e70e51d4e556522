"""Weights of products of codes, in real units, against their definition: (code - zero point) * scale."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.statistics.sites import Site, find_sites
from tests.proof.building import parsed

Array = np.ndarray
draw = np.random.default_rng(5)
FILTERS = draw.integers(0, 255, (4, 3, 2, 2)).astype(np.uint8)
MATRIX = draw.integers(0, 255, (6, 4)).astype(np.uint8)
ZEROS = np.array([7, 90, 128, 3], np.uint8)
SCALES = np.array([0.5, 0.25, 1, 2], np.float32)
BIAS = np.arange(4, dtype=np.int32)
ONE, NONE, X_SCALE = np.array(0.5, np.float32), np.array(0, np.uint8), np.array(0.125, np.float32)
BEHIND = "f = Cast <to = 1> (p)\n a = Mul(xs, s)\n y = Mul(f, a)"


def site(body: str, shape: str, **weights: object) -> Site:
    (found,) = find_sites(parsed(f"(float[{shape}] x) => (float y) {{ {body} }}", 21, np.float32, **weights))
    return found


def real(codes: Array, axis: int, scale: Array) -> Array:
    """With zero points, and scales if there are several, along an axis."""
    shape = [-1 if at == axis else 1 for at in range(codes.ndim)]
    factor = scale.reshape(shape) if scale.size > 1 else scale
    return (codes.astype(np.float32) - ZEROS.astype(np.float32).reshape(shape)) * factor


@pytest.mark.parametrize(
    ("operator", "scale"), [("ConvInteger", ONE), ("MatMulInteger", ONE), ("MatMulInteger", SCALES)]
)
def test_integers_whose_scale_is_multiplied_in_behind_them(operator: str, scale: Array) -> None:
    window = operator == "ConvInteger"
    body = f"xq, xs, xz = DynamicQuantizeLinear(x)\n p = {operator}(xq, q, xz, z)\n {BEHIND}"
    codes = FILTERS if window else MATRIX
    found = site(body, "n,3,5,5" if window else "n,6", q=codes, z=ZEROS, s=scale)
    wanted = real(codes, 0 if window else 1, scale)
    np.testing.assert_allclose(found.dense[0], wanted.reshape(4, -1) if window else wanted.T)


@pytest.mark.parametrize("across", [0, 1])
@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_a_gemm_of_codes_and_its_bias_share_their_factor(across: int, alpha: float) -> None:
    codes = MATRIX.T.copy() if across else MATRIX
    body = f"""xq = QuantizeLinear(x, xs, xz)
        y = com.microsoft.QGemm <transB = {across}, alpha = {alpha}> (xq, xs, xz, q, s, z, c, xs, xz)"""
    known = {"q": codes, "s": SCALES, "z": ZEROS, "c": BIAS, "xs": X_SCALE, "xz": NONE}
    found = site(body, "n,6", **known)
    np.testing.assert_allclose(found.dense[0], real(MATRIX, 1, SCALES).T * np.float32(alpha))
    assert found.held is not None and found.bias_scale == alpha
    np.testing.assert_allclose(found.held.read().reshape(-1), BIAS * X_SCALE * SCALES)


def test_a_convolution_of_codes_and_its_bias() -> None:
    body = "xq = QuantizeLinear(x, xs, xz)\n y = QLinearConv(xq, xs, xz, q, s, z, xs, xz, c)"
    known = {"q": FILTERS, "s": SCALES, "z": ZEROS, "c": BIAS, "xs": X_SCALE, "xz": NONE}
    found = site(body, "n,3,5,5", **known)
    np.testing.assert_allclose(found.dense[0], real(FILTERS, 0, SCALES).reshape(4, -1))
    assert found.held is not None and found.hidden and found.reads is not None
    np.testing.assert_allclose(found.held.read().reshape(-1), BIAS * X_SCALE * SCALES)
    np.testing.assert_allclose(found.numbers(np.array([0, 8])), [0, 1])
