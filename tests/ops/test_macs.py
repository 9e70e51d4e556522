"""Multiply-adds against loops that run every product of an operator's definition, one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product as tuples

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.axes.cost import cost, node_terms
from graphprune.ir.shapes import infer
from graphprune.ops import TABLE, record_of
from graphprune.ops.record import Record
from tests.axes.claims import sketch

Sizes = tuple[int, ...]
MS = "com.microsoft"
B, S, T, P, H, G, D, V, C = 2, 3, 5, 4, 6, 2, 4, 3, 7
"""Batch, queries, keys, past, heads, key heads, head dim, value dim, channels: all different."""


@dataclass(frozen=True)
class Case:
    """One node: inputs by shape (None where it is left out), attributes, and its products, one by one."""

    op: str
    inputs: tuple[Sizes | None, ...]
    products: Callable[[], Iterator[object]]
    attributes: dict[str, object] = field(default_factory=dict)
    kind: str = "FLOAT"
    output: Sizes | None = None

    def model(self) -> ir.Model:
        domain, _, name = self.op.rpartition(":")
        values = [
            None
            if shape is None
            else ir.Value(name=f"i{at}", shape=ir.Shape(shape), type=ir.TensorType(ir.DataType[self.kind]))
            for at, shape in enumerate(self.inputs)
        ]
        node = ir.node(name, values, self.attributes, domain=domain, num_outputs=1, name="n")
        if self.output is not None:
            node.outputs[0].shape = ir.Shape(self.output)
        node.outputs[0].name = "y"
        inputs = [value for value in values if value is not None]
        graph = ir.Graph(inputs, node.outputs, nodes=[node], opset_imports={"": 24, MS: 1}, name="g")
        return ir.Model(graph, ir_version=10)


def loops(*sizes: int) -> Iterator[object]:
    return tuples(*(range(size) for size in sizes))


def conv(x: Sizes, w: Sizes, group: int = 1, last: bool = False) -> Callable[[], Iterator[object]]:
    """Every output channel at every place takes the window over the channels of its group; no padding."""
    x = (x[0], x[-1], *x[1:-1]) if last else x

    def run() -> Iterator[object]:
        places = [size - window + 1 for size, window in zip(x[2:], w[2:], strict=True)]
        for channel in range(w[0]):
            own = channel // (w[0] // group)
            for taken in range(x[1]):
                if taken // (x[1] // group) == own:
                    yield from ((channel, taken, *rest) for rest in loops(x[0], *places, *w[2:]))

    return run


def transposed(x: Sizes, w: Sizes) -> Callable[[], Iterator[object]]:
    """Every element of x is spread over a window of every output channel of its group."""
    return lambda: loops(*x, *w[1:])


def rows(*sizes: int) -> Callable[[], Iterator[object]]:
    return lambda: loops(*sizes)


def recurrent(gates: int, directions: int, inner: int, hidden: int) -> Callable[[], Iterator[object]]:
    def run() -> Iterator[object]:
        for step in loops(T, B, directions, gates, hidden):
            yield from ((step, "W", at) for at in range(inner))
            yield from ((step, "R", at) for at in range(hidden))

    return run


def attends(heads: int, keys: int, dims: int, values: int) -> Callable[[], Iterator[object]]:
    """Every query of every head meets every key, and takes its value."""

    def run() -> Iterator[object]:
        for pair in loops(B, heads, S, keys):
            yield from ((pair, "q.k", at) for at in range(dims))
            yield from ((pair, "p.v", at) for at in range(values))

    return run


def both(*parts: Callable[[], Iterator[object]]) -> Callable[[], Iterator[object]]:
    def run() -> Iterator[object]:
        for part in parts:
            yield from part()

    return run


def gemm(a: int = 0, b: int = 1) -> list[tuple[Sizes, Sizes, dict[str, object]]]:
    return [
        ((S, C), (C, T), {}),
        ((C, S), (C, T), {"transA": 1}),
        ((S, C), (T, C), {"transB": 1}),
        ((C, S), (T, C), {"transA": 1, "transB": 1}),
    ]


def linear(update: str, heads: int, groups: int) -> Callable[[], Iterator[object]]:
    """Per token and key head: k v' into the state, for delta rules k on the state; per query head q on it.

    Where key heads are more than query heads, all of them are read.
    """

    def run() -> Iterator[object]:
        for token in loops(B, S, D, V):
            writes = ("write", "recall") if "delta" in update else ("write",)
            yield from ((token, group, write) for group in range(groups) for write in writes)
            yield from ((token, head, "read") for head in range(max(heads, groups)))

    return run


def mixture(k: int, fc1: int, f: int, fc3: bool) -> Callable[[], Iterator[object]]:
    def run() -> Iterator[object]:
        for token in loops(B, S, k):
            yield from ((token, "fc1", at) for at in loops(fc1, C + 1))
            yield from ((token, "fc2", at) for at in loops(C + 1, f))
            yield from ((token, "fc3", at) for at in loops(f, C + 1) if fc3)

    return run


X, W, GROUPED = (B, 6, 7, 8), (4, 6, 3, 2), (4, 3, 3, 2)
NHWC = (B, 7, 8, 6)
SCALAR: Sizes = ()
QUANTISED = (SCALAR, SCALAR, W, SCALAR, SCALAR, SCALAR, SCALAR)
"""What a quantised convolution reads behind its input."""
Q, K, KV = (B, S, H * D), (B, T, H * D), (B, T, H * V)
PAST = (B, H, P, D)
GROUPS = {"num_heads": H, "kv_num_heads": G}
FIRST = {"num_heads": H}
HEADS3 = {"q_num_heads": H, "kv_num_heads": G}

CASES = [
    Case("Conv", (X, W), conv(X, W)),
    Case("Conv", (X, GROUPED), conv(X, GROUPED, 2), {"group": 2}),
    Case("Conv", (X, (6, 1, 3, 2)), conv(X, (6, 1, 3, 2), 6), {"group": 6}),
    Case(f"{MS}:FusedConv", (X, W), conv(X, W)),
    Case("ConvInteger", (X, W), conv(X, W), kind="UINT8"),
    *(
        Case(
            op,
            (X, *QUANTISED),
            conv(X, W),
            kind="UINT8",
            output=(B, 4, 5, 7),
        )
        for op in ("QLinearConv", f"{MS}:QLinearConv")
    ),
    Case(
        f"{MS}:QLinearConv",
        (NHWC, *QUANTISED),
        conv(NHWC, W, last=True),
        {"channels_last": 1},
        "UINT8",
    ),
    *(Case(f"{MS}:{op}", (NHWC, W), conv(NHWC, W, last=True)) for op in ("NhwcConv", "NhwcFusedConv")),
    Case("DeformConv", (X, W, (B, 12, 5, 7)), conv(X, W), output=(B, 4, 5, 7)),
    Case("ConvTranspose", (X, (6, 4, 3, 2)), transposed(X, (6, 4, 3, 2))),
    Case("ConvTranspose", (X, (6, 2, 3, 2)), transposed(X, (6, 2, 3, 2)), {"group": 2}),
    *(
        Case(op, ((B, C, 9), (C, 1, 4)), rows(B, C, 9, 4), output=(B, C, 9))
        for op in ("CausalConvWithState", f"{MS}:CausalConvWithState")
    ),
    Case("MatMul", ((B, S, C), (C, T)), rows(B, S, C, T)),
    Case("MatMul", ((B, 1, S, C), (H, C, T)), rows(B, H, S, C, T)),
    Case("MatMulInteger", ((B, S, C), (C, T)), rows(B, S, C, T), kind="UINT8"),
    Case(
        "QLinearMatMul",
        ((B, S, C), SCALAR, SCALAR, (C, T), SCALAR, SCALAR, SCALAR, SCALAR),
        rows(B, S, C, T),
        kind="UINT8",
        output=(B, S, T),
    ),
    *(
        Case(f"{MS}:{op}", ((B, S, C), (C, T)), rows(B, S, C, T))
        for op in ("MatMulIntegerToFloat", "DynamicQuantizeMatMul", "GemmFastGelu")
    ),
    *(
        Case(f"{MS}:{op}", (a, b), rows(B, S, C, T), {"transA": flag})
        for op in ("FusedMatMul", "TransposeMatMul", "FusedMatMulActivation")
        for a, b, flag in (((B, S, C), (C, T), 0), ((B, C, S), (B, C, T), 1))
    ),
    Case(
        f"{MS}:MatMulNBits",
        ((B, S, 32), (T, 2, 8), (T, 2)),
        rows(B, S, 32, T),
        {"K": 32, "N": T, "bits": 4, "block_size": 16},
    ),
    *(Case(op, (a, b), rows(S, C, T), flags) for op in ("Gemm", f"{MS}:FusedGemm") for a, b, flags in gemm()),
    *(
        Case(f"{MS}:QGemm", (a, SCALAR, SCALAR, b, SCALAR, SCALAR), rows(S, C, T), flags, "UINT8")
        for a, b, flags in gemm()
    ),
    Case("Einsum", ((B, S, C), (C, T)), rows(B, S, C, T), {"equation": "bsc,ct->bst"}),
    Case("Einsum", ((B, H, S, C), (H, C, T)), rows(B, H, S, C, T), {"equation": "...sc,...ct->...st"}),
    Case(
        "Einsum",
        ((S, C), (C, T), (T, D)),
        both(rows(S, C, T), rows(S, T, D)),
        {"equation": "sc,ct,td->sd"},
    ),
    Case(
        "Einsum",
        ((S, C), (C, T), (T, D), (D, H)),
        both(rows(S, C, T), rows(S, T, D), rows(S, D, H)),
        {"equation": "sc,ct,td,dh->sh"},
    ),
    Case("Einsum", ((B, S, C), (B, C, T)), rows(B, S, C, T), {"equation": "bsc,bct"}),
    Case(
        "Einsum",
        ((S, C), (C, T), (T, D)),
        both(rows(S, C, T), rows(S, T, D)),
        {"equation": "sc,ct,td"},
    ),
    Case("Einsum", ((B, H, S, C), (C, T)), rows(B, H, S, C, T), {"equation": "b...c,ct->b...t"}),
    Case("Einsum", ((B, H, S, C), (H, S, T, C)), rows(B, H, S, C, T), {"equation": "b...c,...tc->b...t"}),
    Case("Einsum", ((S, C),), lambda: iter(()), {"equation": "sc->cs"}),
    *(
        Case(
            op,
            ((T, B, C), (n, gates * H, C), (n, gates * H, H)),
            recurrent(gates, n, C, H),
            {"hidden_size": H, **({"direction": "bidirectional"} if n == 2 else {})},
            output=(T, n, B, H),
        )
        for op, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1))
        for n in (1, 2)
    ),
    Case(
        f"{MS}:DynamicQuantizeLSTM",
        ((T, B, C), (1, C, 4 * H), (1, H, 4 * H)),
        recurrent(4, 1, C, H),
        {"hidden_size": H},
    ),
    Case("Attention", (Q, (B, T, G * D), (B, T, G * V)), attends(H, T, D, V), HEADS3, output=(B, S, H * V)),
    Case("Attention", ((B, H, S, D), (B, G, T, D), (B, G, T, V)), attends(H, T, D, V), output=(B, H, S, V)),
    Case(
        "Attention",
        ((B, H, S, D), (B, G, T, D), (B, G, T, V), None, (B, G, P, D), (B, G, P, V)),
        attends(H, P + T, D, V),
        {"is_causal": 1},
        output=(B, H, S, V),
    ),
    Case(
        f"{MS}:Attention",
        ((B, S, C), (C, H * (2 * D + V))),
        both(rows(B, S, C, H * (2 * D + V)), attends(H, S, D, V)),
        {**FIRST, "qkv_hidden_sizes": [H * D, H * D, H * V], "unidirectional": 1},
    ),
    Case(
        f"{MS}:Attention",
        ((B, S, C), (C, 3 * H * D), None, None, (2, B, H, P, D)),
        both(rows(B, S, C, 3 * H * D), attends(H, P + S, D, D)),
        FIRST,
    ),
    Case(
        f"{MS}:QAttention",
        ((B, S, C), (C, 3 * H * D), None, SCALAR, SCALAR, None, None, None, (2, B, H, P, D)),
        both(rows(B, S, C, 3 * H * D), attends(H, P + S, D, D)),
        FIRST,
    ),
    Case(f"{MS}:MultiHeadAttention", (Q, K, KV), attends(H, T, D, V), FIRST),
    Case(f"{MS}:MultiHeadAttention", (Q, (B, H, T, D), (B, H, T, V)), attends(H, T, D, V), FIRST),
    Case(f"{MS}:MultiHeadAttention", (Q, (B, T, H, 2, D)), attends(H, T, D, D), FIRST),
    Case(f"{MS}:MultiHeadAttention", ((B, S, H, 3, D),), attends(H, S, D, D), FIRST),
    Case(
        f"{MS}:MultiHeadAttention",
        (Q, K, K, None, None, None, PAST, PAST),
        attends(H, P + T, D, D),
        FIRST,
    ),
    Case(
        f"{MS}:GroupQueryAttention",
        (Q, (B, S, G * D), (B, S, G * D), (B, G, P, D), (B, G, P, D)),
        attends(H, P + S, D, D),
        GROUPS,
    ),
    Case(f"{MS}:GroupQueryAttention", ((B, S, (H + 2 * G) * D),), attends(H, S, D, D), GROUPS),
    *(
        Case(
            op,
            (Q, (B, S, G * D), (B, S, G * V)),
            linear(update, H, G),
            {**HEADS3, "update_rule": update},
            output=(B, S, H * V),
        )
        for op in ("LinearAttention", f"{MS}:LinearAttention")
        for update in ("linear", "gated", "delta", "gated_delta")
    ),
    Case(
        "LinearAttention",
        (Q, (B, S, G * D), (B, S, G * V)),
        linear("gated_delta", H, G),
        HEADS3,
        output=(B, S, H * V),
    ),
    Case(
        "LinearAttention",
        ((B, S, G * D), Q, (B, S, H * V)),
        linear("linear", G, H),
        {"q_num_heads": G, "kv_num_heads": H, "update_rule": "linear"},
        output=(B, S, H * V),
    ),
    Case(
        f"{MS}:MoE",
        ((B, S, C + 1), (B * S, 9), (9, 6, C + 1), None, (9, C + 1, 6)),
        mixture(2, 6, 6, False),
        {"k": 2},
    ),
    Case(
        f"{MS}:MoE",
        ((B, S, C + 1), (B * S, 9), (9, 6, C + 1), None, (9, C + 1, 6), None, (9, 6, C + 1)),
        mixture(3, 6, 6, True),
        {"k": 3},
    ),
    Case(
        f"{MS}:QMoE",
        ((B, S, C + 1), (B * S, 9), (9, 12, (C + 1) // 2), (9, 12), None, (9, C + 1, 3), (9, C + 1)),
        mixture(2, 12, 6, False),
        {"k": 2, "expert_weight_bits": 4, "swiglu_fusion": 1},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.op)
def test_every_product_counts_once(case: Case) -> None:
    assert cost(case.model(), {}).macs == sum(1 for _ in case.products())


def test_every_contraction_of_the_table_has_an_independent_count() -> None:
    contractions = {op for row in TABLE if row.exactness == "contraction" for op in row.ops}
    assert contractions - {case.op for case in CASES} == set()


def test_a_contraction_without_a_count_is_no_row() -> None:
    with pytest.raises(TypeError, match="counts no multiply-adds"):
        Record(("Convolve",), lambda visit: None, "as Conv", "contraction")


@pytest.mark.parametrize("op", [f"{MS}:PackedAttention", f"{MS}:MatMulBlockQuantizedFp4Weight"])
def test_what_nobody_counted_is_unknown_and_not_nothing(op: str) -> None:
    assert cost(Case(op, ((B, S, C), (C, T)), rows(), output=(B, S, T)).model(), {}).macs is None


def test_a_size_that_is_not_known_makes_the_count_unknown() -> None:
    model = Case(f"{MS}:MatMulFpQ4", ((B, S, C), (9,)), rows()).model()
    assert cost(model, {}).macs is None


def test_a_size_that_depends_on_data_makes_the_count_unknown_though_all_others_are_known() -> None:
    analysis = sketch(
        """(float[5,6] x) => (float[k,3] y) { i = NonZero(x)\n t = Transpose(i)\n f = Cast <to = 1> (t)
        y = MatMul(f, w) }""",
        w=(2, 3),
    )
    assert cost(analysis.model, {}).macs is None


def test_a_window_longer_than_the_assumed_size_gets_a_size_that_fits() -> None:
    case = Case("Conv", ((1, 1, 600), (3, 1, 512)), rows())
    model = case.model()
    model.graph.inputs[0].shape = ir.Shape([1, 1, "samples"])
    model.graph.inputs[1].const_value = ir.tensor(np.zeros((3, 1, 512), np.float32), name="i1")
    found = cost(model, {}).macs
    assert found is not None
    assert found > 0
    assert cost(model, {"i0": (1, 1, 600)}).macs == 3 * 89 * 512


def test_a_shape_given_for_one_input_holds_for_its_symbols_elsewhere() -> None:
    case = Case("MatMul", ((S, C), (C, T)), rows())
    model = case.model()
    model.graph.inputs[0].shape = ir.Shape(["m", "k"])
    model.graph.inputs[1].shape = ir.Shape(["k", "n"])
    assert cost(model, {"i0": (3, 5)}).macs == 3 * 5 * 16


@pytest.mark.parametrize(
    ("case", "axis"),
    [
        (Case(f"{MS}:NhwcConv", (NHWC, W), rows()), 3),
        (Case(f"{MS}:NhwcFusedConv", (NHWC, W), rows()), 3),
        (Case(f"{MS}:QLinearConv", (NHWC, *QUANTISED), rows(), {"channels_last": 1}, "UINT8"), 3),
        (Case(f"{MS}:QLinearConv", (X, *QUANTISED), rows(), {}, "UINT8"), 1),
    ],
    ids=["nhwc", "fused", "quantised", "quantised in front"],
)
def test_a_convolution_shrinks_with_the_axis_of_its_result_that_holds_channels(case: Case, axis: int) -> None:
    model = case.model()
    (node,) = model.graph
    (term,) = node_terms(node, infer(model, record_of)) or ()
    assert [(place.side, place.axis) for place in term.places] == [("out", axis), ("in", 1)]
