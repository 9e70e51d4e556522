"""One set of options, everywhere: what is said once is checked alike, and what was assumed is said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import graphprune
from graphprune.cli.main import main
from graphprune.report.compiled import asked
from tests.proof.building import model as built

from .conftest import Run, small_model

PRUNE = ("--passes", "prune(ratio=0.5, criterion=l1, align=1)")
SMALL = ("compile", "model.onnx", "-o", "small.onnx", "--no-bench")


def test_no_argument_prints_help_and_no_error(run: Run) -> None:
    outcome = run()
    assert outcome.code == 2 and outcome.err == ""
    assert outcome.out == run("--help").out


def test_the_version_is_short(run: Run) -> None:
    assert run("-V").out == run("--version").out != ""


def test_json_is_short_for_format_json(run: Run) -> None:
    assert run("inspect", "model.onnx", "--json").out == run("inspect", "model.onnx", "--format", "json").out


def test_pipelines_of_several_passes_run_in_order(run: Run) -> None:
    said = ("--passes", "canonicalize", "--passes", "prune(ratio=0.25, align=1)", "--json")
    report = json.loads(run(*SMALL, *said).out)
    assert [item["text"] for item in report["passes"]] == ["canonicalize", "prune(ratio=0.25, align=1)"]
    wrong = run(*SMALL, "--force", "--passes", "canonicalize", "--passes", "prnue")
    assert wrong.code == 2 and "did you mean 'prune'?" in wrong.err


def test_a_second_model_is_answered_with_the_finished_line(run: Run, folder: Path) -> None:
    outcome = run("compile", "model.onnx", "out 1.onnx")
    assert outcome.code == 2 and not (folder / "out 1.onnx").exists()
    assert outcome.err == (
        "error: 'out 1.onnx': the output goes behind -o\n"
        "hint: graphprune compile model.onnx -o 'out 1.onnx' --passes 'prune(ratio=0.5)'\n"
    )
    told = run("compile", "--no-bench", "model.onnx", "out.onnx", "--passes", "canonicalize").err
    assert told.endswith("hint: graphprune compile --no-bench model.onnx -o out.onnx --passes canonicalize\n")
    several = run("compile", "model.onnx", "-o", "a.onnx", "b.onnx", *PRUNE)
    assert several.code == 2 and "one model too many: 'b.onnx'" in several.err


SPELLED = (
    "image=2x3x8x8",
    "image=2,3,8,8",
    "image=2, 3, 8, 8",
    "image:2x3x8x8",
    "image:2,3,8,8",
    "image=2X3X8X8",
)


@pytest.mark.parametrize("text", SPELLED)
def test_shapes_in_the_usual_spellings(text: str, run: Run) -> None:
    size = json.loads(run("inspect", "model.onnx", "--json", "--shape", text).out)["size"]
    once = json.loads(run("inspect", "model.onnx", "--json", "--shape", "image=1x3x8x8").out)["size"]
    assert size["macs"] == 2 * once["macs"] and size["assumed"] == {}


def test_a_name_with_a_colon_keeps_it(run: Run, folder: Path) -> None:
    model = small_model()
    model.graph.inputs[0].name = "image:0"
    ir.save(model, folder / "colon.onnx")
    for text in ("image:0:2x3x8x8", "image:0=2x3x8x8"):
        assert (
            json.loads(run("inspect", "colon.onnx", "--json", "--shape", text).out)["size"]["assumed"] == {}
        )


@pytest.mark.parametrize("command", ["inspect", "bench", "compile", "explain", "validate"])
def test_every_command_refuses_a_shape_that_does_not_fit(command: str, run: Run) -> None:
    more = {"compile": (*PRUNE, "-o", "x.onnx"), "explain": ("conv1.weight",), "validate": ("model.onnx",)}
    for shape, said in (("imaeg=1x3x8x8", "no input named 'imaeg'"), ("image=1x3x8", "the model declares")):
        outcome = run(command, "model.onnx", *more.get(command, ()), "--shape", shape)
        assert outcome.code == 2 and said in outcome.err


def test_a_shape_of_no_input_is_refused_where_another_has_no_rank(run: Run, folder: Path) -> None:
    model = small_model()
    model.graph.inputs[0].shape = None
    ir.save(model, folder / "unranked.onnx")
    outcome = run("inspect", "unranked.onnx", "--shape", "imaeg=1x3x8x8")
    assert outcome.code == 2 and "did you mean 'image'?" in outcome.err


def test_sizes_that_were_assumed_are_said_in_one_line(run: Run, folder: Path) -> None:
    wide = ir.from_onnx_text(
        '<ir_version: 10, opset_import: ["" : 21]>\n'
        "g (float[n,3,h,w] x) => (float[n,4,p,q] y) { y = Conv(x, k) }",
        initializers=[ir.tensor(np.ones((4, 3, 1, 1), np.float32), name="k")],
    )
    ir.save(wide, folder / "wide.onnx")
    assert "\nn = 1; h, w = 224 (assumed; --shape)\n" in run("inspect", "wide.onnx").out
    shown = run("bench", "wide.onnx", "wide.onnx").out
    assert "\nn = 1; h, w = 224 (assumed; --shape)\n" in shown
    assert "assumed" not in run("inspect", "wide.onnx", "--shape", "x=1x3x8x8").out
    assert "\nn = 2; h, w = 32 (assumed; --shape)" in run("validate", "wide.onnx", "wide.onnx").out
    np.save(folder / "x.npy", np.ones((4, 3, 8, 8), np.float32))
    assert "assumed" not in run("validate", "wide.onnx", "wide.onnx", "--inputs", "x.npy").out


def test_a_compile_says_what_it_assumed_and_what_the_files_take(run: Run, folder: Path) -> None:
    outcome = run(*SMALL, *PRUNE)
    assert "\nn = 1 (assumed; --shape)\n" in outcome.out
    report = json.loads(run(*SMALL, *PRUNE, "--force", "--json").out)
    assert (report["before"]["assumed"], report["generated"]) == ({"n": 1}, {"n": 2})
    sizes = [(folder / name).stat().st_size for name in ("model.onnx", "small.onnx")]
    assert [report["file_bytes"]["before"], report["file_bytes"]["after"]] == sizes
    assert "\n  file " in outcome.out


def test_a_report_that_exists_stays_without_force(run: Run, folder: Path) -> None:
    (folder / "r.json").write_text("mine")
    outcome = run(*SMALL, *PRUNE, "--report", "r.json")
    assert outcome.code == 2 and "the report 'r.json' exists" in outcome.err
    assert (folder / "r.json").read_text() == "mine" and not (folder / "small.onnx").exists()
    assert run(*SMALL, *PRUNE, "--report", "r.json", "--force").code == 0
    assert json.loads((folder / "r.json").read_text())["output"] == "small.onnx"


def _renamed(name: str) -> ir.Model:
    model = small_model()
    model.graph.inputs[0].name = name
    return model


def _sized(*dims: int | str) -> ir.Model:
    model = small_model()
    model.graph.inputs[0].shape = ir.Shape(dims)
    return model


def test_bench_refuses_models_that_take_other_inputs(run: Run, folder: Path) -> None:
    for model, said in (
        (_renamed("picture"), "it has no 'image'"),
        (_sized("n", 3, 16, 16), "'image' is float (n, 3, 16, 16), not float (n, 3, 8, 8)"),
    ):
        ir.save(model, folder / "other.onnx")
        outcome = run("bench", "model.onnx", "other.onnx")
        assert outcome.code == 2 and "'other.onnx' takes other inputs than 'model.onnx'" in outcome.err
        assert said in outcome.err


def test_bench_times_all_models_at_one_size(run: Run, folder: Path) -> None:
    ir.save(_sized(1, 3, 8, 8), folder / "single.onnx")
    for names in (("model.onnx", "single.onnx"), ("single.onnx", "model.onnx")):
        found = json.loads(run("bench", *names, "--json").out)
        assert found["generated"] == ({"n": 1} if names[0] == "model.onnx" else {})
        assert found["models"][0]["file_bytes"] == (folder / names[0]).stat().st_size


def test_inspect_takes_several_models(run: Run) -> None:
    found = json.loads(run("inspect", "model.onnx", "model.onnx", "--json").out)["models"]
    assert [each["source"] for each in found] == ["model.onnx", "model.onnx"]
    assert run("inspect", "model.onnx", "model.onnx").out.count("Groups that may shrink") == 2


def test_quiet_leaves_the_exit_code_alone(run: Run, folder: Path) -> None:
    ir.save(small_model(seed=1), folder / "other.onnx")
    outcome = run("validate", "model.onnx", "other.onnx", "-q")
    assert (outcome.code, outcome.out, outcome.err) == (1, "", "")
    assert "measure" in run("bench", "model.onnx", "-v").err


def test_a_model_goes_to_stdout_and_its_report_to_stderr(
    folder: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert main(("compile", "model.onnx", "-o", "-", "--no-bench", *PRUNE)) == 0
    sent = capfdbinary.readouterr()
    assert main((*SMALL, *PRUNE, "-q")) == 0
    assert sent.out == (folder / "small.onnx").read_bytes()
    assert b"rewrite proved" in sent.err
    assert {path.name for path in folder.iterdir()} == {"model.onnx", "small.onnx", "small.plan.json"}


def test_stdout_gets_a_copy_byte_for_byte(folder: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """An unknown field of protobuf, which no model in memory has, shows whether it was written anew."""
    given = (folder / "model.onnx").read_bytes() + b"\xf8\x7f\x01"
    (folder / "model.onnx").write_bytes(given)
    assert main(("compile", "model.onnx", "-o", "-", "--passes", "")) == 0
    assert capfdbinary.readouterr().out == given


def test_weights_beside_a_model_go_into_what_stdout_gets(
    folder: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    ir.save(small_model(), folder / "beside.onnx", external_data="beside.data")
    assert main(("compile", "beside.onnx", "-o", "-", "--no-bench", "-q", *PRUNE)) == 0
    (folder / "sent.onnx").write_bytes(capfdbinary.readouterr().out)
    (folder / "beside.data").unlink()
    assert main(("compile", "sent.onnx", "-o", "again.onnx", "--passes", "canonicalize", "-q")) == 0


def test_a_copy_with_weights_beside_it_is_one_file_on_stdout(
    folder: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    ir.save(small_model(), folder / "beside.onnx", external_data="beside.data")
    assert main(("compile", "beside.onnx", "-o", "-", "-q", "--passes", "")) == 0
    (folder / "sent.onnx").write_bytes(capfdbinary.readouterr().out)
    (folder / "beside.data").unlink()
    assert main(("validate", "sent.onnx", "model.onnx", "-q")) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--json",), "-o - and --format json both write to stdout"),
        (("--print-plan",), "-o - and --print-plan both write to stdout"),
        (("--sparse-initializers",), "--sparse-initializers is checked on the written file"),
    ],
)
def test_stdout_takes_one_thing(words: tuple[str, ...], said: str, run: Run) -> None:
    outcome = run("compile", "model.onnx", "-o", "-", *PRUNE, *words)
    assert (outcome.code, outcome.out) == (2, "") and said in outcome.err


def test_a_terminal_gets_no_model(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    outcome = run("compile", "model.onnx", "-o", "-", *PRUNE)
    assert outcome.code == 2 and "which is a terminal" in outcome.err


def test_a_model_above_two_gigabytes_is_not_sent(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = ir.from_onnx_text(
        '<ir_version: 10, opset_import: ["" : 21]>\n'
        "g (float[n,512] x) => (float[n,512] y) { y = MatMul(x, w) }",
        initializers=[ir.tensor(np.ones((512, 512), np.float32), name="w")],
    )
    ir.save(wide, folder / "wide.onnx")
    monkeypatch.setattr("graphprune.cli.output.ONE_FILE", 1000)
    outcome = run("compile", "wide.onnx", "-o", "-", "--no-bench", "--passes", "canonicalize")
    assert (outcome.code, outcome.out) == (2, "") and "larger than 2 GB" in outcome.err


def _dims(path: Path) -> dict[str, list[int | str | None]]:
    graph = ir.load(path).graph
    values = [*graph.inputs, *graph.outputs, *(out for node in graph for out in node.outputs)]
    found = {value.name or "": value.shape for value in values}
    return {
        name: [d if isinstance(d, int) else d.value for d in shape or ()] for name, shape in found.items()
    }


def test_set_shape_writes_fixed_sizes_and_what_follows(run: Run, folder: Path) -> None:
    outcome = run(*SMALL, *PRUNE, "--set-shape", "image=4x3x8x8")
    assert outcome.code == 0 and "assumed" not in outcome.out
    found = _dims(folder / "small.onnx")
    assert (found["image"], found["logits"], found["a"]) == ([4, 3, 8, 8], [4, 10], [4, 5, 8, 8])
    assert run("validate", "small.onnx", "small.onnx").code == 0


def test_set_shape_alone_is_enough_to_do(run: Run, folder: Path) -> None:
    assert run(*SMALL, "--set-shape", "image=1,3,8,8").code == 0
    assert _dims(folder / "small.onnx")["logits"] == [1, 10]
    assert run("validate", "model.onnx", "small.onnx", "--shape", "image=1x3x8x8").code == 0


def test_set_shape_that_contradicts_the_model_is_refused(run: Run, folder: Path) -> None:
    for text, said in (
        ("image=4x3x8x9", "--set-shape image=4,3,8,9 does not fit"),
        ("imaeg=4x3x8x8", "--set-shape: the model has no input named 'imaeg'"),
    ):
        outcome = run(*SMALL, "--set-shape", text)
        assert outcome.code == 2 and said in outcome.err and not (folder / "small.onnx").exists()


def test_one_symbol_is_set_wherever_it_stands(run: Run, folder: Path) -> None:
    two = ir.from_onnx_text(
        '<ir_version: 10, opset_import: ["" : 21]>\n'
        "g (float[n,4] x, float[n,4] y) => (float[n,4] z) { t = Add(x, y) z = Relu(t) }"
    )
    ir.save(two, folder / "two.onnx")
    assert run("compile", "two.onnx", "-o", "set.onnx", "--no-bench", "--set-shape", "x=7,4").code == 0
    assert set(map(tuple, _dims(folder / "set.onnx").values())) == {(7, 4)}


def test_what_was_asked_stands_against_what_was_got(run: Run) -> None:
    shown = run(*SMALL, *PRUNE).out
    assert "asked ratio=0.5, got 0.5 of the Units: 81.3 % of params and 85.7 % of MACs went along" in shown
    assert "most went from conv1.weight:0: " in shown
    shown = run(*SMALL, "--force", "--passes", "prune(params=0.4, align=1)").out
    assert "asked params=0.4, left 0.3" in shown
    assert "no step left" not in shown
    shown = run(*SMALL, "--force", "--passes", "prune(ratio=0.8, scope=local, align=8)").out
    assert "2 groups have no step left (min-keep, align): conv1.weight:0 keeps 8 of 16" in shown


def test_units_of_layers_that_are_applied_twice_are_told_apart() -> None:
    twice = built(
        """(float[n,6] x, float[n,6] z) => (float[n,5] y) {
            a = MatMul(x, up) b = Relu(a) c = MatMul(z, up) d = Relu(c) e = Add(b, d)
            f = MatMul(e, mid) g = Relu(f) y = MatMul(g, down)
        }""",
        18,
        up=(6, 8),
        mid=(8, 8),
        down=(8, 5),
    )
    report = graphprune.compile(twice, "prune(ratio=0.5, scope=local, align=1)", bench=False).report
    assert {group.id: group.shared for group in report.passes[0].groups if not group.pin} == {
        "up:1": True,
        "mid:1": False,
    }
    assert "units of layers that are applied more than once: 4 of 8 (50.0 %)" in asked(report, 0)


def test_options_complete(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_GRAPHPRUNE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "graphprune inspect --sh")
    monkeypatch.setenv("COMP_CWORD", "2")
    outcome = run()
    assert (outcome.code, outcome.out, outcome.err) == (0, "plain,--shape\n", "")


@pytest.mark.parametrize(
    "line",
    [
        ("bench", "model.onnx"),
        ("validate", "model.onnx", "model.onnx"),
        ("check", "model.onnx", "model.onnx", "--min-speedup", "1"),
        ("compile", "model.onnx", "-o", "out.onnx", "--passes", "prune"),
    ],
)
def test_a_provider_that_is_not_installed_ends_the_command_before_any_file(
    line: tuple[str, ...], run: Run, folder: Path
) -> None:
    outcome = run(*line, "--providers", "abacus,cpu")
    assert outcome.code == 2
    assert "error: no execution provider 'abacus' is installed; there are " in outcome.err
    assert not (folder / "out.onnx").exists()


def test_reports_name_the_providers_that_ran(run: Run) -> None:
    line = ("compile", "model.onnx", "-o", "out.onnx", "--passes", "prune", "--json", "--providers", "CPU")
    report = json.loads(run(*line).out)
    assert [report[part]["providers"] for part in ("agreement", "latency")] == [["CPUExecutionProvider"]] * 2
    both = ("model.onnx", "out.onnx", "--json")
    assert json.loads(run("validate", *both).out)["providers"] == ["CPUExecutionProvider"]
    checked = json.loads(run("check", *both, "--min-speedup", "0.01").out)
    assert checked["providers"] == ["CPUExecutionProvider"]


def test_bench_says_what_it_costs_to_load_a_model(run: Run) -> None:
    first, second = json.loads(run("bench", "model.onnx", "model.onnx", "--json").out)["models"]
    for row in (first, second):
        assert row["load_ms"] > 0 and row["peak_bytes"] > 0
        assert row["providers"] == ["CPUExecutionProvider"]
    header = run("bench", "model.onnx").out.splitlines()[0].split()
    assert header[4:6] == ["load", "memory"]
