"""Packages of somebody else, put on the path as pip leaves them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from tests.axes.claims import sketch


def install(
    monkeypatch: pytest.MonkeyPatch, folder: Path, package: str, doors: Mapping[str, str], source: str
) -> None:
    """A package of one module.

    Args:
        monkeypatch: takes it from the path again.
        folder: where packages are.
        package: its name, and that of its module.
        doors: "group name" of each entry point, and what of the module it leads to.
        source: of the module.
    """
    (folder / f"{package}.py").write_text(source, encoding="utf-8")
    facts = folder / f"{package}-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = []
    for door, attribute in doors.items():
        group, name = door.split()
        lines += [f"[graphprune.{group}]", f"{name} = {package}:{attribute}"]
    (facts / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(folder)


def mlp() -> ir.Model:
    """A hidden layer of sixteen Units."""
    text = "(float[n,8] x) => (float[n,4] y) { a = MatMul(x, up)\n b = Relu(a)\n y = MatMul(b, down) }"
    return sketch(text, up=(8, 16), down=(16, 4)).model


def samples() -> dict[str, np.ndarray]:
    """Inputs of `mlp`, too few for some to be held back."""
    return {"x": np.random.default_rng(1).standard_normal((24, 8)).astype(np.float32)}
