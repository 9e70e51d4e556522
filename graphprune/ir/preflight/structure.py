"""Names, versions, operators and functions of a ModelProto."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import onnx

from graphprune.errors import ModelError
from graphprune.ir.domains import canonical
from graphprune.ir.limits import Limits
from graphprune.ir.names import quote

OPSETS = (7, 28)
"""The oldest and the newest that all rules know, and that ONNX Runtime 1.31 runs."""
_MIN_IR, _MAX_IR = 3, 14
_SPREAD, _SMALL = 100, 10_000
"""Nodes that functions may become per node in the file, and how many any file may: a bomb is a small file."""

Nodes = Sequence[onnx.NodeProto]
FunctionKey = tuple[str, str, str]


def subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs in a node's attributes."""
    found = []
    for attribute in node.attribute:
        if attribute.HasField("g"):
            found.append(attribute.g)
        if attribute.graphs:
            found.extend(attribute.graphs)
    return found


@dataclass(frozen=True)
class Contents:
    """What is in a graph and in all graphs below it, listed once: every look at protobuf makes new objects.

    Attributes:
        graphs: the graphs, the one itself included unless only nodes were given.
        nodes: the nodes of all of them.
    """

    graphs: list[onnx.GraphProto]
    nodes: list[onnx.NodeProto]

    @classmethod
    def of(cls, graph: onnx.GraphProto) -> Contents:
        """A graph and everything below it."""
        return cls._below([graph], graph.node)

    @classmethod
    def of_nodes(cls, nodes: Nodes) -> Contents:
        """The same for the body of a function."""
        return cls._below([], nodes)

    @classmethod
    def _below(cls, graphs: list[onnx.GraphProto], nodes: Nodes) -> Contents:
        found: list[onnx.NodeProto] = []
        waiting: list[Nodes] = [nodes]
        while waiting:
            for node in waiting.pop():
                found.append(node)
                if node.attribute:
                    inner = subgraphs(node)
                    graphs += inner
                    waiting += [graph.node for graph in inner]
        return cls(graphs, found)


def check_model(model: onnx.ModelProto, nodes: Nodes, limits: Limits) -> int:
    """Check all of these; the number of nodes after inlining.

    Args:
        model: the model.
        nodes: all nodes of its graph, those of subgraphs included.
        limits: bounds.

    Raises:
        ModelError: naming what is wrong.
    """
    if not model.HasField("graph"):
        raise ModelError("the model has no graph")
    if not _MIN_IR <= model.ir_version <= _MAX_IR:
        raise ModelError(f"IR version {model.ir_version} is not supported, only {_MIN_IR} to {_MAX_IR}")
    if not model.graph.output:
        raise ModelError("the graph has no outputs")
    require_text(model.producer_name, model.producer_version, model.domain, model.doc_string)
    _check_metadata(model)
    opsets = _opsets(model.opset_import)
    functions = _functions(model)
    bodies = {key: Contents.of_nodes(function.node).nodes for key, function in functions.items()}
    _check_operators(nodes, opsets, functions, limits)
    for key, function in functions.items():
        _check_operators(bodies[key], _opsets(function.opset_import) or opsets, functions, limits)
    written = len(nodes) + sum(map(len, bodies.values()))
    return _inlined_nodes(nodes, bodies, min(limits.max_nodes, max(_SMALL, _SPREAD * written)))


def require_text(*texts: str) -> None:
    """Raise a ModelError unless every text is valid UTF-8."""
    for text in texts:
        # protobuf hands out bytes where a string field is not UTF-8
        if not isinstance(text, str):
            raise ModelError("a name or text in the model is not valid UTF-8")


def _check_metadata(model: onnx.ModelProto) -> None:
    keys = Counter(entry.key for entry in model.metadata_props)
    require_text(*keys, *(entry.value for entry in model.metadata_props))
    for key, count in keys.items():
        if count > 1:
            raise ModelError(f"metadata key {quote(key)} appears twice")


