"""A folder from which a failed compile can be repeated: recipe, plan, versions, error; never the weights."""

from __future__ import annotations

import json
import platform
import traceback
from pathlib import Path

from graphprune.errors import OutputError
from graphprune.ir.names import escape, quote
from graphprune.lowering.table import table
from graphprune.pipeline import recipe
from graphprune.pipeline.report import installed_versions

_NAMES = frozenset({"recipe.toml", "model.txt", "error.txt", "versions.json", "README.txt", "plan.json"})


def require_free(folder: Path) -> None:
    """Refuse a folder that holds anything but an earlier reproducer.

    Raises:
        OutputError: files in it could be overwritten.
    """
    try:
        names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    except OSError as problem:
        raise OutputError(
            f"cannot read the reproducer folder {quote(str(folder))}: {problem.strerror}"
        ) from None
    if names and not ("error.txt" in names and names <= _NAMES):
        raise OutputError(f"the reproducer folder {quote(str(folder))} is not empty", "name a new one")


def store(folder: Path, source: str, asked: recipe.Recipe, error: BaseException) -> None:
    """Write the folder; its `recipe.toml` runs as it is.

    Raises:
        OutputError: the folder cannot be written.
    """
    files = {
        "recipe.toml": f"{recipe.write(recipe.moved(asked, folder))}# lowering: table {table().hash}\n",
        "model.txt": escape(source) + "\n",
        "error.txt": "".join(traceback.format_exception(error)),
        "versions.json": json.dumps({"python": platform.python_version(), **installed_versions()}, indent=2)
        + "\n",
        "README.txt": _README.format(source=escape(source)),
    }
    plan = getattr(error, "plan", None)
    if plan is not None:
        files["plan.json"] = json.dumps(plan.to_json(), indent=1) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as problem:
        raise OutputError(f"cannot write the reproducer folder '{folder}': {problem.strerror}") from error


_README = """Repeat with:

  graphprune --debug compile {source} --recipe recipe.toml -o out.onnx

The model is not in this folder: model.txt says where it was. plan.json, where there is one, is the decision
whose proof failed; error.txt has the traceback.
"""
