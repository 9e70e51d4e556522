"""Results and passes as values: a line in a shell, tables in print and notebooks, saved as commands save."""

from __future__ import annotations

import inspect
import pydoc
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import graphprune
from graphprune.errors import ArgumentError, GraphpruneError, OutputError
from graphprune.passes import Canonicalize, Prune
from graphprune.pipeline.passes import Pass
from graphprune.report.views import VIEWS
from graphprune.shown import Shown
from graphprune.tuning.sweep import SweepRow, Swept
from tests.pipeline.conftest import mlp

DENSE = str(Path(__file__).resolve().parents[2] / "models" / "digits_cnn" / "model.onnx")


def shown() -> dict[str, Shown]:
    small = graphprune.compile(mlp(), Prune(ratio=0.5), bench=True)
    rows = np.zeros((8, 6), np.float32)
    drawn = np.random.default_rng(0).normal(size=(32, 6)).astype(np.float32)
    return {
        "Result": small,
        "Report": small.report,
        "PlanFile": small.plan_file,
        "Inspection": graphprune.inspect(mlp()),
        "Explained": graphprune.explain(mlp(), "w*"),
        "Explanation": graphprune.explain(mlp(), "w4:1")[0],
        "Comparison": graphprune.validate(mlp(), small),
        "Check": graphprune.check(mlp(), small, max_bytes=0.9),
        "Bench": graphprune.bench([mlp(), small]),
        "Chosen": graphprune.calibrate(mlp(), rows, samples=3),
        "Installed": graphprune.list_passes(),
        "PassHelp": graphprune.list_passes()["prune"],
        "Tuned": graphprune.tune(mlp(), drawn, steps=1, time="1s").finish(),
        "Swept": Swept((SweepRow("a.onnx", "half", 0, "prune(ratio=0.5)", 0.5, 0.4, 0.5, 0.01, 0.0, 0.02),)),
    }


