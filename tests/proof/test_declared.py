"""What the proof derives from edits alone: counts that were left to their default, pads, and what is gone."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import onnx_ir as ir

from graphprune.labels import edits
from graphprune.labels.structures import Branch, Pick, Sink
from graphprune.proof.declared import Declared, declare
from graphprune.proof.gone import Gone, without

from .building import model


def stated(edit: edits.Edit, counts: Sequence[tuple[int, int]]) -> Declared:
    """What one edit declares where its labels, here numbers, have these kept and dense counts."""
    survivors = SimpleNamespace(
        analysis=SimpleNamespace(edits=[edit]),
        bypassed=(),
        touched=lambda *labels: True,
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
