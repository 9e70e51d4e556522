"""The proof's own tables of operators beside the records: each was written for itself, and they agree."""

from __future__ import annotations

from graphprune.ops import BY_OP
from graphprune.ops.traits import Trait
from graphprune.proof import biases, decisions, normalisers, scales

PLAIN = {op: row for op, row in BY_OP.items() if ":" not in op}
PINNED = {"Softmax", "LogSoftmax", "Hardmax", "com.microsoft:QLinearSoftmax", "com.microsoft:BiasSoftmax"}
"""Nothing of the axis that they normalise goes, or what goes is masked with -inf."""
SUMS = {
    "RMSNormalization",
    "SimplifiedLayerNormalization",
    "com.microsoft:SimplifiedLayerNormalization",
    "com.microsoft:SkipSimplifiedLayerNormalization",
}
"""Masked slots add nothing to their sum of squares, and the dense number of slots divides it."""


def having(*traits: Trait) -> set[str]:
    return {op for op, row in PLAIN.items() if row.traits & set(traits)}


def test_the_same_operators_add_a_bias_to_their_product() -> None:
    layers = {op: row.layer for op, row in PLAIN.items() if row.layer is not None and not row.held}
    summing = {op for op, layer in layers.items() if layer.result == "sum" and layer.bias is not None}
    assert summing == biases.WITH_BIAS
    assert {layer.bias for op, layer in layers.items() if op in summing} == {2}


def test_the_same_operators_squash_what_they_are_given() -> None:
    assert having(Trait.SIGMOID, Trait.TANH, Trait.PROBABILITIES) == scales.SQUASHING


def test_the_same_operators_move_elements_and_hand_them_on() -> None:
    assert having(Trait.LAYOUT, Trait.REPEAT) == scales.SHAPED
    assert having(Trait.PART, Trait.PICK) - {"ReduceMax", "ReduceMin"} == scales.PICKED
    assert {op for op in scales.MOVING if PLAIN[op].exactness == "contraction"} == set()


def test_the_same_operators_normalise_and_are_corrected_where_a_mask_changes_their_count() -> None:
    counted = {op for op, row in BY_OP.items() if row.exactness in ("normaliser", "count")} - PINNED - SUMS
    names = {op.rpartition(":")[2] for op in counted}
    assert names | {"InstanceNormalization"} == set(
        normalisers.TABLE
    )  # its channels are parallel, its width not


def test_the_same_operators_decide() -> None:
    assert having(Trait.SELECT) | {"ArgMin"} == decisions.SEARCHES
    assert having(Trait.QUANTISE, Trait.CAST) <= decisions.ROUNDINGS
    mixtures = {op.rpartition(":")[2] for op, row in BY_OP.items() if Trait.MIXTURE in row.traits}
    assert mixtures <= decisions.OTHERS
    assert {op for op in decisions.DISCONTINUOUS if op not in mixtures} <= set(PLAIN)