class Tags(HTMLParser):
    """Whether every tag that opens closes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_every_result_has_a_line_tables_and_html() -> None:
    results = shown()
    assert set(results) == set(VIEWS) == {kind.__name__ for kind in Shown.__subclasses__()}
    for name, result in results.items():
        line = repr(result)
        assert line.startswith(f"<{name}: ") and "\n" not in line and len(line) < 300, line
        assert len(str(result).splitlines()) > 1
        html = result._repr_html_()
        tags = Tags()
        tags.feed(html)
        assert not tags.open and "<table>" in html


def test_lines_say_what_matters() -> None:
    results = shown()
    assert "rewrite proved" in repr(results["Result"]) and "-> " in repr(results["Result"])
    assert "3 of 5 groups may shrink" in repr(results["Inspection"])
    assert "pinned: graph output 'y'" in repr(results["Explanation"])
    assert "DISAGREE" in repr(results["Comparison"])
    assert repr(results["Check"]).startswith("<Check: passed")
    assert "3 of 8 samples, random" in repr(results["Chosen"])


def test_names_of_models_are_no_markup() -> None:
    found = graphprune.validate(mlp(), mlp())
    object.__setattr__(found, "candidate", "<script>")
    assert "<script>" not in found._repr_html_()


def test_small_values_are_short() -> None:
    result = graphprune.compile(mlp(), "prune(ratio=0.5)")
    assert repr(result.plans[0]) == "<Plan: 18 of 36 units of 3 groups go>"
    groups = graphprune.find_groups(mlp())
    assert repr(groups[0]) == "<Group w1:1: 8 units>"
    assert repr(groups[-1]) == "<Group w4:1: 4 units, pinned: graph output 'y'>"
    assert repr(groups[0].slices[0]).startswith("<Slice w1:1, source at ")


def test_a_result_is_saved_as_compile_saves_it(tmp_path: Path) -> None:
    saved, written = tmp_path / "saved.onnx", tmp_path / "written.onnx"
    result = graphprune.compile(DENSE, "prune(ratio=0.5)")
    assert result.save(saved) == (str(saved), str(tmp_path / "saved.plan.json"))
    graphprune.compile(DENSE, "prune(ratio=0.5)", written)
    assert saved.read_bytes() == written.read_bytes()
    plans = [(tmp_path / f"{name}.plan.json").read_bytes() for name in ("saved", "written")]
    assert plans[0] == plans[1]
    with pytest.raises(OutputError, match="exists"):
        result.save(saved)
    result.save(saved, force=True)
    copied = graphprune.compile(DENSE)
    copied.save(tmp_path / "copy.onnx")
    assert (tmp_path / "copy.onnx").read_bytes() == Path(DENSE).read_bytes()


def test_a_result_never_goes_over_its_source(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(Path(DENSE).read_bytes())
    with pytest.raises(OutputError, match="is the input"):
        graphprune.compile(model, "prune(ratio=0.5)").save(model, force=True)


def test_the_page_is_the_one_of_the_command(tmp_path: Path) -> None:
    result = graphprune.compile(mlp(), "prune(ratio=0.5)")
    page = result.to_html(tmp_path / "out.html")
    assert page.startswith("<!doctype html>") and (tmp_path / "out.html").read_text("utf-8") == page
    with pytest.raises(OutputError, match="exists"):
        result.report.to_html(tmp_path / "out.html")
    assert result.to_html(tmp_path / "out.html", force=True) == page == result.to_html()


def test_every_installed_pass_is_a_class_under_one_name() -> None:
    names = {each.name for each in graphprune.list_passes()}
    classes = [getattr(graphprune.passes, name) for name in dir(graphprune.passes)]
    assert {kind.name for kind in classes} == names and all(issubclass(kind, Pass) for kind in classes)
    with pytest.raises(
        AttributeError, match=r"no installed pass has the class 'Prnue': did you mean 'Prune'\?"
    ):
        _ = graphprune.passes.Prnue  # type: ignore[attr-defined]


def test_pipelines_are_lists_of_passes_and_text() -> None:
    typed = graphprune.compile(mlp(), [Canonicalize(), Prune(ratio=np.float64(0.5), ignore=["w1:*"])])
    text = "canonicalize, prune(ratio=0.5, ignore=[w1:*])"
    assert typed.report.pipeline == text
    assert (
        graphprune.compile(mlp(), ["canonicalize", Prune(ratio=0.5, ignore=("w1:*",))]).plans == typed.plans
    )
    assert graphprune.compile(mlp(), text).plans == typed.plans


def test_a_pass_says_only_what_was_said() -> None:
    assert repr(Prune(ratio=0.5, criterion="l1")) == "Prune(criterion='l1', ratio=0.5)"
    assert eval(repr(Prune(ratio=0.5)), {"Prune": Prune}) == Prune(ratio=0.5)


WRONG: dict[str, tuple[Callable[[], object], str, str]] = {
    "argument": (lambda: Prune(ration=0.5), "pass 'prune' has no argument 'ration'", "did you mean 'ratio'?"),
    "text": (lambda: Prune(ratio="half"), "ratio: expected a number or none, got 'half'", ""),
    "flag": (lambda: Prune(ratio=True), "ratio: expected a number", ""),
    "word": (lambda: Prune(scope="globl"), "scope: expected global | local", "did you mean 'global'?"),
    "one for a list": (lambda: Prune(ignore="conv1.*"), "ignore: expected a list", "write ['conv1.*']"),
    "mapping": (lambda: Prune(ratios={"a": "x"}), "ratios: expected a mapping", ""),
    "range": (lambda: Prune(ratio=2), "ratio must be in [0, 1), got 2", ""),
    "dict": (lambda: graphprune.compile(mlp(), {"prune": 0.5}), "passes hold dict", "prune(ratio=0.5)"),
    "class": (lambda: graphprune.compile(mlp(), Prune), "passes hold the class Prune", "make one: Prune()"),
    "no pass": (lambda: graphprune.compile(mlp(), 3), "passes hold int", "graphprune.passes.Prune"),
    "option": (lambda: graphprune.compile(mlp(), shapes={}), "'shapes'", "did you mean 'shape'?"),
    "output": (lambda: graphprune.compile(mlp(), "prune", 3), "output must be a path, got 3", ""),
    "save": (lambda: graphprune.compile(mlp(), "prune").save(None), "output must be a path, got None", ""),
    "seed": (lambda: graphprune.compile(mlp(), seed="x"), "seed must be a whole number, got 'x'", ""),
    "name": (lambda: graphprune.explain(mlp(), "w9"), "is named 'w9'", ""),
    "not asked": (lambda: graphprune.check(mlp(), mlp()), "nothing was asked", "give a threshold"),
    "metric": (
        lambda: graphprune.check(mlp(), mlp(), metric=3, min_metric=1),
        "metric must be",
        "module:function",
    ),
    "baseline": (
        lambda: graphprune.check(mlp(), mlp(), baseline=3, max_bytes=1),
        "baseline must be a path, got 3",
        "",
    ),
    "layernorm": (lambda: graphprune.inspect(mlp(), layernorm="cut"), "layernorm", "refuse"),
    "models": (lambda: graphprune.bench([mlp(), 3]), "models[1] is int", "a path"),
    "none": (lambda: graphprune.bench([]), "models", ""),
    "samples": (lambda: graphprune.calibrate(mlp(), [[0.0] * 6], samples="all"), "samples", ""),
    "select": (lambda: graphprune.calibrate(mlp(), [[0.0] * 6], select="esay"), "esay", "easy"),
    "pass name": (lambda: graphprune.list_passes()["prnue"], "no pass named 'prnue'", "prune"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_ours_to_explain(case: str) -> None:
    call, message, hint = WRONG[case]
    with pytest.raises(GraphpruneError) as caught:
        call()
    assert message in caught.value.message and hint in caught.value.hint, (caught.value, caught.value.hint)


def test_a_wrong_call_is_a_type_error_as_well() -> None:
    with pytest.raises(TypeError, match=r"missing a required argument: 'model'"):
        graphprune.compile()  # type: ignore[call-arg]
    with pytest.raises(ArgumentError, match=r"too many positional arguments"):
        graphprune.inspect(mlp(), mlp())  # type: ignore[call-arg]


def test_help_names_everything_that_is_public() -> None:
    text = pydoc.plain(pydoc.render_doc(graphprune))
    for name in graphprune.__all__:
        assert hasattr(graphprune, name)
        assert name in text or name == "__version__", name
    assert 'compile("model.onnx"' in text


PUBLIC = [name for name in graphprune.__all__ if inspect.isfunction(getattr(graphprune, name))]


@pytest.mark.parametrize("name", PUBLIC)
def test_every_function_is_typed_and_says_what_it_takes(name: str) -> None:
    function = getattr(graphprune, name)
    signature, text = inspect.signature(function), inspect.getdoc(function) or ""
    assert signature.return_annotation is not inspect.Signature.empty
    for each in signature.parameters.values():
        assert each.annotation is not inspect.Parameter.empty
        assert re.search(rf"^    {each.name}: ", text, re.MULTILINE), (
            f"{name} does not say what {each.name} is"
        )
    assert ">>> " in text
