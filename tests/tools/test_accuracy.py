"""The accuracy page from made-up results: bars, pairing, and which jobs are left."""

from __future__ import annotations

import shlex
import subprocess
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest

from graphprune.errors import DataError
from graphprune.pipeline import registry
from tools.accuracy import page, run
from tools.accuracy.__main__ import RESULTS, parser
from tools.accuracy.bars import general_bars, language_bars
from tools.accuracy.methods import METHODS
from tools.accuracy.plot import Line, Panel, draw
from tools.accuracy.results import Row, Store
from tools.accuracy.state import measured_at
from tools.real_models.registry import workload_named


def scored(right: int) -> np.ndarray:
    """Items of 100 inputs, of which the first ones are right."""
    return (np.arange(100) < right).astype(float)


def result(method: str, right: int, commit: str = "new") -> Row:
    ratio = 0.0 if method == "dense" else 0.2
    return Row("mnist-cnn", method, ratio, "", commit, metric=right / 100, dense=0.98, params=0.7)


@pytest.fixture
def store(tmp_path):
    """Dense and some methods on one model."""
    made = Store(tmp_path / "accuracy.jsonl", tmp_path / "items")
    for method, right in {
        "dense": 98,
        "random": 60,
        "obspa": 97,
        "flap": 61,
        "l2, size of obspa": 70,
    }.items():
        made.add(result(method, right), scored(right))
    return made


def bars(store) -> dict[str, tuple[str, str]]:
    return {bar: (met, detail) for bar, met, detail in general_bars([workload_named("mnist-cnn")], store)}


def test_differences_are_paired(store):
    change = store.rows()["mnist-cnn", "obspa", 0.2].against_random
    assert change.mean == pytest.approx(0.37)
    assert change.standard_error == pytest.approx(np.sqrt(0.37 * 0.63 / 99), rel=1e-5)
    assert store.rows()["mnist-cnn", "random", 0.2].against_random is None


def test_differences_outlive_the_items_that_they_were_made_of(store, tmp_path):
    elsewhere = Store(store.lines, tmp_path / "another machine")
    before = elsewhere.rows()["mnist-cnn", "obspa", 0.2]
    elsewhere.add(result("l2", 80), scored(80))
    assert elsewhere.rows()["mnist-cnn", "obspa", 0.2] == before
    assert elsewhere.rows()["mnist-cnn", "l2", 0.2].against_dense is None  # the dense items are not here


def test_a_control_that_comes_last_is_compared_with_all(store, tmp_path):
    late = Store(tmp_path / "late.jsonl", tmp_path / "late")
    for method, right in (("dense", 98), ("obspa", 97), ("random", 60)):
        late.add(result(method, right), scored(right))
    assert late.rows()["mnist-cnn", "obspa", 0.2] == store.rows()["mnist-cnn", "obspa", 0.2]


def test_rows_of_two_states_are_not_compared(store):
    store.add(result("obspa", 90, "newer"), scored(90))
    row = store.rows()["mnist-cnn", "obspa", 0.2]
    assert (row.metric, row.against_dense, row.against_random) == (0.9, None, None)


def test_rows_scored_on_different_items_are_no_pair(store):
    with pytest.raises(DataError, match="different items"):
        store.add(result("l2", 80), scored(80)[:50])


def test_a_key_has_one_line(store):
    lines = store.lines.read_text().splitlines()
    store.add(result("obspa", 90), scored(90))
    again = store.lines.read_text().splitlines()
    assert len(again) == len(lines) and sum(one != two for one, two in zip(lines, again, strict=True)) == 1


def test_what_rows_are_compared_with_is_measured_again_where_its_items_are_lost(store, tmp_path):
    assert {method for _, method, _ in store.current("new")} >= {"dense", "random", "obspa"}
    elsewhere = Store(store.lines, tmp_path / "another machine")
    assert {method for _, method, _ in elsewhere.current("new")} == {"obspa", "flap", "l2, size of obspa"}
    assert not store.current("newer")


