"""One table of models, recipes and seeds, which goes on where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from graphprune.cli.main import main
from graphprune.errors import ArgumentError
from graphprune.pipeline.recipe import Recipe
from graphprune.pipeline.settings import Sweeping
from graphprune.tuning import sweep as sweeping
from graphprune.tuning.sweep import Job, sweep

RECIPES = {"half": Recipe("prune(macs=0.5)"), "nothing": Recipe("experts(ratio=0.5)")}


def job(output: Path | None = None, seeds: tuple[int, ...] = (0, 1)) -> Job:
    return Job((Path("model.onnx"),), RECIPES, seeds, Path("samples.npz"), output)


def test_every_combination_is_a_row(folder: Path) -> None:
    rows = list(sweep(job(), Sweeping()))
    assert [(row.recipe, row.seed) for row in rows] == [
        ("half", 0),
        ("half", 1),
        ("nothing", 0),
        ("nothing", 1),
    ]
    assert rows[0].macs is not None
    assert rows[0].macs <= 0.5
    assert rows[0].drop is not None
    assert "expert" in rows[2].error


def test_rows_that_are_there_are_not_run_again(folder: Path) -> None:
    output = Path("table.jsonl")
    first = list(sweep(job(output, (0,)), Sweeping()))
    again = list(sweep(job(output), Sweeping(resume=True)))
    assert again[:2] == first
    assert len(again) == 4
    assert len(output.read_text().splitlines()) == 4
    with pytest.raises(ArgumentError, match="exists"):
        list(sweep(job(output), Sweeping()))


def test_a_line_that_is_no_row_is_named(folder: Path) -> None:
    Path("table.jsonl").write_text('{"model": 1}\n')
    with pytest.raises(ArgumentError, match=r"line 1 of 'table\.jsonl'"):
        list(sweep(job(Path("table.jsonl")), Sweeping(resume=True)))


def test_what_travels_is_enough(folder: Path) -> None:
    """A worker has the bytes, and no file of this machine."""
    given = job(seeds=(0,))
    here = next(iter(sweep(given, Sweeping())))
    shared = sweeping._packed(sweeping._Shared(given, Sweeping()))
    for name in ("model.onnx", "samples.npz"):
        Path(name).unlink()
    there = sweeping._row(shared, (0, "half", 0))
    assert (there.macs, there.drop) == (here.macs, here.drop)


def test_the_command_prints_the_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sweep", "model.onnx", "--passes", "prune(macs=0.5)", "--passes", "prune(ratio=0.2)", "--json"]
    assert main([*words, "--seeds", "0,1"]) == 0
    assert len(json.loads(capsys.readouterr().out)["rows"]) == 4
    assert main([*words, "--seeds", "x"]) == 2
    assert main(["sweep", "model.onnx"]) == 2
