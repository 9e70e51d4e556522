"""What commands do besides printing: exit codes, files, signals, JSON, hostile names."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from .conftest import Run, small_model

PRUNE = ("--passes", "prune(ratio=0.5, criterion=l1, align=1)")
KEYS = {
    "schema", "source", "output", "pipeline", "before", "after", "passes", "latency", "warnings", "versions",
    "seed", "timings", "files", "fixed", "agreement", "budgets", "generated", "file_bytes", "command", "date",
    "data", "hashes", "recipe", "config", "lowering", "times",
}  # fmt: skip


def test_the_report_in_json_has_its_documented_keys(run: Run) -> None:
    outcome = run("compile", "model.onnx", "-o", "small.onnx", *PRUNE, "--format", "json")
    report = json.loads(outcome.out)
    assert set(report) == KEYS
    assert report["schema"] == 1
    assert report["passes"][0]["proof"]["ok"] is True
    assert report["after"]["params"] < report["before"]["params"]
    assert report["latency"]["verdict"] in ("faster", "slower", "no measurable difference")
    assert report["files"] == ["small.onnx", "small.plan.json"] or report["files"][0].endswith("small.onnx")


def test_the_printed_plan_is_the_saved_plan(run: Run, folder: Path) -> None:
    printed = run("compile", "model.onnx", *PRUNE, "--print-plan", "--no-bench")
    run("compile", "model.onnx", "-o", "small.onnx", *PRUNE, "--no-bench", "--quiet")
    assert json.loads(printed.out) == json.loads((folder / "small.plan.json").read_text())


def test_a_recipe_runs_and_the_command_line_wins(run: Run, folder: Path) -> None:
    text = f'pipeline = "{PRUNE[1]}"\n[options]\nseed = 7\nbench = false\n'
    (folder / "recipe.toml").write_text(text)
    arguments = (
        "compile",
        "model.onnx",
        "-o",
        "small.onnx",
        "--recipe",
        "recipe.toml",
        "--format",
        "json",
        "--force",
    )
    first, second = (json.loads(run(*arguments, *more).out) for more in ((), ("--seed", "3")))
    assert (first["seed"], second["seed"]) == (7, 3)
    assert first["latency"] is None


def test_two_runs_write_the_same_bytes(run: Run, folder: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        assert run("compile", "model.onnx", "-o", name, *PRUNE, "--no-bench").code == 0
    assert (folder / "a.onnx").read_bytes() == (folder / "b.onnx").read_bytes()
    assert (folder / "a.plan.json").read_bytes() == (folder / "b.plan.json").read_bytes()


def test_models_that_disagree_exit_1(run: Run, folder: Path) -> None:
    ir.save(small_model(seed=1), folder / "other.onnx")
    outcome = run("validate", "model.onnx", "other.onnx", "--format", "json")
    assert outcome.code == 1
    result = json.loads(outcome.out)
    assert result["ok"] is False and result["outputs"][0]["relative"] > 1e-4
    np.savez(folder / "x.npz", image=np.ones((4, 3, 8, 8), np.float32))
    assert run("validate", "model.onnx", "model.onnx", "--inputs", "x.npz").code == 0


def test_validate_names_the_model_that_takes_other_inputs(run: Run, folder: Path) -> None:
    ir.save(small_model(), folder / "other.onnx")
    model = ir.load(folder / "other.onnx")
    model.graph.inputs[0].name = "picture"
    ir.save(model, folder / "other.onnx")
    outcome = run("validate", "model.onnx", "other.onnx")
    assert outcome.code == 2
    assert "'other.onnx' takes other inputs than 'model.onnx': it has no 'image'" in outcome.err


def test_thresholds_in_percent_say_how_a_share_is_written(run: Run, folder: Path) -> None:
    for option, given, right in (("--max-drop", "10%", "0.1"), ("--max-bytes", "50%", "0.5")):
        outcome = run("check", "model.onnx", "model.onnx", option, given)
        assert outcome.code == 2 and f"hint: a share is written {right}\n" in outcome.err


def test_a_shape_of_too_few_sizes_says_how_all_are_written(run: Run, folder: Path) -> None:
    outcome = run("inspect", "model.onnx", "--shape", "image=8x8")
    assert outcome.code == 2 and "hint: give every size: image=Nx3x8x8\n" in outcome.err


def test_inspect_leaves_out_a_formula_that_fills_lines(run: Run, folder: Path) -> None:
    model = small_model()
    output, formula = model.graph.outputs[0], "n + " * 50 + "1"
    assert output.shape is not None
    output.shape = ir.Shape([formula, *output.shape[1:]])
    ir.save(model, folder / "long.onnx")
    assert f"{output.name}: float (...)x" in run("inspect", "long.onnx").out
    assert formula in run("inspect", "long.onnx", "--json").out


def test_validate_says_what_kind_of_difference_there_is(run: Run, folder: Path) -> None:
    scaled = small_model()
    for name in ("fc.weight", "fc.bias"):
        value = scaled.graph.initializers[name]
        assert value.const_value is not None
        value.const_value = ir.tensor(1.5 * value.const_value.numpy(), name=name)
    ir.save(scaled, folder / "scaled.onnx")
    outcome = run("validate", "model.onnx", "scaled.onnx")
    assert outcome.code == 1
    assert (
        "\nDISAGREE in numbers alone: top-1 answers are all the same; graphprune check judges" in outcome.out
    )
    renamed = small_model()
    renamed.graph.outputs[0].name = "other"
    ir.save(renamed, folder / "renamed.onnx")
    assert "\nDISAGREE: outputs are missing" in run("validate", "model.onnx", "renamed.onnx").out
    ir.save(small_model(seed=1), folder / "other.onnx")
    np.savez(
        folder / "x.npz", image=np.random.default_rng(0).standard_normal((40, 3, 8, 8)).astype(np.float32)
    )
    shown = run("validate", "model.onnx", "other.onnx", "--inputs", "x.npz").out
    assert "\nDISAGREE: answers differ, top-1 agreement " in shown


def test_bench_compares_with_the_first(run: Run) -> None:
    outcome = run("bench", "model.onnx", "model.onnx", "--format", "json")
    first, second = json.loads(outcome.out)["models"]
    assert first["verdict"] == "baseline" and first["speedup"] is None
    assert second["verdict"] == "no measurable difference"


def test_quiet_says_nothing(run: Run) -> None:
    outcome = run("compile", "model.onnx", "-o", "small.onnx", *PRUNE, "--no-bench", "--quiet")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")


def test_the_html_report_repeats_the_command(run: Run, folder: Path) -> None:
    run("compile", "model.onnx", "-o", "small.onnx", *PRUNE, "--report", "report.html")
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "conv1.weight:0" in text
    line = "graphprune compile model.onnx -o small.onnx --passes 'prune(ratio=0.5, criterion=l1, align=1)'"
    assert f"{line} --report report.html" in text
    assert "Where the time goes" in text  # which is measured for a page without asking
    run("compile", "model.onnx", "-o", "other.onnx", *PRUNE, "--no-bench", "--report", "other.html")
    assert "Where the time goes" not in (folder / "other.html").read_text(encoding="utf-8")


def test_names_cannot_write_to_the_terminal(run: Run, folder: Path) -> None:
    model = small_model()
    model.graph.initializers["conv1.weight"].name = "\x1b[2J<b>evil\nname"
    ir.save(model, folder / "evil.onnx")
    commands = (
        ("inspect", "evil.onnx"),
        ("explain", "evil.onnx", "conv3.weight"),
        ("compile", "evil.onnx", "-o", "small.onnx", *PRUNE, "--no-bench", "--report", "r.html"),
        ("explain", "evil.onnx", "\x1b[2J"),
    )
    for command in commands:
        outcome = run(*command)
        assert "\x1b" not in outcome.out + outcome.err
    assert r"\x1b[2J&lt;b&gt;evil\nname" in (folder / "r.html").read_text()


@pytest.mark.parametrize("kind", [ZeroDivisionError, EOFError])
def test_an_internal_error_is_one_line_unless_asked(
    kind: type[Exception], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that click takes for the end of what is typed at a prompt."""

    def fail(*_: object) -> None:
        raise kind("a bug")

    monkeypatch.setattr("graphprune.pipeline.inspection.inspect", fail)
    outcome = run("inspect", "model.onnx")
    assert outcome.code == 2
    assert outcome.err.startswith(f"error: internal error: {kind.__name__}: a bug (in test_behaviour.py")
    assert "Traceback" not in outcome.err
    assert "Traceback" in run("--debug", "inspect", "model.onnx").err
    monkeypatch.setenv("GRAPHPRUNE_DEBUG", "1")
    assert "Traceback" in run("inspect", "model.onnx").err


