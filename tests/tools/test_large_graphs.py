"""The graphs that large ones are timed by are what they are said to be."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

import graphprune
from graphprune.errors import ArgumentError
from tools.large_graphs import mixed, residual, seconds


@pytest.mark.parametrize(
    ("made", "nodes", "free"),
    [(residual(3), 3 * 7 + 2, 3 + 1), (mixed(1), 90, 11), (mixed(2), 175, 22)],
    ids=["residual", "mixed", "twice"],
)
def test_blocks_have_so_many_nodes_and_groups(made: onnx.ModelProto, nodes: int, free: int) -> None:
    onnx.checker.check_model(made)
    assert len(made.graph.node) == nodes
    assert sum(group.pin is None for group in graphprune.find_groups(made)) == free


def test_every_kind_of_block_is_cut_and_proved() -> None:
    report = graphprune.compile(mixed(1), "prune(params=.5, align=1)").report
    (step,) = report.passes
    assert step.proof.ok and report.after.params <= report.before.params / 2
    assert sum(group.kept < group.width for group in step.groups) >= 9


def test_a_command_that_fails_is_no_figure(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(ArgumentError, match="ended with 2: error"):
        seconds(("inspect",), tmp_path / "broken.onnx")
