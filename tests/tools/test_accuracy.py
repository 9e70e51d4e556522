"""The accuracy page from made-up results: bars, pairing, and which jobs are left."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from graphprune.pipeline import registry
from tools.accuracy import page, run
from tools.accuracy.bars import general_bars, language_bars
from tools.accuracy.methods import METHODS
from tools.accuracy.plot import Line, Panel, draw
from tools.accuracy.results import Row, Store
from tools.real_models.registry import workload_named


@pytest.fixture
def store(tmp_path):
    """Dense and two methods on one model; items of 100 inputs."""
    made = Store(tmp_path / "accuracy")
    rights = {"random": 60, "obspa": 97, "flap": 61, "l2, size of obspa": 70}
    for method, right in {"dense": 98, **rights}.items():
        ratio = 0.0 if method == "dense" else 0.2
        items = np.zeros(100)
        items[:right] = 1
        made.add(Row("mnist-cnn", method, ratio, "", metric=right / 100, dense=0.98, params=0.7), items)
    return made


def test_differences_are_paired(store):
    rows = store.rows()
    change = store.difference(rows["mnist-cnn", "obspa", 0.2], rows["mnist-cnn", "random", 0.2])
    assert change.mean == pytest.approx(0.37)
    assert change.standard_error == pytest.approx(np.sqrt(0.37 * 0.63 / 99))


def test_bars(store):
    found = {bar: (met, detail) for bar, met, detail in general_bars([workload_named("mnist-cnn")], store)}
    assert found["obspa loses at most half of what l2 loses at the same parameters"] == ("1 of 1", "")
    assert found["obspa loses at most 2 points at 0.2"] == ("1 of 1", "")
    met, detail = found["flap beats random at 0.2 by two standard errors"]
    assert met == "0 of 1" and "mnist-cnn: +0.010 ± 0.010" in detail
    store.add(Row("mnist-cnn", "obspa", 0.2, "", metric=0.8, dense=0.98), np.ones(100))
    found = {bar: met for bar, met, _ in general_bars([workload_named("mnist-cnn")], store)}
    assert found["obspa loses at most half of what l2 loses at the same parameters"] == "0 of 1"
    assert found["obspa loses at most 2 points at 0.2"] == "0 of 1"


def test_what_loses_nothing_cannot_be_beaten(store):
    dense = store.items(store.rows()["mnist-cnn", "dense", 0.0])
    store.add(Row("mnist-cnn", "random", 0.2, "", metric=0.98, dense=0.98), dense)
    found = {bar: (met, detail) for bar, met, detail in general_bars([workload_named("mnist-cnn")], store)}
    met, detail = found["obspa beats random at 0.2 by two standard errors"]
    assert met == "0 of 0" and "not judged" in detail


def test_bars_of_a_language_model(tmp_path):
    store, workload = Store(tmp_path), workload_named("smollm2")
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
    store.add(Row("mnist-cnn", "l2", 0.2, "", error="nothing can be pruned"), None)
    monkeypatch.setattr(page, "PAGE", tmp_path / "accuracy.md")
    monkeypatch.setattr(page, "PLOT", tmp_path / "accuracy.svg")
    page.write(tmp_path)
    text = (tmp_path / "accuracy.md").read_text()
    assert "| 0.2 | obspa | 0.970 | -0.010 ± 0.010 | +0.370 ± 0.049 | 0.700 |" in text
    assert "| 0.2 | l2 | nothing can be pruned |" in text
    assert ElementTree.fromstring((tmp_path / "accuracy.svg").read_text()).tag.endswith("svg")


def test_plots_are_xml_whatever_the_names():
    drawn = draw([Panel("a < b & c", 0.9, (Line("x", ((0.5, 0.7), (3.0, -1.0))),))], ["x"])
    assert "a &lt; b &amp; c" in drawn and ElementTree.fromstring(drawn) is not None