KILLED = """
import sys, time
import graphprune.pipeline.output as output
def save(*arguments, **options):
    print("saving", flush=True)
    time.sleep(60)
output.save = save
from graphprune.cli.main import main
sys.exit(main(["compile", "model.onnx", "-o", "small.onnx", "--passes", "prune(ratio=0.5)", "--no-bench"]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.full)])
def test_a_killed_compile_leaves_nothing_half_done(number: signal.Signals, folder: Path) -> None:
    command, pipe = [sys.executable, "-c", KILLED], subprocess.PIPE
    process = subprocess.Popen(command, cwd=folder, stdout=pipe, stderr=pipe, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "saving\n"
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert error == "error: interrupted; no file was left unfinished\n"
    assert [path.name for path in folder.iterdir()] == ["model.onnx"]


def test_a_reader_that_leaves_is_not_an_error(folder: Path) -> None:
    command = f"{sys.executable} -m graphprune compile --help | head -1"
    done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.stderr == "" and done.stdout.startswith("Usage")


def test_a_graph_without_tensors_has_nothing_to_prune(run: Run, folder: Path) -> None:
    model = ir.from_onnx_text(
        '<ir_version: 10, opset_import: ["" : 21]>\ng (float[n,4] x) => (float[n,4] y) { y = Relu(x) }'
    )
    ir.save(model, folder / "relu.onnx")
    outcome = run("compile", "relu.onnx", "-o", "small.onnx", *PRUNE)
    assert outcome.code == 1 and "nothing" in outcome.err
    assert not (folder / "small.onnx").exists()


def test_inputs_are_fixed_from_the_command_line_and_from_a_recipe(run: Run, folder: Path) -> None:
    graph = """g (float[n,8] x, bool loud) => (float[n,4] y) {
        y = If (loud) <
            then_branch = t () => (float[n,4] a) { h = MatMul(x, w1) a = MatMul(h, w2) },
            else_branch = e () => (float[n,4] b) { b = MatMul(x, w3) }
        >
    }"""
    built = ir.from_onnx_text(
        f'<ir_version: 10, opset_import: ["" : 21]>\n{graph}',
        initializers=[
            ir.tensor(np.random.default_rng(0).standard_normal(shape).astype(np.float32), name=name)
            for name, shape in (("w1", (8, 32)), ("w2", (32, 4)), ("w3", (8, 4)))
        ],
    )
    ir.save(built, folder / "two.onnx")
    shown = run("compile", "two.onnx", "-o", "loud.onnx", "--fix", "loud=true", *PRUNE).out
    assert "fixed: loud = true; before is the model with that alone" in shown
    (folder / "recipe.toml").write_text(f'pipeline = "{PRUNE[1]}"\n[options.fix]\nloud = true\n')
    run("compile", "two.onnx", "-o", "again.onnx", "--recipe", "recipe.toml", "--no-bench")
    assert (folder / "loud.onnx").read_bytes() == (folder / "again.onnx").read_bytes()
    refused = run("compile", "two.onnx", "-o", "bad.onnx", "--fix", "loud=maybe", *PRUNE)
    assert refused.code == 2 and "--fix 'loud=maybe' is not name=16000" in refused.err


def images(folder: Path, count: int = 40) -> None:
    noise = np.random.default_rng(0).standard_normal((count, 3, 8, 8)).astype(np.float32)
    np.savez(folder / "images.npz", image=noise)


def test_a_missed_drop_is_a_missed_budget(run: Run, folder: Path) -> None:
    images(folder)
    small = ("compile", "model.onnx", "-o", "small.onnx", *PRUNE, "--no-bench", "--inputs", "images.npz")
    outcome = run(*small, "--output", "logits=values", "--max-drop", "0.01")
    assert outcome.code == 1 and "--max-drop 0.01" in outcome.err
    assert not (folder / "small.onnx").exists()
    outcome = run(*small, "--max-drop", "1")
    assert outcome.code == 0 and (folder / "small.onnx").exists()
    assert "as classes, 40 samples of --inputs" in outcome.out
    without = run("compile", "model.onnx", "-o", "other.onnx", *PRUNE, "--max-drop", "0.5")
    assert without.code == 2 and "--calibration FILE or --inputs FILE" in without.err
    assert run(*small, "--max-drop", "1.5").code == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--output", "logits=clases"), "did you mean 'classes'?"),
        (("-o", "one.onnx", "-o", "two.onnx"), "there are 2 outputs: 'one.onnx', 'two.onnx'"),
    ],
)
def test_a_mistaken_output_is_no_file(run: Run, words: tuple[str, ...], said: str) -> None:
    outcome = run("compile", "model.onnx", *PRUNE, *words)
    assert outcome.code == 2 and said in outcome.err


def test_outputs_are_judged_as_said_on_the_command_line_or_in_a_recipe(run: Run, folder: Path) -> None:
    images(folder)
    small = ("compile", "model.onnx", *PRUNE, "--no-bench", "--inputs", "images.npz", "--format", "json")
    said = run(*small, "--output", "logits=values", "--output", "small.onnx", "--report", "r.html")
    (output,) = json.loads(said.out)["agreement"]["outputs"]
    assert output["kind"] == "values"
    page = (folder / "r.html").read_text(encoding="utf-8")
    assert "accuracy:" in page and "Agreement with the dense model on 40 samples of --inputs" in page
    recipe = f'pipeline = "{PRUNE[1]}"\n[options]\nmax_drop = 1\n[options.outputs]\nlogits = "scores"\n'
    (folder / "recipe.toml").write_text(recipe)
    stored = ("compile", "model.onnx", "--recipe", "recipe.toml", "--no-bench", "--inputs", "images.npz")
    told = run(*stored, "--format", "json", "-o", "again.onnx")
    (output,) = json.loads(told.out)["agreement"]["outputs"]
    assert output["kind"] == "scores"
