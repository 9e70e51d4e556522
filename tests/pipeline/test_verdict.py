"""What a compile says about accuracy: on which samples, how sure, and when it refuses."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import graphprune
from graphprune.errors import ArgumentError, PromiseError
from graphprune.pipeline import verdict
from graphprune.pipeline.report import AgreementReport
from graphprune.pipeline.result import Result
from graphprune.pipeline.runner import Runner, runner
from graphprune.pipeline.samples import Samples
from graphprune.pipeline.settings import Settings
from graphprune.report.agreed import UNMEASURED, headline
from graphprune.runtime.session import Feeds
from tests.proof.building import model as built

from .conftest import TEXT, WIDTHS, Half, mlp

DIGITS = Path(__file__).resolve().parents[2] / "models" / "digits_cnn"
Data = dict[str, np.ndarray]


def data(count: int, seed: int = 1, spread: float = 1.0) -> Data:
    return {"x": (np.random.default_rng(seed).standard_normal((count, 6)) * spread).astype(np.float32)}


def net() -> ir.Model:
    """The same layers with typed weights, as repair needs them."""
    return built(TEXT, 21, **WIDTHS)


def agreement(result: Result) -> AgreementReport:
    assert result.report.agreement is not None
    return result.report.agreement


def dead(result: Result) -> list[str]:
    return [line for line in result.report.warnings if line.startswith("as good as dead")]


@pytest.mark.parametrize(
    ("given", "source", "samples"),
    [
        ({}, "generated", 2),
        ({"calibration": data(16)}, "repaired on", 16),
        ({"calibration": data(64)}, "held back", 8),
        ({"calibration": data(640)}, "held back", 64),
        ({"inputs": data(40)}, "inputs", 40),
        ({"calibration": data(64), "inputs": data(40)}, "inputs", 40),
    ],
)
def test_agreement_is_measured_on_samples_that_repair_did_not_see(
    given: dict[str, Data], source: str, samples: int
) -> None:
    found = agreement(graphprune.compile(mlp(), Half(), **given))  # type: ignore[arg-type]
    assert (found.source, found.samples) == (source, samples)
    assert found.measured == (source != "generated")
    assert (headline(found) == UNMEASURED) == (source == "generated")


def test_a_replay_repairs_nothing_and_is_measured_on_all_samples() -> None:
    made = graphprune.compile(net(), "obspa(ratio=0.3)", calibration=data(640))
    again = graphprune.compile(net(), plan=made.plan_file, calibration=data(640))
    assert (agreement(again).source, agreement(again).samples) == ("given", 640)
    assert "640 samples of --calibration; a replay repairs nothing" in headline(agreement(again))
    few = graphprune.compile(net(), plan=made.plan_file, calibration=data(16))
    assert not any("fit them rather than the task" in line for line in few.report.warnings)


def test_what_is_held_back_is_not_calibrated_on() -> None:
    settings, numbered = Settings(), {"x": np.tile(np.arange(64, dtype=np.float32)[:, None], (1, 6))}
    samples = Samples(mlp(), None, numbered, settings)
    held = [feed["x"][0, 0] for feed in samples.judging().feeds()]
    kept = np.concatenate([feed["x"][:, 0] for feed in samples.batches])
    assert len(held) == 8
    assert sorted([*held, *kept]) == list(range(64))
    assert [feed["x"][0, 0] for feed in Samples(mlp(), None, numbered, settings).judging().feeds()] == held
    other = Samples(mlp(), None, numbered, Settings(seed=1))
    assert [feed["x"][0, 0] for feed in other.judging().feeds()] != held
    assert len(Samples(mlp(), numbered, numbered, settings).batches) == 2  # all, where --inputs says on what


def test_statistics_of_another_split_are_not_taken_over(tmp_path: Path) -> None:
    """With --inputs all calibration samples are measured, without only seven eighths."""
    text, kept = "prune(criterion=wanda, align=1)", tmp_path / "statistics.safetensors"
    fresh = graphprune.compile(mlp(), text, calibration=data(64), inputs=data(8)).plan_file.to_json()
    graphprune.compile(mlp(), text, calibration=data(64), statistics=kept)
    again = graphprune.compile(mlp(), text, calibration=data(64), inputs=data(8), statistics=kept)
    assert again.plan_file.to_json() == fresh


def test_the_drop_is_that_of_the_written_model() -> None:
    dense, given = mlp(), data(200)
    result = graphprune.compile(dense, Half(), inputs=given)
    one, two = (runner(m, Settings())(given)["y"].astype(float) for m in (dense, result.model))
    p = np.exp(one - one.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    rows = np.arange(200)
    lost = p[rows, one.argmax(1)] - p[rows, two.argmax(1)]
    found = agreement(result)
    assert found.drop is not None and found.output == "y"
    assert found.drop.value == pytest.approx(lost.mean(), abs=1e-6)
    assert found.drop.low == pytest.approx(lost.mean() - 1.972 * lost.std(ddof=1) / 200**0.5, abs=1e-4)
    (output,) = found.outputs
    assert output.top1 is not None and output.cosine is not None
    assert output.top1.value == pytest.approx((one.argmax(1) == two.argmax(1)).mean())


def test_a_cut_that_leaves_a_constant_answer_is_called_dead() -> None:
    """What the report of this very command used to call proved, with nothing beside it."""
    calibration = DIGITS / "calibration.npz"
    text = "prune(ratio=0.6, repair=none)"
    result = graphprune.compile(DIGITS / "model.onnx", text, calibration=calibration)
    found = agreement(result)
    assert result.report.passes[0].proof.ok
    assert dead(result) and "as good as dead" in headline(found)
    assert found.drop is not None and found.drop.low > 0.5


def test_a_cut_that_costs_nothing_is_not_called_dead() -> None:
    with np.load(DIGITS / "calibration.npz") as archive:
        images = {name: archive[name][:128] for name in archive.files}
    result = graphprune.compile(DIGITS / "model.onnx", "prune(ratio=0.4)", inputs=images)
    found = agreement(result)
    assert not dead(result)
    assert found.drop is not None and found.drop.value < 0.001 and found.drop.high < 0.03


def test_a_missed_drop_writes_nothing(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.onnx"
    with pytest.raises(PromiseError, match=r"drop of output 'y' is 0\.\d+, more than --max-drop 0\.01"):
        graphprune.compile(model, Half(), out, inputs=data(200), max_drop=0.01)
    assert not out.exists()
    result = graphprune.compile(model, Half(), out, inputs=data(200), max_drop=0.01, allow_short=True)
    assert out.exists() and any("--max-drop 0.01" in line for line in result.report.warnings)


def test_a_drop_within_its_bound_says_nothing() -> None:
    result = graphprune.compile(mlp(), Half(), inputs=data(200), max_drop=0.9)
    assert not [line for line in result.report.warnings if "--max-drop" in line]


def test_an_interval_that_straddles_the_bound_is_inconclusive() -> None:
    given = {"inputs": data(60)}
    drop = agreement(graphprune.compile(mlp(), Half(), **given)).drop  # type: ignore[arg-type]
    assert drop is not None
    bound = (drop.value + drop.high) / 2
    result = graphprune.compile(mlp(), Half(), max_drop=bound, **given)  # type: ignore[arg-type]
    (line,) = [line for line in result.report.warnings if "--max-drop" in line]
    assert "inconclusive, 60 samples; about 240 would decide" in line  # half the way: four times the samples
    with pytest.raises(PromiseError, match="inconclusive"):
        graphprune.compile(mlp(), Half(), max_drop=bound, strict=True, **given)  # type: ignore[arg-type]


def test_a_bound_without_samples_is_a_usage_error() -> None:
    with pytest.raises(ArgumentError, match="--max-drop needs samples") as caught:
        graphprune.compile(mlp(), Half(), max_drop=0.1)
    assert "calibration=" in caught.value.hint and "inputs=" in caught.value.hint
    with pytest.raises(ArgumentError, match=r"in \[0, 1\]"):
        graphprune.compile(mlp(), Half(), inputs=data(4), max_drop=2)


def test_outputs_are_judged_as_the_user_says() -> None:
    found = agreement(graphprune.compile(mlp(), Half(), inputs=data(40), outputs={"y": "values"}))
    assert found.outputs[0].kind == "values"
    with pytest.raises(ArgumentError, match="no output 'z'"):
        graphprune.compile(mlp(), Half(), inputs=data(4), outputs={"z": "values"})
    with pytest.raises(ArgumentError, match="cannot be judged as 'velues'"):
        graphprune.compile(mlp(), Half(), inputs=data(4), outputs={"y": "velues"})  # type: ignore[dict-item]


def test_two_samples_are_not_taken_without_a_word() -> None:
    result = graphprune.compile(net(), "prune(align=1)", calibration=data(2))
    assert any(line.startswith("calibration has 2 samples") for line in result.report.warnings)
    assert any(line.startswith("3 of 3 layers were fitted by no more") for line in result.report.warnings)
    enough = graphprune.compile(net(), "prune(align=1)", calibration=data(256))
    assert not any("samples" in line for line in enough.report.warnings)


def test_calibration_from_elsewhere_is_told() -> None:
    """Repaired where one input never moves, judged where all do."""
    elsewhere = data(256)
    elsewhere["x"][:, 3:] = 0
    text = "prune(ratio=0.4, align=1)"
    other = graphprune.compile(net(), text, calibration=elsewhere, inputs=data(64, seed=2))
    assert any(line.startswith("calibration does not fit") for line in other.report.warnings)
    same = graphprune.compile(net(), text, calibration=data(256), inputs=data(64, seed=2))
    assert not any("does not fit" in line for line in same.report.warnings)


def test_samples_that_repair_saw_are_run_again_only_where_others_are_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their runs say whether data fits, which nobody asks where it does no harm."""
    asked = []
    seen = Samples.seen
    monkeypatch.setattr(Samples, "seen", lambda samples: asked.append(1) or seen(samples))
    text = "prune(ratio=0.7, align=1)"
    graphprune.compile(net(), text, calibration=data(64))
    assert len(asked) == 1
    monkeypatch.setattr(verdict, "MISFIT_LEAST", 1.01)
    graphprune.compile(net(), text, calibration=data(64))
    assert len(asked) == 1


