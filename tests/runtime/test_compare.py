from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from graphprune.runtime.compare import agreement, merge


def one(a: object, b: object, **options: float):
    return agreement({"y": np.asarray(a)}, {"y": np.asarray(b)}, **options).outputs[0]


def noise(shape: tuple[int, ...] = (4, 10)) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_equal_outputs_agree():
    result = one(noise(), noise())
    assert result.ok
    assert result.proves
    assert (result.max_abs, result.relative, result.top1) == (0, 0, 1)
    assert result.cosine == pytest.approx(1)


def test_the_tolerance_scales_with_the_reference():
    a = noise() * 1000
    scale = np.abs(a).max()
    shift = np.zeros_like(a)
    shift[0, 0] = scale
    assert one(a, a + 0.9e-4 * shift).ok
    assert not one(a, a + 1.1e-4 * shift).ok
    assert one(a, a + 1.1e-4 * shift, tolerance=1e-3).ok
    assert one(a, a + 1.1e-4 * shift).relative == pytest.approx(1.1e-4, rel=0.05)


def test_half_precision_allows_its_own_steps():
    a = noise().astype(np.float16)
    assert one(a, a * np.float16(1.002)).ok
    assert not one(a, a * np.float16(1.02)).ok
    b = noise().astype(ml_dtypes.bfloat16)
    assert one(b, b * ml_dtypes.bfloat16(1.0078125)).ok
    assert not one(b, b * ml_dtypes.bfloat16(1.25)).ok


def test_nan_equals_nothing():
    a = noise()
    a[1, 1] = np.nan
    result = one(a, a.copy())
    assert not result.ok
    assert "NaN" in result.note
    assert not one(noise(), a).ok


def test_infinities_equal_themselves_only():
    a = noise()
    a[0, 0], a[0, 1] = np.inf, -np.inf
    assert one(a, a.copy()).ok
    b = a.copy()
    b[0, 0] = -np.inf
    assert not one(a, b).ok
    b[0, 0] = 1e30
    assert not one(a, b).ok
    everything = np.full((3, 3), np.inf)
    assert one(everything, everything).ok
    assert not one(everything, everything).proves


@pytest.mark.parametrize("value", [0.0, 3.5])
def test_a_constant_output_proves_nothing(value):
    result = one(np.full((2, 5), value), np.full((2, 5), value))
    assert result.ok
    assert not result.proves
    assert result.note == "constant output"


def test_one_number_is_a_result_unless_zero():
    assert one(np.float32(2.5), np.float32(2.5)).proves
    assert not one(np.float32(0), np.float32(0)).proves


def test_a_zero_reference_admits_no_difference():
    assert not one(np.zeros(4), np.full(4, 1e-12)).ok


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
def test_integers_agree_exactly(kind):
    a = np.arange(1000, 1100).astype(kind)
    b = a.copy()
    assert one(a, b).ok
    b[3] += 1
    result = one(a, b)
    assert not result.ok
    assert result.note == "1 of 100 values differ"
    assert result.max_abs == 1


def test_booleans_and_strings_agree_exactly():
    assert one([True, False], [True, False]).ok
    assert not one([True, False], [True, True]).ok
    assert one(np.array(["a", "b"], object), np.array(["a", "b"], object)).ok
    assert not one(np.array(["a", "b"], object), np.array(["a", "c"], object)).ok


def test_top1_counts_rows():
    a, b = np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float32)
    b[0] = [0, 1, 0, 0]
    assert one(a, b).top1 == 0.75
    assert one(noise((4, 1)), noise((4, 1))).top1 is None
    assert one(np.arange(4), np.arange(4)).top1 is None


def test_shapes_types_and_names_must_match():
    assert "shape (4, 10) became (4, 9)" in one(noise(), noise()[:, :9]).note
    assert "type float32 became float64" in one(noise(), noise().astype(np.float64)).note
    assert not agreement({"a": noise()}, {"b": noise()}).ok
    assert not agreement({"a": noise()}, {"a": noise(), "b": noise()}).ok
    assert not agreement({}, {}).ok


def test_the_worst_output_is_named():
    a = {"p": noise(), "q": noise(), "r": noise()}
    b = {"p": noise() * np.float32(1.00001), "q": noise() * np.float32(1.1), "r": noise()}
    result = agreement(a, b)
    assert not result.ok
    assert result.worst is not None
    assert result.worst.name == "q"


def test_what_kind_of_difference_there_is():
    a = np.eye(4, dtype=np.float32)
    other, infinite = a.copy(), a.copy()
    other[0] = [0, 1, 0, 0]
    infinite[0, 0] = np.inf
    pairs = {"": a, "numbers": 2 * a, "answers": other, "not finite": infinite, "form": a[:, :3]}
    for kind, b in pairs.items():
        assert one(a, b).difference == kind
    assert one(noise((4, 1)), 2 * noise((4, 1))).difference == "numbers"
    assert one(np.arange(4), np.arange(4)[::-1]).difference == "answers"
    assert agreement({"a": a}, {}).outputs[0].difference == "form"


def test_the_gravest_difference_of_any_run_counts():
    a = np.eye(4, dtype=np.float32)
    other = a.copy()
    other[0] = [0.9, 1, 0, 0]
    far, answers = agreement({"y": a}, {"y": 5 * a}), agreement({"y": a}, {"y": other})
    (merged,) = merge([answers, far]).outputs
    assert (merged.relative, merged.top1, merged.difference) == (4, 0.75, "answers")


def test_several_runs_merge_to_the_worst():
    good = agreement({"y": noise()}, {"y": noise()})
    bad = agreement({"y": noise()}, {"y": noise() * 2})
    flat = agreement({"y": np.ones(3)}, {"y": np.ones(3)})
    assert not merge([good, bad, good]).ok
    assert merge([flat, good]).proves
    assert merge([good, flat]).outputs[0].note == ""
    assert not merge([flat, flat]).proves
