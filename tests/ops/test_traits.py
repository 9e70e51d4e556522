"""What an operator is stands in its record: other code asks for traits, and few files name operators."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from graphprune.ops import BY_OP, TABLE, has
from graphprune.ops.elementwise import unary
from graphprune.ops.reduce import reduce
from graphprune.ops.traits import LAYERS, Trait

ROOT = Path(__file__).resolve().parents[2]
NAMES = frozenset(op.rpartition(":")[2] for op in BY_OP) | {"Constant"}
BUILDERS = frozenset(
    ["new_node", "node", "Node", "_node", "_early", "chain", "before", "after", "self", "output", "Summing"]
)
"""Calls that make a node of an operator, which is no comparison."""
NAMING = {
    "graphprune/ir/nodes.py": "what holds a constant or a graph, and what reads sizes",
    "graphprune/ir/evaluate.py": "folding: what operators compute, in numpy",
    "graphprune/ir/fold_weights.py": "folding: which of them may become a weight",
    "graphprune/ir/shape_data.py": "folding: which results a comparison of sizes had a part in",
    "graphprune/ir/dequantise.py": "folding: what decodes a stored weight",
    "graphprune/ir/weights.py": "constants: what decodes and scales stored codes",
    "graphprune/ir/defaults.py": "constants: which inputs with a default are settings",
    "graphprune/ir/check_ops.py": "a file is checked before anything else is known of it",
}
"""Who may, and why. Only ever shorten it."""


def comparing() -> Iterator[str]:
    """Files outside `ops` and the proof whose code compares an operator's name with one of its own."""
    for tree in ("graphprune", "passes"):
        for path in sorted((ROOT / tree).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            rooms = ("graphprune/ops/", "graphprune/proof/", "graphprune/lowering/")
            if not name.startswith(rooms) and any(_named(path)):
                yield name


def _named(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    made = {id(part) for node in tree.body if _exports(node) for part in ast.walk(node)}
    made |= {id(arg) for call in ast.walk(tree) if isinstance(call, ast.Call) for arg in _made(call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in made:
            domain, _, name = node.value.rpartition(":")
            if name in NAMES and " " not in domain:
                yield node.value


def _exports(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and any(getattr(each, "id", "") == "__all__" for each in node.targets)


def _made(call: ast.Call) -> list[ast.expr]:
    """The operator that a call makes a node of."""
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return [arg for arg in call.args if isinstance(arg, ast.Constant)] if name in BUILDERS else []


def test_few_files_compare_names_of_operators() -> None:
    assert list(comparing()) == sorted(NAMING)


def test_every_trait_is_somebodys_and_asked_for() -> None:
    assert set(Trait) == {trait for row in TABLE for trait in row.traits}
    files = [path for tree in ("graphprune", "passes") for path in (ROOT / tree).rglob("*.py")]
    text = "".join(path.read_text(encoding="utf-8") for path in files if path.parent.name != "ops")
    assert [trait.name for trait in Trait if not re.search(rf"Trait\.{trait.name}\b", text)] == []


@pytest.mark.parametrize("trait", sorted(LAYERS, key=lambda trait: trait.name))
def test_a_layer_counts_its_multiply_adds(trait: Trait) -> None:
    relu = BY_OP["Relu"]
    with pytest.raises(TypeError, match="counts no multiply-adds"):
        replace(relu, traits=frozenset([trait]))


ONE_NUMBER = sorted(op for row in TABLE if row.transfer in (unary, reduce) for op in row.ops if ":" not in op)
OTHER_KINDS = {"Not", "BitwiseNot", "IsNaN", "IsInf", "Identity", "Cast", "CastLike", "Clip"}
EMPTY = {"ReduceMean", "ReduceProd"}
"""Zero stays zero as well, but an empty axis gives another number."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("op", [op for op in ONE_NUMBER if op not in OTHER_KINDS | EMPTY])
def test_zero_stays_zero_where_it_is_said_to(op: str) -> None:
    opset = 17 if op.startswith("Reduce") else 24
    text = f'<ir_version: 10, opset_import: ["" : {opset}]> g (float[1,2] x) => (float y) {{ y = {op}(x) }}'
    run = ReferenceEvaluator(onnx.parser.parse_model(text))
    (found,) = run.run(None, {"x": np.zeros((1, 2), np.float32)})
    assert (Trait.ZERO in BY_OP[op].traits) == (not np.any(found))


@pytest.mark.parametrize(("domain", "held"), [("", True), ("ai.onnx", True), ("my.own", False)])
def test_an_operator_of_another_domain_is_another_one(domain: str, held: bool) -> None:
    value = ir.Value(name="x")
    assert has(ir.node("Add", [value, value], domain=domain), Trait.SUM) == held
