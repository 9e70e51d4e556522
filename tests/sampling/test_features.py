"""Features from a running model, against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.ir.normalise import normalise
from graphprune.ops import record_of
from graphprune.run import Run
from graphprune.sampling.choose import draw
from graphprune.sampling.features import measure
from graphprune.sampling.judge import Judgement, judge
from graphprune.sampling.pool import pool_of
from graphprune.sampling.scores import of_classes, of_tokens


def weight(model, name):
    return model.graph.initializers[name].const_value.numpy().astype(np.float64)


def seen(model, arrays):
    own = model.clone()
    return measure(own, normalise(own, record_of), pool_of([arrays], own))


def test_a_classifier(classifier):
    images = np.random.default_rng(0).standard_normal((40, 3, 8, 8)).astype(np.float32)
    images[33] = images[2]
    found = seen(classifier, {"image": images})
    assert found.classes == 4
    assert found.pooled.shape == (40, 6)
    assert found.digests[33] == found.digests[2] and len(np.unique(found.digests)) == 39
    head, bias = weight(classifier, "head"), weight(classifier, "bias")
    expected = of_classes(found.pooled, found.pooled @ head.T, bias)
    assert found.scores is not None
    assert found.scores.loss == pytest.approx(expected.loss, rel=1e-4)
    # y - b of the tapped Gemm is what the weight alone contributes.
    assert found.scores.along == pytest.approx(expected.along, rel=1e-3, abs=1e-5)
    assert found.weight_norm == pytest.approx(np.linalg.norm(head))


def test_a_language_model_leaves_padding_out(language):
    rng = np.random.default_rng(1)
    ids, mask = rng.integers(0, 11, (3, 9)), np.ones((3, 9), dtype=np.int64)
    mask[1, 6:] = 0
    found = seen(language, {"input_ids": ids, "attention_mask": mask})
    hidden = np.tanh(weight(language, "table")[ids] @ weight(language, "hidden"))
    assert found.pooled[1] == pytest.approx(hidden[1, :6].mean(0), abs=1e-5)
    expected = of_tokens(hidden[1, :5], hidden[1, :5] @ weight(language, "head"), 0.0, ids[1, 1:6])
    assert found.scores is not None
    assert found.scores.loss[1] == pytest.approx(expected.loss[0], rel=1e-4)
    assert found.scores.gradient[1] == pytest.approx(expected.gradient[0], rel=1e-3)


def test_a_stack_of_feeds_is_one_sample_per_feed(rows):
    values = np.random.default_rng(2).standard_normal((7, 5, 6)).astype(np.float32)
    stacked = seen(rows, {"x": values})
    flat = seen(rows, {"x": values.reshape(35, 6)})
    assert stacked.pooled == pytest.approx(flat.pooled.reshape(7, 5, -1).mean(1), abs=1e-6)


def test_the_judge_compares_second_moments(rows):
    own = rows.clone()
    sizes = normalise(own, record_of)
    values = np.random.default_rng(3).standard_normal((90, 6)).astype(np.float32)
    chosen = np.arange(20)
    found = judge(own, sizes, pool_of([{"x": values}], own), chosen, run=Run(4))
    assert found is not None and found.layers == ("one", "two")
    hidden = np.maximum(values @ weight(rows, "one"), 0)

    def error(numbers):
        def of(x):
            pool, part = x.T @ x / len(x), x[numbers].T @ x[numbers] / len(numbers)
            return np.linalg.norm(part - pool) / np.linalg.norm(pool)

        return (of(values.astype(np.float64)) + of(hidden)) / 2

    assert found.error == pytest.approx(error(chosen), rel=1e-4)
    assert found.draws == pytest.approx([error(draw(90, 20, 5 + each)) for each in range(10)], rel=1e-4)


def test_a_verdict_needs_two_standard_deviations():
    draws = (1.0, 1.2, 0.8, 1.1, 0.9)
    assert Judgement((), 0.5, draws).verdict == "better than random draws"
    assert Judgement((), 0.8, draws).verdict == "no measurable gain over random draws"
    assert Judgement((), 1.5, draws).verdict == "worse than random draws"
