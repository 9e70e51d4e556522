"""Scales name the axis that they fit, where there is only one."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.ir.scales import fit_scales
from tests.proof.building import parsed

CODES = {"a": np.zeros((1, 6), np.int32), "b": np.zeros((6, 6), np.int32), "c": np.zeros((2, 6, 3), np.int32)}


@pytest.mark.parametrize(
    ("codes", "scales", "axis", "found"),
    [
        ("a", 6, 0, 1),
        ("c", 6, 0, 1),
        ("c", 3, 1, 2),
        ("c", 2, -1, 0),
        ("a", 6, 1, 1),
        ("a", 6, -1, -1),
        ("a", 1, 0, 0),
        ("a", 5, 0, 0),
        ("b", 6, 0, 0),
        ("c", 6, 3, 1),
    ],
)
def test_an_axis_is_named_where_the_named_one_is_not_as_long(
    codes: str, scales: int, axis: int, found: int
) -> None:
    text = (
        f"(float[n] x) => (float[k] y) {{ d = DequantizeLinear <axis = {axis}> ({codes}, s) y = Shape(d) }}"
    )
    one = parsed(text, 17, **{codes: CODES[codes], "s": np.ones(scales, np.float32)})
    decoder = next(iter(one.graph))
    assert fit_scales(one) == (("DequantizeLinear",) if axis != found else ())
    assert decoder.attributes["axis"].as_int() == found


def test_of_two_axes_that_fit_none_is_named() -> None:
    text = "(float[n] x) => (float[k] y) { d = DequantizeLinear <axis = 1> (q, s) y = Shape(d) }"
    one = parsed(text, 17, q=np.zeros((6, 2, 6), np.int32), s=np.ones(6, np.float32))
    assert fit_scales(one) == ()


@pytest.mark.parametrize(
    ("text", "opset"),
    [
        ("d = DequantizeLinear <axis = 0, block_size = 1> (q, s)", 21),
        ("c = Cast <to = 6> (x) d = DequantizeLinear <axis = 0> (c, s)", 17),
        ("d = DequantizeLinear (q, s)", 12),
    ],
    ids=["blocks", "computed", "before axes"],
)
def test_what_is_no_stored_scale_per_slot_stays(text: str, opset: int) -> None:
    whole = f"(float[1,6] x) => (float[k] y) {{ {text} y = Shape(d) }}"
    codes = {} if "Cast" in text else {"q": CODES["a"]}
    one = parsed(whole, opset, s=np.ones(6, np.float32), **codes)
    before = [dict(node.attributes) for node in one.graph]
    assert fit_scales(one) == ()
    assert [dict(node.attributes) for node in one.graph] == before
