"""recover: wins back what a cut lost, takes nothing that is worse, and repeats itself bit for bit."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphprune
from graphprune.errors import GraphpruneError, PromiseError
from graphprune.pipeline import planfile
from graphprune.pipeline.report import RecoveryReport
from graphprune.pipeline.result import Result
from graphprune.prune import scatter
from tests.proof.building import model

pytestmark = pytest.mark.zoo
DIGITS = Path(__file__).resolve().parents[2] / "models" / "digits_cnn"
CUT = "prune(ratio=0.5, criterion=l1, repair=none)"


def digits(passes: str, count: int = 256, **options: object) -> Result:
    images = np.load(DIGITS / "calibration.npz")["image"][:count]
    return graphprune.compile(
        DIGITS / "model.onnx", passes, calibration={"image": images}, bench=False, jobs=1, **options
    )


def recovery(result: Result) -> RecoveryReport:
    found = result.report.passes[-1].recovery
    assert found is not None
    return found


def weights(result: Result) -> dict[str, np.ndarray]:
    return {n: np.asarray(v.const_value.numpy()) for n, v in result.model.graph.initializers.items()}


@pytest.fixture(scope="module")
def trained() -> Result:
    return digits(f"{CUT}, recover(steps=60, batch=8, rate=0.001)")


def test_a_cut_without_repair_is_won_back_on_samples_that_nothing_saw(trained: Result) -> None:
    agreement = trained.report.agreement
    assert agreement is not None and agreement.before is not None and agreement.drop is not None
    assert agreement.samples == 64
    assert agreement.drop.value < 0.3 * agreement.before.value
    assert all(item.proof.ok for item in trained.report.passes)


def test_the_report_says_what_was_trained_on_what(trained: Result) -> None:
    found = recovery(trained)
    assert found.goals == ("logits",) and found.together and found.accepted
    assert (found.samples, found.selection, found.steps, found.batch) == (128, 64, 60, 8)
    assert found.curve[0].step == 0 and found.curve[0].training is None
    assert min(found.curve, key=lambda point: point.selection).step == found.best > 0
    assert found.versions["jobs"] == "1" and "torch" in found.versions


def test_a_run_repeats_bit_for_bit_from_its_recipe(trained: Result) -> None:
    from graphprune.pipeline.recipe import parse

    text = parse(trained.report.recipe).pipeline
    assert text is not None and "steps=60" in text and "rate=0.001" in text
    again = weights(digits(text))
    assert all(array.tobytes() == again[name].tobytes() for name, array in weights(trained).items())


def test_where_no_layer_kept_its_width_matching_changes_nothing(trained: Result) -> None:
    from graphprune.pipeline.recipe import parse

    result = digits(f"{CUT}, recover(steps=60, batch=8, rate=0.001, match=true)")
    text = parse(result.report.recipe).pipeline
    found, plain = recovery(result), recovery(trained)
    assert text is not None and "match=true" in text and found.accepted and found.goals == plain.goals
    assert found.curve == plain.curve


def test_a_run_by_time_says_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphprune.pipeline.recipe import parse

    result = digits(f"{CUT}, recover(time=2s)", 64)
    text = parse(result.report.recipe).pipeline
    assert text is not None and f"steps={recovery(result).steps}" in text and "rate=" in text


def test_a_plan_repeats_trained_weights(trained: Result, tmp_path: Path) -> None:
    trained.save(tmp_path / "small.onnx")
    plan = planfile.read(tmp_path / "small.plan.json")
    again = graphprune.compile(DIGITS / "model.onnx", plan=plan, bench=False)
    assert all(array.tobytes() == weights(again)[name].tobytes() for name, array in weights(trained).items())


def test_trained_weights_are_proved_against_the_masked_dense_graph(
    trained: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut, learned = (item.proof for item in trained.report.passes)
    assert learned.runs == 2 * cut.runs and learned.tensors > 1.5 * cut.tensors and not learned.details
    true = scatter.scattered

    def moved(*given: Any) -> dict[str, np.ndarray] | None:
        found = true(*given)
        assert found is not None
        name = max(found, key=lambda each: found[each].size)
        return {**found, name: found[name] + np.float32(0.01)}

    monkeypatch.setattr(scatter, "scattered", moved)
    with pytest.raises(PromiseError, match="in dense coordinates failed"):
        digits(f"{CUT}, recover(steps=30, batch=8, rate=0.001)", 128)


def test_masks_between_cut_and_training_are_proved_with_them() -> None:
    result = digits(f"{CUT}, magnitude(ratio=0.3), recover(steps=30, batch=8, rate=0.001)", 128)
    assert recovery(result).accepted
    assert result.report.passes[2].proof.runs == 2 * result.report.passes[0].proof.runs


def test_names_and_metadata_stay(trained: Result) -> None:
    cut = digits(CUT)
    assert list(weights(trained)) == list(weights(cut))
    assert [node.name for node in trained.model.graph] == [node.name for node in cut.model.graph]


def test_masks_stay_exactly() -> None:
    masked = digits("magnitude(pattern=2:4)")
    result = digits("magnitude(pattern=2:4), recover(steps=40, rate=0.0005)")
    before, after = weights(masked), weights(result)
    zeros = {name: array == 0 for name, array in before.items() if array.ndim > 1}
    assert sum(map(np.sum, zeros.values())) > 1000
    assert all(((after[name] == 0) == mask).all() for name, mask in zeros.items())
    assert any((after[name] != before[name]).any() for name in zeros)


def test_updates_of_low_rank_are_merged_and_keep_masks() -> None:
    masked = digits("magnitude(pattern=2:4)")
    result = digits("magnitude(pattern=2:4), recover(steps=40, rate=0.001, rank=2)")
    before, after = weights(masked), weights(result)
    name = max((n for n, a in before.items() if a.ndim == 2), key=lambda n: before[n].size)
    change = np.linalg.matrix_rank((after[name] - before[name]).astype(np.float64), tol=1e-5)
    assert change > 0 and ((after[name] == 0) == (before[name] == 0)).all()


def test_statistics_of_batch_norms_are_frozen(trained: Result) -> None:
    cut = digits(CUT)
    norms = [node for node in trained.model.graph if node.op_type == "BatchNormalization"]
    old, new = weights(cut), weights(trained)
    for node in norms:
        scale, shift, mean, variance = (value.name for value in node.inputs[1:5])
        assert (old[mean] == new[mean]).all() and (old[variance] == new[variance]).all()
        assert (old[scale] != new[scale]).any() and (old[shift] != new[shift]).any()


def test_a_training_that_makes_it_worse_is_not_taken() -> None:
    result = digits("prune(ratio=0.05, criterion=l1, repair=none), recover(steps=8, rate=0.9)", 64)
    found = recovery(result)
    cut = digits("prune(ratio=0.05, criterion=l1, repair=none)", 64)
    assert not found.accepted
    assert [line for line in result.report.warnings if line.startswith("recover: no step")]
    assert all(array.tobytes() == weights(result)[name].tobytes() for name, array in weights(cut).items())


def test_the_dense_model_itself_has_nothing_to_recover() -> None:
    result = digits("recover(steps=2, rate=0.001)", 64)
    assert not recovery(result).accepted


def test_shared_weights_stay_shared() -> None:
    text = """(float[n,6] x) => (float[n,6] y) {
        a = MatMul(x, w1)
        b = Relu(a)
        c = MatMul(b, w2)
        d = MatMul(c, w1)
        e = Relu(d)
        y = MatMul(e, w2)
    }"""
    x = np.random.default_rng(0).standard_normal((64, 6)).astype(np.float32)
    passes = "prune(ratio=0.4, criterion=l1, align=1, repair=none), recover(steps=30, rate=0.01)"
    result = graphprune.compile(
        model(text, 21, w1=(6, 12), w2=(12, 6)), passes, calibration={"x": x}, bench=False
    )
    assert set(result.model.graph.initializers) == {"w1", "w2"} and recovery(result).accepted


def test_a_training_that_was_stopped_goes_on_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from graphprune.autograd.training import progress

    monkeypatch.setattr(progress, "OFTEN", 0.0)
    passes = f"{CUT}, recover(steps=48, batch=8, rate=0.001)"
    whole = digits(passes)
    said: list[int] = []

    def listen(done: int, total: int, what: str) -> None:
        said.extend([done] if what.startswith("recover: loss") else [])

    def stop(done: int, total: int, what: str) -> None:
        listen(done, total, what)
        if len(said) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        digits(passes, output=tmp_path / "small.onnx", progress=stop)
    assert said == [12, 24]
    assert [file.name for file in tmp_path.iterdir()] == ["small.onnx.stopped"]
    said.clear()
    again = digits(passes, output=tmp_path / "small.onnx", progress=listen)
    assert said == [24, 36, 48]  # the look after step 24 was not kept yet
    assert not (tmp_path / "small.onnx.stopped").exists()
    assert all(array.tobytes() == weights(whole)[name].tobytes() for name, array in weights(again).items())


BAD_LABELS = {
    "one label too many": (np.zeros(65, np.int64), "holds 65 labels, the calibration data 64 samples"),
    "no whole numbers": (np.zeros(64), "holds float64"),
    "no class": (np.full(64, 11), "11 is no class of output 'logits', which has 10"),
}


@pytest.mark.parametrize("name", BAD_LABELS)
def test_labels_that_do_not_fit_are_refused(name: str, tmp_path: Path) -> None:
    labels, message = BAD_LABELS[name]
    np.save(tmp_path / "labels.npy", labels)
    with pytest.raises(GraphpruneError, match=message):
        digits(f"{CUT}, recover(steps=2, batch=8, rate=0.001, labels={tmp_path / 'labels.npy'})", 64)


def test_labels_need_samples_to_choose_by_among_those_that_they_are_of(tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", np.zeros(64, np.int64))
    passes = f"{CUT}, recover(steps=2, batch=8, rate=0.001, labels={tmp_path / 'labels.npy'})"
    with pytest.raises(GraphpruneError, match="samples to choose by were given apart"):
        digits(passes, 64, selection={"image": np.load(DIGITS / "calibration.npz")["image"][64:104]})


def test_a_loss_of_ones_own_is_what_is_made_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_loss.py").write_text(
        "def apart(small, dense):\n    return (small['logits'] - dense['logits']).abs().mean()\n"
        "def broken(small, dense):\n    return small['nothing']\n"
    )
    monkeypatch.chdir(tmp_path)
    found = recovery(digits(f"{CUT}, recover(steps=20, batch=8, rate=0.001, loss=my_loss:apart)", 64))
    assert found.accepted and found.goals == ("logits",)
    with pytest.raises(GraphpruneError, match="loss 'my_loss:broken'"):
        digits(f"{CUT}, recover(steps=2, batch=8, rate=0.001, loss=my_loss:broken)", 64)
    with pytest.raises(GraphpruneError, match="has no function 'nothing'"):
        digits(f"{CUT}, recover(steps=2, batch=8, rate=0.001, loss=my_loss:nothing)", 64)


def test_what_makes_a_training_ready_is_part_of_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphprune.autograd.training import begin as module

    true = module.begin

    def slow(**given: Any) -> Any:
        time.sleep(1.0)
        return true(**given)

    monkeypatch.setattr(module, "begin", slow)
    found = recovery(digits(f"{CUT}, recover(time=1s, batch=8, rate=0.001)", 64))
    assert found.steps == 1 and found.seconds >= 1.0
