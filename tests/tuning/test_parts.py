"""Samples are as many as there is time for, and a study that goes on has those that it began with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from graphprune.errors import ArgumentError
from graphprune.runtime.holding import count
from graphprune.tuning import case
from graphprune.tuning.parts import LEAST_JUDGED, LEAST_REPAIRED, Counts, counts
from graphprune.tuning.search import Search

from .conftest import Make


def test_counts_follow_from_what_a_run_takes() -> None:
    assert counts(600.0, 0.01) == Counts(750, 1500)
    assert counts(1200.0, 0.01).repair == 2 * counts(600.0, 0.01).repair
    assert counts(60.0, 5.0) == Counts(LEAST_REPAIRED, LEAST_JUDGED)


def numbers(search: Search) -> tuple[tuple[int, ...], ...]:
    """How many repair, and which choose and report."""
    parts = search.case.parts
    model = search.case.model
    many = count(parts.repair, model), count(parts.few, model)
    return many, tuple(parts.selection.numbers), tuple(parts.report().numbers)


@pytest.fixture
def many(folder: Path) -> None:
    """512 samples in place of 64."""
    samples = np.random.default_rng(1).standard_normal((512, 6)).astype(np.float32)
    np.savez(folder / "samples.npz", x=samples)


@pytest.mark.usefixtures("many")
def test_slow_models_have_fewer_samples_and_keep_them(search: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = search(1)
    whole.study.prepare()
    monkeypatch.setattr(case.Case, "seconds", 1.0)
    slow = search(None, force=True)
    slow.study.prepare()
    slow.study.log.start()
    every, some = numbers(whole), numbers(slow)
    assert every[0] == (256, 64)
    assert some[0] == (LEAST_REPAIRED, 16)
    assert len(some[1]) == len(some[2]) == LEAST_JUDGED
    assert set(some[1]) < set(every[1])
    assert set(some[2]) < set(every[2])
    assert json.loads(Path("small.tune/samples.json").read_text()) == {"repair": 32, "judge": 64}
    monkeypatch.setattr(case.Case, "seconds", 1e-6)
    again = search(None, resume=True)
    again.study.prepare()
    assert again.study.trials() == ()
    assert numbers(again) == some


@pytest.mark.usefixtures("many")
def test_a_study_by_time_goes_on_by_steps_and_the_other_way_round(
    search: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(case.Case, "seconds", 1.0)
    for first, second, repaired in ((None, 3, LEAST_REPAIRED), (3, None, 256)):
        begun = search(first, force=True).study
        begun.prepare()
        begun.log.start()
        again = search(second, resume=True)
        again.study.prepare()
        assert again.study.trials() == ()
        assert numbers(again)[0][0] == repaired


def test_what_a_search_left_that_told_nothing_is_not_taken_for_the_samples_of_the_next(
    search: Make, folder: Path
) -> None:
    search(1).study.prepare()
    np.savez(folder / "samples.npz", x=np.ones((64, 6), np.float32))
    made = search(1)
    made.study.prepare()
    with np.load(made.study.place.samples("repair") / "0000.npz") as kept:
        assert (kept["x"] == 1).all()


@pytest.mark.parametrize("content", ["", "[1]", '{"repair": 32}', "\udcff"])
def test_a_damaged_file_of_counts_is_told(search: Make, content: str) -> None:
    begun = search(None).study
    begun.prepare()
    begun.log.start()
    path = Path("small.tune/samples.json")
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ArgumentError, match=r"samples\.json.*(is damaged|has no 'judge')"):
        search(None, resume=True).study.prepare()
    path.unlink()
    with pytest.raises(ArgumentError, match=r"cannot read .*samples\.json"):
        search(None, resume=True).study.prepare()


@pytest.mark.usefixtures("many")
def test_by_steps_all_samples_are_taken_on_any_machine(search: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(case.Case, "seconds", 1.0)
    made = search(1)
    made.study.prepare()
    assert numbers(made)[0] == (256, 64)
