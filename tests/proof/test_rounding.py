"""A model that differs from itself is not blamed on its cut, and nothing else is excused."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.proof.rounding import FACTOR, MOST, Bounds, nudged, own_rounding

from .building import Case, cut, model

proving = import_module("graphprune.proof.prove")


def coarse() -> Case:
    """The small difference of two large results: its last bits depend on how a graph is run."""
    rng = np.random.default_rng(1)
    weight = rng.standard_normal((6, 32, 3, 3)).astype(np.float32)
    gain, variance = rng.uniform(0.5, 2, (2, 6)).astype(np.float32)
    scale = (gain / np.sqrt(variance + 1e-5)).reshape(-1, 1, 1, 1)
    return cut(
        model(
            """(float[n,8,9,9] x) => (float[n,6,9,9] y) {
                a = Conv <pads = [1, 1, 1, 1]> (x, w1)
                b = Relu(a)
                c = Conv <pads = [1, 1, 1, 1]> (b, w2)
                d = BatchNormalization(c, gain, zero, zero, variance)
                e = Conv <pads = [1, 1, 1, 1]> (b, w3)
                y = Sub(d, e)
            }""",
            w1=(32, 8, 3, 3),
            w2=weight,
            gain=gain,
            variance=variance,
            zero=np.zeros(6, np.float32),
            w3=weight * scale * (1 + 1e-4 * rng.standard_normal(weight.shape)).astype(np.float32),
        )
    )


def test_rounding_of_the_model_itself_is_no_failure() -> None:
    proof = coarse().prove()
    assert proof.ok, proof.details
    assert 1e-4 < proof.error <= proof.tolerance <= MOST
    assert any("differs from itself" in note for note in proof.notes)


def test_it_is_measured_not_assumed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving, "own_rounding", lambda *runs, squashed: {})
    assert not coarse().prove().ok


def test_a_model_that_agrees_with_itself_keeps_its_bound(conv: Case) -> None:
    proof = conv.prove()
    assert proof.ok and proof.tolerance == 1e-4 and not proof.notes


def test_bounds_grow_with_rounding_up_to_a_ceiling() -> None:
    bounds = Bounds(1e-4, {"calm": 1e-6, "coarse": 3e-4, "chaos": 0.5})
    assert [bounds.of(name) for name in ("calm", "coarse", "chaos", "unknown")] == [
        1e-4,
        FACTOR * 3e-4,
        MOST,
        1e-4,
    ]
    assert bounds.widest == MOST
    assert [note.partition(", so")[2] for note in bounds.notes] == [" up to 1.0e-02 counts as agreement"]
    assert Bounds(1e-4, {"calm": 1e-6}).notes == []
    assert Bounds(0.05, {"chaos": 0.5}).of("chaos") == 0.05


def test_own_rounding_is_the_worst_run() -> None:
    one = [{"y": np.ones(4, np.float32)}, {"y": np.full(4, 2, np.float32)}]
    two = [{"y": np.ones(4, np.float32)}, {"y": np.array([2, 2, 2, 2.5], np.float32)}]
    assert own_rounding(one, two) == {"y": 0.25}
    low = [{"y": np.float32([1e-7, 2e-7])}], [{"y": np.float32([2e-7, 2e-7])}]
    assert own_rounding(*low)["y"] == pytest.approx(0.5)
    assert own_rounding(*low, squashed={"y"})["y"] == pytest.approx(1e-7), "of the full scale of 1"


def test_a_nudge_moves_every_weight_by_one_float(conv: Case) -> None:
    moved = nudged(conv.dense).graph.initializers
    for name, value in conv.dense.graph.initializers.items():
        old, new = value.const_value.numpy(), moved[name].const_value.numpy()
        if old.ndim < 2:
            assert np.array_equal(old, new)
        else:
            steps = np.abs(old.view(np.int32) - new.view(np.int32))
            assert (steps == 1).all() and 0.4 < (new > old).mean() < 0.6


def test_a_nudge_moves_matrices_and_no_vectors() -> None:
    net = model("(float[n,4] x) => (float[n,3] y) { a = MatMul(x, w)\n y = Add(a, b) }", w=(4, 3), b=(3,))
    moved, held = nudged(net).graph.initializers, net.graph.initializers
    changed = {
        name: held[name].const_value.numpy() != moved[name].const_value.numpy()  # type: ignore[union-attr]
        for name in held
    }
    assert changed["w"].all() and not changed["b"].any()


def test_zeros_stay_zero(conv: Case) -> None:
    weight = conv.dense.graph.initializers["w2"]
    weight.const_value = ir.Tensor(np.zeros((5, 8, 3, 3), np.float32), name="w2")
    assert not nudged(conv.dense).graph.initializers["w2"].const_value.numpy().any()


def test_only_a_disagreement_is_measured_against_the_model_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """An output that says nothing says nothing with any bound, and one that agrees needs none."""
    asked: list[int] = []
    monkeypatch.setattr(proving, "own_rounding", lambda *runs, squashed: asked.append(1) or {})
    text = "(float[n,6] x) => (float[n,4] y) { a = MatMul(x, w1)\n b = Relu(a)\n y = MatMul(b, w2) }"
    assert cut(model(text, w1=(6, 8), w2=np.zeros((8, 4), np.float32))).prove().silent and not asked
    assert cut(model(text, w1=(6, 8), w2=(8, 4))).prove().ok and not asked
    assert not coarse().prove().ok and asked == [1]
