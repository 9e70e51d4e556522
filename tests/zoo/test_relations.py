"""The metamorphic relations on a few real exports; `python -m tools.zoo relations` takes all small ones."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

if any(find_spec(package) is None for package in ("torch", "torchvision", "timm", "transformers")):
    pytest.skip("the zoo's packages are not installed", allow_module_level=True)

from tools.zoo.entries import entries
from tools.zoo.export import export
from tools.zoo.relations import examine

pytestmark = [pytest.mark.zoo, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("name", ["hf_bert", "hf_cache_qwen3", "hf_convnext"])
def test_every_relation_holds(name: str, tmp_path: Path) -> None:
    (entry,) = entries(name)
    path = tmp_path / f"{name}.onnx"
    export(entry, path)
    verdicts = examine(path)
    assert {verdict.relation: verdict.violations for verdict in verdicts if verdict.violations} == {}
    assert sum(verdict.violations is not None for verdict in verdicts) >= 12, "most relations did not apply"
