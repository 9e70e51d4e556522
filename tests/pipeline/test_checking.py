"""`check`: what was asked is judged, nothing else is, and doubt is said."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import graphprune
from graphprune.errors import ArgumentError, PluginError
from graphprune.pipeline import thresholds
from graphprune.pipeline.checking import Check
from graphprune.pipeline.option import options
from graphprune.pipeline.report import Interval
from graphprune.pipeline.settings import Checking, Settings
from graphprune.pipeline.thresholds import THRESHOLDS, Figure, against, judge
from graphprune.pipeline.verdict import inconclusive
from graphprune.report import checked

from .conftest import Half, mlp

Data = dict[str, np.ndarray]


def data(count: int = 200) -> Data:
    return {"x": np.random.default_rng(1).standard_normal((count, 6)).astype(np.float32)}


def half() -> ir.Model:
    return graphprune.compile(mlp(), Half(), bench=False).model


def figures(result: Check) -> dict[str, Figure]:
    return {each.name: each for each in result.figures}


def verdicts(result: Check) -> dict[str, str]:
    return {each.threshold: each.verdict for each in result.judged}


def test_each_threshold_is_an_option_and_its_name_says_the_direction() -> None:
    known = {each.name: each for each in options(Checking)}
    for each in THRESHOLDS:
        assert known[each.option].flag == each.flag
        assert each.option.startswith("max_" if each.most else "min_")
    limits = {each.name for each in options(Settings)} - {"max_drop", "max_bytes"}
    bounds = {name for name in known if name.startswith(("min_", "max_"))} - limits
    assert bounds == {each.option for each in THRESHOLDS}


def test_only_what_was_asked_is_judged() -> None:
    result = graphprune.check(mlp(), half(), data(), max_bytes=1.0)
    assert verdicts(result) == {"--max-bytes": "pass"} and set(figures(result)) == {"bytes"}
    result = graphprune.check(mlp(), half(), data(), min_cosine=0.0)
    assert set(verdicts(result)) == {"--min-cosine"}
    assert set(figures(result)) == {"bytes", "drop", "top1", "worst_class", "cosine"}


def test_a_copy_passes_everything_but_a_speed_up() -> None:
    bounds = {"max_drop": 0.1, "min_top1": 0.9, "min_worst_class": 0.5, "min_cosine": 0.9999}
    result = graphprune.check(mlp(), mlp(), data(), **bounds, max_bytes=1.0, min_speedup=2.0)
    assert set(verdicts(result).values()) == {"pass", "fail"} and not result.ok
    assert [name for name, verdict in verdicts(result).items() if verdict == "fail"] == ["--min-speedup"]


@pytest.mark.parametrize(
    "bound",
    [
        {"max_drop": 0.01},
        {"min_top1": 0.95},
        {"min_worst_class": 0.95},
        {"min_cosine": 0.99},
        {"max_bytes": 0.2},
    ],
    ids=lambda bound: next(iter(bound)),
)
def test_a_model_beyond_a_bound_fails(bound: dict[str, float]) -> None:
    result = graphprune.check(mlp(), half(), data(), **bound)  # type: ignore[arg-type]
    assert set(verdicts(result).values()) == {"fail"} and not result.ok


def test_figures_are_those_of_the_models() -> None:
    small, given = half(), data()
    result = figures(graphprune.check(mlp(), small, given, min_cosine=0.1))
    one, two = (_outputs(model, given) for model in (mlp(), small))
    same = one.argmax(1) == two.argmax(1)
    shares = [
        same[one.argmax(1) == label].mean() for label in range(4) if (one.argmax(1) == label).sum() >= 10
    ]
    assert result["top1"].value == pytest.approx(same.mean())
    assert result["worst_class"].value == pytest.approx(min(shares))
    one, two = (each - each.mean(1, keepdims=True) for each in (one, two))
    cosine = np.vdot(one, two) / np.linalg.norm(one) / np.linalg.norm(two)
    assert result["cosine"].value == pytest.approx(float(cosine), abs=1e-5)


def _outputs(model: ir.Model, given: Data) -> np.ndarray:
    from graphprune.runtime.session import open_session

    return open_session(model).run(given)["y"].astype(np.float64)


def _two_heads(last: float) -> ir.Model:
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal((6, 3)).astype(np.float32) for name in ("u", "v")}
    weights["v"][:, 0] *= last
    tensors = [ir.tensor(array, name=name) for name, array in weights.items()]
    return ir.from_onnx_text(
        '<ir_version: 10, opset_import: ["" : 21]>\n'
        "g (float[n,6] x) => (float[n,3] p, float[n,3] q) { p = MatMul(x, u) q = MatMul(x, v) }",
        initializers=tensors,
    )


def test_of_several_outputs_the_worst_counts() -> None:
    found = figures(graphprune.check(_two_heads(1), _two_heads(-1), data(), max_drop=1.0))
    assert [found[name].where for name in ("drop", "top1", "cosine")] == ["q"] * 3
    assert found["worst_class"].where.endswith(" of q")


def test_bytes_are_a_share_or_a_size(model: Path) -> None:
    size = model.stat().st_size
    for bound, ok in ((1.0, True), (0.99, False), (size, True), (size - 1, False), ("1KB", False)):
        assert graphprune.check(model, model, max_bytes=bound).ok is ok  # type: ignore[arg-type]


def test_doubt_passes_unless_strict() -> None:
    given = data(100)
    drop = figures(graphprune.check(mlp(), half(), given, max_drop=1.0))["drop"]
    assert drop.value is not None and drop.high is not None
    bound = (drop.value + drop.high) / 2
    lenient = graphprune.check(mlp(), half(), given, max_drop=bound)
    assert lenient.ok and verdicts(lenient) == {"--max-drop": "inconclusive"}
    assert "would decide" in lenient.judged[0].remark
    strict = graphprune.check(mlp(), half(), given, max_drop=bound, strict=True)
    assert not strict.ok and "FAILED: drop" in checked.headline(strict)


@pytest.mark.parametrize(
    ("low", "value", "high", "most", "unsure"),
    [
        (0.0, 0.0, 0.3, True, True),  # at the bound of zero, and yet there may be more
        (-1.0, -0.5, 0.0, True, False),
        (-1.0, -1.0, 0.0, False, True),
        (0.0, 0.5, 1.0, False, False),
        (0.0, 0.5, 1.0, True, True),
        (0.1, 0.5, 1.0, True, False),
    ],
)
def test_an_interval_that_ends_at_the_bound(
    low: float, value: float, high: float, most: bool, unsure: bool
) -> None:
    assert bool(inconclusive(Interval(value, low, high), 0.0, 10, most)) is unsure


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_what_is_no_number_fails(value: float | None) -> None:
    for each in THRESHOLDS:
        asked = Checking(**{each.option: 1.0})
        assert judge(each, Figure(each.figure, value, dense=1.0), asked).verdict == "fail"


def test_nothing_asked_is_an_error_that_says_what_to_ask() -> None:
    with pytest.raises(ArgumentError, match="nothing was asked") as raised:
        graphprune.check(mlp(), half(), data())
    assert "max_drop=" in raised.value.hint and "min_top1=" in raised.value.hint
    assert "baseline=" in raised.value.hint and "--" not in raised.value.hint


def test_what_cannot_be_measured_is_an_error() -> None:
    with pytest.raises(ArgumentError, match="--max-drop needs samples"):
        graphprune.check(mlp(), half(), max_drop=0.1)
    with pytest.raises(ArgumentError, match="--min-metric needs a metric"):
        graphprune.check(mlp(), half(), min_metric=0.5)
    other = mlp()
    other.graph.outputs[0].name = "z"
    with pytest.raises(ArgumentError, match="has no output 'y'"):
        graphprune.check(mlp(), other, data(), max_drop=1.0)


def test_an_output_that_samples_say_nothing_about_is_named() -> None:
    model = mlp()
    still = ir.node("Mul", [model.graph.outputs[0], ir.val("nought", const_value=ir.tensor([0.0]))])
    model.graph.initializers.add(still.inputs[1])  # type: ignore[arg-type]
    model.graph.append(still)
    still.outputs[0].name, still.outputs[0].dtype = "still", ir.DataType.FLOAT
    model.graph.outputs.append(still.outputs[0])
    result = graphprune.check(model, model, data(), max_drop=0.1, outputs={"still": "values"})
    assert result.ok and result.notes == ("output 'still' was not judged: constant output",)
    assert checked.tables(result)[1].rows == ((result.notes[0],),)


def test_inputs_may_have_another_width_of_floats() -> None:
    small = mlp()
    (value,) = small.graph.inputs
    cast = ir.node("Cast", [value], {"to": ir.DataType.FLOAT})
    value.dtype = ir.DataType.FLOAT16
    first = small.graph[0]
    small.graph.insert_before(first, cast)
    first.replace_input_with(0, cast.outputs[0])
    result = graphprune.check(mlp(), small, data(), max_drop=0.05, min_cosine=0.999)
    assert result.ok and figures(result)["cosine"].value != 1


def test_a_metric_is_a_number_or_one_per_sample() -> None:
    values = {"dense": 0.9, "small": 0.8}

    def single(model: object) -> float:
        return values["dense" if model is dense else "small"]

    def several(model: object) -> np.ndarray:
        return np.arange(100) < 100 * single(model)

    dense, small = mlp(), half()
    for metric, unsure in ((single, False), (several, True)):
        result = graphprune.check(dense, small, metric=metric, min_metric=0.75, max_metric_loss=0.15)
        assert result.ok and figures(result)["metric"].value == pytest.approx(0.8)
        assert figures(result)["metric_loss"].value == pytest.approx(0.1)
        assert ("inconclusive" in verdicts(result).values()) is unsure
        assert not graphprune.check(dense, small, metric=metric, max_metric_loss=0.05).ok


def test_a_metric_has_to_return_as_many_numbers_for_both() -> None:
    sizes = iter((100, 90))
    with pytest.raises(PluginError, match="returns 100 numbers for one model and 90 for the other"):
        graphprune.check(mlp(), half(), metric=lambda model: np.ones(next(sizes)), min_metric=0.5)


def test_a_metric_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_metric.py").write_text(
        "def good(model): return 0.5\n"
        "def bad(model): return {}['no']\n"
        "def text(model): return 'x'\n"
        "number = 1\n"
    )
    assert graphprune.check(mlp(), half(), metric="own_metric:good", min_metric=0.5).ok
    for name, said in (
        ("own_metric", "is not module:function"),
        ("own_metrics:good", "no module named 'own_metrics'"),
        ("own_metric:goood", "has no function 'goood'"),
        ("own_metric:number", "has no function 'number'"),
    ):
        with pytest.raises(ArgumentError, match=said):
            graphprune.check(mlp(), half(), metric=name, min_metric=0.5)
    for name, said in (("own_metric:bad", "KeyError"), ("own_metric:text", "returns str, not a number")):
        with pytest.raises(PluginError, match=said):
            graphprune.check(mlp(), half(), metric=name, min_metric=0.5)


def test_thresholds_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "thresholds.toml"
    path.write_text(
        'max-drop = 0.1\nmin_top1 = 0.9\nmax_bytes = "4MB"\nstrict = true\n[outputs]\ny = "values"\n'
    )
    found = thresholds.read(path)
    assert found == {
        "max_drop": 0.1,
        "min_top1": 0.9,
        "max_bytes": 4e6,
        "strict": True,
        "outputs": {"y": "values"},
    }
    for text, said in (
        ("max_dorp = 0.1", "unknown threshold 'max_dorp'"),
        ("max_drop = 2", "must be in"),
        ("threads = 2", "unknown threshold 'threads'"),
        ("max_drop", "is not TOML"),
    ):
        path.write_text(text)
        with pytest.raises(ArgumentError, match=said):
            thresholds.read(path)


def store(result: Check, path: Path) -> Path:
    path.write_text(checked.document(result))
    return path


def test_a_baseline_holds_what_was_reached(tmp_path: Path) -> None:
    dense, small = mlp(), half()
    copy = graphprune.check(dense, dense, data(), max_drop=0.5)
    stored = store(copy, tmp_path / "copy.json")
    again = graphprune.check(dense, dense, data(), baseline=stored)
    assert again.ok and len(again.judged) == len(copy.figures)
    worse = graphprune.check(dense, small, data(), baseline=stored)
    failed = {each.figure.name for each in worse.judged if each.verdict == "fail"}
    assert not worse.ok and failed == {"drop", "top1", "worst_class", "cosine"}
    better = graphprune.check(dense, dense, data(), baseline=store(worse, tmp_path / "half.json"))
    assert {each.figure.name for each in better.judged if each.verdict == "fail"} == {"bytes"}


def test_a_baseline_of_something_else_is_refused(tmp_path: Path) -> None:
    stored = store(graphprune.check(mlp(), half(), data(), max_drop=1.0), tmp_path / "stored.json")
    with pytest.raises(ArgumentError, match="of another dense model"):
        graphprune.check(mlp(seed=1), half(), data(), baseline=stored)
    with pytest.raises(ArgumentError, match="on other samples"):
        graphprune.check(mlp(), half(), data(100), baseline=stored)
    with pytest.raises(ArgumentError, match="--baseline needs samples"):
        graphprune.check(mlp(), half(), baseline=stored)
    for text in ("{}", "[1]", "no", '{"figures": [{"name": "drop"}], "dense": "", "data": ""}'):
        stored.write_text(text)
        with pytest.raises(ArgumentError, match="is no result of a check"):
            graphprune.check(mlp(), half(), data(), baseline=stored)


def test_a_baseline_is_held_to_the_worse_end_of_its_interval() -> None:
    stored = Figure("speedup", 1.5, 1.4, 1.6)
    assert against(stored, dataclasses.replace(stored, value=1.42, low=1.41, high=1.43)).verdict == "pass"
    assert (
        against(stored, dataclasses.replace(stored, value=1.42, low=1.3, number=40)).verdict == "inconclusive"
    )
    assert against(stored, dataclasses.replace(stored, value=1.39)).verdict == "fail"
    assert against(Figure("bytes", 1000), Figure("bytes", 1001)).verdict == "fail"
