"""What must stay prunable: a floor per graph, so that an analyser that pins more than it must fails here."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

# Found, not imported: torchvision and timm only import behind the shim of tools.zoo.
if any(find_spec(package) is None for package in ("torch", "torchvision", "timm", "transformers")):
    pytest.skip("the zoo's packages are not installed", allow_module_level=True)

from tests.zoo.floors import FLOORS
from tools.zoo.check import check
from tools.zoo.entries import entries
from tools.zoo.export import export
from tools.zoo.table import BOUND

pytestmark = [pytest.mark.zoo, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("name", FLOORS)
def test_at_least_what_was_prunable_stays_so(name: str, tmp_path: Path) -> None:
    """Exports, prunes half of every width, proves and runs."""
    (entry,) = entries(name)
    path = tmp_path / f"{name}.onnx"
    export(entry, path)
    found = check(path)
    assert found.stage == "done", found.reason
    assert found.kept is not None and found.parameters is not None and found.full_cut is not None
    assert found.groups is not None
    floor = FLOORS[name]
    assert found.groups - sum(found.pins.values()) >= floor.groups
    assert found.kept / found.parameters <= floor.kept
    assert (found.kept - found.full_cut) / found.parameters <= BOUND