def test_passes_that_decide_nothing_have_no_agreement() -> None:
    assert graphprune.compile(mlp(), "canonicalize", inputs=data(4)).report.agreement is None


LANGUAGE = """(int64[b,t] ids) => (float[b,t,7] y) {{
    a = Gather(table, ids) {mixed} h = MatMul(m, up) r = Relu(h) y = MatMul(r, head)
}}"""
WEIGHTS = {"table": (7, 6), "up": (6, 8), "head": (8, 7)}
MIXING = {
    "causal": "m = CumSum(a, one)",  # a position sums what is before it
    "both ways": "c = CumSum(a, one) d = CumSum<reverse = 1>(a, one) m = Add(c, d)",
}


@pytest.mark.parametrize(("mixed", "kind"), [("causal", "tokens"), ("both ways", "classes")])
def test_next_tokens_are_judged_only_where_none_is_seen(mixed: str, kind: str) -> None:
    text = LANGUAGE.format(mixed=MIXING[mixed])
    dense = built(text, 18, one=np.array(1), **WEIGHTS)
    ids = {"ids": np.random.default_rng(0).integers(0, 7, (20, 9))}
    found = agreement(graphprune.compile(dense, "prune(align=1, ratio=0.5)", inputs=ids))
    assert found.outputs[0].kind == kind
    assert found.drop is not None and 0 <= found.drop.value <= 1


