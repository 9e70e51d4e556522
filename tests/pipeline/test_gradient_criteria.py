"""Criteria from gradients against their formulas, computed by hand in double precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import graphprune
from graphprune.axes import Analysis
from graphprune.axes.kinds import kinds
from graphprune.pipeline.differentiating import Differentiation
from graphprune.prune.criteria import CRITERIA
from graphprune.prune.scoring import Scoring, score
from graphprune.run import Run
from tests.autograd.nets import DIGITS
from tests.axes.claims import sketch

pytestmark = pytest.mark.zoo

NET = """(float[n,3] x) => (float[n,3] y) { a = MatMul(x, u)\n b = Relu(a)\n y = MatMul(b, w) }"""
SEED = 3
Array = np.ndarray


def drawn(*shape: int, seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


U, W, X = drawn(3, 5, seed=1), drawn(5, 3, seed=2), drawn(4, 3, seed=0)


def net() -> Analysis:
    return sketch(NET, u=U, w=W)


def scored(analysis: Analysis, criterion: str, x: Array | None = X, jobs: int = 1) -> Array:
    """Scores of the one Group as they are, by the way that a compile takes."""
    data = () if x is None else ({"x": x},)
    how = Scoring(criterion, CRITERIA[criterion], "none", SEED)
    measure = Differentiation(data, {}, Run(seed=SEED, jobs=jobs)).of_groups
    groups = analysis.prunable
    found = score(analysis, groups, how, kinds(analysis), None, pytest.fail, measure)
    return found[groups[0].id]


def compiled(folder: Path, criterion: str) -> graphprune.Report:
    text = f"prune(ratio=0.3, criterion={criterion}, repair=none)"
    given = {"image": drawn(8, 1, 28, 28, seed=0)}
    return graphprune.compile(DIGITS, text, folder / "small.onnx", calibration=given).report


def slopes(u: Array, w: Array, temperature: float = 1.0, labels: str = "own") -> list[tuple[Array, Array]]:
    """Gradients of -log softmax(y / temperature)[label] in u and w, of every sample."""
    found = []
    for at, x in enumerate(X.astype(np.float64)):
        a = x @ u
        b = np.maximum(a, 0)
        y = b @ w / temperature
        p = np.exp(y - y.max())
        p /= p.sum()
        level = np.random.default_rng((SEED, at)).random((1, 1))[0, 0]
        label = int(p.argmax()) if labels == "own" else int((p.cumsum() < level).sum())
        dy = (p - np.eye(3)[label]) / temperature
        found.append((np.outer(x, (w @ dy) * (a > 0)), np.outer(b, dy)))
    return found


def mean(u: Array, w: Array, temperature: float = 1.0) -> tuple[Array, Array]:
    found = slopes(u, w, temperature)
    return np.mean([one for one, _ in found], 0), np.mean([two for _, two in found], 0)


def flow(temperature: float) -> tuple[Array, Array]:
    """H g, as the gradient changes along itself."""
    u, w = U.astype(np.float64), W.astype(np.float64)
    g, h = mean(u, w, temperature)
    step = 1e-5 / max(np.abs(g).max(), np.abs(h).max())
    ahead, behind = (mean(u + s * g, w + s * h, temperature) for s in (step, -step))
    return (ahead[0] - behind[0]) / (2 * step), (ahead[1] - behind[1]) / (2 * step)


def per_unit(elements: tuple[Array, Array]) -> Array:
    return elements[0].sum(0) + elements[1].sum(1)


def test_taylor_is_weight_times_gradient_summed_over_what_a_unit_owns() -> None:
    g, h = mean(U, W)
    np.testing.assert_allclose(scored(net(), "taylor"), per_unit((abs(U * g), abs(W * h))), rtol=1e-4)
    np.testing.assert_allclose(scored(net(), "snip"), per_unit((abs(U * g), abs(W * h))), rtol=1e-4)
    vector = abs((U * g).sum(0)) + abs((W * h).sum(1))
    np.testing.assert_allclose(scored(net(), "taylor-vector"), vector, rtol=1e-4)


def test_second_and_mixed_order_take_mean_squares_of_samples() -> None:
    g, h = mean(U, W)
    squares = [np.mean([each[at] ** 2 for each in slopes(U, W)], 0) for at in (0, 1)]
    second = U**2 * squares[0] / 2, W**2 * squares[1] / 2
    np.testing.assert_allclose(scored(net(), "taylor-second"), per_unit(second), rtol=1e-4)
    mixed = abs(U * g - second[0]), abs(W * h - second[1])
    np.testing.assert_allclose(scored(net(), "taylor-mixed"), per_unit(mixed), rtol=1e-4)


def test_activations_and_fisher_take_what_a_unit_as_a_whole_does() -> None:
    own = np.array([(W * h).sum(1) for _, h in slopes(U, W)])  # a dy/da = sum of w g over what reads it
    np.testing.assert_allclose(scored(net(), "taylor-activation"), abs(own.mean(0)), rtol=1e-4, atol=1e-7)
    drawn = np.array([(W * h).sum(1) for _, h in slopes(U, W, labels="drawn")])
    np.testing.assert_allclose(scored(net(), "fisher"), (drawn**2).mean(0) / 2, rtol=1e-4, atol=1e-7)
    assert not np.allclose(own, drawn)


def test_grasp_and_crop_are_weight_times_what_the_gradient_becomes() -> None:
    g, h = flow(200.0)
    np.testing.assert_allclose(scored(net(), "grasp"), per_unit((U * g, W * h)), rtol=1e-3, atol=1e-12)
    g, h = flow(1.0)
    np.testing.assert_allclose(scored(net(), "crop"), per_unit((abs(U * g), abs(W * h))), rtol=1e-3)


def test_synflow_is_what_flows_through_and_every_layer_passes_the_same() -> None:
    through = abs(U).sum(0) * abs(W).sum(1)
    np.testing.assert_allclose(scored(net(), "synflow", None), 2 * through, rtol=1e-6)
    biased = sketch(
        "(float[n,1] x) => (float[n,1] y) { a = Gemm(x, u, c)\n b = Tanh(a)\n d = MatMul(b, w)\n"
        " y = Sigmoid(d) }",
        u=np.array([[1, -2]], np.float32),
        c=np.array([5, 5], np.float32),
        w=np.array([[3], [3]], np.float32),
    )
    np.testing.assert_allclose(scored(biased, "synflow", None), [2 * 3, 2 * 6])


def test_hessian_is_exact_where_elements_do_not_mix() -> None:
    """y = x s u over one unit: the loss of values is quadratic in each, with noise of the spread of y."""
    from graphprune.autograd import Differentiable
    from graphprune.autograd.likelihood import Likelihood
    from graphprune.autograd.sensitivity import Data, curvature

    model = sketch("(float[n,4] x) => (float[n,4] y) { y = Mul(x, s) }", s=drawn(4, seed=5)).model
    samples = [{"x": row[None]} for row in drawn(3, 4, seed=6)]
    quiet = Data(samples, Likelihood.of(model), Run(seed=SEED))
    found = curvature(Differentiable(model, precision="float64"), quiet, ["s"])["s"].numpy()
    s = model.graph.initializers["s"].const_value.numpy().astype(np.float64)
    wanted = np.mean([(each["x"][0] / (s * each["x"][0]).std()) ** 2 / 4 for each in samples], 0)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_hessian_of_a_layer_is_right_in_the_mean() -> None:
    u, w = U.astype(np.float64), W.astype(np.float64)
    step, diagonal = 1e-4, [np.zeros_like(u), np.zeros_like(w)]
    for which, table in enumerate(diagonal):
        for at in np.ndindex(table.shape):
            moved = [u.copy(), w.copy()]
            moved[which][at] += step
            back = [u.copy(), w.copy()]
            back[which][at] -= step
            table[at] = (mean(*moved)[which][at] - mean(*back)[which][at]) / (2 * step)
    wanted = per_unit((U**2 * diagonal[0] / 2, W**2 * diagonal[1] / 2))
    found = scored(net(), "hessian", np.tile(X, (400, 1)))
    np.testing.assert_allclose(found, wanted, atol=0.1 * np.abs(wanted).max())


@pytest.mark.parametrize("criterion", ["taylor-mixed", "fisher", "crop", "hessian", "lrp"])
def test_scores_do_not_depend_on_how_many_samples_are_measured_side_by_side(criterion: str) -> None:
    one, three = (scored(net(), criterion, jobs=jobs) for jobs in (1, 3))
    np.testing.assert_array_equal(one, three)


@pytest.mark.parametrize("criterion", ["taylor", "fisher", "synflow", "lrp"])
def test_a_compile_cuts_by_them_and_proves_it(criterion: str, tmp_path: Path) -> None:
    report = compiled(tmp_path, criterion)
    (step,) = report.passes
    assert step.proof.ok and not step.warnings
    assert any(group.kept < group.width for group in step.groups)


def test_the_loss_of_a_language_model_is_of_the_tokens_that_follow() -> None:
    import torch

    from graphprune.autograd.likelihood import Likelihood

    text = "(int64[n,t] ids) => (float[n,t,7] y) { e = Gather(table, ids)\n y = MatMul(e, w) }"
    model = sketch(text, table=(7, 4), w=(4, 7)).model
    feeds = {"ids": np.array([[1, 5, 2]]), "attention_mask": np.array([[1, 1, 0]])}
    y = drawn(1, 3, 7, seed=9).astype(np.float64)
    found = Likelihood.of(model).loss(feeds, (0,))({"y": torch.from_numpy(y)})
    assert float(found) == pytest.approx(np.log(np.exp(y[0, 0]).sum()) - y[0, 0, 5])


def test_scores_are_judged_by_their_own_decisions() -> None:
    import torch

    from graphprune.autograd.likelihood import Likelihood

    model = sketch("(float[n,4] x) => (float[n,2] p) { y = MatMul(x, w)\n p = Sigmoid(y) }", w=(4, 2)).model
    p = torch.tensor([[0.8, 0.1]], dtype=torch.float64)
    found = Likelihood.of(model).loss({}, (0,))({"p": p})
    assert float(found) == pytest.approx(-(np.log(0.8) + np.log(0.9)) / 2)


def test_lrp_sums_the_size_of_relevance_before_it_joins_anything() -> None:
    """By hand: what a source gives gets by the epsilon rule, activations hand on, an answer is one."""
    found = scored(net(), "lrp")
    wanted = np.zeros(5)
    for x in X.astype(np.float64):
        b = np.maximum(x @ U, 0)
        y = b @ W
        wanted += abs(b * W[:, y.argmax()] / y.max())
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
