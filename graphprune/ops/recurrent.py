"""LSTM, GRU, RNN: the state is slot-parallel except where R contracts it (docs/theory.md#recurrent)."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from graphprune.ir.operators import Shape, Shaping, Sized
from graphprune.labels.algebra import ONE, Label
from graphprune.labels.edits import AttributeCount
from graphprune.labels.visit import Visit
from graphprune.ops.counting import At, Place, Term
from graphprune.ops.record import Layer, Record, held, ops, traits
from graphprune.ops.traits import Trait

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
GATES_FIXED = "gates are kept whole"


@dataclass(frozen=True)
class Layout:
    """Where the axes of X, Y and the states are (layout 0: sequence first, 1: batch first)."""

    batch_first: bool

    def sequence_batch(self, axes: tuple[Label, ...]) -> tuple[Label, Label]:
        """(sequence, batch) of X."""
        return (axes[1], axes[0]) if self.batch_first else (axes[0], axes[1])

    def sequence_output(self, sequence: Label, batch: Label, directions: Label, hidden: Label) -> list[Label]:
        """The axes of Y."""
        if self.batch_first:
            return [batch, sequence, directions, hidden]
        return [sequence, directions, batch, hidden]

    def state(self, batch: Label, directions: Label, hidden: Label) -> list[Label]:
        """The axes of Y_h, Y_c, initial_h and initial_c."""
        return [batch, directions, hidden] if self.batch_first else [directions, batch, hidden]


def recurrent(visit: Visit) -> None:
    """EQ(X.2, W.2); one hidden label for W, R, B, P, states and outputs of all directions.

    The reference masks X on its input axis and R on the axis that reads the last hidden state; gates, cell
    and peepholes work slot by slot, so kept slots never see a removed one.
    """
    if visit.shape(0) is None or visit.shape(1) is None or visit.shape(2) is None:
        visit.fix_all("an operand's shape is not known")
        return
    gates = GATES[visit.node.op_type]
    size = visit.int_attr("hidden_size", (visit.shape(2) or (ONE,))[-1][0])
    hidden = visit.axis(2, 2)
    visit.equal(visit.axis(0, 2), visit.axis(1, 2))
    visit.contract(0, 2)
    visit.contract(2, 2)
    for position, count in ((1, gates), (2, gates), (3, 2 * gates), (7, 3)):
        _gated(visit, position, count, size, hidden)
    _weight_roles(visit)
    visit.edit(AttributeCount(visit.node, "hidden_size", hidden))
    _outputs(visit, hidden)


def _weight_roles(visit: Visit) -> None:
    for position in (1, 2):
        visit.role(position, 0, "table")
        visit.role(position, 1, "source")
        visit.role(position, 2, "sink")
    visit.roles(3, "bias")
    visit.roles(7, "scale")


def _gated(visit: Visit, position: int, count: int, size: int, hidden: Label) -> None:
    """Axis 1 of a weight, bias or peephole is `count` gates of the hidden size."""
    if not visit.has(position):
        return
    visit.fix(visit.axis(position, 0), "directions are kept whole")
    refined = visit.refine(visit.axis(position, 1), (count, size))
    if refined is None:
        visit.fix(hidden, "the gates of its weights cannot be divided")
        return
    visit.fix(visit.between(refined, 1, count), GATES_FIXED)
    visit.equal(visit.between(refined, count, count * size), hidden)


def _outputs(visit: Visit, hidden: Label) -> None:
    layout = Layout(visit.int_attr("layout", 0) == 1)
    sequence, batch = layout.sequence_batch(visit.axes(0))
    visit.fix(sequence, f"{visit.node.op_type} runs along it")
    directions = visit.fixed((visit.shape(1) or (ONE,))[0], "directions are kept whole")
    state = layout.state(batch, directions, hidden)
    if visit.has(4) and visit.shape(4) != (ONE,):
        visit.equal(visit.axis(4, 0), batch)
    for position in (5, 6):
        if visit.has(position):
            visit.roles(position, "table")
            _tie(visit, position, state)
    visit.out(layout.sequence_output(sequence, batch, directions, hidden), 0)
    for position in range(1, len(visit.node.outputs)):
        visit.out(state, position)


def _tie(visit: Visit, position: int, labels: list[Label]) -> None:
    for label, other in zip(visit.axes(position), labels, strict=False):
        visit.equal(label, other)


def dynamic_quantize_lstm(visit: Visit) -> None:
    """X.2 = W.1; the hidden axis is fixed, because h is quantised by the range of all its slots."""
    if visit.shape(0) is None or visit.shape(1) is None:
        visit.fix_all("an operand's shape is not known")
        return
    inner = visit.axis(1, 1)
    visit.equal(visit.axis(0, 2), inner)
    visit.contract(0, 2)
    for position in range(1, visit.count):
        for axis in range(len(visit.axes(position)) if visit.has(position) else 0):
            if (position, axis) != (1, 1):
                visit.fix(
                    visit.axis(position, axis), "DynamicQuantizeLSTM quantises the hidden state as a whole"
                )
    visit.roles(1, "table")
    visit.role(1, 1, "sink")
    for label in visit.axes(0)[:2]:
        visit.fix(label, "DynamicQuantizeLSTM runs along it")
    for position in range(len(visit.node.outputs)):
        visit.out(visit.top(position), position)


def recurrent_macs(at: At) -> list[Term]:
    """At every step, W on the input and R on the hidden state: [directions, gates x hidden, ..]."""
    steps = prod(at.input(0)[:2])
    return [
        Term(steps * prod(at.input(1)), (Place.input(0, 2), Place.input(2, 2))),
        Term(steps * prod(at.input(2)), (Place.input(2, 2), Place.input(2, 2))),
    ]


def dynamic_lstm_macs(at: At) -> list[Term]:
    """As LSTM with W and R transposed: [directions, input, 4 x hidden]; the hidden width is fixed."""
    steps = prod(at.input(0)[:2])
    return [
        Term(steps * prod(at.input(1)), (Place.input(0, 2),)),
        Term(steps * prod(at.input(2)), ()),
    ]


def dynamic_lstm_shape(at: Sized) -> list[Shape | None]:
    """All hidden states, and the last ones."""
    x, directions, hidden = at.input(0), at.input(1)[0], at.number("hidden_size")
    state = (directions, x[1], (hidden, hidden))
    return [(x[0], *state), state, state]


ROWS = (
    Record(
        ops("LSTM GRU RNN"),
        recurrent,
        "X.2 = W.2; W.1, R.1, B.1 = gates x h; R.2 = Y.h = Y_h = Y_c = h",
        "contraction",
        "`hidden_size`; W, R, B, P, initial states",
        recurrent_macs,
        layer=Layer(1, 1, 2, bias=3, result="hidden"),
        traits=traits(Trait.RECURRENT),
    ),
    Record(
        ops("DynamicQuantizeLSTM", "com.microsoft"),
        dynamic_quantize_lstm,
        "X.2 = W.1; hidden axis fixed",
        "contraction",
        "W",
        dynamic_lstm_macs,
        shaping=Shaping(dynamic_lstm_shape),
        layer=Layer(1, 2, 1, bias=3, result="fused"),
        held=held(0, 1, 2, 3, 5, 6, 7),
        traits=traits(Trait.RECURRENT, Trait.CODES),
    ),
)