def test_large_outputs_are_compared_one_sample_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    honest = Runner.__call__

    def watched(self: Runner, feed: Feeds) -> dict[str, np.ndarray]:
        sizes.append(len(feed["x"]))
        return honest(self, feed)

    monkeypatch.setattr(Runner, "__call__", watched)
    graphprune.compile(mlp(), Half(), inputs=data(50))
    assert set(sizes) == {1}


def test_a_model_that_takes_no_single_sample_is_judged_on_several_at_a_time() -> None:
    text = """(float[n,6] x) => (float[4,5] y) {
        a = Reshape(x, four) h = MatMul(a, up) r = Relu(h) y = MatMul(r, d)
    }"""
    dense = built(text, 18, four=np.array([4, 6]), up=(6, 8), d=(8, 5))
    found = agreement(graphprune.compile(dense, "prune(align=1)", inputs=data(4)))
    assert found.drop is not None and found.outputs[0].top1 is not None


def test_an_output_may_have_any_name() -> None:
    dense = mlp()
    dense.graph.outputs[0].name = "y[0]"
    assert [item.name for item in agreement(graphprune.compile(dense, Half(), inputs=data(9))).outputs] == [
        "y[0]"
    ]


DECODER = """(float[b,t,12] x, float[b,4,p,6] past) => (float[b,t,12] y, float[b,4,q,6] now) {
    h0 = MatMul(x, wk) h1 = Reshape(h0, heads) h = Transpose<perm = [0, 2, 1, 3]>(h1)
    now = Concat<axis = 2>(past, h)
    s0 = Transpose<perm = [0, 1, 3, 2]>(now) s1 = MatMul(h, s0) s = Softmax<axis = -1>(s1) a0 = MatMul(s, now)
    a1 = Transpose<perm = [0, 2, 1, 3]>(a0) a2 = Reshape(a1, flat) o = MatMul(a2, wo) y = Add(x, o)
}"""


