"""Samples as Python has them: arrays, dicts, tensors, loaders, generators; read once, within bounds."""

from __future__ import annotations

import itertools
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import graphprune
from graphprune.errors import DataError
from graphprune.pipeline.result import Result
from graphprune.pipeline.samples import as_sets
from graphprune.runtime import stream
from graphprune.runtime.stream import Items, gather
from tests.pipeline.conftest import mlp

ROWS = np.random.default_rng(1).standard_normal((64, 6)).astype(np.float32)
HEAD = '<ir_version: 10, opset_import: ["" : 21]>\n'
PIPELINE = "prune(ratio=0.5, criterion=wanda, repair=none)"


class Tensor:
    """A tensor as torch has it: numpy reads it only on the CPU and without a gradient."""

    def __init__(self, array: np.ndarray, ready: int = 0) -> None:
        self.array, self.ready, self.dtype = array, ready, "torch.float32"

    def detach(self) -> Tensor:
        return Tensor(self.array, self.ready + 1)

    def cpu(self) -> Tensor:
        return Tensor(self.array, self.ready + 1)

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        if self.ready < 2:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        return self.array


class Dataset:
    """Single samples with labels, by index: the protocol of torch's datasets."""

    def __getitem__(self, at: int) -> tuple[np.ndarray, int]:
        if at >= len(ROWS):
            raise IndexError(at)
        return ROWS[at], 7


FORMS: dict[str, Callable[[], Any]] = {
    "array": lambda: ROWS,
    "doubles": lambda: ROWS.astype(np.float64),
    "lists": lambda: {"x": ROWS.tolist()},
    "tensor": lambda: Tensor(ROWS),
    "dict": lambda: {"x": ROWS},
    "dict of tensors": lambda: {"x": Tensor(ROWS)},
    "list of dicts": lambda: [{"x": ROWS[:40]}, {"x": ROWS[40:]}],
    "list of arrays": lambda: [ROWS[:40], ROWS[40:]],
    "generator": lambda: ({"x": part} for part in np.split(ROWS, 4)),
    "loader with labels": lambda: (
        [Tensor(part), Tensor(np.zeros(16, np.int64))] for part in np.split(ROWS, 4)
    ),
    "single samples": lambda: iter(ROWS),
    "single dicts": lambda: [{"x": row} for row in ROWS],
    "dataset": Dataset,
}


def kept(result: Result) -> dict[str, tuple[int, ...]]:
    return dict(result.plans[0].cuts)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_holds_the_same_samples(form: str) -> None:
    wanted = graphprune.compile(mlp(), PIPELINE, calibration={"x": ROWS})
    found = graphprune.compile(mlp(), PIPELINE, calibration=FORMS[form]())
    assert found.report.agreement == wanted.report.agreement
    assert kept(found) == kept(wanted)
    compared = graphprune.validate(mlp(), mlp(), FORMS[form]())
    assert compared.ok and compared.inputs == "given"


def test_single_samples_run_together() -> None:
    sets = as_sets(Items("calibration", tuple((row,) for row in ROWS)), mlp())
    assert [len(each["x"]) for each in sets] == [32, 32]


def test_a_loader_may_use_its_buffer_again() -> None:
    def loader() -> Iterator[np.ndarray]:
        buffer = np.empty((16, 6), np.float32)
        for part in np.split(ROWS, 4):
            buffer[:] = part
            yield buffer

    wanted = graphprune.compile(mlp(), PIPELINE, calibration={"x": ROWS})
    assert kept(graphprune.compile(mlp(), PIPELINE, calibration=loader())) == kept(wanted)


def wide() -> ir.Model:
    text = "g (float[n,4096] x) => (float[n,2] y) { y = MatMul(x, w) }"
    return ir.from_onnx_text(HEAD + text, initializers=[ir.tensor(np.ones((4096, 2), np.float32), name="w")])


