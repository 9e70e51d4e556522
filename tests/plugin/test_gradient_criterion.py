"""A criterion of another package reads gradients by what is public."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.pipeline.differentiating import Differentiation
from graphprune.plugin import Criterion, Reading, by_element, by_gate
from graphprune.prune.scoring import Scoring, score
from graphprune.run import Run
from tests.axes.claims import sketch

pytestmark = pytest.mark.zoo

NET = "(float[n,3] x) => (float[n,3] y) { a = MatMul(x, u)\n b = Relu(a)\n y = MatMul(b, w) }"


def test_elements_and_gates_say_the_same_of_what_reads_a_unit() -> None:
    analysis = sketch(NET, u=(3, 5), w=(5, 3))
    data = {"x": np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)}
    elements = Criterion(
        by_element(lambda w, g: w * g, "mean", joined=lambda sums: sums), gradients=(Reading("mean"),)
    )
    gates = Criterion(by_gate(lambda rows: rows.mean(axis=0)), gradients=(Reading("gates"),))
    measure = Differentiation([data], {}, Run()).of_groups
    one, two = (
        score(analysis, analysis.prunable, Scoring("mine", each, "none"), {}, None, pytest.fail, measure)
        for each in (elements, gates)
    )
    (group,) = analysis.prunable  # behind a Relu what makes a Unit and what reads it change the loss alike
    np.testing.assert_allclose(one[group.id], 2 * two[group.id], rtol=1e-4)
    assert elements.measures and "needs calibration data and torch" in str(elements)
