"""Layers of experts are found in every form, and what each expert adds is measured, not guessed."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.axes import Analysis
from graphprune.experts.mixtures import find_mixtures
from graphprune.experts.routes import collect_routes
from tests.axes.test_experts import FORMS, TOP, UNROLLED, WEIGHTS, E, graph


@pytest.fixture(scope="module")
def forms() -> dict[str, Analysis]:
    found = {}
    for name, (form, _) in FORMS.items():
        body, extra = form()
        found[name] = graph(body, **((WEIGHTS if name in UNROLLED else {}) | extra))
    return found


def relu_experts(analysis: Analysis, x: np.ndarray, unrolled: bool) -> np.ndarray:
    """[T, E, C] outputs of all experts, by hand."""
    weights = {
        n: np.array(v.const_value.numpy())
        for n, v in analysis.model.graph.initializers.items()
        if v.const_value
    }
    ups = [weights[f"u{e}"] if unrolled else weights["up"][e] for e in range(E)]
    downs = [weights[f"d{e}"] if unrolled else weights["down"][e] for e in range(E)]
    return np.stack([np.maximum(x @ u, 0) @ d for u, d in zip(ups, downs, strict=True)], axis=1)


def by_hand(analysis: Analysis, name: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[T, E] routing weights and norms of what is added."""
    weights = analysis.model.graph.initializers
    logits = x @ np.array(weights["wr"].const_value.numpy()) + np.array(weights["br"].const_value.numpy())
    top = np.argsort(-logits, axis=1)[:, : E if name == "sums" else TOP]
    chosen = np.take_along_axis(logits, top, 1)
    shown = logits if name in ("splits", "grouped") else chosen
    share = np.exp(chosen) / np.exp(shown).sum(1, keepdims=True)
    gates = np.zeros((len(x), E))
    np.put_along_axis(gates, top, share, 1)
    return gates, gates * np.linalg.norm(relu_experts(analysis, x, name in UNROLLED), axis=2)


@pytest.mark.parametrize("name", FORMS)
def test_what_experts_add_is_what_they_compute_by_hand(forms: dict[str, Analysis], name: str) -> None:
    found = find_mixtures(forms[name])
    assert [item.group.id for item in found.found] == ["wr:1"] and not found.reasons
    x = np.random.default_rng(3).standard_normal((50, 6)).astype(np.float32)
    (routes,) = collect_routes(forms[name], found.found, [{"x": x[:20]}, {"x": x[20:]}])
    gates, added = by_hand(forms[name], name, x)
    assert routes.tokens == 50
    assert np.array_equal(routes.count, (gates > 0).sum(0))
    assert np.allclose(routes.gate, gates.sum(0), rtol=1e-4)
    assert np.allclose(routes.added, added.sum(0), rtol=1e-4)
    assert np.array_equal(routes.together, (gates > 0).T.astype(float) @ (gates > 0))