def _opsets(imports: Iterable[onnx.OperatorSetIdProto]) -> dict[str, int]:
    opsets: dict[str, int] = {}
    spelled: set[str] = set()
    for entry in imports:
        require_text(entry.domain)
        domain = canonical(entry.domain)
        shown = quote(domain or "ai.onnx")
        # '' and 'ai.onnx' are two spellings of one operator set: harmless, where they say the same.
        if entry.domain in spelled or opsets.get(domain, entry.version) != entry.version:
            raise ModelError(f"operator set {shown} is imported twice")
        if entry.version < 1:
            raise ModelError(f"operator set {shown} has version {entry.version}")
        opsets[domain] = entry.version
        spelled.add(entry.domain)
    return opsets


def _functions(model: onnx.ModelProto) -> dict[FunctionKey, onnx.FunctionProto]:
    functions: dict[FunctionKey, onnx.FunctionProto] = {}
    for function in model.functions:
        require_text(function.domain, function.name, function.overload, *function.input, *function.output)
        key = (canonical(function.domain), function.name, function.overload)
        if key in functions:
            raise ModelError(f"function {quote(function.name)} is defined twice")
        functions[key] = function
    return functions


def _check_operators(
    nodes: Nodes, opsets: dict[str, int], functions: dict[FunctionKey, onnx.FunctionProto], limits: Limits
) -> None:
    """Every operator belongs to an imported operator set and is defined by someone."""
    defined = {domain for domain, _, _ in functions}
    seen: set[FunctionKey] = set()  # a model has many nodes and few operators
    for node in nodes:
        key = (node.domain, node.op_type, node.overload)
        require_text(node.name, node.doc_string)
        if key in seen:
            continue
        require_text(*key)
        seen.add(key)
        domain = canonical(node.domain)
        if (domain, node.op_type, node.overload) in functions:
            continue
        if domain not in opsets:
            raise ModelError(f"{describe(node)} uses operator set {quote(domain or 'ai.onnx')}, not imported")
        if domain == "" and not OPSETS[0] <= opsets[""] <= OPSETS[1]:
            raise ModelError(
                f"opset {opsets['']} is not supported, only {OPSETS[0]} to {OPSETS[1]}",
                "convert the model with onnx.version_converter",
            )
        # Custom operators are barriers; a bare word is a function that went missing (the ONNX
        # specification asks for reverse domain names).
        nobody = domain in defined or (domain and "." not in domain)
        if nobody and not limits.allow_undefined_ops:
            raise ModelError(
                f"{describe(node)}: nobody defines this operator of domain {quote(domain)}",
                "a custom operator needs a domain such as 'com.example'",
            )


def describe(node: onnx.NodeProto) -> str:
    """A node for a message: by its name, or its first output."""
    return f"node {quote(str(node.name) or (node.output[0] if node.output else '?'))} ({quote(node.op_type)})"


def _inlined_nodes(main: Nodes, functions: dict[FunctionKey, list[onnx.NodeProto]], cap: int) -> int:
    """Nodes after inlining, each function counted once; refuses recursion and bombs in linear time."""
    totals: dict[FunctionKey, int] = {}
    open_calls: set[FunctionKey] = set()
    bodies = {key: _calls(nodes, functions) for key, nodes in functions.items()}

    for root in functions:
        stack = [root]
        while stack:
            key = stack[-1]
            own, calls = bodies[key]
            waiting = [callee for callee in calls if callee not in totals]
            if key in totals or not waiting:
                stack.pop()
                open_calls.discard(key)
                totals[key] = min(
                    cap + 1, own + sum(count * totals[callee] for callee, count in calls.items())
                )
                continue
            open_calls.add(key)
            if any(callee in open_calls for callee in waiting):
                raise ModelError(f"function {quote(key[1])} calls itself")
            stack.extend(waiting)
    own, calls = _calls(main, functions)
    total = own + sum(count * totals[callee] for callee, count in calls.items())
    if total > cap:
        raise ModelError(
            f"the model has more than {cap} nodes once its functions are inlined",
            "a file of this size may spread to that many; inline it with onnx.inliner if it is trusted",
        )
    return total


def _calls(
    nodes: Nodes, functions: dict[FunctionKey, list[onnx.NodeProto]]
) -> tuple[int, Counter[FunctionKey]]:
    calls = Counter[FunctionKey]()
    for node in nodes if functions else ():
        key = (canonical(node.domain), node.op_type, node.overload)
        if key in functions:
            calls[key] += 1
    return len(nodes), calls
