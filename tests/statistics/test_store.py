"""Statistics that a compile leaves in a file, and what the next one still has to measure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx_ir as ir
import pytest
from safetensors import safe_open

import graphprune
from graphprune.errors import ArgumentError, DataError, OutputError
from graphprune.pipeline.collecting import Collector
from graphprune.pipeline.passes import Context, Pass, Subject
from graphprune.prune.plan import Plan
from graphprune.run import Run
from graphprune.statistics import store
from graphprune.statistics.collect import Statistics, Wanted, collect
from tests.proof.building import model

from .oracle import Feed, draw


def _model(seed: int = 0) -> ir.Model:
    return model(
        "(float[b,3,6,6] x) => (float[b,4,6,6] y) { a = Conv(x, w)  r = Relu(a)  y = Conv(r, v) }",
        w=draw(5, 3, 1, 1, seed=seed),
        v=(4, 5, 1, 1),
    )


def _data(seed: int = 0) -> tuple[Feed, ...]:
    return tuple({"x": draw(2, 3, 6, 6, seed=seed + number)} for number in range(2))


EVERYTHING = Wanted(frozenset(["r"]), frozenset(["w", "v"]), frozenset(["r"]), (("a", "r"),))


def _same(one: Statistics, two: Statistics) -> bool:
    return (
        np.array_equal(one.vector("r").squares, two.vector("r").squares)
        and one.vector("r").count == two.vector("r").count
        and np.array_equal(one.gram("v").gram, two.gram("v").gram)
        and np.array_equal(one.rank("r"), two.rank("r"))
        and one.angle("a", "r").mean == two.angle("a", "r").mean
        and one.shared == two.shared
    )


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    one, two = (collect(_model(seed), _data(), EVERYTHING) for seed in (0, 1))
    store.save(path, {"one": one, "two": two})
    found = store.load(path)
    assert set(found) == {"one", "two"}
    assert _same(found["one"], one)
    assert _same(found["two"], two)
    assert not _same(found["one"], two)
    with safe_open(path, "numpy") as file:  # any other reader of the format can read it
        assert len(file.keys()) == 2 * (6 + 2 * 3 + 4 + 3)


def test_a_missing_file_holds_nothing(tmp_path: Path) -> None:
    assert store.load(tmp_path / "none") == {}


@pytest.mark.parametrize("content", [b"", b"hello", b"\x08" + bytes(7) + b"[1,2,34]", b"\xff" * 64])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s"
    path.write_bytes(content)
    with pytest.raises(DataError, match="no file of statistics"):
        store.load(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("lost", [8, 64])
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, lost: int) -> None:
    path = tmp_path / "s"
    store.save(path, {"key": collect(_model(), _data(), EVERYTHING)})
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(DataError, match="no file of statistics"):
        store.load(path)


class _Runs:
    """Counts the batches that were run."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, done: int, total: int, what: str) -> None:
        self.count += 1


def _collect(
    path: Path | None, wanted: Wanted, weights: int = 0, data: int = 0, seed: int = 0
) -> tuple[Statistics, int]:
    runs = _Runs()
    context = Context(_data(data), collector=Collector(path), run=Run(seed, progress=runs))
    return context.collect(_model(weights), wanted), runs.count


def test_a_second_compile_measures_nothing_again(tmp_path: Path) -> None:
    path = tmp_path / "s"
    first, ran = _collect(path, EVERYTHING)
    second, again = _collect(path, EVERYTHING)
    assert (ran, again) == (2, 0)
    assert _same(first, second)


def test_only_what_is_missing_is_measured(tmp_path: Path) -> None:
    path = tmp_path / "s"
    part, _ = _collect(path, Wanted(frozenset(["r"])))
    whole, ran = _collect(path, EVERYTHING)
    assert ran == 2
    assert np.array_equal(part.vector("r").squares, whole.vector("r").squares)
    assert _collect(path, EVERYTHING)[1] == 0
    assert _same(whole, collect(_model(), _data(), EVERYTHING))


@pytest.mark.parametrize("change", ["weights", "data", "seed"])
def test_another_model_or_other_data_is_measured_anew(tmp_path: Path, change: str) -> None:
    path = tmp_path / "s"
    _collect(path, EVERYTHING)
    found, ran = _collect(path, EVERYTHING, **{change: 1})
    assert ran == 2
    changed = {"weights": 0, "data": 0, change: 1}
    assert _same(found, collect(_model(changed["weights"]), _data(changed["data"]), EVERYTHING))


def test_one_compile_keeps_what_several_models_gave(tmp_path: Path) -> None:
    path, runs = tmp_path / "s", _Runs()
    context = Context(_data(), collector=Collector(path), run=Run(progress=runs))
    for _ in range(2):
        for seed in (0, 1):
            context.collect(_model(seed), EVERYTHING)
    assert runs.count == 4
    assert len(store.load(path)) == 2


def test_without_calibration_data_the_hint_says_what_to_give() -> None:
    with pytest.raises(ArgumentError, match="wanda needs calibration data") as caught:
        Context().collect(_model(), EVERYTHING, "wanda")
    assert "--calibration" in (caught.value.hint or "")


def test_something_else_of_that_name_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"precious")
    with pytest.raises(DataError, match="no file of statistics"):
        _collect(path, EVERYTHING)
    assert path.read_bytes() == b"precious"


@dataclass(frozen=True)
class Quietest(Pass):
    """Removes the channels of least norm."""

    name: ClassVar[str] = "quietest"
    count: int = 1

    def decide(self, subject: Subject, context: Context) -> Plan:
        (group,) = (g for g in subject.analysis.prunable if g.id == "w:0")
        norm = context.collect(subject.model, Wanted(frozenset(["r"]))).vector("r").norm2
        kept = tuple(sorted(np.argsort(norm)[self.count :].tolist()))
        return Plan(subject.options, {group.id: kept}, {group.id: group.size})


def test_a_compile_with_another_ratio_runs_no_calibration(tmp_path: Path) -> None:
    path, calibration = tmp_path / "s", {"x": np.concatenate([feed["x"] for feed in _data()])}
    seen: list[str] = []

    def compiled(count: int) -> int:
        seen.clear()
        result = graphprune.compile(
            _model(),
            Quietest(count),
            calibration=calibration,
            statistics=path,
            progress=lambda done, total, what: seen.append(what),
        )
        weight = result.model.graph.initializers["w"].const_value
        assert weight is not None
        return int(weight.shape[0])

    assert compiled(1) == 4
    assert "calibration" in seen
    assert compiled(2) == 3
    assert "calibration" not in seen


@pytest.mark.parametrize("name", ["small.onnx", "small.plan.json", "model.onnx", "data.npz"])
def test_statistics_go_where_nothing_else_is(tmp_path: Path, name: str) -> None:
    ir.save(_model(), tmp_path / "model.onnx")
    np.savez(tmp_path / "data.npz", x=_data()[0]["x"])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(OutputError):
        graphprune.compile(
            tmp_path / "model.onnx",
            Quietest(1),
            tmp_path / "small.onnx",
            calibration=tmp_path / "data.npz",
            statistics=tmp_path / name,
        )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
