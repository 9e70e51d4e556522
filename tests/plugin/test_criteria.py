"""A criterion of somebody else is scored, normalised and named like ours, by every pass that scores Units."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import graphprune
from graphprune.errors import ArgumentError
from graphprune.pipeline import criteria, registry
from graphprune.pipeline.structured import Structured
from graphprune.plugin import Criterion

from .installed import install, mlp, samples

SOURCE = """
import numpy as np
from graphprune.plugin import Criterion, by_output, by_sink, inputs, outputs
def index(group, evidence):
    assert evidence.places and evidence.kinds[group.id] and not evidence.statistics.vectors
    return np.arange(group.size)
def seen(sink, evidence):
    vector = sink.vector(evidence.statistics)
    return sink.per_column(vector.absolute / vector.count)
def mean(output, evidence):
    return evidence.statistics.vector(output.name).mean
UP = Criterion(index)
DOWN = Criterion(index, higher=False)
SEEN = Criterion(by_sink(seen), "mean |x|", inputs)
LESS = Criterion(by_sink(seen), "mean |x|", inputs, higher=False)
MEAN = Criterion(by_output(mean), "mean", outputs, "none")
BLIND = Criterion(lambda group, evidence: None, higher=False)
"""
NAMES = ("up", "down", "seen", "less", "mean", "blind")


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    doors = {f"criteria {name}": name.upper() for name in NAMES}
    install(monkeypatch, tmp_path, "six_criteria", doors, SOURCE)


def kept(criterion: str, calibrated: bool = False) -> set[int]:
    """The half of sixteen Units that stays."""
    passes = f"prune(criterion={criterion}, ratio=0.5, align=1, repair=none)"
    plan = graphprune.compile(mlp(), passes, calibration=samples() if calibrated else None).plans[0]
    return set(plan.cuts["up:1"])


def activation() -> np.ndarray:
    up = mlp().graph.initializers["up"].const_value
    assert up is not None
    return np.maximum(samples()["x"] @ up.numpy(), 0).mean(axis=0)


@pytest.mark.usefixtures("theirs")
def test_higher_scores_stay_unless_it_says_that_lower_ones_do() -> None:
    assert kept("up") == set(range(8, 16))
    assert kept("down") == set(range(8))


@pytest.mark.usefixtures("theirs")
def test_it_gets_the_data_that_it_asks_for() -> None:
    order = np.argsort(activation()).tolist()
    assert kept("seen", True) == set(order[8:])
    assert kept("less", True) == set(order[:8])
    with pytest.raises(ArgumentError, match="criterion=seen needs calibration data"):
        kept("seen")


@pytest.mark.usefixtures("theirs")
def test_what_it_cannot_score_is_scored_by_norms_whose_least_goes_either_way() -> None:
    assert kept("blind") == kept("l2")


@pytest.mark.usefixtures("theirs")
def test_every_pass_that_scores_units_takes_it() -> None:
    for name in registry.names():
        kind = registry.load(name)
        if issubclass(kind, Structured) and name != "cfsp":  # cfsp shrinks residual blocks alone
            text = f"{name}(criterion=mean, kinds=all, ratio=0.5, scope=local, align=1)"
            plan = graphprune.compile(mlp(), text, calibration=samples()).plans[0]
            assert len(plan.cuts["up:1"]) == 8, name
            assert str(registry.read(text)[0]).startswith(f"{name}(criterion=mean")


@pytest.mark.usefixtures("theirs")
def test_names_and_hints_know_it() -> None:
    assert criteria.names()[-6:] == tuple(sorted(NAMES))
    assert isinstance(criteria.load("up"), Criterion)
    with pytest.raises(ArgumentError) as caught:
        registry.read("prune(criterion=sen)")
    assert "did you mean 'seen'" in caught.value.hint
    with pytest.raises(ArgumentError, match="criterion: 'sen' is not one of l1, "):
        registry.load("prune")(criterion="sen")  # type: ignore[call-arg]
