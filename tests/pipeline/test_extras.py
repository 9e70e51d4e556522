"""What needs an extra says so, where it is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

import graphprune
from graphprune.errors import ArgumentError
from graphprune.pipeline import extras


def test_without_torch_the_error_says_what_to_install(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(ArgumentError, match="criterion=synflow needs torch") as error:
        graphprune.compile(model, "prune(criterion=synflow)", tmp_path / "small.onnx")
    assert error.value.hint == 'pip install "graphprune[torch]"'
    assert not list(tmp_path.glob("small*"))
