"""docs/python.md, docs/api.md and the docstrings of what is public: they run, and say what there is."""

from __future__ import annotations

import doctest
import shutil
from pathlib import Path

import numpy as np
import pytest

import graphprune
import graphprune.api
import graphprune.look
from tools import api_page

from .pages import ROOT, blocks


@pytest.fixture(params=[128, pytest.param(512, marks=pytest.mark.full)])
def checkout(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the shipped model, and so many of its samples."""
    folder = Path(shutil.copytree(ROOT / "models" / "digits_cnn", tmp_path / "models" / "digits_cnn"))
    with np.load(folder / "calibration.npz") as shipped:
        samples = shipped["image"]
    np.savez(folder / "calibration.npz", image=samples[: request.param])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_runs_from_top_to_bottom(checkout: Path) -> None:
    """Every assertion on it included."""
    names: dict[str, object] = {"__name__": "page"}
    for number, block in enumerate(blocks((ROOT / "docs" / "python.md").read_text("utf-8"), "python")):
        exec(compile(block, f"docs/python.md, block {number}", "exec"), names)
    assert (checkout / "small.onnx").exists() and (checkout / "small.html").exists()


@pytest.mark.parametrize("module", [graphprune.api, graphprune.look], ids=lambda module: module.__name__)
def test_examples_of_docstrings_run(module: object, checkout: Path) -> None:
    found = doctest.testmod(module)  # type: ignore[arg-type]
    assert found.attempted > 10 and not found.failed


def test_every_function_is_on_the_page() -> None:
    text = (ROOT / "docs" / "python.md").read_text("utf-8")
    functions = {
        name for name in graphprune.__all__ if callable(getattr(graphprune, name)) and name.islower()
    }
    assert all(f"graphprune.{name}(" in text for name in functions)
    assert set(api_page.ORDER) == functions


@pytest.mark.parametrize(("path", "made"), [(api_page.PAGE, api_page.render), (api_page.STUB, api_page.stub)])
def test_what_is_generated_is_up_to_date(path: Path, made: object) -> None:
    assert callable(made)
    assert path.read_text("utf-8") == made(), "run: python -m tools.api_page"
