"""How messages call what a model names."""

from __future__ import annotations

import onnx_ir as ir

from graphprune.ir.names import called


def test_a_node_is_called_by_its_name_or_by_what_it_makes() -> None:
    assert called(ir.Node("", "TopK", [], outputs=[ir.Value(name="scores")], name="pick")) == "TopK 'pick'"
    assert called(ir.Node("", "TopK", [], outputs=[ir.Value(name="scores")])) == "TopK of 'scores'"
    assert called(ir.Node("", "TopK", [], outputs=[ir.Value()])) == "TopK"
