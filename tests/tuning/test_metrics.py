"""Metrics of common tasks, and those of the user's own, judged sample by sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from graphprune.errors import ArgumentError, DataError, PluginError
from graphprune.ir.load import load
from graphprune.runtime.session import open_session
from graphprune.tuning.scores import SCORES

from .conftest import Make


def rows(array: np.ndarray) -> list[dict[str, np.ndarray]]:
    """Outputs of samples, one row each."""
    return [{"y": row[None]} for row in array]


def test_top1_is_the_share_of_right_answers() -> None:
    found = SCORES["top1"](rows(np.eye(3)), [], np.array([0, 1, 1]))
    assert found.tolist() == [1, 1, 0]


def test_the_area_under_the_curve_and_its_variance() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random(200) < 0.3
    scores = rng.standard_normal(200) + labels
    found = SCORES["auc"](rows(scores[:, None]), [], labels)
    pairs = scores[labels][:, None] > scores[~labels][None, :]
    assert found.mean() == pytest.approx(pairs.mean())
    ones, noughts = pairs.mean(axis=1), pairs.mean(axis=0)
    delong = ones.var(ddof=0) / labels.sum() + noughts.var(ddof=0) / (~labels).sum()
    assert found.var(ddof=0) / 200 == pytest.approx(delong)


def test_texts_agree_as_a_whole() -> None:
    outputs = [{"text": np.array(["one"])}, {"text": np.array(["two"])}]
    assert SCORES["exact"](outputs, [], np.array(["one", "too"])).tolist() == [1, 0]


def test_perplexity_is_of_the_next_tokens() -> None:
    logits = np.log(np.array([[[0.5, 0.5], [0.25, 0.75], [1.0, 1e-9]]]))
    found = SCORES["perplexity"]([{"logits": logits}], [{"ids": np.array([[0, 0, 1]])}], None)
    assert found[0] == pytest.approx((np.log(0.5) + np.log(0.75)) / 2)


def test_neighbours_by_cosine() -> None:
    vectors = np.array([[1.0, 0.1], [5.0, 0.0], [0.0, 1.0], [0.1, 2.0]])
    assert SCORES["retrieval"](rows(vectors), [], np.array([0, 0, 1, 1])).tolist() == [1, 1, 1, 1]


def test_boxes_that_overlap_are_found() -> None:
    corners = np.array([[[0, 0, 10, 10], [20, 20, 30, 30], [0, 0, 1, 1]]], np.float32)
    outputs = [{"boxes": corners, "scores": np.array([[0.9, 0.8, 0.1]], np.float32)}]
    wanted = np.full((1, 3, 4), np.nan)
    wanted[0, :2] = [[1, 0, 10, 10], [50, 50, 60, 60]]
    assert SCORES["boxes"](outputs, [], wanted).tolist() == [0.5]


def labels_of_the_model() -> np.ndarray:
    """What the dense model says, so that it is always right."""
    session = open_session(load(Path("model.onnx")).model)
    return np.asarray(session.run({"x": np.load("samples.npz")["x"]})["y"].argmax(axis=1))


def test_labels_bound_the_accuracy_that_is_lost(search: Make) -> None:
    np.save("labels.npy", labels_of_the_model())
    made = search(4, metric="top1", labels="labels.npy")
    assert made.case.judged == ("the metric top1, 1.0000 of the dense model",)
    found = made.finish()
    assert found.after.macs < found.before.macs
    assert found.result.reported.where == "top1"


def test_a_metric_of_the_users_gets_what_runs_the_model_and_the_samples(search: Make) -> None:
    Path("mine.py").write_text(
        "def spread(run, samples):\n    return sum(float(run(each)['y'].std()) for each in samples)\n"
    )
    found = search(2, metric="mine:spread").finish()
    assert found.judged[0].startswith("the metric mine:spread")


def test_what_is_no_metric_says_so(search: Make) -> None:
    Path("bad.py").write_text("def words(run, samples):\n    return 'good'\n")
    with pytest.raises(ArgumentError, match="no metric is called 'top2'") as known:
        search(1, metric="top2").finish()
    assert "top1" in known.value.hint
    with pytest.raises(DataError, match="needs labels"):
        search(1, metric="top1").finish()
    with pytest.raises(PluginError, match="neither a number"):
        search(1, metric="bad:words").finish()
    for name in ("nothere:spread", "bad:spread"):
        with pytest.raises(ArgumentError) as known:
            search(1, metric=name).finish()
        assert "mine:spread" in known.value.hint and "path" not in known.value.hint
    np.save("labels.npy", np.zeros(3))
    with pytest.raises(DataError, match="there are 3 labels"):
        search(1, metric="top1", labels="labels.npy").finish()
    with pytest.raises(ArgumentError, match="labels are for a metric"):
        search(1, labels="labels.npy").finish()
