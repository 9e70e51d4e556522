"""What needs an extra says so, where it is missing, before anything runs."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

import graphprune
from graphprune.errors import ArgumentError
from graphprune.pipeline import extras

NEEDY = {
    "prune(criterion=synflow)": "criterion=synflow",
    "prune(ratio=0.2), llm-pruner": "criterion=",
    "prune(ratio=0.2), gblm": "gblm",
    "prune(ratio=0.2), d-pruner": "d-pruner",
    "prune(ratio=0.2), gaprune": "gaprune",
    "prune(ratio=0.2), recover": "recover",
}


@pytest.mark.parametrize("text", NEEDY)
def test_without_torch_the_error_says_what_to_install_before_any_pass_runs(
    text: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, told = importlib.util.find_spec, list[str]()
    hidden = lambda name, *rest: None if name == "torch" else found(name, *rest)  # noqa: E731
    monkeypatch.setattr(extras, "find_spec", hidden)
    with pytest.raises(ArgumentError, match=f"{NEEDY[text]}.* needs torch, which is not installed") as error:
        graphprune.compile(model, text, tmp_path / "small.onnx", progress=lambda *said: told.append(said[2]))
    assert error.value.hint == 'pip install "graphprune[torch]"'
    assert not told and not list(tmp_path.glob("small*"))


def test_a_pass_without_gradients_runs_without_torch(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    graphprune.compile(model, "prune(criterion=l2, ratio=0.3)", tmp_path / "small.onnx")
    assert (tmp_path / "small.onnx").is_file()
