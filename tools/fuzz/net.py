"""A graph under construction that knows, slot by slot, which Units it is made of.

Nothing here reads `graphprune`: the widths, their ties and their dead Units follow from how the graph is put
together, so they are an answer to compare the analysis with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

Array = np.ndarray
Unit = tuple[int, int]
"""(number of the width, index)."""
Slots = tuple[tuple[Unit, ...], ...]
"""For every slot of an axis the Units that remove it; a slot without Units always stays."""


@dataclass(frozen=True, eq=False)
class Signal:
    """A value of the graph.

    Attributes:
        value: shape [N, C, H, W], [N, S, C] or [N, C].
        slots: of its channel axis.
        space: (H, W), (S,) or ().
    """

    value: ir.Value
    slots: Slots
    space: tuple[int, ...]

    @property
    def width(self) -> int:
        """Number of channels."""
        return len(self.slots)


@dataclass(frozen=True)
class Style:
    """Choices that hold for a whole graph."""

    opset: int = 18
    half: bool = False
    dynamic: bool = True
    zero_preserving: bool = True
    layernorm: str = "refuse"


@dataclass(eq=False)
class Width:
    """Units that are removed one by one; every second one, at random, is dead in a planted graph.

    Attributes:
        dead: one of every pair (2j, 2j+1), so that any even block holds as many dead as live Units.
        copies: the Units compute copies of live values, so it is their readers that are dead.
    """

    size: int
    dead: Array
    copies: bool = False


@dataclass(eq=False)
class Net:
    """Collects nodes and weights.

    Attributes:
        pinned: Units that must stay, because an input, an output or an operator reads them by position.
        exact: whether `expected` is the whole truth; False once a block is analysed more coarsely on purpose.
        plantable: whether removing the dead Units keeps the outputs.
    """

    seed: int
    style: Style = Style()
    planted: bool = False
    widths: list[Width] = field(default_factory=list)
    pinned: set[Unit] = field(default_factory=set)
    exact: bool = True
    plantable: bool = True
    trail: list[str] = field(default_factory=list)
    feeds: dict[str, Array] = field(default_factory=dict)
    inputs: list[ir.Value] = field(default_factory=list)
    outputs: list[ir.Value] = field(default_factory=list)
    constants: list[ir.Value] = field(default_factory=list)
    nodes: list[ir.Node] = field(default_factory=list)
    _used: set[int] = field(default_factory=set)
    _count: int = 0

    def __post_init__(self) -> None:
        self.choice = np.random.default_rng([self.seed, 0])
        self.numbers = np.random.default_rng([self.seed, 1])

    # -- choices
    # ------------------------------------------------------------------------------------------------

    def flip(self, chance: float = 0.5) -> bool:
        return bool(self.choice.random() < chance)

    def pick(self, *options: int) -> int:
        return int(options[self.choice.integers(len(options))])

    @property
    def kind(self) -> type:
        return np.float16 if self.style.half else np.float32

    # -- widths
    # -------------------------------------------------------------------------------------------------

    def width(self, size: int, copies: bool = False, dead: Array | None = None) -> Slots:
        """New Units, one per slot."""
        if dead is None:
            dead = np.zeros(size, bool)
            dead[2 * np.arange(size // 2) + self.choice.integers(0, 2, size // 2)] = True
        self.widths.append(Width(size, dead, copies))
        return tuple(((len(self.widths) - 1, index),) for index in range(size))

    def pin(self, slots: Slots) -> None:
        """These slots stay whatever happens."""
        self.pinned.update(unit for slot in slots for unit in slot)

    def plain(self, slots: Slots) -> bool:
        """Whether the slots are the Units of one width in order, so that blocks of them can be balanced."""
        if not slots[0]:
            return all(not slot for slot in slots)
        width = slots[0][0][0]
        in_order = all(slot == ((width, index),) for index, slot in enumerate(slots))
        return in_order and self.widths[width].size == len(slots) and not self.widths[width].copies

    @property
    def expected(self) -> list[int]:
        """Sizes of the Groups that can be pruned."""
        sizes = [
            sum((n, i) not in self.pinned for i in range(self.widths[n].size)) for n in sorted(self._used)
        ]
        return sorted(size for size in sizes if size)

    def dead(self, slots: Slots, readers: bool = False) -> Array:
        """Slots whose weights are zero, or (`readers`) whose readers are: copies cannot hold zeros."""
        self._used.update(n for slot in slots for n, _ in slot)
        if not self.planted:
            return np.zeros(len(slots), bool)
        units = [[u for u in slot if self.widths[u[0]].copies or not readers] for slot in slots]
        return np.array([any(self.widths[n].dead[i] for n, i in slot) for slot in units], bool)

    # -- values
    # -------------------------------------------------------------------------------------------------

    def weight(
        self, shape: Sequence[int], rows: Mapping[int, Slots], columns: Mapping[int, Slots], fan: int
    ) -> Array:
        """Random weights; zero where a row is dead, or a column reads a dead copy."""
        array = self.numbers.standard_normal(shape) / np.sqrt(max(1, fan))
        for axis, slots, readers in [(a, s, False) for a, s in rows.items()] + [
            (a, s, True) for a, s in columns.items()
        ]:
            dead = self.dead(slots, readers)
            array[(slice(None),) * axis + (np.flatnonzero(dead),)] = 0
        return array.astype(self.kind)

    def vector(self, slots: Slots, middle: float = 0.0, spread: float = 0.3) -> Array:
        """One number per slot, zero where the slot is dead."""
        array = middle + spread * self.numbers.standard_normal(len(slots))
        return np.where(self.dead(slots), 0, array).astype(self.kind)

    def name(self, hint: str) -> str:
        self._count += 1
        return f"{hint}_{self._count}"

    def const(self, array: Array, hint: str = "w") -> ir.Value:
        """An initializer."""
        name = self.name(hint)
        tensor = ir.Tensor(np.array(array, order="C"), name=name)
        value = ir.Value(
            name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
        )
        self.constants.append(value)
        return value

    def ints(self, *numbers: int) -> ir.Value:
        return self.const(np.array(numbers, np.int64), "n")

    def scalar(self, number: float) -> ir.Value:
        return self.const(np.array(number, self.kind), "c")

    def op(self, operator: str, *inputs: ir.Value | None, outputs: int = 1, **attributes: object) -> ir.Value:
        """One node ("domain:Name" outside the default domain); its first output (`last` has them all)."""
        domain, _, op_type = operator.rpartition(":")
        made = [ir.Value(name=self.name(op_type.lower())) for _ in range(outputs)]
        converted = ir.convenience.convert_attributes(dict(attributes))
        node = ir.Node(
            domain, op_type, list(inputs), attributes=converted, outputs=made, name=self.name(op_type)
        )
        self.nodes.append(node)
        return made[0]

    @property
    def last(self) -> Sequence[ir.Value]:
        """The outputs of the node made last."""
        return self.nodes[-1].outputs

    def input(self, name: str, shape: Sequence[int], kind: type | None = None, high: int = 0) -> ir.Value:
        """A graph input of batch 2, symbolic in dynamic graphs; integers lie in [0, high)."""
        data = (
            self.numbers.integers(0, high, (2, *shape)) if high else self.numbers.standard_normal((2, *shape))
        )
        array = data.astype(np.int64 if high else kind or self.kind)
        dims: list[int | str] = ["batch" if self.style.dynamic else 2, *shape]
        value = ir.Value(
            name=name, shape=ir.Shape(dims), type=ir.TensorType(ir.DataType.from_numpy(array.dtype))
        )
        self.inputs.append(value)
        self.feeds[name] = array
        return value

    def output(self, value: ir.Value) -> None:
        """Makes a value a graph output."""
        value.type = value.type or ir.TensorType(ir.DataType.from_numpy(np.dtype(self.kind)))
        self.outputs.append(value)

    def model(self) -> ir.Model:
        """The graph built so far."""
        imports = {"": self.style.opset, "com.microsoft": 1}
        graph = ir.Graph(
            self.inputs,
            self.outputs,
            nodes=self.nodes,
            initializers=self.constants,
            opset_imports=imports,
            name=f"fuzz_{self.seed}",
        )
        return ir.Model(graph, ir_version=8 if self.style.opset < 21 else 10)

    # -- operators whose form depends on the opset
    # -----------------------------------------------------------------

    def reduce(self, operator: str, value: ir.Value, *axes: int, keepdims: int = 1) -> ir.Value:
        """A reduction, its axes an input or an attribute."""
        if self.style.opset >= (13 if operator == "ReduceSum" else 18):
            return self.op(operator, value, self.ints(*axes), keepdims=keepdims)
        return self.op(operator, value, axes=list(axes), keepdims=keepdims)

    def squeeze(self, operator: str, value: ir.Value, *axes: int) -> ir.Value:
        """Squeeze or Unsqueeze."""
        if self.style.opset >= 13:
            return self.op(operator, value, self.ints(*axes))
        return self.op(operator, value, axes=list(axes))

    def split(self, value: ir.Value, axis: int, *sizes: int) -> Sequence[ir.Value]:
        """Split into the given sizes."""
        if self.style.opset >= 13:
            self.op("Split", value, self.ints(*sizes), outputs=len(sizes), axis=axis)
        else:
            self.op("Split", value, outputs=len(sizes), axis=axis, split=list(sizes))
        return self.last

    def reshape(self, value: ir.Value, *shape: int) -> ir.Value:
        return self.op("Reshape", value, self.ints(*shape))

    def transpose(self, value: ir.Value, *perm: int) -> ir.Value:
        return self.op("Transpose", value, perm=list(perm))

    def slice(self, value: ir.Value, axis: int, start: int, end: int, step: int = 1) -> ir.Value:
        return self.op("Slice", value, self.ints(start), self.ints(end), self.ints(axis), self.ints(step))


def top(size: int) -> Slots:
    """Slots that nothing removes."""
    return ((),) * size


def product(*axes: Slots) -> Slots:
    """Row-major product: a slot goes when any of its parts goes."""
    out: Slots = ((),)
    for axis in axes:
        out = tuple((*one, *two) for one in out for two in axis)
    return out


def repeated(slots: Slots, count: int) -> Slots:
    """Every slot `count` times in a row."""
    return tuple(slot for slot in slots for _ in range(count))
