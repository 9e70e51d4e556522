"""docs/notebook.ipynb runs, and its outputs are those of a run of the cells that it has."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest

from .pages import ROOT

PAGE = ROOT / "docs" / "notebook.ipynb"


def cells() -> list[dict[str, Any]]:
    found = json.loads(PAGE.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in found if cell["cell_type"] == "code"]


def test_every_cell_was_run_once_in_order() -> None:
    assert [cell["execution_count"] for cell in cells()] == list(range(1, len(cells()) + 1))
    assert all(cell["outputs"] for cell in cells())
    assert not any(output["output_type"] == "error" for cell in cells() for output in cell["outputs"])
    text = PAGE.read_text(encoding="utf-8")
    assert "rewrite proved" in text and "<svg" in text and str(ROOT) not in text


def test_its_cells_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Jupyter, which `make test` does not install."""
    pytest.importorskip("vl_convert")
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", cast(ModuleType, SimpleNamespace(SVG=str)))
    shutil.copytree(ROOT / "models" / "digits_cnn", tmp_path / "models" / "digits_cnn")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "notebook"}
    for number, cell in enumerate(cells()):
        exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
    assert not list(tmp_path.glob("*.onnx"))


@pytest.mark.full
def test_it_runs_in_jupyter_with_outputs_of_the_same_kinds(tmp_path: Path) -> None:
    pytest.importorskip("nbclient")
    from tools.notebook import executed

    shutil.copytree(ROOT / "models" / "digits_cnn", tmp_path / "models" / "digits_cnn")
    found = [cell for cell in executed(folder=tmp_path).cells if cell.cell_type == "code"]
    assert [_kinds(cell) for cell in found] == [_kinds(cell) for cell in cells()]


def _kinds(cell: dict[str, Any]) -> list[tuple[str, list[str]]]:
    return [(output["output_type"], sorted(output.get("data", ()))) for output in cell["outputs"]]
