"""What outputs lose as one number: classes and scores softened, so that sure samples count."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.prune.divergence import Judge
from graphprune.prune.loss import SOFTNESS, Loss, softened
from graphprune.runtime.session import Feeds, Outputs, open_session
from tests.proof.building import model

DRAW = np.random.default_rng(3)
X = {"x": DRAW.standard_normal((16, 6)).astype(np.float32)}
W = DRAW.standard_normal((6, 5)).astype(np.float32)


def classifier(weights: np.ndarray, scale: float) -> ir.Model:
    body = "(float[n,6] x) => (float[n,5] y) { h = MatMul(x, w)\n y = Softmax <axis = -1> (h) }"
    return model(body, w=(scale * weights).astype(np.float32))


def lost(dense: ir.Model, other: ir.Model, data: Feeds = X) -> float:
    return Loss(dense, [data], open_session(dense).run).lost(open_session(other).run)


def test_a_model_that_is_sure_of_all_samples_still_tells_cuts_apart() -> None:
    dense, near, far = (classifier(W + by, 12.0) for by in (0, 0.002 * W, 0.02 * W))
    assert 0 < 10 * lost(dense, near) < lost(dense, far)
    judge = Judge(dense, [X], open_session(dense).run, "kl")
    assert judge.loss(open_session(far).run) < lost(dense, far) / 4


def test_small_shifts_of_scores_lose_what_they_would_at_any_temperature() -> None:
    """The divergence is p (1 - p) / 2 times the squared shift over T^2, at softened p."""
    logits = np.array([[0.0], [3.0], [-6.0]])
    dense = {"y": 1 / (1 + np.exp(-logits))}
    other = {"y": 1 / (1 + np.exp(-(logits + 0.01)))}
    body = "(float[n,6] x) => (float[n,1] y) { h = MatMul(x, w)\n y = Sigmoid(h) }"
    found = Loss(model(body, w=(6, 1)), [X], lambda feeds: dense).lost(lambda feeds: other)
    soft = 1 / (1 + np.exp(-logits / SOFTNESS))
    assert found == pytest.approx(float((soft * (1 - soft)).mean()) * 0.01**2 / 2, rel=1e-2)


@pytest.mark.parametrize("scale", ["probabilities", "log", "logits"])
def test_classes_are_the_same_however_they_are_written(scale: str) -> None:
    logits = DRAW.standard_normal((4, 5))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rows = {"probabilities": probabilities, "log": np.log(probabilities), "logits": logits}[scale]
    expected = np.exp(logits / SOFTNESS)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softened(rows, scale), expected, rtol=1e-6)  # type: ignore[arg-type]


WRITTEN_OUT = """(float[n,6] x) => (float[n,5] y) {
    h = MatMul(x, w)\n m = ReduceMax <axes = [1], keepdims = 1> (h)\n d = Sub(h, m)
    e = Exp(d)\n s = ReduceSum <keepdims = 1> (e, last)\n y = Div(e, s) }"""


def test_a_softmax_in_primitive_operators_gives_classes_as_one_node_does() -> None:
    weights = [W, (1.1 * W).astype(np.float32)]
    last = np.array([1])
    whole = lost(*(classifier(each, 1.0) for each in weights))
    parts = lost(*(model(WRITTEN_OUT, w=each, last=last) for each in weights))
    assert parts == pytest.approx(whole, rel=1e-5) and whole > 0


def test_classes_may_stand_on_any_axis() -> None:
    body = "(float[n,6,4] x) => (float[n,5,4] y) { h = Conv(x, k)\n y = Softmax <axis = 1> (h) }"
    kernels = [W.T[:, :, None], (1.2 * W.T[:, :, None]).astype(np.float32)]
    data = {"x": DRAW.standard_normal((3, 6, 4)).astype(np.float32)}
    flat = {"x": np.ascontiguousarray(data["x"].transpose(0, 2, 1).reshape(-1, 6))}
    along = lost(*(model(body, k=each) for each in kernels), data)
    rows = lost(*(classifier(each, 1.0) for each in (W, (1.2 * W).astype(np.float32))), flat)
    assert along == pytest.approx(rows, rel=1e-5)


def test_values_lose_a_share_of_their_variance_and_never_more_than_all() -> None:
    dense = model("(float[n,6] x) => (float[n,5] y) { h = MatMul(x, w)\n y = Relu(h) }", w=W)

    def far(times: float) -> float:
        def run(feeds: Feeds) -> Outputs:
            return {name: times * array for name, array in open_session(dense).run(feeds).items()}

        return Loss(dense, [X], open_session(dense).run).lost(run)

    assert 0 < far(1.1) < 0.1 and far(100.0) == 1.0
