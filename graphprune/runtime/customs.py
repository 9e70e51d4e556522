"""How ONNX Runtime runs operators of other packages: by a library, or as the body that a package gives."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

from graphprune.errors import GraphpruneError
from graphprune.ir.graphs import all_nodes
from graphprune.ir.names import quote
from graphprune.ir.nodes import operator_of
from graphprune.ir.serialise import Function, read_function
from graphprune.ops.record import Record
from graphprune.runtime.silent import ort


@dataclass(frozen=True)
class Customs:
    """The rows of other packages' operators in a model."""

    rows: tuple[Record, ...]

    def functions(self) -> list[Function]:
        """The bodies of those that have no library.

        Raises:
            PluginError: one is no function, or not that of its row.
        """
        found = []
        for row in self.rows:
            assert row.origin is not None
            if row.believed:
                with row.origin.blamed("gives a body that is no function"):
                    function = read_function(row.body)
                wrong = _misfit(row, function)
                if wrong:
                    raise row.origin.fault(wrong)
                for at, node in enumerate(function.node):
                    node.name = f"{_mark(row)}.{at}"
                found.append(function)
        return found

    def failed(self, message: str) -> GraphpruneError | None:
        """The error of a run that ended within the body of a row; None where it ended elsewhere.

        Args:
            message: what ONNX Runtime says, in one line.
        """
        for row in self.rows:
            if row.origin is not None and row.believed and f"{_mark(row)}." in message:
                reason = re.sub(rf" Name:'[^']*{re.escape(_mark(row))}\.\d+'", "", message)
                return row.origin.fault(f"gives a body that fails when it is run: {reason}")
        return None

    def added(self, options: ort.SessionOptions) -> ort.SessionOptions:
        """Options with all libraries.

        Raises:
            PluginError: one does not load.
        """
        for row in self.rows:
            assert row.origin is not None
            if row.library:
                with row.origin.blamed("gives a library that does not load"):
                    path = row.library if isinstance(row.library, str) else row.library()
                    options.register_custom_ops_library(path)
        return options

    def explained(
        self, error: GraphpruneError, model: ir.Model, opened: Callable[[ir.Model], object]
    ) -> GraphpruneError:
        """The error of a model that does not load, or that of a row that gives nothing to run, or a bad body.

        Args:
            error: what ONNX Runtime says of the model.
            model: the model.
            opened: loads one node of it alone.

        Raises:
            PluginError: a node does not load alone, so that its body is to blame.
        """
        for row in self.rows:
            if row.origin is not None and not row.body and not row.library:
                return row.origin.fault(f"gives neither body nor library: {error.message}")
        whole = sum(1 for _ in all_nodes(model.graph)) > 1
        for row in self.rows:
            if row.origin is None or not row.believed:
                continue
            if not whole:
                reason = error.message.partition(": ")[2]
                return row.origin.fault(f"{_unloaded(row, next(all_nodes(model.graph)))}: {reason}")
            one = _alone(model, row)
            if one is not None:
                opened(one)
        return error


NONE = Customs(())


def _mark(row: Record) -> str:
    """What names of the nodes of a body begin with, so that errors of ONNX Runtime tell them apart."""
    return f"body of {row.ops[0]}"


def _unloaded(row: Record, node: ir.Node) -> str:
    """What is wrong with a body that does not load for a node: its number of inputs, or else what follows."""
    taken = list(read_function(row.body).input)
    if len(taken) == len(node.inputs):
        return "gives a body that ONNX Runtime does not load"
    which = f"node {quote(node.name)}" if node.name else "a node"
    return f"gives a body of {len(taken)} inputs ({', '.join(taken)}), but {which} has {len(node.inputs)}"


def _alone(model: ir.Model, row: Record) -> ir.Model | None:
    """One node of a row's operators and nothing else; None where the types of its operands are not known."""
    node = next(node for node in all_nodes(model.graph) if operator_of(node) in row.ops)
    operands = [
        None if value is None else ir.Value(name=f"x{at}", type=value.type, shape=value.shape)
        for at, value in enumerate(node.inputs)
    ]
    given = [value for value in operands if value is not None]
    if any(value.type is None for value in given):
        return None
    results = [ir.Value(name=f"y{at}", type=out.type) for at, out in enumerate(node.outputs)]
    again = ir.Node(
        node.domain, node.op_type, operands, node.attributes.values(), outputs=results, name=node.name
    )
    graph = ir.Graph(given, results, nodes=[again], opset_imports=model.opset_imports, name="alone")
    return ir.Model(graph, ir_version=model.ir_version)


def _misfit(row: Record, function: Function) -> str:
    """What a body has that its row does not, or the other way round; empty where they fit."""
    name = f"{function.domain}:{function.name}"
    if name not in row.ops:
        return f"has a body that defines {name}, not {', '.join(row.ops)}"
    layer, count = row.layer, len(function.input)
    last = 0 if layer is None else max(layer.weight, layer.bias or 0)
    if count <= last:
        what = "bias" if layer is not None and last == layer.bias else "weight"
        return f"has a body of {count} inputs, and a {what} at input {last}: be like an operator without one"
    return ""
