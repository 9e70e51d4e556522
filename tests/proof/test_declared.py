"""What the proof derives from edits alone: counts that were left to their default, pads, and what is gone."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.labels import edits
from graphprune.labels.structures import Branch, Pick, Sink
from graphprune.proof.declared import TABLE, Declared, declare
from graphprune.proof.gone import Gone, _sums, without

from .building import model


def stated(
    edit: edits.Edit, counts: Sequence[tuple[int, int]], touched: bool = True, opset: int = 21
) -> Declared:
    """What one edit declares where its labels, here numbers, have these kept and dense counts."""
    survivors = SimpleNamespace(
        analysis=SimpleNamespace(edits=[edit], model=SimpleNamespace(opset_imports={"": opset})),
        bypassed=(),
        touched=lambda *labels: touched,
        mask=lambda label: None,
        counts=lambda label: counts[label],
    )
    return declare(survivors)  # type: ignore[arg-type]


def test_a_count_that_is_not_written_is_one() -> None:
    (node,) = model("(float[1,4,5] x) => (float[1,4,5] y) { y = LinearAttention(x, x, x) }", opset=21).graph
    declared = stated(edits.AttributeCount(node, "heads", 0), [(6, 3)])  # type: ignore[arg-type]
    assert declared.expected((node, "heads"), None) == 2
    assert declared.expected((node, "heads"), np.array(2)) == 4


def test_pads_that_name_no_axes_are_of_all_axes_with_or_without_a_value() -> None:
    (node,) = model(
        "(float[1,4] x) => (float[1,9] y) { y = Pad(x, pads, value) }",
        pads=np.array([0, 2, 0, 3]),
        value=np.float32(1),
    ).graph
    declared = stated(edits.PadCounts(node, 1, 0, 1), [(1, 2), (2, 3)])  # type: ignore[arg-type]
    found = declared.expected((node, 1), np.array([0, 2, 0, 3]))
    assert found is not None and found.tolist() == [0, 1, 0, 2]


def test_where_nothing_goes_nothing_is_declared() -> None:
    """Else what stands around a shape or a Slice that is left as it was could change unseen."""
    (pieces, node) = model(
        """(float[2,6] x, int64[1] n) => (float[2,6] y) {
        s = Concat <axis = 0> (n, six)\n y = Reshape(x, s) }""",
        six=np.array([6]),
    ).graph
    assert pieces.op_type == "Concat"
    branch, shuffle = SimpleNamespace(), SimpleNamespace(last=node)
    given: dict[type, tuple[object, ...]] = {
        edits.AttributeCount: ("n", 0),
        edits.AttributeCounts: ("n", (0,)),
        edits.AttributeFloat: ("n", 2.0, 0),
        edits.ShapeInput: (1, (0, 0)),
        edits.SplitSizes: ((0, 0),),
        edits.SliceBounds: (1, 0, 0, 3, 1),
        edits.IndexMap: (1, 0),
        edits.PadCounts: (1, 0, 0),
        edits.MeanCount: ((0,),),
        edits.RmsCompensation: (0, 1, "epsilon", 1e-5),
        edits.VarianceCount: (0, node.outputs[0]),
        edits.LayerNormExpansion: (0,),
        edits.ClampCount: (1, 0),
        edits.DenseShape: ((0,),),
        edits.BranchRemoval: (0, branch),
        edits.ShuffleGather: (0, shuffle),
        edits.OldPlaces: (0,),
    }
    assert given.keys() == TABLE.keys() - {edits.SqueezeAxes}, "which writes down what is done anyway"
    for kind, fields in given.items():
        declared = stated(kind(node, *fields), [(3, 3)], touched=False)
        assert not declared.changes and not declared.free and not declared.scales, kind
        assert not declared.open and not declared.removed and not declared.gathers, kind


@pytest.mark.parametrize("opset", [11, 12, 13, 18])
def test_axes_and_sizes_are_attributes_before_opset_13_and_inputs_since(opset: int) -> None:
    (node,) = model("(float[1,4] x) => (float[4] y) { y = Squeeze(x) }", opset=opset).graph
    early = opset < 13
    assert stated(edits.SqueezeAxes(node, (0,)), [], opset=opset).free == {(node, "axes" if early else 1)}
    split = stated(edits.SplitSizes(node, (0, 0)), [(2, 3)], opset=opset)  # type: ignore[arg-type]
    assert list(split.changes) == [(node, "split" if early else 1)]


def chain() -> list[ir.Node]:
    return list(
        model(
            """(float[n,4] x, int64[n,1] at, float[n,4] g) => (float[n,4] y) {
            e = Gather <axis = 1> (g, first)\n m = Mul(x, e)\n s = ScatterND <reduction = "add"> (x, at, m)
            y = Relu(s) }""",
            opset=18,
            first=np.array([0]),
        ).graph
    )


def test_readers_of_a_scatter_whose_updates_are_gone_read_its_data() -> None:
    gather, mul, scatter, relu = chain()
    pick = Pick(gather, 0, 0, 1, 0, "zero")  # type: ignore[arg-type]
    gone = without([Branch(pick, frozenset({mul}), (Sink(scatter, 2, "updates"),))])
    assert gone.nodes == {gather, mul, scatter} and not gone.dropped
    assert gone.inputs(relu) == [scatter.inputs[0]]


def test_an_operand_of_a_sum_that_is_gone_is_dropped() -> None:
    gather, mul, scatter, _ = chain()
    pick = Pick(gather, 0, 0, 1, 0, "zero")  # type: ignore[arg-type]
    gone = without([Branch(pick, frozenset({mul}), (Sink(scatter, 2, "piece"),))])
    assert gone.dropped == {scatter: {2}} and not gone.aliases


def test_a_bypassed_value_stands_for_what_the_last_bypassed_node_reads() -> None:
    gather, mul, scatter, _ = chain()
    gone = Gone(aliases={scatter.outputs[0]: (scatter, 2), mul.outputs[0]: (mul, 1)})
    assert gone.stands_for(scatter.outputs[0]) is gather.outputs[0]
    assert gone.stands_for(None) is None


def counters() -> list[ir.Node]:
    """Three stretches of numbers, each from where the one before it ends."""
    return list(
        model(
            """(int64 a, int64 b, int64 c, int64 d, int64 one) => (int64[n] y) {
            r = Range(a, b, one)\n s = Range(b, c, one)\n t = Range(c, d, one)
            y = Concat <axis = 0> (r, s, t) }""",
        ).graph
    )


def piece(node: ir.Node, concat: ir.Node, position: int, after: ir.Node | None = None) -> Branch:
    sinks = [Sink(concat, position, "piece"), *([Sink(after, 0, "start", node)] if after is not None else [])]
    return Branch(Pick(node, 0, 0, 0, position, "empty"), frozenset({node}), tuple(sinks))


def test_what_counts_on_from_a_stretch_that_is_gone_starts_where_that_did() -> None:
    first, second, third, concat = counters()
    gone = without([piece(second, concat, 1, third)])
    assert gone.nodes == {second} and gone.dropped == {concat: {1}}
    assert gone.moved == {(third, 0): (second, 0)}
    assert gone.inputs(third) == [second.inputs[0], *third.inputs[1:]]
    assert gone.inputs(concat) == [first.outputs[0], third.outputs[0]]


def test_the_first_of_several_stretches_that_are_gone_says_where_to_start() -> None:
    """In whatever order they are named."""
    first, second, third, concat = counters()
    branches = [piece(first, concat, 0, second), piece(second, concat, 1, third)]
    for order in (branches, branches[::-1]):
        gone = without(order)
        assert gone.read(third, 0) == (first, 0) and gone.inputs(concat) == [third.outputs[0]]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_sum_that_loses_its_operands_one_by_one_is_lost(order: tuple[int, int]) -> None:
    """Whichever of them goes first; so is what reads nothing else."""
    left, right, total, relu = sums()
    whole = {0: (left, {0, 1}), 1: (right, {0, 1, 2})}
    gone = Gone(dropped={node: set(positions) for node, positions in (whole[number] for number in order)})
    _sums(gone)
    assert gone.nodes == {left, right, total, relu} and not gone.aliases
    assert gone.dropped[relu] == {0} and gone.dropped[total] == {0, 1}


def test_picks_go_but_for_a_split_which_others_read() -> None:
    split, relu, gather, tanh, total = model(
        """(float[n,4] x, float[3,4] t) => (float[n,2] y) { a, b = Split <axis = 1> (x)\n r = Relu(a)
        g = Gather <axis = 0> (t, zero)\n h = Tanh(b)\n y = Sum(r, h) }""",
        zero=np.array(0),
    ).graph
    pick, other = Pick(split, 0, 0, 1, 0, "zero"), Pick(gather, 0, 0, 0, 0, "any")
    gone = without([Branch(pick, frozenset({relu}), (Sink(total, 0, "sum"),), (other,))])
    assert gone.nodes == {relu, gather, total} and gone.stands_for(total.outputs[0]) is tanh.outputs[0]


def sums() -> list[ir.Node]:
    return list(
        model(
            """(float[4] a, float[4] b, float[4] c, float[4] d) => (float[4] y) {
            l = Add(a, b)\n r = Sum(c, d, a)\n s = Add(l, r)\n y = Relu(s) }""",
        ).graph
    )


@pytest.mark.parametrize(
    ("lost", "read"),
    [
        ({0: {0}}, "b"),
        ({0: {1}}, "a"),
        ({1: {0}}, None),
        ({1: {0, 2}}, None),
        ({0: {0, 1}}, "r"),
        ({0: {0, 1}, 1: {0, 1}}, "a"),
        ({0: {0, 1}, 1: {1, 2}}, "c"),
        ({1: {0, 1, 2}}, "l"),
    ],
)
def test_a_sum_with_one_operand_left_is_that_operand(lost: dict[int, set[int]], read: str | None) -> None:
    """A sum with none left is an operand that is lost; one with several stays a sum."""
    nodes = sums()
    left, right, total, relu = nodes
    gone = Gone(dropped={nodes[number]: set(positions) for number, positions in lost.items()})
    _sums(gone)
    names = [value.name for value in gone.inputs(total) if value is not None]
    whole = {0: ["l", "r"], 1: ["l", "r"]}
    if total in gone.nodes:  # one operand is left of it
        assert [value.name for value in gone.inputs(relu) if value is not None] == [read]
        assert gone.stands_for(total.outputs[0]) is gone.inputs(relu)[0]
    elif read is None:
        assert gone.nodes == ({right} if len(lost[1]) == 2 else set()) and len(names) == len(whole[0])
        assert names[1] == ("d" if len(lost[1]) == 2 else "r")
    else:
        assert gone.nodes == {left} and names == [read, "r"]
