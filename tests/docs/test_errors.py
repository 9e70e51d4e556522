"""docs/errors.md: its classes are those of the code, and its messages are those that commands print."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from graphprune import errors
from graphprune.cli.main import main
from tests.cli.conftest import small_model
from tools.error_table import PAGE, kinds, render

from .pages import blocks

TEXT = PAGE.read_text(encoding="utf-8")


def test_the_table_is_up_to_date() -> None:
    assert render(TEXT) == TEXT, "run: python -m tools.error_table"


def test_every_class_that_is_public_is_explained() -> None:
    found = kinds()
    public = {name for name in vars(errors) if name.endswith("Error")}
    explained = set(re.findall(r"`(\w+Error)`", TEXT.partition("<!-- /classes -->")[2]))
    assert public - explained == {"GraphpruneError"} and explained <= {each.name for each in found}
    for name in public:
        (kind,) = (each for each in found if each.name == name)
        assert (vars(errors)[name].__doc__ or "").startswith(kind.meaning)


@pytest.mark.parametrize("example", blocks(TEXT, "console"))
def test_messages_are_as_shown(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ir.save(small_model(), tmp_path / "model.onnx")
    np.savez(tmp_path / "wrong.npz", imgae=np.zeros((4, 3, 8, 8), np.float32))
    line, _, said = example.partition("\n")
    program, *arguments = shlex.split(line.removeprefix("$ "))
    assert program == "graphprune"
    assert main(arguments) == (1 if "nothing to prune" in said else 2)
    assert capsys.readouterr().err == said
