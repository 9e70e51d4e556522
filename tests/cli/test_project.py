"""graphprune.toml and pyproject.toml: found, named, under flags, and never trusted with what could hurt."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from graphprune.errors import ArgumentError
from graphprune.pipeline import recipe, starter
from graphprune.pipeline.option import options
from graphprune.pipeline.project import find
from graphprune.pipeline.settings import Files, Looking, Settings

from .conftest import Run

PRUNE = "prune(criterion=l1, ratio=0.5, align=1)"
USED = "settings from {} (--no-config ignores it)\n"


@pytest.fixture
def home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nobody's settings are above the test's folder."""
    monkeypatch.setenv("HOME", str(folder / "home"))
    return folder


def wanted(text: str = "", pipeline: str = PRUNE) -> str:
    return f'pipeline = "{pipeline}"\n[options]\nbench = false\n{text}'


def test_a_found_file_is_named_and_flags_win(run: Run, home: Path) -> None:
    (home / "graphprune.toml").write_text(wanted("seed = 7\n"))
    report = json.loads((done := run("compile", "model.onnx", "-o", "a.onnx", "--json")).out)
    assert done.err.startswith(USED.format("graphprune.toml"))
    assert (report["pipeline"], report["seed"], report["config"]) == (PRUNE, 7, ["graphprune.toml"])
    flags = ("--seed", "8", "--passes", "canonicalize", "--json", "-q", "--report", "r.json")
    assert run("compile", "model.onnx", "-o", "b.onnx", *flags).err == ""
    merged = json.loads((home / "r.json").read_text())
    assert (merged["seed"], merged["pipeline"], merged["latency"]) == (8, "canonicalize", None)


def test_the_recipe_of_a_report_repeats_it(run: Run, home: Path) -> None:
    (home / "graphprune.toml").write_text(wanted("seed = 7\n[options.shape]\nimage = [1, 3, 8, 8]\n"))
    report = json.loads(run("compile", "model.onnx", "-o", "a.onnx", "--json", "--max-bytes", "1MB").out)
    stored = recipe.parse(report["recipe"])
    assert stored.options["shape"] == {"image": (1, 3, 8, 8)} and stored.options["max_bytes"] == 10**6
    (home / "again.toml").write_text(report["recipe"].replace("a.onnx", "b.onnx"))
    assert run("compile", "model.onnx", "--recipe", "again.toml", "--no-config", "-q").code == 0
    assert (home / "a.onnx").read_bytes() == (home / "b.onnx").read_bytes()


def test_a_recipe_wins_over_what_was_found(run: Run, home: Path) -> None:
    (home / "graphprune.toml").write_text(wanted("seed = 7\nthreads = 2\n"))
    (home / "mine").mkdir()
    (home / "mine" / "r.toml").write_text(
        'pipeline = "canonicalize"\n[options]\nseed = 9\noutput = "x.onnx"\n'
    )
    report = json.loads(run("compile", "model.onnx", "--recipe", "mine/r.toml", "--json").out)
    assert (report["pipeline"], report["seed"], report["latency"]) == ("canonicalize", 9, None)
    assert report["output"] == "mine/x.onnx" and (home / "mine" / "x.onnx").exists()
    assert report["config"] == ["mine/r.toml", "graphprune.toml"]
    assert recipe.parse(report["recipe"]).options["threads"] == 2


def test_no_config_ignores_even_a_broken_file(run: Run, home: Path) -> None:
    (home / "graphprune.toml").write_text("seed = ")
    broken = run("inspect", "model.onnx")
    assert broken.code == 2 and "'graphprune.toml' is not TOML" in broken.err
    assert broken.err.endswith("hint: --no-config ignores it\n")
    assert run("inspect", "model.onnx", "--no-config").err == ""


