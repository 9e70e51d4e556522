"""The smoothed estimate of what a classifier loses: unbiased where what it assumes holds, less variable."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.axes.outputs import Judged
from graphprune.ir.arrays import Doubles
from graphprune.ir.load import load
from graphprune.pipeline.runner import runner
from graphprune.tuning import smooth
from graphprune.tuning.blur import blurred
from graphprune.tuning.judge import DropJudge

from .conftest import Make


def distributions(logits: Doubles) -> Doubles:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def moved(samples: int, spread: float, seed: int = 0) -> tuple[Doubles, Doubles]:
    """Distributions of a model and of one whose logits moved by noise."""
    rng = np.random.default_rng(seed)
    logits = 4 * rng.standard_normal((samples, 5))
    return distributions(logits), distributions(logits + spread * rng.standard_normal(logits.shape))


def counted(dense: Doubles, small: Doubles) -> Doubles:
    rows = np.arange(len(dense))
    return np.asarray(dense[rows, dense.argmax(axis=1)] - dense[rows, small.argmax(axis=1)])


def test_the_same_model_loses_nothing() -> None:
    dense, _ = moved(50, 0.0)
    assert smooth.estimate(dense, dense) == (0.0, 0.0)


@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
def test_it_is_as_large_as_the_loss_that_many_samples_show(spread: float) -> None:
    dense, small = moved(100_000, spread)
    truth = counted(dense, small).mean()
    found = [smooth.estimate(*moved(128, spread, seed))[0] for seed in range(1, 60)]
    error = np.std(found) / np.sqrt(len(found))
    assert np.mean(found) == pytest.approx(truth, abs=4 * error + 0.05 * truth)


def test_it_varies_less_than_counting() -> None:
    drawn = [moved(128, 0.2, seed) for seed in range(60)]
    smoothed = np.std([smooth.estimate(*each)[0] for each in drawn])
    assert smoothed < 0.85 * np.std([counted(*each).mean() for each in drawn])


def test_the_standard_error_is_about_the_spread_over_draws() -> None:
    found = [smooth.estimate(*moved(128, 1.0, seed)) for seed in range(60)]
    spread = np.std([value for value, _ in found])
    assert np.mean([error for _, error in found]) == pytest.approx(spread, rel=0.35)


def test_samples_in_another_order_say_the_same() -> None:
    dense, small = moved(64, 1.0)
    order = np.random.default_rng(1).permutation(64)
    assert smooth.estimate(dense[order], small[order])[0] == pytest.approx(smooth.estimate(dense, small)[0])


def test_what_is_no_numbers_and_what_has_one_class_is_counted() -> None:
    dense, small = moved(8, 1.0)
    assert smooth.usable(dense, small)
    assert not smooth.usable(dense, np.where(small > 0.5, np.nan, small))
    assert not smooth.usable(dense[:, :1], small[:, :1])
    assert not smooth.usable(*moved(smooth.MOST + 1, 1.0))


def test_a_judge_smooths_what_has_a_class_per_sample_and_counts_all_else(search: Make) -> None:
    made = search(1)
    made.finish()
    case = made.case
    small = load(made.study.place.candidate(0)).model
    small.graph.initializers["w3"].const_value = ir.tensor(
        small.graph.initializers["w3"].const_value.numpy() + np.eye(64, 4, dtype=np.float32), name="w3"
    )
    judging = case.parts.selection
    classes, values = (
        DropJudge(case.model, (Judged("y", kind, scale="logits"),), case.settings)
        for kind in ("classes", "values")
    )
    runs = [runner(each, case.settings) for each in (case.model, small)]
    logits = [np.concatenate([run(feed)["y"] for feed in judging.feeds()]).astype(np.float64) for run in runs]
    noisy = blurred(judging, case.model)
    assert noisy is not None
    smoothed = smooth.estimate(*map(distributions, logits))[0]
    assert classes.smoothed(small, judging).value == pytest.approx(smoothed)
    assert smoothed != classes.loss(small, judging).value
    assert classes.estimate(small, judging) == max(
        (classes.smoothed(small, each) for each in (judging, noisy)), key=lambda each: each.cautious
    )
    far = DropJudge(case.model, values.outputs, replace(case.settings, max_drop=1e-9))
    assert far.estimate(small, judging) == values.loss(small, judging)
    assert values.estimate(small, judging) == max(
        (values.loss(small, each) for each in (judging, noisy)), key=lambda each: each.cautious
    )
