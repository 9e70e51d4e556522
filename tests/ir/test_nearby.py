"""What a path that names nothing may have meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphprune.ir.nearby import nearby


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("nets/modle.onnx", "did you mean 'model.onnx'?"),
        ("nest/model.onnx", "did you mean 'nets'?"),
        ("nets/model.onnx", ""),
        ("nets/weights.bin", ""),
        ("nets/model.onnx/x", ""),
        ("nets/a\0b", ""),
    ],
)
def test_a_name_that_is_almost_right_is_shown(path: str, meant: str, tmp_path: Path) -> None:
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "model.onnx").touch()
    assert nearby(tmp_path / path) == meant
