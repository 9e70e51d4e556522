"""Indices for which a table has no row are refused before a model runs, where they are sure to reach it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import graphprune
from graphprune.cli.main import main
from graphprune.errors import DataError
from graphprune.runtime.data import load_inputs
from tests.axes.claims import sketch

ROWS = 50


def model(steps: str = "e = Gather(table, ids)") -> ir.Model:
    rest = "a = MatMul(e, up)\n b = Relu(a)\n y = MatMul(b, down)"
    text = f"(int64[n,6] ids) => (float[n,6,4] y) {{ {steps}\n {rest} }}"
    return sketch(text, table=(ROWS, 8), up=(8, 32), down=(32, 4)).model


def tokens(path: Path, value: int, stacked: bool = False) -> Path:
    """Forty samples; the eighteenth holds the value."""
    ids = np.random.default_rng(0).integers(0, ROWS, (40, 6))
    ids[17, 3] = value
    np.savez(path, ids=ids[:, None] if stacked else ids)
    return path


@pytest.mark.parametrize(
    "steps",
    [
        "e = Gather(table, ids)",
        "i = Cast <to = 6> (ids)\n j = Identity(i)\n e = Gather(table, j)",
        "t = Transpose <perm = [1, 0]> (ids)\n f = Gather(table, t)\n e = Transpose <perm = [1, 0, 2]> (f)",
    ],
)
@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("value", [64, -51])
def test_sample_input_value_and_rows_are_named(tmp_path: Path, steps: str, stacked: bool, value: int) -> None:
    path = tokens(tmp_path / "bad.npz", value, stacked)
    says = rf"bad\.npz': 'ids' holds {value} in sample 17; it looks up '\w' in a table of 50 rows"
    with pytest.raises(DataError, match=says) as caught:
        load_inputs(path, model(steps))
    assert caught.value.hint.startswith("give values from 0 to 49")


@pytest.mark.parametrize(
    ("steps", "value"),
    [
        ("e = Gather(table, ids)", -50),
        (
            "low = Constant <value_int = 0> ()\n high = Constant <value_int = 49> ()\n"
            "i = Clip(ids, low, high)\n e = Gather(table, i)",
            64,
        ),
        (
            "n = Constant <value_int = 50> ()\n v = Constant <value_floats = [0.0, 1.0]> ()\n"
            "o = OneHot(ids, n, v)\n e = MatMul(o, table)",
            64,
        ),
    ],
)
def test_what_runs_is_taken(tmp_path: Path, steps: str, value: int) -> None:
    result = graphprune.compile(model(steps), "prune", inputs=tokens(tmp_path / "good.npz", value))
    assert result.report.passes[0].proof.ok


@pytest.mark.parametrize(
    "line",
    [
        "compile {0} --passes prune(criterion=wanda) --calibration {1} -o {2}",
        "compile {0} --passes prune --inputs {1} -o {2}",
        "validate {0} {0} --inputs {1}",
        "check {0} {0} --max-drop 0.5 --inputs {1}",
        "bench {0} {0} --inputs {1}",
    ],
)
def test_commands_say_it(tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str) -> None:
    ir.save(model(), tmp_path / "model.onnx")
    data, out = tokens(tmp_path / "bad.npz", 64), tmp_path / "small.onnx"
    assert main(line.format(tmp_path / "model.onnx", data, out).split()) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("'ids' holds 64 in sample 17; it looks up 'e' in a table of 50 rows")
    assert second.startswith("hint: give values from 0 to 49") and not out.exists()


def test_python_names_the_sample_of_an_iterable() -> None:
    samples = [{"ids": np.full((1, 6), value)} for value in (3, 4, 99)]
    with pytest.raises(DataError, match=r"calibration\[2\]: 'ids' holds 99 "):
        graphprune.compile(model(), "prune(criterion=wanda)", calibration=samples)
