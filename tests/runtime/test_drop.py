"""The drop of every kind of output against numbers worked out by hand, and the intervals against theory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest

from graphprune.axes.outputs import Judged, OutputKind, Scale
from graphprune.runtime import gaps
from graphprune.runtime.drop import Drop, Tally
from graphprune.runtime.estimate import ratio
from graphprune.runtime.holding import held_back
from graphprune.runtime.variance import Variance

Arrays = Sequence[np.ndarray | list[list[float]]]


def drop_of(
    kind: OutputKind, dense: Arrays, small: Arrays, scale: Scale = "probabilities", axis: int = -1
) -> Drop:
    tally = Tally(Judged("y", kind, scale, axis))
    for one, two in zip(dense, small, strict=True):
        tally.add(np.asarray(one), np.asarray(two))
    return tally.drop()


def test_classes_lose_the_probability_of_what_the_dense_model_says() -> None:
    dense = [[[0.7, 0.2, 0.1]], [[0.1, 0.6, 0.3]]]
    small = [[[0.5, 0.4, 0.1]], [[0.2, 0.3, 0.5]]]  # agrees, then takes .3 where .6 was to be had
    found = drop_of("classes", dense, small)
    assert found.drop is not None and found.top1 is not None
    assert found.drop.value == pytest.approx((0 + 0.3) / 2)
    assert found.top1.value == 0.5


def test_logits_are_read_through_a_softmax_and_logarithms_through_exp() -> None:
    rows = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    other = rows[:, ::-1].copy()
    plain = drop_of("classes", [rows], [other])
    logits = drop_of("classes", [np.log(rows) + 5], [np.log(other) - 2], "logits")
    logarithms = drop_of("classes", [np.log(rows)], [np.log(other)], "log")
    for found in (plain, logits, logarithms):
        assert found.drop is not None
        assert found.drop.value == pytest.approx((0.6 + 0.5) / 2)


def test_classes_may_lie_along_any_axis() -> None:
    dense = np.zeros((1, 2, 2, 2))
    dense[0, 0] = [[3, 3], [-3, -3]]  # class 0 above, class 1 below
    small = -dense
    small[0, :, 0] = dense[0, :, 0]  # half of the map as it was
    found = drop_of("classes", [dense], [small], "logits", axis=1)
    assert found.top1 is not None and found.top1.value == 0.5


def test_a_row_that_is_no_number_loses_all() -> None:
    found = drop_of("classes", [[[0.75, 0.25]]], [[[np.nan, 0.5]]])
    assert found.drop is not None and found.drop.value == 0.75
    assert found.top1 is not None and found.top1.value == 0


def test_the_worst_class_is_named_from_ten_samples_on() -> None:
    one, two = [[1.0, 0.0]], [[0.0, 1.0]]
    found = drop_of("classes", [one] * 30 + [two] * 10, [one] * 30 + [one] * 6 + [two] * 4)
    assert found.worst is not None
    label, share = found.worst
    assert (label, share.value, share.samples) == (1, 0.4, 10) and share.low < 0.1 and share.high > 0.7
    fewer = drop_of("classes", [one] * 30 + [two] * 9, [one] * 39).worst
    assert fewer is not None and (fewer[0], fewer[1].value) == (0, 1.0) and fewer[1].low < 0.95


def test_next_tokens_lose_likelihood_of_the_sample_itself() -> None:
    ids = np.array([[0, 1, 1]])
    dense = np.log([[[0.5, 0.5], [0.2, 0.8], [0.9, 0.1]]])
    small = np.log([[[0.75, 0.25], [0.6, 0.4], [0.1, 0.9]]])  # the last position foretells nothing
    tally = Tally(Judged("y", "tokens", "logits", 2, "ids"))
    tally.add(dense, small, ids)
    growth = (np.log(0.5 / 0.25) + np.log(0.8 / 0.4)) / 2
    found = tally.drop().drop
    assert found is not None and found.value == pytest.approx(1 - np.exp(-growth))


def test_padding_counts_neither_as_token_nor_as_position() -> None:
    ids, real = np.array([[0, 1, 0, 0]]), np.array([[True, True, False, False]])
    dense, small = (np.log(np.tile(p, (1, 4, 1))) for p in ([0.5, 0.5], [0.75, 0.25]))
    small[0, 2:] = [9, -9]
    tally = Tally(Judged("y", "tokens", "logits", 2, "ids"))
    tally.add(dense, small, ids, real)
    found = tally.drop().drop
    assert found is not None and found.value == pytest.approx(1 - 0.25 / 0.5)
    other = Tally(Judged("h", "values", loose=True))
    other.add(np.array([[[1.0], [3.0], [7.0]]]), np.array([[[1.0], [3.0], [0.0]]]), None, real[:, :3])
    assert other.drop().drop is not None and other.wrong == [0.0]


def test_scores_lose_one_minus_soft_f1_over_what_either_calls_positive() -> None:
    dense, small = np.array([1.0, 1.0, 0.0, 0.0]), np.array([0.8, 0.1, 0.6, 0.3])
    decided = dense > 0.5
    positive = decided | (small > 0.5)
    f1 = 2 * small[decided].sum() / (small[positive].sum() + decided.sum())
    found = drop_of("scores", [dense], [small])
    assert found.drop is not None and found.drop.value == pytest.approx(1 - f1)


@pytest.mark.parametrize("kind", ["classes", "scores", "values", "exact"])
def test_a_model_has_no_drop_against_itself(kind: OutputKind) -> None:
    rows = np.random.default_rng(0).uniform(0.1, 0.9, (20, 1, 6))
    values = list(np.round(10 * rows).astype(np.int64) if kind == "exact" else rows)
    found = drop_of(kind, values, values)
    assert found.drop is not None and found.drop.value == 0
    assert not found.dead


def test_values_lose_their_squared_error_over_the_variance() -> None:
    rng = np.random.default_rng(0)
    dense = rng.standard_normal((40, 3)) * [1, 2, 3] + [5, -5, 100]
    small = dense + rng.standard_normal((40, 3))
    found = drop_of("values", list(dense[:, None]), list(small[:, None]))
    assert found.drop is not None
    spread = dense.var(axis=0, ddof=1).sum() * 40
    assert found.drop.value == pytest.approx(((small - dense) ** 2).sum() / spread)


def test_variance_is_learned_sample_by_sample_also_where_sizes_differ() -> None:
    rng = np.random.default_rng(0)
    samples = [rng.standard_normal((1, n, 4)) + np.array([0, 1, 2, 30]) for n in (3, 5, 2, 8)]
    found = Variance(loose=True)
    for each in samples:
        found.add(each)
    rows = np.concatenate([each[0] for each in samples])
    assert sum(found.parts) == pytest.approx(((rows - rows.mean(axis=0)) ** 2).sum())


def test_whole_numbers_and_strings_are_right_or_wrong() -> None:
    found = drop_of("exact", [np.array([1, 2, 3, 4])], [np.array([1, 2, 0, 4])])
    assert found.drop is not None and found.drop.value == 0.25
    found = drop_of("exact", [np.array(["a", "b"], object)], [np.array(["a", "c"], object)])
    assert found.drop is not None and found.drop.value == 0.5


def test_what_only_one_model_returns_is_lost() -> None:
    found = drop_of("exact", [np.array([5, 6])], [np.array([5, 6, 7, 8])])
    assert found.drop is not None and found.drop.value == 0.5
    found = drop_of("scores", [np.array([[0.9], [0.9]])], [np.array([[0.9]])])
    assert found.drop is not None and found.drop.value == pytest.approx(0.9 / 2.7)


def test_an_output_about_which_samples_say_nothing_has_no_drop() -> None:
    assert drop_of("scores", [[[0.1, 0.2]]], [[[0.3, 0.1]]]).drop is None
    constant = np.arange(4.0)
    assert drop_of("values", [constant] * 5, [constant] * 5).drop is None
    moved = drop_of("values", [constant] * 5, [constant + 1] * 5)
    assert moved.drop is not None and moved.drop.value == 1


def test_ratios_have_the_interval_of_the_mean() -> None:
    values = np.random.default_rng(0).standard_normal(16) + 3
    found = ratio(values.tolist(), [1.0] * 16)
    assert found is not None
    reach = 2.131 * values.std(ddof=1) / 4  # Student's t with 15 degrees of freedom
    assert (found.value, found.low, found.high) == pytest.approx(
        (values.mean(), values.mean() - reach, values.mean() + reach), rel=1e-3
    )


def test_samples_without_an_error_prove_no_more_than_the_rule_of_three() -> None:
    for count in (32, 64, 512):
        found = ratio([0.0] * count, [1.0] * count, jumps=True)
        assert found is not None and found.value == found.low == 0
        assert found.high == pytest.approx(3 / count, rel=0.1)


def test_intervals_of_ratios_cover_what_they_say() -> None:
    """Ratios of sums over samples of different weight, in 400 draws."""
    rng, inside = np.random.default_rng(0), 0
    for _ in range(400):
        whole = rng.uniform(1, 20, 64)
        part = whole * 0.2 * rng.exponential(1, 64)
        found = ratio(part.tolist(), whole.tolist())
        assert found is not None
        inside += found.low <= 0.2 <= found.high
    assert 0.91 < inside / 400 < 0.98


def test_an_answer_that_is_always_the_same_is_as_good_as_dead() -> None:
    rng = np.random.default_rng(0)
    dense = rng.dirichlet([0.2] * 5, (64, 1))
    constant = np.tile(np.eye(5)[[2]], (64, 1, 1))
    assert drop_of("classes", list(dense), list(constant)).dead
    shaken = dense + rng.dirichlet([1.0] * 5, (64, 1)) * 0.3
    assert not drop_of("classes", list(dense), list(shaken)).dead


def test_a_constant_that_happens_to_be_right_is_not_called_dead() -> None:
    same = [np.array([[0.9, 0.1]])] * 40
    other = [*same[:-1], np.array([[0.1, 0.9]])]
    assert not drop_of("classes", same, other).dead  # the dense model itself says one thing only
    assert not drop_of("classes", other, other).dead


def test_values_that_explain_nothing_are_dead() -> None:
    dense = np.random.default_rng(0).standard_normal((40, 1, 3))
    assert drop_of("values", list(dense), list(-dense)).dead
    assert not drop_of("values", list(dense), list(0.5 * dense)).dead


def test_scores_that_are_always_positive_are_dead() -> None:
    dense = (np.random.default_rng(0).uniform(0, 1, (40, 50)) > 0.7).astype(float)
    assert drop_of("scores", list(dense), list(np.ones_like(dense))).dead
    assert not drop_of("scores", list(dense), list(0.7 * dense)).dead


def test_padding_is_found_by_the_mask() -> None:
    mask = np.array([[1, 1, 0]])
    found = gaps.real_tokens({"attention_mask": mask, "ids": np.ones((1, 3), np.int64)})
    assert found is not None and found.tolist() == [[True, True, False]]
    assert gaps.real_tokens({"attention_mask": np.ones((1, 3), np.int64)}) is None


def test_logits_of_many_samples_take_the_memory_of_one() -> None:
    rng = np.random.default_rng(0)
    ids, logits = np.zeros((1, 64), np.int64), rng.standard_normal((1, 64, 20000)).astype(np.float32)
    peaks = []
    for samples in (1, 6):
        tally = Tally(Judged("y", "tokens", "logits", 2, "ids"))
        tracemalloc.start()
        for _ in range(samples):
            tally.add(logits, logits, ids)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]
    assert peaks[0] < 20 * logits.nbytes


@pytest.mark.parametrize(("samples", "held"), [(2, 0), (31, 0), (32, 4), (256, 32), (512, 64), (5000, 64)])
def test_an_eighth_is_held_back_and_none_of_a_few(samples: int, held: int) -> None:
    assert held_back(samples) == held


@pytest.mark.parametrize("kind", ["classes", "exact", "values", "scores"])
def test_a_sample_without_the_array_is_a_full_drop_of_any_kind(kind: str) -> None:
    tally = Tally(Judged("y", kind))
    rng = np.random.default_rng(0)
    for number in range(20):
        dense = rng.dirichlet(np.ones(4), 1) if kind != "exact" else np.array([number % 3])
        if number % 4:
            tally.add(dense, dense)
        else:
            tally.miss(dense)
    found = tally.drop(20)
    assert found.drop is not None and found.drop.value == pytest.approx(0.25)
    assert found.drop.low < 0.25 < found.drop.high
    assert found.missing == 5 and "5 of 20 samples" in found.note
    assert [number for number, drop in enumerate(found.drops) if drop == 1.0] == [0, 4, 8, 12, 16]
    if kind in ("classes", "exact"):
        assert found.top1 is not None and found.top1.value == pytest.approx(0.75)
    if kind != "exact":
        assert found.cosine is not None and found.cosine < 0.95
