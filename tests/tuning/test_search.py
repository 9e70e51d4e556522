"""A search ends with the cheapest model that keeps to the bound, and what it wrote can be made again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import graphprune.prune.scoring as scoring
from graphprune.cli.main import main
from graphprune.errors import ArgumentError, DataError, OutputError
from graphprune.ir.load import load
from graphprune.pipeline.settings import Tuning
from graphprune.tuning import here, sampler
from graphprune.tuning.case import Case, Job
from graphprune.tuning.deadline import left_at
from graphprune.tuning.goal import Figures
from graphprune.tuning.processes import Died, Processes
from graphprune.tuning.search import Search
from graphprune.tuning.study import Measured, Study
from graphprune.tuning.trial import FULL, QUICK, Asked, History, Trial

from .conftest import Make


def test_the_result_is_smaller_and_keeps_to_the_bound(search: Make) -> None:
    found = search(4).finish()
    assert found.after.macs < found.before.macs
    reported = found.result.reported
    assert reported is not None
    assert reported.value <= 0.2
    assert Path("small.onnx").is_file()


def test_the_report_part_is_read_once_after_the_last_candidate(search: Make) -> None:
    made = search(3)
    for _ in made:
        assert made.case.parts.reads == 0
    assert made.case.parts.reads == 1


def test_a_recipe_alone_makes_the_same_bytes(search: Make) -> None:
    found = search(3, keep_all=True).finish()
    assert len(found.points) > 0
    for point in found.points:
        output = Path(f"again{point.number}.onnx")
        assert main(["compile", "model.onnx", "--recipe", point.recipe, "-o", str(output), "-q"]) == 0
        assert output.read_bytes() == Path(point.model).read_bytes()


def test_what_a_candidate_loses_is_judged_by_the_search_alone(search: Make) -> None:
    made = search(1)
    assert all(trial.loss is not None for trial in made)
    assert made.study.maker.made(9, "obspa(macs=0.5)", FULL).report.agreement is None


def test_steps_and_seed_make_the_same_study(search: Make, folder: Path) -> None:
    search(1, "zero.onnx").finish()
    first = [trial.asked for trial in search(6, "one.onnx", profile="zero.tune/profile.json")]
    again = [trial.asked for trial in search(6, "two.onnx", profile="zero.tune/profile.json")]
    assert first == again


def test_candidates_side_by_side_are_those_that_come_one_after_the_other(search: Make) -> None:
    search(1, "zero.onnx").finish()
    known = {"profile": "zero.tune/profile.json", "keep_all": True}
    one = search(5, "one.onnx", jobs=1, **known)
    two = search(5, "two.onnx", jobs=2, **known)
    told = [[replace(trial, seconds=0.0) for trial in made] for made in (one, two)]
    assert "_processes" not in one.__dict__
    assert "_processes" in two.__dict__
    assert told[0] == told[1]
    for trial in told[0]:
        first, second = (made.study.place.candidate(trial.number) for made in (one, two))
        assert first.read_bytes() == second.read_bytes()


def test_a_candidate_whose_process_dies_is_told_as_such(
    search: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Processes, "map", lambda self, work, shared, items: map(Died, items))
    made = search(4, jobs=2)
    told = list(made)
    assert told[0].made
    assert all("process that made it died" in each.why for each in told[1:3])
    assert made.finish().failed >= 2


def test_large_models_are_made_one_at_a_time(search: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here, "HEAVY", 100)
    made = search(3, jobs=2)
    made.finish()
    assert "_processes" not in made.__dict__


def test_best_so_far_is_on_disk_while_the_search_goes_on(search: Make) -> None:
    sizes = []
    for trial in search(5):
        if trial.asked.level == FULL:
            sizes.append(load(Path("small.onnx")).bytes)
    assert sizes[-1] < sizes[0]


def test_no_cut_that_keeps_the_bound_leaves_the_dense_model(search: Make) -> None:
    found = search(2, max_drop=0.0, target="macs", outputs={"y": "values"}).finish()
    assert found.chosen in (0, -1)
    assert found.after.macs == found.before.macs
    assert any("loss" in line for line in found.stopped)


def test_nothing_that_may_shrink_is_said(folder: Path, search: Make) -> None:
    model = ir.from_onnx_text(
        '<ir_version: 10, opset_import: ["" : 21]>\ng (float[n,6] x) => (float[n,6] y) { y = Sigmoid(x) }'
    )
    ir.save(model, folder / "model.onnx")
    found = search(3).finish()
    assert found.tried == 1
    assert found.chosen in (0, -1)


@pytest.mark.parametrize("stop", [1, 2])
def test_an_interrupted_search_goes_on(search: Make, stop: int) -> None:
    search(1, "zero.onnx").finish()
    whole = [trial.asked for trial in search(6, "whole.onnx", profile="zero.tune/profile.json")]
    for trial in search(6, profile="zero.tune/profile.json"):
        if trial.number == stop:
            break
    rest = list(search(6, resume=True))
    assert [trial.asked for trial in rest] == whole


def test_a_killed_search_goes_on(folder: Path) -> None:
    command = [sys.executable, "-m", "graphprune", "tune", "model.onnx", "--calibration", "samples.npz"]
    command += ["-o", "small.onnx", "--steps", "40", "--time", "2s", "--max-drop", "0.2", "-q"]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'passes'}"}
    process = subprocess.Popen(command, env=environment)
    log = folder / "small.tune" / "trials.jsonl"
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end and not (log.is_file() and log.read_bytes().count(b"\n") > 3):
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    told = log.read_bytes().count(b"\n") - 1
    assert told >= 3
    load(folder / "small.onnx")  # the best so far is whole
    job = Job(Path("model.onnx"), Path("samples.npz"), Path("small.onnx"))
    settings = Tuning(steps=told + 1, time=2.0, max_drop=0.2, resume=True)
    trials = list(Search(job, settings))
    assert [trial.number for trial in trials] == list(range(told + 2))


def test_a_line_that_was_cut_off_is_dropped(search: Make) -> None:
    search(3).finish()
    log = Path("small.tune/trials.jsonl")
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:-1]) + lines[-1][:20])
    trials = list(search(3, resume=True))
    assert [trial.number for trial in trials] == [0, 1, 2, 3]


def test_another_goal_is_another_study(search: Make) -> None:
    search(1).finish()
    with pytest.raises(ArgumentError, match="another max-drop"):
        search(1, resume=True, max_drop=0.1).finish()


def test_a_study_that_is_there_is_not_lost(search: Make) -> None:
    search(1).finish()
    for path in filter(Path.is_file, Path().glob("small.*")):
        path.unlink()
    with pytest.raises(OutputError, match="there is a study"):
        search(1).finish()


def test_an_output_that_is_there_is_not_replaced(search: Make) -> None:
    Path("small.onnx").write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists"):
        search(1).finish()
    assert Path("small.onnx").read_bytes() == b"mine"


def test_too_few_samples_are_refused(search: Make) -> None:
    np.savez("samples.npz", x=np.zeros((31, 6), np.float32))
    with pytest.raises(DataError, match="too few samples to search with"):
        search(1).finish()


def test_without_optuna_it_runs_and_says_so(search: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "is_installed", lambda: False)
    found = search(4).finish()
    assert found.after.macs < found.before.macs
    assert "pip install" in found.left_out[0]


def test_a_target_that_nothing_meets_is_missed(search: Make) -> None:
    found = search(3, target="macs=0.01", max_drop=0.0).finish()
    assert not found.met


def test_bounds_are_met_at_the_least_loss(search: Make) -> None:
    found = search(4, target="params=0.6", max_drop=1.0).finish()
    assert found.met
    assert found.after.params <= 0.6 * found.before.params


@pytest.mark.full
def test_a_lock_that_a_kill_left_is_not_waited_for(search: Make) -> None:
    pytest.importorskip("optuna")
    search(3).finish()
    lock = Path("small.tune/optuna.log.lock")
    lock.symlink_to("small.tune/optuna.log")
    with left_at(time.monotonic() + 60):
        assert search(5, resume=True).finish().tried == 6
    assert not lock.is_symlink()


@pytest.mark.full
def test_optuna_reads_the_study(search: Make) -> None:
    optuna = pytest.importorskip("optuna")
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    full = [trial for trial in search(4) if trial.asked.level == FULL and trial.number]
    storage = JournalStorage(JournalFileBackend("small.tune/optuna.log"))
    kept = optuna.load_study(study_name="graphprune", storage=storage)
    assert [trial.user_attrs["number"] for trial in kept.trials] == [trial.number for trial in full]


def test_the_command_says_first_how_loss_is_judged(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "tune model.onnx --calibration samples.npz -o small.onnx --steps 2 --time 2s --max-drop 0.2"
    assert main([*words.split(), "--report", "small.html", "--json"]) == 0
    shown = capsys.readouterr()
    assert shown.err.startswith("judged by y as classes; at most 0.2 may be lost\n")
    told = json.loads(shown.out)
    assert told["chosen"] >= 0
    assert "<svg" in Path("small.html").read_text() or "pip install" in Path("small.html").read_text()


def test_the_command_fails_where_the_target_is_missed(folder: Path) -> None:
    words = (
        "tune model.onnx --calibration samples.npz -o small.onnx --steps 1 --time 2s --target macs=0.001 -q"
    )
    assert main(words.split()) == 1


def test_candidates_of_one_criterion_share_their_scores(
    search: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is left of the model: all Units are scored once for quick ones and once for those in full."""
    seen: list[str] = []
    find = scoring.score

    def counting(*given: object, **more: object) -> object:
        seen.append("score")
        return find(*given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(scoring, "score", counting)
    made = search(1)
    made.study.prepare()
    for number, left in enumerate((0.8, 0.5, 0.3), 1):
        made.study.maker.made(number, f"obspa(macs={left}, io=fixed)", FULL)
    assert len(seen) == 1
    made.study.maker.made(4, "obspa(macs=0.5, io=fixed)", QUICK)
    assert len(seen) == 2


def test_a_budget_of_latency_foresees_what_the_search_predicts(
    search: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nodes take alone times a factor is what a model takes, whatever that factor is here."""
    measure = Study._measure

    def slow(study: Study) -> Measured:
        found = measure(study)
        return Measured(3 * found.given, replace(found.predictor, factor=3 * found.predictor.factor))

    monkeypatch.setattr(Study, "_measure", slow)
    study = search(1).study
    study.prepare()
    made = study.maker.made(1, "prune(latency=0.7, repair=none, io=fixed)", FULL)
    share = study.seconds(made.model) / study.measured.given
    assert made.report.budgets[0].foreseen == pytest.approx(share, rel=0.02)


def test_quick_candidates_pay_where_samples_take_the_time(
    search: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = search(None)
    quick = Trial(1, Asked("obspa", 0.6, QUICK), "", Figures(1.0, 1, 1, 1), seconds=10.0)
    history = History(made.goal, 0.01, Figures(1.0, 1, 1, 1))
    assert made._quick_pays(history)
    for seconds, pays in ((1e-4, False), (1.0, True)):
        monkeypatch.setattr(Case, "seconds", seconds)
        assert made._quick_pays(history.told(quick)) is pays
    assert search(3)._quick_pays(history.told(quick))  # by steps it is the same study on any machine
