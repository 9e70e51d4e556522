"""The examples of CONTRIBUTING.md, run as they stand."""

from __future__ import annotations

import sys
import types

import pytest

from graphprune.errors import ArgumentError
from graphprune.ops import BY_OP

from .pages import ROOT, blocks, section


def executed(name: str, *sources: str) -> types.ModuleType:
    """The blocks of one example in one module, as a reader would paste them."""
    module = types.ModuleType(name)
    sys.modules[name] = module  # dataclasses look their module up
    for source in sources:
        exec(compile(source, name, "exec"), vars(module))
    return module


def test_an_operator_is_a_barrier_until_its_row_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    row, test = blocks(section("CONTRIBUTING.md", "Add an operator"), "python")
    example = executed("prelu_example", row, test)
    monkeypatch.delitem(BY_OP, "PRelu")
    with pytest.raises(AssertionError, match="PRelu"):
        example.test_the_slope_goes_with_its_channels()
    for made in example.ROWS:
        for op in made.ops:
            monkeypatch.setitem(BY_OP, op, made)
    example.test_the_slope_goes_with_its_channels()


def test_a_pass_is_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    preset, file, test = blocks(section("CONTRIBUTING.md", "Add a pass"), "python")
    assert (ROOT / "passes" / "graphprune_passes" / "wanda_sp.py").read_text("utf-8").endswith(preset)
    example = executed("dead_example", file, test)
    monkeypatch.chdir(ROOT)
    example.test_dead_channels_go_and_the_function_stays()
    assert str(example.Dead(below=0.1)) == "dead(below=0.1)"
    with pytest.raises(ArgumentError, match="below must be"):
        example.Dead(below=2)


def test_every_generator_that_is_named_exists() -> None:
    named = section("CONTRIBUTING.md", "Generated pages")
    assert all(
        (ROOT / path).exists() for path in ("tools/ops_table.py", "tools/readme_table.py", "tools/zoo")
    )
    assert "tools.ops_table" in named and "tools.readme_table" in named