@pytest.mark.parametrize(
    "text", ["prune(align=1, ratio=0.5)", "prune(align=1, ratio=0.3), prune(align=1, ratio=0.3)"]
)
def test_caches_that_lost_heads_are_fed_what_is_left_of_them(text: str) -> None:
    sizes = {"heads": np.array([0, 0, 4, 6]), "flat": np.array([0, 0, 24])}
    dense = built(DECODER, 18, wk=(12, 24), wo=(24, 12), **sizes)
    rng = np.random.default_rng(0)
    shapes = {"x": (10, 3, 12), "past": (10, 4, 5, 6)}
    given = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    result = graphprune.compile(dense, text, inputs=given)
    (output,) = agreement(result).outputs
    past = result.model.graph.inputs[1].shape
    assert past is not None and tuple(past)[1:] != (4, "p", 6)
    assert output.name == "y" and output.drop is not None


def funnel() -> ir.Model:
    """Six layers that are fitted on 4 inputs each and one on 48, once half of every width is gone."""
    widths = (8, 8, 8, 8, 8, 8, 8, 96, 5)
    draw, lines, read = np.random.default_rng(0), [], "x"
    weights = {
        f"w{n}": (draw.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)
        for n, shape in enumerate(pairwise(widths))
    }
    for name in weights:
        lines.append(f"a{name} = MatMul({read}, {name})\n h{name} = Tanh(a{name})")
        read = f"h{name}"
    body = "\n".join(lines)
    return built(f"(float[n,8] x) => (float[n,5] y) {{ {body}\n y = Identity({read}) }}", **weights)


def thin(samples: int) -> list[str]:
    feeds = {"x": np.random.default_rng(1).standard_normal((samples, 8)).astype(np.float32)}
    result = graphprune.compile(funnel(), "prune(ratio=0.5, align=1, scope=local)", calibration=feeds)
    return [line for line in result.report.warnings if "low rank" in line]


def test_a_fit_of_low_rank_is_told_of_where_a_quarter_of_the_layers_have_it() -> None:
    assert not thin(16), "only the widest of seven"
    (line,) = thin(2)
    assert line.startswith("7 of 7 layers") and "w4 (2 rows, 4 inputs) and 3 more;" in line


ONLY_WHERE = """(float[n,4] x) => (seq(float[n,4]) found) {{
    m = ReduceMax<keepdims = 0>(x) more = Greater(m, bar)
    found = If(more) <
        then_branch = a () => (seq(float[n,4]) two) {{ t = {wide} two = SequenceConstruct(x, t) }},
        else_branch = b () => (seq(float[n,4]) one) {{ o = Identity(x) one = SequenceConstruct(o) }}
    >
}}"""


def finder(bar: float) -> ir.Model:
    """Two arrays of a sequence where a sample reaches the bar, else one."""
    return built(ONLY_WHERE.format(wide="Neg(x)"), 18, bar=np.array(bar, np.float32))


def rows(*tops: float) -> dict[str, np.ndarray]:
    return {"x": np.array([[top, -0.5, -0.25, -0.125] for top in tops], np.float32)}


def test_an_array_that_the_smaller_model_lacks_is_lost_for_that_sample() -> None:
    samples = rows(2.0, 2.0, 4.0, 4.0, 0.5, 0.75, 0.6, 0.8)
    found = graphprune.check(finder(1.0), finder(3.0), samples, max_drop=0.1)
    assert not found.ok
    drop = next(each for each in found.figures if each.name == "drop")
    assert (drop.value, drop.where) == (0.25, "found[1]")  # two of eight samples have lost it
    assert any(
        note.startswith("2 arrays, such as 'found[1]', of the dense model are missing")
        for note in found.notes
    )


def test_an_array_that_comes_late_or_never_comes_back_counts_as_well() -> None:
    samples = rows(0.5, 0.6, 2.0, 4.0)  # the first sample does not have it
    never = graphprune.check(finder(1.0), finder(9.0), samples, max_drop=0.1)
    same = graphprune.check(finder(1.0), finder(1.0), samples, max_drop=0.1)
    drops = [each.value for one in (never, same) for each in one.figures if each.name == "drop"]
    assert drops == [0.5, 0.0]
    assert not never.ok and same.ok and not same.notes


def test_an_array_that_the_smaller_model_alone_returns_is_told() -> None:
    found = graphprune.check(finder(9.0), finder(1.0), rows(2.0, 2.0, 2.0, 0.5), max_drop=0.1)
    assert "3 arrays, such as 'found[1]', are returned by the smaller model alone" in found.notes
    assert "on 3 of 4 samples" in " ".join(found.notes)