def test_a_long_stream_takes_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """256 MB of doubles pass through: gathered, converted, and split into what is held back and the rest."""
    from graphprune.runtime.holding import divide

    monkeypatch.setattr(stream, "MEMORY", 2**22)
    model = wide()
    tracemalloc.start()
    batches = (np.full((256, 4096), number, np.float64) for number in range(32))
    items = gather(batches, "calibration")
    assert isinstance(items, Items)
    held, rest = divide(as_sets(items, model), model, 64, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**26
    numbers = sorted(int(row[0]) for each in (*held, *rest) for row in each["x"])
    assert numbers == sorted(256 * list(range(32)))
    assert all((each["x"] == each["x"][:, :1]).all() for each in (*held, *rest))


def test_nothing_is_left_of_a_stream(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(stream, "MEMORY", 1000)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = graphprune.compile(mlp(), PIPELINE, calibration=iter(ROWS))
    assert kept(found) == kept(graphprune.compile(mlp(), PIPELINE, calibration={"x": ROWS}))
    assert not list(tmp_path.iterdir())


def test_a_stream_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BYTE_CAP", 2**20)
    with pytest.raises(DataError, match="calibration holds more than") as caught:
        graphprune.compile(mlp(), PIPELINE, calibration=itertools.repeat(ROWS))
    assert "islice" in caught.value.hint


def two() -> ir.Model:
    return ir.from_onnx_text(HEAD + "g (float[n,6] a, float[n,6] b) => (float[n,6] y) { y = Add(a, b) }")


def test_a_tuple_holds_the_inputs_in_their_order() -> None:
    pairs = [(ROWS, ROWS + 1, np.zeros(64))]
    (found,) = as_sets(gather(pairs, "inputs"), two())  # type: ignore[arg-type]
    assert np.array_equal(found["a"], ROWS) and np.array_equal(found["b"], ROWS + 1) and len(found) == 2


WRONG: dict[str, tuple[Callable[[], Any], str, str]] = {
    "number": (lambda: 3, "calibration", "an array or tensor"),
    "nothing in it": (list, "calibration is empty", ""),
    "no array": (lambda: [{"x": object()}], "calibration['x'] holds object, which is no array", ""),
    "object": (object, "calibration is object", "an array or tensor"),
    "name": (lambda: {"image": ROWS}, "calibration: the model has no input 'image'", "known: x"),
    "shape": (lambda: [ROWS, ROWS[:, :5]], "calibration[1]: 'x' has shape (64, 5)", ""),
    "type": (lambda: ROWS.astype(np.int64), "calibration: 'x' holds int64", "convert"),
    "file": (lambda: "no/such.npz", "no/such.npz", ""),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_sample_is_named(case: str) -> None:
    make, message, hint = WRONG[case]
    with pytest.raises(DataError) as caught:
        graphprune.compile(mlp(), PIPELINE, calibration=make())
    assert message in caught.value.message and hint in caught.value.hint


def test_one_array_for_two_inputs_is_refused() -> None:
    with pytest.raises(DataError, match="inputs holds one array for 2 inputs") as caught:
        graphprune.validate(two(), two(), ROWS)
    assert caught.value.hint == "give a dict: {'a': ..., 'b': ...}"


@pytest.mark.zoo
def test_tensors_and_loaders_of_torch() -> None:
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    rows = torch.from_numpy(ROWS)
    dataset = TensorDataset(rows, torch.zeros(len(rows)))
    wanted = kept(graphprune.compile(mlp(), PIPELINE, calibration={"x": ROWS}))
    for given in (
        rows,
        rows.clone().requires_grad_(),
        {"x": rows},
        DataLoader(dataset, batch_size=16),
        DataLoader(dataset, batch_size=None),
        dataset,
    ):
        assert kept(graphprune.compile(mlp(), PIPELINE, calibration=given)) == wanted
    graphprune.compile(mlp(), PIPELINE, calibration=rows.bfloat16())
