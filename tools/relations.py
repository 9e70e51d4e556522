"""Changes to a model that must not matter to a compile, and what of two compiles is compared."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

import graphprune
from graphprune.axes import Analysis, Group, Options, analyse
from graphprune.ir.normalise import normalise
from graphprune.ops import record_of
from graphprune.prune.plan import Plan
from graphprune.runtime.session import open_session

Array = np.ndarray
Outputs = dict[str, Array]
LOCAL = "prune(ratio=0.5, scope=local, align=1)"


def analysed(model: ir.Model, options: Options | None = None) -> Analysis:
    """The analysis of a copy in normal form."""
    own = model.clone()
    return analyse(own, options, normalise(own, record_of))


def decided(model: ir.Model, passes: str = LOCAL, **options: object) -> Plan:
    """What one pass decides."""
    (plan,) = graphprune.compile(model, passes, **options).plans  # type: ignore[arg-type]
    return plan


def outputs(model: ir.Model, feeds: Mapping[str, Array]) -> Outputs:
    return open_session(model).run(feeds)


def close(one: Outputs, two: Outputs, bound: float = 1e-4) -> bool:
    """Whether outputs agree by position, relative to their largest element."""
    pairs = zip(one.values(), two.values(), strict=True)
    return all(np.abs(a - b).max() <= bound * max(np.abs(a).max(), 1e-30) for a, b in pairs)


def tensors(model: ir.Model) -> dict[str, Array]:
    """Every initializer."""
    return {
        name: np.asarray(value.const_value.numpy())
        for name, value in model.graph.initializers.items()
        if value.const_value is not None
    }


def same_bits(one: ir.Model, two: ir.Model) -> bool:
    """Whether nodes and initializers are the same."""
    first, second = tensors(one), tensors(two)
    equal = first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype and np.array_equal(first[name], second[name])
        for name in first
    )
    return equal and [lines(node) for node in one.graph] == [lines(node) for node in two.graph]


def lines(node: ir.Node) -> tuple[object, ...]:
    """A node as a value."""
    inputs = tuple(None if value is None else value.name for value in node.inputs)
    attributes = sorted(
        (name, str(a.value)) for name, a in node.attributes.items() if a.type != ir.AttributeType.GRAPH
    )
    return (node.domain, node.op_type, inputs, tuple(v.name for v in node.outputs), tuple(attributes))


Slot = tuple[str, int, int]


def unit(group: Group, number: int) -> frozenset[Slot]:
    """The initializer slots of one Unit: (name, axis, slot)."""
    found = set()
    for owned in group.slices:
        units, slots = owned.pairs
        found |= {(owned.initializer, owned.axis, int(slot)) for slot in slots[units == number]}
    return frozenset(found)


def partition(analysis: Analysis, names: Mapping[str, str] | None = None) -> set[frozenset[frozenset[Slot]]]:
    """The prunable Groups as sets of Units as sets of slots, with initializers renamed back."""
    old = names or {}
    return {
        frozenset(
            frozenset((old.get(name, name), axis, slot) for name, axis, slot in unit(group, number))
            for number in range(group.size)
        )
        for group in analysis.prunable
    }


def kept_slots(analysis: Analysis, plan: Plan, names: Mapping[str, str] | None = None) -> set[Slot]:
    """Slots of kept Units, with initializers renamed back."""
    old = names or {}
    kept = [unit(analysis.group(name), number) for name, numbers in plan.cuts.items() for number in numbers]
    return {(old.get(name, name), axis, slot) for slots in kept for name, axis, slot in slots}


def permuted(analysis: Analysis, group: Group, order: Array) -> ir.Model:
    """The model with the Units of a Group in another order: new Unit i is old Unit order[i]."""
    model = analysis.model.clone()
    for owned in group.slices:
        units, slots = owned.pairs
        value = model.graph.initializers[owned.initializer]
        assert value.const_value is not None
        array = np.array(value.const_value.numpy())
        index = np.arange(array.shape[owned.axis])
        for number in range(group.size):
            index[slots[units == number]] = slots[units == order[number]]
        value.const_value = ir.tensor(np.take(array, index, axis=owned.axis), name=value.name)
    return model


def renamed(model: ir.Model) -> tuple[ir.Model, dict[str, str]]:
    """Other names for all values and nodes; returns new initializer name -> old one."""
    model = model.clone()
    back = {}
    values = [*model.graph.initializers.values(), *(v for node in model.graph for v in node.outputs)]
    for number, value in enumerate(values):
        name = f"v{number * 7919 % 10007}"
        if value.const_value is not None:
            back[name] = value.name or ""
        value.name = name
    for number, node in enumerate(model.graph):
        node.name = f"n{number * 104729 % 10007}"
    return model, back


def reordered(model: ir.Model, seed: int = 0) -> ir.Model:
    """Another topological order of the nodes."""
    model = model.clone()
    draw = np.random.default_rng(seed)
    left = list(model.graph)
    model.graph.remove(left)
    done: set[ir.Node] = set()
    while left:
        ready = [
            n
            for n in left
            if all(v is None or v.producer() is None or v.producer() in done for v in n.inputs)
        ]
        node = ready[draw.integers(len(ready))]
        left.remove(node)
        done.add(node)
        model.graph.append(node)
    return model


def with_identities(model: ir.Model) -> ir.Model:
    """An Identity behind every second node, but not inside a shuffle, which must be three nodes in a row."""
    model = model.clone()
    for number, node in enumerate(list(model.graph)):
        out = node.outputs[0]
        if number % 2 or out.is_graph_output() or node.op_type in ("Reshape", "Transpose"):
            continue
        readers = list(out.uses())
        extra = ir.node("Identity", [out], name=f"extra{number}")
        extra.outputs[0].name = f"extra_{number}"
        model.graph.insert_after(node, extra)
        for user, position in readers:
            user.replace_input_with(position, extra.outputs[0])
    return model


def with_constants(model: ir.Model) -> ir.Model:
    """Constant nodes in place of initializers."""
    model = model.clone()
    first = model.graph[0]
    for name, value in list(model.graph.initializers.items()):
        assert value.const_value is not None
        attribute = ir.AttrTensor("value", value.const_value)
        node = ir.node("Constant", [], attributes={"value": attribute}, name=f"constant_{name}")
        del model.graph.initializers[name]
        readers = list(value.uses())
        node.outputs[0].name = name
        model.graph.insert_before(first, node)
        for user, position in readers:
            user.replace_input_with(position, node.outputs[0])
    return model