def test_it_is_looked_for_up_to_the_root_of_the_repository(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = home / "repository" / "models" / "deep"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    (home / "graphprune.toml").write_text(wanted("seed = 1\n"))
    (home / "repository" / "models" / "pyproject.toml").write_text("[tool.other]\nseed = 5\n")
    assert find() is None  # neither in a repository nor at home: nothing above counts
    (home / "repository" / ".git").mkdir()
    assert find() is None
    (home / "repository" / "pyproject.toml").write_text("[tool.graphprune.options]\nseed = 2\n")
    found = find()
    assert found is not None and found.path == Path("../../pyproject.toml")
    assert found.recipe.options == {"seed": 2}
    (inner / "graphprune.toml").write_text("[options]\nseed = 3\n")
    nearest = find()
    assert nearest is not None and nearest.recipe.options == {"seed": 3}


def test_it_is_looked_for_up_to_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "home" / "work").mkdir(parents=True)
    monkeypatch.chdir(home / "home" / "work")
    (home / "graphprune.toml").write_text("[options]\nseed = 1\n")
    assert find() is None
    (home / "home" / "graphprune.toml").write_text("[options]\nseed = 2\n")
    found = find()
    assert found is not None and found.path == Path("../graphprune.toml")


GUARDED = {
    "output": '"x.onnx"',
    "report": '"r.json"',
    "statistics": '"s"',
    "reproducer": '"d"',
    "force": "true",
    "max_bytes": "5",
    "allow-external-links": "true",
}


@pytest.mark.parametrize("name", GUARDED)
def test_a_found_file_may_not_write_force_or_lift_limits(name: str, run: Run, home: Path) -> None:
    (home / "pyproject.toml").write_text(f"[tool.graphprune.options]\nseed = 1\n{name} = {GUARDED[name]}\n")
    before = sorted(home.iterdir())
    outcome = run("compile", "model.onnx", "-o", "a.onnx", "--passes", PRUNE)
    assert outcome.code == 2 and sorted(home.iterdir()) == before
    assert f"'pyproject.toml' was found, not named, and so may not set '{name}' (line 3)" in outcome.err
    assert recipe.parse(f'pipeline = ""\n[options]\n{name} = {GUARDED[name]}\n').options  # a named one may


def test_a_found_file_may_not_name_a_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is code, wherever in a pipeline it stands."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "graphprune.toml").write_text('pipeline = ["prune(ratio=0.5)", "recover(loss=evil:run)"]\n')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ArgumentError, match="was found, not named, and so may not set loss of recover"
    ) as caught:
        find()
    assert "--no-config" in caught.value.hint
    (tmp_path / "graphprune.toml").write_text('pipeline = "prune(ratio=0.5), recover(time=1m)"\n')
    assert find() is not None


def test_what_is_guarded_is_what_the_settings_say() -> None:
    known = (*options(Settings), *options(Files))
    assert {each.name for each in known if not each.found} == {n.replace("-", "_") for n in GUARDED}


def test_code_is_nothing_that_a_file_can_name(run: Run, home: Path) -> None:
    for table in ("options", "thresholds"):
        (home / "graphprune.toml").write_text(f'[{table}]\nmetric = "evil:run"\n')
        outcome = run("check", "model.onnx", "model.onnx", "--max-bytes", "1")
        assert outcome.code == 2 and "'metric' (line 2)" in outcome.err


def test_a_mistake_in_a_found_file_says_where_and_what_was_meant(run: Run, home: Path) -> None:
    (home / "graphprune.toml").write_text(wanted("sede = 1\n"))
    outcome = run("bench", "model.onnx")
    assert outcome.err == (
        "error: 'graphprune.toml' has an unknown option 'sede' (line 4)\n"
        "hint: did you mean 'seed'?; --no-config ignores it\n"
    )
    (home / "graphprune.toml").write_text(wanted(pipeline="prnue"))
    outcome = run("compile", "model.onnx", "-o", "a.onnx")
    assert "error: pipeline of 'graphprune.toml' (line 1): no pass named 'prnue'\n" in outcome.err
    assert "did you mean 'prune'?" in outcome.err


