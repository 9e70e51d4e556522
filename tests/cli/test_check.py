"""`graphprune check` as a pipeline runs it: exit codes, forms and files."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.report.checked import github, junit, markdown

from .conftest import Run, small_model

CHECK = ("check", "model.onnx", "other.onnx", "--inputs", "x.npz")
FAILS = (*CHECK, "--max-drop", "0.0", "--max-bytes", "1")


@pytest.fixture(autouse=True)
def files(folder: Path) -> None:
    ir.save(small_model(seed=1), folder / "other.onnx")
    image = np.random.default_rng(0).standard_normal((40, 3, 8, 8)).astype(np.float32)
    np.savez(folder / "x.npz", image=image)


def test_exit_codes(run: Run) -> None:
    assert run(*CHECK, "--max-drop", "1").code == 0
    failed = run(*FAILS)
    assert failed.code == 1 and "\n  FAIL  drop " in failed.out and "\n  pass  file size " in failed.out
    assert "FAILED: drop; 100.0 % of the bytes; drop " in failed.out and failed.err == ""
    nothing = run(*CHECK)
    assert nothing.code == 2 and "give a threshold: --max-drop" in nothing.err
    assert run("check", "model.onnx", "no.onnx", "--max-bytes", "1").code == 2


def test_quiet_says_it_by_the_exit_code_alone(run: Run) -> None:
    outcome = run(*FAILS, "-q")
    assert (outcome.code, outcome.out, outcome.err) == (1, "", "")


def test_flags_win_over_a_file(run: Run, folder: Path) -> None:
    (folder / "t.toml").write_text("max_drop = 0.0\nmax_bytes = 0.1\n")
    found = json.loads(run(*CHECK, "--thresholds", "t.toml", "--max-drop", "1", "--json").out)
    assert {each["threshold"]: each["verdict"] for each in found["judged"]} == {
        "--max-drop": "pass",
        "--max-bytes": "fail",
    }


def test_github_has_a_line_per_trouble(run: Run) -> None:
    one, note, two = run(*FAILS, "--format", "github").out.splitlines()
    assert one.startswith("::error title=graphprune check::drop (logits) is 0.")
    assert note.startswith("::warning title=graphprune check::as good as dead")
    assert two.startswith("::error title=graphprune check::FAILED: drop; 100.0 %25 of the bytes")
    (passed,) = run(*CHECK, "--max-bytes", "1", "--format", "github").out.splitlines()
    assert passed.startswith("::notice title=graphprune check::passed; ")


def test_junit_is_a_suite_of_thresholds(run: Run) -> None:
    suite = ElementTree.fromstring(run(*FAILS, "--format", "junit").out)
    assert (suite.tag, suite.get("tests"), suite.get("failures")) == ("testsuite", "2", "1")
    names = [(case.get("name"), case.find("failure") is not None) for case in suite]
    assert names == [("--max-drop drop", True), ("--max-bytes file size", False)]


def test_markdown_has_the_headline_on_top(run: Run) -> None:
    heading, _, headline, _, head, *rest = run(*FAILS, "--format", "markdown").out.splitlines()
    assert heading == "### graphprune check: other.onnx against model.onnx"
    assert headline.startswith("**FAILED: drop; 100.0 % of the bytes; drop ")
    rows = [row for row in rest if row.startswith("|")]
    assert {row.count("|") for row in rows} == {head.count("|")} and rows[1].startswith("| FAIL | drop |")


def test_one_run_stores_every_form(run: Run, folder: Path) -> None:
    names = [f"r{end}" for end in (".json", ".md", ".xml")]
    reports = [word for name in names for word in ("--report", name)]
    assert run(*FAILS, *reports).code == 1
    json_text, md, xml = ((folder / name).read_text() for name in names)
    assert json.loads(json_text)["ok"] is False
    assert "| FAIL | drop |" in md and ElementTree.fromstring(xml).tag == "testsuite"
    again = run(*FAILS, *reports)
    assert again.code == 2 and "the report 'r.json' exists" in again.err
    assert run(*FAILS, *reports, "--force").code == 1
    assert "ends in none of .json, .md, .xml" in run(*FAILS, "--report", "r.txt").err
    same = run(*FAILS, "--baseline", "r.json", "--report", "r.json", "--force")
    assert same.code == 2 and json.loads((folder / "r.json").read_text())["ok"] is False


def test_a_stored_result_is_a_baseline(run: Run) -> None:
    assert run(*CHECK, "--max-drop", "1", "--report", "r.json").code == 0
    assert run(*CHECK, "--baseline", "r.json").code == 0
    copy = ("check", "model.onnx", "model.onnx", "--inputs", "x.npz")
    assert run(*copy, "--max-drop", "1", "--report", "copy.json").code == 0
    worse = run(*CHECK, "--baseline", "copy.json")
    assert worse.code == 1 and "(baseline)" in worse.out


def test_names_break_out_of_no_form(run: Run, folder: Path) -> None:
    import graphprune

    models = [small_model(seed) for seed in (0, 1)]
    for model in models:
        model.graph.outputs[0].name = "a|b<i>\n::warning::%`"
    with np.load(folder / "x.npz") as archive:
        result = graphprune.check(*models, dict(archive), max_drop=0.0)
    assert not result.ok
    assert len(github(result).splitlines()) == 3 and "\\n::warning::%25" in github(result)
    table = [row for row in markdown(result).splitlines() if row.startswith("|")]
    assert len({row.replace("\\|", "").count("|") for row in table}) == 1 and "\\<i\\>" in markdown(result)
    assert len(ElementTree.fromstring(junit(result))) == 1
