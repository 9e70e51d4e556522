"""Runs docs/notebook.ipynb in place, so that its outputs are those of a run: `python -m tools.notebook`."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "notebook.ipynb"
SECONDS = 600
"""That one cell may take."""


def executed(page: Path = PAGE, folder: Path = ROOT) -> nbformat.NotebookNode:
    """The notebook after a run in a folder, without what differs from run to run and says nothing."""
    notebook = nbformat.read(page, as_version=4)
    NotebookClient(
        notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": folder}}
    ).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


if __name__ == "__main__":
    nbformat.write(executed(), PAGE)
