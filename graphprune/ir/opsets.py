"""What operators mean in an opset, and whether they mean the same in a later one."""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx import defs

from graphprune.ir.domains import is_default
from graphprune.ir.graphs import all_nodes


def since(op: str, opset: int) -> int:
    """The opset from which on an operator has been what it is in this one; 0 where it does not exist."""
    schema = _schema(op, opset)
    return 0 if schema is None else int(schema.since_version)


def changed(model: ir.Model, one: int, two: int) -> frozenset[str]:
    """Operators in a model, bodies included, of which two opsets have different versions."""
    found = {node.op_type for node in all_nodes(model.graph) if is_default(node.domain)}
    return frozenset(op for op in found if since(op, one) != since(op, two))


def means_the_same(node: ir.Node, old: int, new: int) -> bool:
    """Whether a later opset takes a node as it is: all that it has is still there, with the same defaults.

    What a schema does not say, another meaning behind the same names, is not seen.
    """
    one, two = _schema(node.op_type, old), _schema(node.op_type, new)
    if one is None or two is None or two.deprecated:
        return False
    if one.since_version == two.since_version:
        return True
    kept = all(_same(given, two.attributes.get(name)) for name, given in one.attributes.items())
    added = [each for name, each in two.attributes.items() if name not in one.attributes]
    names = [[each.name for each in schema.inputs] for schema in (one, two)]
    results = [[each.name for each in schema.outputs][: len(node.outputs)] for schema in (one, two)]
    read = len(names[0])
    return (
        kept
        and not any(each.required for each in added)
        and names[0] == names[1][:read]
        and all(each.option == defs.OpSchema.FormalParameterOption.Optional for each in two.inputs[read:])
        and results[0] == results[1]
    )


def _schema(op: str, opset: int) -> defs.OpSchema | None:
    try:
        return defs.get_schema(op, opset)
    except onnx.defs.SchemaError:
        return None


def _same(one: defs.OpSchema.Attribute, two: defs.OpSchema.Attribute | None) -> bool:
    if two is None or one.type != two.type or one.required != two.required:
        return False
    return bool(one.default_value == two.default_value)
