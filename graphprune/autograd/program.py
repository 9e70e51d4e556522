"""A graph as steps that torch runs one after the other; nested graphs are programs within."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import accumulate, pairwise

import onnx_ir as ir
import torch

from graphprune.autograd.tensors import from_array
from graphprune.errors import GraphpruneError
from graphprune.ir.nodes import is_literal, operator_of
from graphprune.ops.torch import TABLE, Row, row_of
from graphprune.ops.torch.call import Call, Tensor, UnsupportedError
from graphprune.ops.torch.written import written

Values = list[object]
"""By slot: a tensor, a sequence of them, or None."""
FAILURES = (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError, AssertionError)
"""What torch raises on operands that do not fit; anything else, such as its own signals, passes."""
SMALL = 1024
"""Elements up to which integers stay on the CPU, where sizes are computed."""


@dataclass(frozen=True)
class Setting:
    """How a program runs.

    Attributes:
        device: of data; sizes stay on the CPU.
        precision: the type in place of every floating one; None keeps each.
        opsets: version by domain.
    """

    device: torch.device
    precision: torch.dtype | None
    opsets: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class Step:
    """One node.

    Attributes:
        row: how its operator runs.
        call: its attributes.
        inputs: slots; -1 where one is left out.
        outputs: slots.
        bodies: by attribute, the program of a nested graph and the slots that it captures.
    """

    row: Row
    call: Call
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    bodies: Mapping[str, tuple[Program, tuple[int, ...]]]

    def reads(self) -> Iterator[int]:
        """Slots that it reads, in nested graphs too."""
        yield from (slot for slot in self.inputs if slot >= 0)
        for _, captured in self.bodies.values():
            yield from captured

    def run(self, values: Values, device: torch.device) -> None:
        """Computes its outputs in place.

        Raises:
            GraphpruneError: torch refuses; the message names the node.
        """
        inputs = [values[slot] if slot >= 0 else None for slot in self.inputs]
        if device.type != "cpu":
            inputs = self._moved(inputs, device)
        call = self._bound(values) if self.bodies else self.call
        try:
            found = self.row.run(call, *inputs)
        except GraphpruneError:
            raise
        except FAILURES as error:
            raise GraphpruneError(
                self._failed(error), "check the inputs against the model's shapes"
            ) from error
        if not isinstance(found, tuple):
            values[self.outputs[0]] = found
            return
        for slot, value in zip(self.outputs, found, strict=False):
            values[slot] = value

    def _bound(self, values: Values) -> Call:
        bodies = {
            name: partial(program.body, tuple(values[slot] for slot in captured))
            for name, (program, captured) in self.bodies.items()
        }
        return replace(self.call, attributes={**self.call.attributes, **bodies})

    def _moved(self, inputs: Values, device: torch.device) -> Values:
        """Operands to where the data are, but for those that are read as plain numbers."""
        there = [isinstance(each, torch.Tensor) and each.device.type == device.type for each in inputs]
        if not any(there):
            return inputs
        return [
            each.to(device) if isinstance(each, torch.Tensor) and not on and at not in self.row.host else each
            for at, (each, on) in enumerate(zip(inputs, there, strict=True))
        ]

    def _failed(self, error: BaseException) -> str:
        text = str(error).strip().splitlines() or [type(error).__name__]
        return f"{self.call.op} '{self.call.name}' does not run in torch: {text[0]}"


class Program:
    """A graph as torch runs it.

    Attributes:
        graph: the graph.
        sources: values that are given: inputs first, then initializers and what a nested graph captures.
        slots: number of every value.
    """

    def __init__(self, graph: ir.Graph, setting: Setting) -> None:
        self.graph, self.setting = graph, setting
        self.sources: list[ir.Value] = list(graph.inputs)
        self.slots: dict[ir.Value, int] = {value: at for at, value in enumerate(self.sources)}
        self._made = {value for node in graph for value in node.outputs}
        self.nodes = list(graph)
        self._steps: dict[ir.Node, Step] = {}
        self._nested = {
            node: {name: Program(body, setting) for name, body in _bodies(node)} for node in self.nodes
        }
        for node in self.nodes:
            self._number(node)
        for value in graph.outputs:
            self.slot(value)
        self.makers = {self.slots[value]: node for node in self.nodes for value in node.outputs}

    def _number(self, node: ir.Node) -> None:
        for value in node.inputs:
            if value is not None:
                self.slot(value)
        for program in self._nested[node].values():
            for value in program.sources[len(program.graph.inputs) :]:
                self.slot(value)
        for value in node.outputs:
            self.slot(value)

    def slot(self, value: ir.Value) -> int:
        """The number of a value; one that no node here makes is a source."""
        if value not in self.slots:
            self.slots[value] = len(self.slots)
            if value not in self._made:
                self.sources.append(value)
        return self.slots[value]

    def step(self, node: ir.Node) -> Step:
        """A node made ready.

        Raises:
            UnsupportedError: torch does not run it.
        """
        if node not in self._steps:
            self._steps[node] = self._ready(node)
        return self._steps[node]

    def _ready(self, node: ir.Node) -> Step:
        operator, name = operator_of(node), node.name or node.outputs[0].name or ""
        wanted = tuple(bool(value.uses()) or value.is_graph_output() for value in node.outputs)
        bodies = {
            key: (program, tuple(self.slots[value] for value in program.sources[len(program.graph.inputs) :]))
            for key, program in self._nested[node].items()
        }
        if is_literal(node):
            value = literal(node, self.setting)
            row, attributes = Row(lambda call: value, ()), {}
        else:
            row = row_of(operator, name)
            attributes = {
                key: plain(attribute, self.setting)
                for key, attribute in node.attributes.items()
                if key not in bodies
            }
        domain = "" if node.domain == "ai.onnx" else node.domain
        opset = self.setting.opsets.get(domain, self.setting.opsets.get("ai.onnx", 1))
        kinds = tuple(_kind(value) for value in node.inputs)
        call = Call(
            operator, name, opset, attributes, wanted, kinds, self.setting.precision, str(self.setting.device)
        )
        inputs = tuple(-1 if value is None else self.slots[value] for value in node.inputs)
        while inputs and inputs[-1] < 0:
            inputs = inputs[:-1]
        return Step(row, call, inputs, tuple(self.slots[v] for v in node.outputs), bodies)

    @cached_property
    def _whole(self) -> Plan:
        return self.plan(frozenset(), tuple(self.slots[value] for value in self.graph.outputs))

    def body(self, captured: Sequence[object], *inputs: object) -> list[object]:
        """Runs a nested graph."""
        values: Values = [None] * len(self.slots)
        for value, given in zip(self.sources, (*inputs, *captured), strict=True):
            values[self.slots[value]] = given
        self._whole.run(values, {})
        return [values[self.slots[value]] for value in self.graph.outputs]

    def read_as_numbers(self) -> set[int]:
        """Sources that every reader reads as plain numbers: they stay on the CPU."""
        found = set()
        for value in self.sources:
            rows = ((TABLE.get(operator_of(node)), at) for node, at in value.uses())
            if value.uses() and all(row is not None and at in row.host for row, at in rows):
                found.add(self.slots[value])
        return found

    def plan(
        self, given: frozenset[int], wanted: tuple[int, ...], segments: int = 0, fused: bool = False
    ) -> Plan:
        """The steps that lead from given slots and sources to wanted ones.

        Args:
            given: slots that are fed.
            wanted: slots that are asked for.
            segments: parts that are computed again on the way back; 0 keeps all.
            fused: whether runs of operators that torch computes at once are one step.

        Raises:
            UnsupportedError: a node among them does not run in torch.
        """
        needed, work = set(), [slot for slot in wanted if slot not in given]
        while work:
            node = self.makers.get(work.pop())
            if node is None or node in needed:
                continue
            needed.add(node)
            work += [slot for slot in self.step(node).reads() if slot not in given]
        nodes = [node for node in self.nodes if node in needed]
        runs = self._runs(nodes, wanted) if fused else {}
        steps = [each for node in nodes if (each := runs.get(node, self.step(node))) is not None]
        return Plan(self, steps, frozenset(wanted), segments)

    def _runs(self, nodes: Sequence[ir.Node], wanted: Sequence[int]) -> dict[ir.Node, Step | None]:
        """Steps in place of the last nodes of runs, and none in place of the others."""
        chosen = set(wanted)
        kept = {value for value, slot in self.slots.items() if slot in chosen}
        found: dict[ir.Node, Step | None] = {}
        for run in written(nodes, kept):
            found |= dict.fromkeys(run.nodes)
            inputs = tuple(self.slots[value] for value in run.inputs)
            outputs = self.step(run.nodes[-1]).outputs
            found[run.nodes[-1]] = Step(Row(run.run, ()), self.step(run.nodes[0]).call, inputs, outputs, {})
        return found


def _kind(value: ir.Value | None) -> int:
    if value is None:
        return 0
    kind = value.dtype if value.const_value is None else value.const_value.dtype
    return 0 if kind is None else int(kind)


def _bodies(node: ir.Node) -> Iterator[tuple[str, ir.Graph]]:
    for name, attribute in node.attributes.items():
        if attribute.type == ir.AttributeType.GRAPH:
            yield name, attribute.as_graph()


def plain(attribute: ir.Attr, setting: Setting) -> object:
    """The value of an attribute."""
    value = attribute.value
    if attribute.type == ir.AttributeType.TENSOR:
        return from_array(value.numpy(), value.dtype, setting.precision)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return tuple(value) if isinstance(value, list | tuple) else value


def literal(node: ir.Node, setting: Setting) -> Tensor:
    """What a Constant holds.

    Raises:
        UnsupportedError: text, or a sparse tensor.
    """
    for name, attribute in node.attributes.items():
        if name == "value":
            return placed(plain(attribute, setting), setting)
        if name in ("value_float", "value_floats"):
            kind = setting.precision or torch.float32
            return placed(torch.tensor(attribute.value, dtype=kind), setting)
        if name in ("value_int", "value_ints"):
            return torch.tensor(attribute.value, dtype=torch.int64)
    raise UnsupportedError(node.op_type, node.name or "", "torch has no tensors of text", constant=True)


def placed(tensor: object, setting: Setting) -> Tensor:
    """A constant where it is used: few integers on the CPU, all else with the data."""
    assert isinstance(tensor, torch.Tensor)
    if not tensor.is_floating_point() and tensor.numel() <= SMALL:
        return tensor
    return tensor.to(setting.device)


Hook = Callable[[object], object]


class Plan:
    """Steps in order, each with the slots that nobody reads behind it; in segments to save memory."""

    def __init__(
        self, program: Program, steps: Sequence[Step], wanted: frozenset[int], segments: int
    ) -> None:
        self._device = program.setting.device
        self.steps = steps
        last: dict[int, int] = {}
        for at, step in enumerate(steps):
            last.update(dict.fromkeys((*step.reads(), *step.outputs), at))
        sources = {program.slots[value] for value in program.sources}
        self._dead: list[list[int]] = [[] for _ in steps]
        for slot, at in last.items():
            if slot not in wanted and slot not in sources:
                self._dead[at].append(slot)
        self._wanted, self._last = wanted, last
        self.reads = frozenset(slot for step in steps for slot in step.reads())
        self._bounds = [0, *self._cuts(segments, _weights(program)), len(steps)]

    @property
    def segments(self) -> int:
        """How many parts keep nothing but what enters them."""
        return len(self._bounds) - 1

    def run(self, values: Values, hooks: Mapping[int, Hook]) -> None:
        """Runs all steps, in place; `hooks` change what a step made, by slot."""
        for first, end in pairwise(self._bounds):
            if self.segments > 1 and torch.is_grad_enabled():
                self._again(values, hooks, first, end)
            else:
                self._stretch(values, hooks, first, end)

    def _stretch(self, values: Values, hooks: Mapping[int, Hook], first: int, end: int) -> None:
        for at in range(first, end):
            step = self.steps[at]
            step.run(values, self._device)
            if hooks:
                for slot in step.outputs:
                    if slot in hooks:
                        values[slot] = hooks[slot](values[slot])
            for slot in self._dead[at]:
                values[slot] = None

    def _again(self, values: Values, hooks: Mapping[int, Hook], first: int, end: int) -> None:
        """A stretch that is computed once more on the way back, instead of being kept."""
        from torch.utils.checkpoint import checkpoint

        out = [
            slot
            for step in self.steps[first:end]
            for slot in step.outputs
            if slot in self._wanted or self._last.get(slot, -1) >= end
        ]
        before = list(values)

        def stretch() -> list[object]:
            mine = list(before)
            self._stretch(mine, hooks, first, end)
            return [mine[slot] for slot in out]

        for slot, value in zip(out, checkpoint(stretch, use_reentrant=False), strict=True):
            values[slot] = value
        for at in range(first, end):
            for slot in self._dead[at]:
                values[slot] = None

    def _cuts(self, segments: int, weights: Mapping[int, int]) -> list[int]:
        """Where few values are alive, near to equal parts: along the residual stream."""
        count = len(self.steps)
        if segments < 2 or count < 2 * segments:
            return []
        change = [0] * (count + 2)
        for at, step in enumerate(self.steps):
            for slot in step.outputs:
                change[at + 1] += weights.get(slot, 1)
                change[max(at, self._last[slot]) + 1] -= weights.get(slot, 1)
        alive = list(accumulate(change))
        width = count // segments
        cuts = []
        for part in range(1, segments):
            goal = part * count // segments
            near = range(max(1, goal - width // 2), min(count, goal + width // 2 + 1))
            cuts.append(min(near, key=lambda at: (alive[at], abs(at - goal))))
        return sorted(set(cuts))


def _weights(program: Program) -> dict[int, int]:
    """0 for values that are known to be sizes or positions: they are small."""
    kinds = {slot: value.dtype for value, slot in program.slots.items()}
    return {slot: 0 for slot, kind in kinds.items() if kind is not None and not kind.is_floating_point()}
