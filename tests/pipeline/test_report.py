"""What a report says about scores, samples, files, and how it came about."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import graphprune
from graphprune.errors import ModelError
from graphprune.pipeline import histogram
from graphprune.runtime.session import open_session

DIGITS = Path(__file__).parents[2] / "models" / "digits_cnn"
MODEL, DATA = DIGITS / "model.onnx", DIGITS / "calibration.npz"


def images(number: int = 128) -> dict[str, np.ndarray]:
    with np.load(DATA) as file:
        return {name: array[:number].copy() for name, array in file.items()}


def test_histograms_count_every_unit_where_its_score_lies() -> None:
    report = graphprune.compile(MODEL, "prune(ratio=0.6)").report
    scored = [group for group in report.passes[0].groups if group.scores]
    assert scored
    for group in scored:
        assert group.scores is not None
        assert sum(group.scores.kept) == group.kept
        assert sum(group.scores.removed) == group.width - group.kept
        assert (group.scores.edges[0], group.scores.edges[-1]) == (group.scores.low, group.scores.high)


def test_a_histogram_of_a_long_tail_grows_by_a_factor() -> None:
    values = np.array([0.0, 1e-9, 1e-3, 2e-3, 1.0, 1000.0])
    edges = histogram.edges(values)
    assert np.allclose(np.diff(np.log(edges)), np.log(edges[1] / edges[0]))
    assert sum(histogram.counts(values, edges)) == len(values)
    assert histogram.counts(values, edges)[-1] == 1


@pytest.mark.parametrize("values", [[], [2.0, 2.0], [np.nan, np.inf], [0.0, 0.0, 5e-324]])
def test_what_does_not_spread_has_no_histogram_or_a_whole_one(values: list[float]) -> None:
    edges = histogram.edges(np.array(values))
    assert sum(histogram.counts(np.array(values), edges)) == (len(values) if edges.size else 0)
    assert np.all(np.diff(edges) >= 0)


def test_groups_stand_where_their_units_are_made() -> None:
    model = ir.load(MODEL)
    order = [node.name for node in graphprune.compile(MODEL, "prune").model.graph]
    groups = graphprune.compile(MODEL, "prune").report.passes[0].groups
    first = model.graph.initializers
    for group in groups:
        (node, _), *_ = first[group.id.rpartition(":")[0]].uses()
        assert order[group.depth] == node.name


def test_the_worst_samples_have_the_numbers_that_they_have_in_the_data() -> None:
    data = images()
    name = next(iter(data))
    result = graphprune.compile(MODEL, "prune(ratio=0.7, repair=none)", calibration=data)
    (output,) = result.report.agreement.outputs  # type: ignore[union-attr]
    dense, small = (open_session(model) for model in (ir.load(MODEL), result.model))
    shown = [each.sample for each in output.worst]
    assert len(shown) == 5 and output.worst[0].drop
    for sample in output.worst:
        feed = {name: data[name][sample.sample : sample.sample + 1]}
        one, two = (np.exp(session.run(feed)["logits"].astype(float)) for session in (dense, small))
        one, two = one / one.sum(), two / two.sum()
        assert sample.drop == pytest.approx(one.max() - one[0, two.argmax()], abs=1e-5)
    assert sum(output.counts) == 16
    assert output.drift is not None and output.edges[0] <= output.drift <= output.edges[-1]


def test_an_odd_sample_is_the_worst_one() -> None:
    data = images(16)
    name = next(iter(data))
    data[name][11] *= -8
    report = graphprune.compile(MODEL, "prune(ratio=0.45)", inputs=data).report
    (output,) = report.agreement.outputs  # type: ignore[union-attr]
    assert max(output.worst, key=lambda each: each.drift or 0).sample == 11


def test_data_files_and_time_are_told(tmp_path: Path) -> None:
    output, samples, passes = tmp_path / "small.onnx", tmp_path / "some.npz", "prune(ratio=0.4, repair=none)"
    data = images()
    np.savez(samples, **data)
    report = graphprune.compile(MODEL, passes, output, calibration=samples).report
    (told,) = report.data
    assert (told.role, told.source, told.samples, told.held_back) == ("calibration", str(samples), 128, 16)
    data[next(iter(data))][3] += 1
    (other,) = graphprune.compile(MODEL, passes, calibration=data).report.data
    assert other.source == "arrays in memory" and other.hash != told.hash
    assert report.hashes[str(output)] == hashlib.sha256(output.read_bytes()).hexdigest()
    assert set(report.hashes) == {"structure", "weights", *report.files}
    assert timedelta(0) <= datetime.now(UTC) - datetime.fromisoformat(report.date) < timedelta(minutes=1)


def test_the_call_in_a_report_repeats_it(tmp_path: Path) -> None:
    output = tmp_path / "small.onnx"
    first = graphprune.compile(MODEL, ["prune(ratio=0.4)"], output, inputs=images(2), seed=3, strict=True)
    assert first.report.command.endswith("inputs={'image': ...}, seed=3, strict=True)")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for path in before:
        path.unlink()
    again = eval(first.report.command.replace("inputs={'image': ...}, ", ""), {"graphprune": graphprune})
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before and again.report.seed == 3


def test_a_call_shows_no_model_from_memory() -> None:
    assert graphprune.compile(ir.load(MODEL)).report.command == "graphprune.compile(model=...)"


def test_kinds_of_work_share_the_latency() -> None:
    report = graphprune.compile(MODEL, "prune(ratio=0.4)", bench=True, time=True).report
    assert report.latency is not None and report.times[0].work == "contractions"
    before, after = (sum(getattr(each, name) for each in report.times) for name in ("before_ms", "after_ms"))
    assert (before, after) == pytest.approx((report.latency.before_ms, report.latency.after_ms))
    assert graphprune.compile(MODEL, "prune(ratio=0.4)", bench=True).report.times == ()


def test_a_model_that_cannot_be_traced_is_compiled_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ModelError("it cannot be written down")

    monkeypatch.setattr("graphprune.runtime.profile.profile", refuse)
    report = graphprune.compile(MODEL, "prune(ratio=0.4)", time=True).report
    assert report.times == () and report.passes[0].proof.ok
    assert "where the time goes could not be measured: it cannot be written down" in report.warnings
