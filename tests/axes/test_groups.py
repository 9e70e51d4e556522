"""Groups: who is interchangeable with whom, what is pinned and why, and how the cost grows."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.axes import Options, analyse
from graphprune.ir.normalise import normalise
from graphprune.ops import record_of
from tests.proof.building import model

from .claims import cut, pins, proves, sketch, touched, units, weight

MLP = "(float[n,5] x) => (float[n,2] y) { a = MatMul(x, w1)\n b = Relu(a)\n y = MatMul(b, w2) }"


def test_the_id_is_the_first_source_and_its_axis() -> None:
    found = sketch(MLP, w1=(5, 6), w2=(6, 2))
    assert [group.id for group in found.prunable] == ["w1:1"]


def test_two_factors_of_one_axis_have_two_ids() -> None:
    found = sketch(
        """(float[n,4] x) => (float[n,5] y) { a = MatMul(x, w1)\n r = Reshape(a, shape)\n m = MatMul(r, w2)
        y = ReduceSum <keepdims = 0> (m, axis) }""",
        w1=(4, 6), w2=(3, 5), shape=np.array([0, 2, 3]), axis=np.array([1]),
    )  # fmt: skip
    assert [group.id for group in found.prunable] == ["w1:1", "w1:1#2"]


def test_inputs_and_outputs_are_pinned_with_their_names() -> None:
    found = sketch(MLP, w1=(5, 6), w2=(6, 2))
    assert pins(found) == {"w1:0": "graph input 'x'", "w2:1": "graph output 'y'"}


def test_an_unknown_operator_is_a_barrier() -> None:
    found = sketch(
        '(float[n,5] x) => (float[n,2] y) { a = MatMul(x, w1)\n b = com.microsoft.Mystery(a)\n'
        ' y = MatMul(b, w2) }',
        w1=(5, 6), w2=(6, 2),
    )  # fmt: skip
    assert units(found) == []
    assert pins(found)["w1:1"] == "operator com.microsoft:Mystery is not known"


def test_slots_with_different_readers_are_different_groups() -> None:
    found = sketch(
        """(float[n,5] x) => (float[n,2] y) { a = MatMul(x, w1)\n b, c = Split <axis = 1> (a, sizes)
        d = MatMul(b, w2)\n e = MatMul(c, w3)\n y = Add(d, e) }""",
        w1=(5, 7), w2=(3, 2), w3=(4, 2), sizes=np.array([3, 4]),
    )  # fmt: skip
    assert units(found) == [3, 4]
    assert touched(found, "w1:1#2", 0) == {("w1", 1): [3], ("w3", 0): [0]}
    proves(found)


def test_a_constant_index_pins_the_slot_that_it_picks() -> None:
    found = sketch(
        """(float[n,5] x) => (float[n,2] y) { a = MatMul(x, w1)\n b = Gather <axis = 1> (a, i)\n c =
        Unsqueeze(b, one) d = MatMul(a, w2)\n y = Add(c, d) }""",
        w1=(5, 6), w2=(6, 2), i=np.array(4), one=np.array([1]),
    )  # fmt: skip
    assert units(found) == [5]
    assert 1 in [group.size for group in found.groups if group.pin is not None]
    proves(found)


GROUPED = (
    "(float[n,3,4,4] x) => (float[n,2,4,4] y) {{ a = Conv(x, w1)\n {middle}\n"
    " b = Conv <group = {g}> (h, w2)\n y = Conv(b, w3) }}"
)


def grouped(g: int, middle: str = "h = Relu(a)") -> dict[str, object]:
    return {
        "body": GROUPED.format(g=g, middle=middle),
        "w1": (8, 3, 1, 1),
        "w2": (8, 8 // g, 3, 3),
        "w3": (2, 8, 1, 1),
    }


@pytest.mark.parametrize("g", [2, 4])
def test_blocks_of_a_grouped_convolution_keep_equal_counts(g: int) -> None:
    arguments = grouped(g)
    found = sketch(str(arguments.pop("body")), **arguments)
    assert units(found) == [8, 8]
    for group in found.prunable:
        assert group.block is not None
        assert np.bincount(group.block).tolist() == [8 // g] * g
    proves(found)


def test_a_weight_of_a_grouped_convolution_keeps_other_channels_in_every_block() -> None:
    found = sketch(
        "(float[n,3,4,4] x) => (float[n,2,4,4] y) { a = Conv(x, w1)\n b = Conv <group = 2> (a, w2)\n"
        " y = Conv(b, w3) }",
        w1=(4, 3, 1, 1), w2=(2, 2, 1, 1), w3=(2, 2, 1, 1),
    )  # fmt: skip
    small = cut(found, w1=(0, 3))
    dense = weight(found.model, "w2")
    np.testing.assert_array_equal(weight(small, "w2"), np.stack([dense[0, :1], dense[1, 1:]]))


def test_what_no_selection_can_balance_is_tied_or_pinned() -> None:
    found = sketch(
        """(float[n,3,4,4] x) => (float[n,2,4,4] y) { a = Conv(x, w1)\n c = Conv(x, w4)\n h = Concat <axis =
        1> (a, c) b = Conv <group = 2> (h, w2)\n y = Conv(b, w3) }""",
        w1=(3, 3, 1, 1), w4=(5, 3, 1, 1), w2=(8, 4, 1, 1), w3=(2, 8, 1, 1),
    )  # fmt: skip
    if found.prunable:
        proves(found)
    for group in found.prunable:
        assert group.block is None or len(set(np.bincount(group.block))) == 1


ALONG = {
    "Conv": ("c = Conv <pads = [1, 1, 1, 1]> (b, k)", {"k": (4, 4, 3, 3)}),
    "1x1 Conv with a stride": ("c = Conv <strides = [2, 2]> (b, k)", {"k": (4, 4, 1, 1)}),
    "ConvTranspose": ("c = ConvTranspose <strides = [2, 2]> (b, k)", {"k": (4, 4, 2, 2)}),
    "depthwise": ("c = Conv <group = 4, pads = [1, 1, 1, 1]> (b, k)", {"k": (4, 1, 3, 3)}),
    "MaxPool": ("c = MaxPool <kernel_shape = [2, 2]> (b)", {}),
    "AveragePool": ("c = AveragePool <kernel_shape = [2, 2]> (b)", {}),
    "GlobalAveragePool": ("c = GlobalAveragePool(b)", {}),
    "GlobalMaxPool": ("c = GlobalMaxPool(b)", {}),
    "InstanceNormalization": ("c = InstanceNormalization(b, k, k)", {"k": (4,)}),
    "GroupNormalization": ("c = GroupNormalization <num_groups = 2> (b, k, k)", {"k": (4,)}),
    "DepthToSpace": ("c = DepthToSpace <blocksize = 2> (b)", {}),
    "SpaceToDepth": ("c = SpaceToDepth <blocksize = 2> (b)", {}),
    "MeanVarianceNormalization": ("c = MeanVarianceNormalization(b)", {}),
}


@pytest.mark.parametrize("name", ALONG)
def test_operators_that_mix_positions_pin_what_lies_along_them(name: str) -> None:
    """A width that became pixels may not lose some of them (found by tools.fuzz, block `pixels`)."""
    op, weights = ALONG[name]
    body = f"""(float[n,4,6] x) => (float[n,4,o,p] y) {{ a = MatMul(x, w1)\n b = Reshape(a, four)\n {op}
        y = Relu(c) }}"""
    dense = model(body, 21, w1=(6, 16), four=np.array([0, 4, 4, 4]), **weights)
    for value in dense.graph.outputs:
        value.shape = None
    del dense.graph.outputs[:]
    last = dense.graph.node(-1).outputs[0]
    mean = ir.node("ReduceSum", [last], attributes={"keepdims": 0})
    dense.graph.append(mean)
    mean.outputs[0].name, mean.outputs[0].type = "total", ir.TensorType(ir.DataType.FLOAT)
    dense.graph.outputs.append(mean.outputs[0])
    found = analyse(dense)
    assert not any(s.initializer == "w1" and s.axis == 1 for group in found.prunable for s in group.slices), (
        units(found)
    )


def chain(length: int) -> ir.Model:
    """Relu after Relu."""
    body = "\n".join(f"a{i + 1} = Relu(a{i})" for i in range(length))
    return model(
        f"(float[n,8] x) => (float[n,4] y) {{ a0 = MatMul(x, w1)\n {body}\n y = MatMul(a{length}, w2) }}",
        w1=(8, 16),
        w2=(16, 4),
    )


def blocks(count: int) -> ir.Model:
    """A residual stream with a hidden layer per block."""
    body = "\n".join(
        f"b{i} = MatMul(a{i}, u{i})\n c{i} = Relu(b{i})\n d{i} = MatMul(c{i}, v{i})\n"
        f" a{i + 1} = Add(a{i}, d{i})"
        for i in range(count)
    )
    weights = {f"u{i}": (16, 8) for i in range(count)} | {f"v{i}": (8, 16) for i in range(count)}
    return model(
        f"(float[n,8] x) => (float[n,4] y) {{ a0 = MatMul(x, w1)\n {body}\n y = MatMul(a{count}, w2) }}",
        w1=(8, 16),
        w2=(16, 4),
        **weights,
    )


def diamonds(count: int) -> ir.Model:
    """Each value is added to itself along two ways: 2**count paths."""
    body = "\n".join(
        f"b{i} = Relu(a{i})\n c{i} = Tanh(a{i})\n a{i + 1} = Add(b{i}, c{i})" for i in range(count)
    )
    return model(
        f"(float[n,8] x) => (float[n,4] y) {{ a0 = MatMul(x, w1)\n {body}\n y = MatMul(a{count}, w2) }}",
        w1=(8, 16),
        w2=(16, 4),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "size", "groups", "bound"),
    [(chain, 20_000, 1, 10.0), (blocks, 2_000, 2_001, 15.0), (diamonds, 400, 1, 3.0)],
)
def test_the_cost_is_near_linear(
    build: Callable[[int], ir.Model], size: int, groups: int, bound: float
) -> None:
    dense = build(size)
    sizes = normalise(dense, record_of)
    start = time.process_time()
    found = analyse(dense, Options(), sizes)
    spent = time.process_time() - start
    assert len(found.prunable) == groups
    assert spent < bound, f"{spent:.1f} CPU s"
