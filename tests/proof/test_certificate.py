"""The certificate's own arithmetic, against loops: slices, differences, numbers of attributes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphprune.proof.certificate import _difference, sliced

Array = np.ndarray


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([1, 2, 3]), st.integers(1, 3), st.integers(1, 4), st.integers(0, 3), st.integers(0, 99)
)
def test_rows_of_a_block_are_read_through_its_stretch_of_the_mask(
    blocks: int, height: int, width: int, which: int, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    dense = draw.standard_normal((blocks * height, width, 2))
    rows = np.concatenate([draw.permutation(np.arange(height) < max(1, height - 1)) for _ in range(blocks)])
    columns = np.concatenate([draw.permutation(np.arange(width) < max(1, width - 1)) for _ in range(blocks)])
    masks = [rows if which & 1 else None, columns if which & 2 else None, None]
    wanted = []
    for row in range(blocks * height):
        if masks[0] is None or rows[row]:
            block = row // height
            kept = [c for c in range(width) if masks[1] is None or columns[block * width + c]]
            wanted.append(dense[row][kept])
    np.testing.assert_array_equal(sliced(dense, masks, blocks), np.array(wanted))


@pytest.mark.parametrize("masks", [[], [None], [np.array([True, False, True])]])
def test_what_has_no_second_axis_has_no_blocks(masks: list[Array | None]) -> None:
    vector = np.arange(3.0)
    kept = [0, 2] if masks and masks[0] is not None else [0, 1, 2]
    assert sliced(vector, masks, 3).tolist() == kept
    assert sliced(np.float64(5.0), [], 1) == 5.0  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_a_number_that_is_not_the_plans_is_told_like_a_tensor(scale: float) -> None:
    one, two = np.array(2.0, np.float32), np.array(3.0 * scale, np.float32)
    said = "1 of 1 elements differ from the plan, the first at [0]"
    assert _difference(one, two, scale) == said and not _difference(one, np.float32(2.0 * scale), scale)
    row = np.array([[2.0, 3.0]], np.float32)
    wrong = np.array([[2.0, 5.0]], np.float32) * np.float32(scale)
    assert _difference(row, wrong, scale) == "1 of 2 elements differ from the plan, the first at [0, 1]"