def test_check_takes_thresholds_and_samples_that_were_found(run: Run, home: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(home / "x.npz", image=rng.standard_normal((40, 3, 8, 8)).astype(np.float32))
    (home / "graphprune.toml").write_text('[options]\ninputs = "x.npz"\n[thresholds]\nmin-top1 = 0.5\n')
    passed = json.loads(run("check", "model.onnx", "model.onnx", "--json").out)
    assert passed["samples"] == 40 and [each["threshold"] for each in passed["judged"]] == ["--min-top1"]
    failed = run("check", "model.onnx", "model.onnx", "--max-bytes", "1KB", "-q")
    assert failed.code == 1
    (home / "t.toml").write_text("max-bytes = 10\n")
    both = run("check", "model.onnx", "model.onnx", "--thresholds", "t.toml", "--json")
    assert both.code == 1 and len(json.loads(both.out)["judged"]) == 2
    assert run("check", "model.onnx", "model.onnx", "--no-config").code == 2


def test_thresholds_may_be_named_as_a_recipe(run: Run, home: Path) -> None:
    (home / "r.toml").write_text(f'pipeline = "{PRUNE}"\n[thresholds]\nmax-bytes = 1.0\n')
    assert run("check", "model.onnx", "model.onnx", "--thresholds", "r.toml").code == 0


def test_shapes_that_were_found_count_everywhere(run: Run, home: Path) -> None:
    once = json.loads(run("inspect", "model.onnx", "--json").out)["size"]["macs"]
    (home / "graphprune.toml").write_text("[options.shape]\nimage = [4, 3, 8, 8]\n")
    assert json.loads(run("inspect", "model.onnx", "--json").out)["size"]["macs"] == 4 * once
    said = run("inspect", "model.onnx", "--json", "--shape", "image=2x3x8x8")
    assert json.loads(said.out)["size"]["macs"] == 2 * once


def test_init_writes_a_file_that_compile_and_check_run(run: Run, home: Path) -> None:
    outcome = run("init", "model.onnx")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "wrote graphprune.toml\n")
    text = (home / "graphprune.toml").read_text()
    assert "# image = [1, 3, 8, 8]" in text and "#   image: float" in text
    compiled = run("compile", "model.onnx", "-o", "small.onnx", "--no-bench")
    assert compiled.code == 0 and "prune(ratio=0.2)" in compiled.out
    assert run("check", "model.onnx", "small.onnx").code == 0


def test_init_keeps_what_it_is_told(run: Run, home: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(home / "x.npz", image=rng.standard_normal((64, 3, 8, 8)).astype(np.float32))
    (home / "in").mkdir()
    said = ("--calibration", "x.npz", "--inputs", "x.npz", "--shape", "image=1x3x8x8")
    assert run("init", "model.onnx", "-o", "in/graphprune.toml", *said).code == 0
    stored = recipe.read(home / "in" / "graphprune.toml")
    assert stored.pipeline == "obspa(ratio=0.2)" and stored.thresholds == {"max_bytes": 1.0, "max_drop": 0.02}
    assert Path(str(stored.options["inputs"])).resolve() == (home / "x.npz").resolve()
    assert stored.options["shape"] == {"image": (1, 3, 8, 8)}


def test_init_replaces_nothing_without_force(run: Run, home: Path) -> None:
    (home / "graphprune.toml").write_text("mine = ")
    outcome = run("init", "model.onnx")
    assert outcome.code == 2 and "'graphprune.toml' exists" in outcome.err and "--force" in outcome.err
    assert (home / "graphprune.toml").read_text() == "mine = "
    assert run("init", "model.onnx", "--force").code == 0
    onto = run("init", "model.onnx", "-o", "model.onnx", "--force")
    assert onto.code == 2 and recipe.read(home / "graphprune.toml").pipeline


def test_init_says_what_pins_a_model_that_cannot_shrink(run: Run, home: Path) -> None:
    import onnx_ir as ir

    text = (
        '<ir_version: 10, opset_import: ["" : 21]>\ng (float[n,m] x) => (float[n,3] y) { y = MatMul(x, w) }'
    )
    ir.save(
        ir.from_onnx_text(text, initializers=[ir.tensor(np.ones((2, 3), np.float32), name="w")]),
        home / "p.onnx",
    )
    assert run("init", "p.onnx").code == 0
    stored = (home / "graphprune.toml").read_text()
    assert "# Nothing in this model can be pruned" in stored and "graph output 'y'" in stored
    assert starter.start("p.onnx", Path("graphprune.toml"), Looking(), Files()) == stored
