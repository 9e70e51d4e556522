"""Compiles of one model and its samples find scores once, and come to the same as without."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import graphprune.prune.scoring as scoring
from graphprune.errors import OutputError
from graphprune.pipeline import compile as compiling
from graphprune.pipeline import criteria, registry
from graphprune.pipeline.job import Job
from graphprune.pipeline.result import Result
from graphprune.pipeline.scorebook import Scorebook
from graphprune.pipeline.settings import Settings
from graphprune.prune.criteria import CRITERIA

SETTINGS = Settings(allow_short=True)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A line each time that scores are found."""
    seen: list[str] = []
    find = scoring.score

    def counting(*given: object, **more: object) -> object:
        seen.append("score")
        return find(*given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(scoring, "score", counting)
    return seen


def samples(seed: int = 0) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).standard_normal((48, 6)).astype(np.float32)}


def compiled(model: Path, passes: str, scores: Path | None, seed: int = 0) -> Result:
    job = Job(model, registry.read(passes), calibration=samples(seed), scores=scores)
    return compiling.run(job, SETTINGS)


def weights(result: Result) -> list[bytes]:
    return [value.const_value.numpy().tobytes() for value in result.model.graph.initializers.values()]  # type: ignore[union-attr]


def test_another_budget_needs_no_new_scores(model: Path, tmp_path: Path, counted: list[str]) -> None:
    book = tmp_path / "scores"
    compiled(model, "obspa(macs=0.8)", book)
    again = compiled(model, "obspa(macs=0.5)", book)
    assert counted == ["score"]
    assert weights(again) == weights(compiled(model, "obspa(macs=0.5)", None))


@pytest.mark.parametrize("other", ["samples", "criterion", "normalise", "ignore"])
def test_what_scores_follow_from_finds_them_anew(
    model: Path, tmp_path: Path, counted: list[str], other: str
) -> None:
    book = tmp_path / "scores"
    compiled(model, "prune(macs=0.5, criterion=obs)", book)
    passes = {
        "criterion": "prune(macs=0.5, criterion=wanda)",
        "normalise": "prune(macs=0.5, criterion=obs, normalise=mean)",
        "ignore": "prune(macs=0.5, criterion=obs, ignore=[w1])",
    }
    compiled(model, passes.get(other, "prune(macs=0.5, criterion=obs)"), book, seed=int(other == "samples"))
    assert len(counted) == 2


def test_scores_of_a_criterion_of_the_user_are_not_kept(
    model: Path, tmp_path: Path, counted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its name stands for may be something else by the next compile."""
    own = replace(CRITERIA["obs"], about="of the user")
    monkeypatch.setattr(criteria, "load", lambda name: own)
    for _ in range(2):
        compiled(model, "prune(macs=0.5, criterion=obs)", tmp_path / "scores")
    assert len(counted) == 2
    assert not (tmp_path / "scores").exists()


def test_a_damaged_file_is_found_anew_and_warnings_are_told_again(tmp_path: Path) -> None:
    book, told = Scorebook(tmp_path / "scores"), list[str]()
    found = {"g": np.array([0.1, 1e-300, 3.0])}

    def find(warn: object) -> dict[str, np.ndarray]:
        assert callable(warn)
        warn("blind")
        return found

    def never(warn: object) -> dict[str, np.ndarray]:
        raise AssertionError

    for search in (find, never):
        assert np.array_equal(book.scores("of this", search, told.append)["g"], found["g"])
    assert told == ["blind", "blind"]
    (path,) = book.folder.iterdir()
    path.write_text('{"scores": {"g": 1}, "warnings": []}')
    assert np.array_equal(book.scores("of this", find, told.append)["g"], found["g"])
    assert len(told) == 3


def test_a_folder_that_cannot_be_made_is_an_error_of_output(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    book = Scorebook(tmp_path / "file" / "scores")
    with pytest.raises(OutputError, match="scores"):
        book.scores("of this", lambda warn: {"g": np.zeros(2)}, lambda line: None)