def test_the_state_is_the_last_commit_of_what_is_measured(tmp_path):
    def git(*command: str) -> str:
        identity = ("-c", "user.name=x", "-c", "user.email=x@y")
        return subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *command], check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "-q")
    for name in ("passes/one.py", "docs/accuracy.jsonl"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(name)
        git("add", ".")
        git("commit", "-qm", name)
    assert measured_at(tmp_path) == git("rev-parse", "--short", "HEAD~1")
    (tmp_path / "passes/one.py").write_text("changed")
    with pytest.raises(DataError, match="differ from the last commit"):
        measured_at(tmp_path)


def test_bars(store):
    assert bars(store)["obspa loses at most half of what l2 loses at the same parameters"] == ("1 of 1", "")
    assert bars(store)["obspa loses at most 2 points at 0.2"] == ("1 of 1", "")
    met, detail = bars(store)["flap beats random at 0.2 by two standard errors"]
    assert met == "0 of 1" and "mnist-cnn: +0.010 ± 0.010" in detail
    store.add(result("obspa", 80), scored(80))
    assert bars(store)["obspa loses at most half of what l2 loses at the same parameters"][0] == "0 of 1"
    assert bars(store)["obspa loses at most 2 points at 0.2"][0] == "0 of 1"


def test_what_loses_nothing_cannot_be_beaten(store):
    store.add(result("random", 98), scored(98))
    met, detail = bars(store)["obspa beats random at 0.2 by two standard errors"]
    assert met == "0 of 0" and "not judged" in detail


def test_bars_of_a_language_model(tmp_path):
    store, workload = Store(tmp_path / "rows.jsonl", tmp_path), workload_named("smollm2")
    for method, value in (("magnitude 2:4", 90.0), ("wanda 2:4", 50.0), ("sparsegpt+refit 2:4", 60.0)):
        store.add(Row("smollm2", method, 0.5, "", metric=value), None)
    assert list(language_bars(workload, store)) == [
        ("2:4: magnitude > wanda ≥ sparsegpt+refit", "no", "90.00 > 50.00 > 60.00")
    ]


def test_jobs_wait_for_the_size_that_they_match(store):
    workload = workload_named("mnist-cnn")
    jobs = {row.key: row.pipeline for row in run.jobs(workload, store.rows())}
    assert jobs["mnist-cnn", "l2, size of obspa", 0.2] == "prune(params=0.700000, criterion=l2, repair=none)"
    assert ("mnist-cnn", "l2, size of obspa", 0.35) not in jobs


@pytest.mark.parametrize("method", METHODS, ids=lambda method: f"{method.suite} {method.name}")
def test_every_pipeline_is_one(method):
    assert registry.read(method.pipeline.format(ratio=0.2, kept=0.8, params=0.5))


def test_the_page(store, tmp_path, monkeypatch):
    store.add(replace(result("l2", 0), error="nothing can be pruned"), None)
    store.add(
        replace(result("obs, oneshot", 90, "old"), speedup=1.5, low=1.4, high=1.6, verdict="faster"), None
    )
    monkeypatch.setattr(page, "PAGE", tmp_path / "accuracy.md")
    monkeypatch.setattr(page, "PLOT", tmp_path / "accuracy.svg")
    page.write(store)
    text = (tmp_path / "accuracy.md").read_text()
    assert "| 0.2 | obspa | 0.970 | -0.010 ± 0.010 | +0.370 ± 0.049 | 0.700 |" in text
    assert "| 0.2 | l2 | nothing can be pruned |" in text
    assert "Measured at new; rows marked † at old." in text
    (older,) = (
        line for line in text.splitlines() if line.startswith("| 0.2 | obs, oneshot † | 0.900 |  |  |")
    )
    assert older.endswith("| 1.50x (1.40 to 1.60) |")
    assert ElementTree.fromstring((tmp_path / "accuracy.svg").read_text()).tag.endswith("svg")


def test_every_method_of_the_page_is_a_command(store, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "PAGE", tmp_path / "accuracy.md")
    monkeypatch.setattr(page, "PLOT", tmp_path / "accuracy.svg")
    page.write(store)
    legend = (
        (tmp_path / "accuracy.md").read_text().partition("## What the methods are")[2].partition("\n## ")[0]
    )
    lines = [line.split(" | ") for line in legend.splitlines() if line.startswith("| ")][1:]
    assert len(lines) == len(METHODS)
    for method, (_, text, command) in zip(METHODS, lines, strict=True):
        values = {"RATIO": "0.2", "KEPT": "0.8", "PARAMS": "0.5"}
        for word, value in values.items():
            text = text.replace(word, value)
        assert registry.read(text.strip("`"))
        words = shlex.split(command.strip("`| ").replace("RATIO", "0.2"))
        asked = parser().parse_args(words[3:])
        assert words[:3] == ["python", "-m", "tools.accuracy"] and asked.methods == [method.name]


def test_the_page_is_that_of_the_committed_rows(tmp_path, monkeypatch):
    written = page.PAGE.read_text(), page.PLOT.read_text()
    monkeypatch.setattr(page, "PAGE", tmp_path / "accuracy.md")
    monkeypatch.setattr(page, "PLOT", tmp_path / "accuracy.svg")
    page.write(Store(RESULTS, tmp_path))
    assert written == ((tmp_path / "accuracy.md").read_text(), (tmp_path / "accuracy.svg").read_text())


def test_plots_are_xml_whatever_the_names():
    drawn = draw([Panel("a < b & c", 0.9, (Line("x", ((0.5, 0.7), (3.0, -1.0))),))], ["x"])
    assert "a &lt; b &amp; c" in drawn and ElementTree.fromstring(drawn) is not None
