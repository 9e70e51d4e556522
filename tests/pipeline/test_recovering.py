"""recover around the training: who sees which samples, what is refused, and when the result is taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

import graphprune
from graphprune.errors import ArgumentError
from graphprune.pipeline import registry
from graphprune.pipeline.passes import Context, Pass, Subject, Turn
from graphprune.pipeline.recovering import is_worse
from graphprune.pipeline.result import Result
from graphprune.pipeline.samples import Judging, Samples
from graphprune.prune.plan import Plan
from graphprune.runtime.drop import Drop
from graphprune.runtime.estimate import Estimate
from tests.proof.building import model

from .conftest import TEXT, WIDTHS, Half


@dataclass(frozen=True)
class Learner(Pass):
    """A pass that learns, and keeps what it was given."""

    name: ClassVar[str] = "learner"
    turn: ClassVar[Turn | None] = "recover"
    learns: ClassVar[bool] = True

    seen: ClassVar[list[Context]] = []

    def decide(self, subject: Subject, context: Context) -> Plan:
        self.seen.append(context)
        name = "w4"
        old = np.asarray(subject.model.graph.initializers[name].const_value.numpy())
        return Plan(subject.options, replaced={name: 0.9 * old})


@pytest.fixture(autouse=True)
def unseen() -> None:
    Learner.seen.clear()


def data(count: int) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(1).standard_normal((count, 6)).astype(np.float32)}


def compiled(passes: list[Pass], count: int, **options: object) -> Result:
    return graphprune.compile(
        model(TEXT, 21, **WIDTHS), passes, calibration=data(count), bench=False, **options
    )


def numbers(judging: Judging) -> set[bytes]:
    return {feed["x"].tobytes() for feed in judging.feeds()}


def test_training_selection_and_report_are_half_and_two_quarters_without_a_sample_in_common() -> None:
    result = compiled([Half(), Learner()], 128)
    (context,) = Learner.seen
    assert context.reference is not None and result.report.agreement is not None
    training, selection = numbers(context.reference.training), numbers(context.reference.selection)
    assert (len(training), len(selection), result.report.agreement.samples) == (64, 32, 32)
    assert not training & selection
    assert {
        x.tobytes() for feed in context.calibration for x in np.split(feed["x"], len(feed["x"]))
    } == training
    assert [row.held_back for row in result.report.data] == [32]


def test_with_inputs_nothing_is_kept_for_the_report() -> None:
    result = compiled([Half(), Learner()], 96, inputs=data(40))
    reference = Learner.seen[0].reference
    assert reference is not None and result.report.agreement is not None
    assert (len(reference.training), len(reference.selection)) == (64, 32)
    assert result.report.agreement.samples == 40


def test_samples_to_choose_by_that_are_given_apart_leave_all_others_to_train_on() -> None:
    given = {"x": data(60)["x"][20:]}
    result = compiled([Half(), Learner()], 20, selection=given)
    reference, agreement = Learner.seen[0].reference, result.report.agreement
    assert reference is not None and agreement is not None
    assert numbers(reference.training) == {row.tobytes() for row in np.split(data(20)["x"], 20)}
    assert numbers(reference.selection) == {row.tobytes() for row in np.split(given["x"], 40)}
    assert (agreement.source, agreement.samples) == ("selection", 40)
    assert [(row.role, row.samples, row.held_back) for row in result.report.data] == [
        ("calibration", 20, 0),
        ("selection", 40, 0),
    ]


def test_a_pass_that_does_not_learn_is_judged_on_them_and_repairs_on_all_others() -> None:
    result = compiled([Half()], 64, selection=data(40))
    assert result.report.agreement is not None
    assert (result.report.agreement.source, result.report.agreement.samples) == ("selection", 40)
    assert [row.held_back for row in result.report.data] == [0, 0]


def test_samples_of_both_kinds_together_have_to_be_enough() -> None:
    with pytest.raises(ArgumentError, match="needs at least 32 calibration samples, and has 31"):
        compiled([Half(), Learner()], 20, selection=data(11))


def test_the_report_part_is_read_once_after_the_last_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    judging, decide = Samples.judging, Learner.decide
    monkeypatch.setattr(Samples, "judging", lambda self: (events.append("read"), judging(self))[1])
    monkeypatch.setattr(
        Learner, "decide", lambda self, s, c: (events.append("decide"), decide(self, s, c))[1]
    )
    result = compiled([Half(), Learner(), Learner()], 64)
    assert events == ["decide", "decide", "read"]
    assert result.report.agreement is not None and result.report.agreement.before is not None


@pytest.mark.parametrize("count", [31, 8])
def test_too_few_samples_are_refused_with_what_to_do(count: int) -> None:
    with pytest.raises(
        ArgumentError, match=f"needs at least 32 calibration samples, and has {count}"
    ) as caught:
        compiled([Half(), Learner()], count)
    assert "no labels are needed" in caught.value.hint


BAD = {
    "recover(time=0)": "time must be more than 0 seconds",
    "recover(time=3x)": "expected a number or a time",
    "recover(steps=0)": "steps must be at least 1",
    "recover(rate=2)": r"rate must be in \(0, 1\)",
    "recover(rank=-1)": "rank must be at least 0",
}


@pytest.mark.parametrize("text", BAD)
def test_bad_arguments_are_refused(text: str) -> None:
    with pytest.raises(ArgumentError, match=BAD[text]):
        registry.read(text)


def drop(*drops: float) -> Drop:
    value = float(np.mean(drops))
    return Drop("y", "values", Estimate(value, value, value, 0.0, len(drops)), drops=drops)


def test_an_output_is_worse_only_beyond_the_interval_of_the_paired_difference() -> None:
    before = drop(0.10, 0.20, 0.30, 0.40)
    assert is_worse(before, drop(0.12, 0.22, 0.32, 0.43))
    assert not is_worse(before, drop(0.30, 0.05, 0.40, 0.30))  # 0.2625 on average, but within its noise
    assert not is_worse(before, drop(0.05, 0.10, 0.20, 0.30))
    assert not is_worse(before, before)
