"""Shapes and types that onnx does not infer: of ONNX Runtime's own operators, and of some of ai.onnx.ml."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir

from graphprune.ir.fast_shapes import conv_shape

Size = tuple[int, int]
Shape = tuple[Size, ...]
Shapes = Sequence[Shape | None]
Rule = Callable[[ir.Node, list[Shape]], list[Shape | None]]

EMPTY: Shape = ()
ONE: Size = (1, 1)


def contrib_shapes(node: ir.Node, shapes: Shapes) -> list[Shape | None] | None:
    """Shapes of such a node's outputs (None where unknown); None when the operator has no rule here.

    Args:
        node: the node.
        shapes: shape pairs of its inputs; None for a missing input.
    """
    rule = DOMAINS.get(node.domain, {}).get(node.op_type)
    if rule is None or not shapes:
        return None
    missing = [shape is None and value is not None for shape, value in zip(shapes, node.inputs, strict=True)]
    if any(missing):
        return [None] * len(node.outputs)  # nobody else knows them; types follow anyway
    try:
        found = rule(node, [EMPTY if shape is None else shape for shape in shapes])
    except (IndexError, ZeroDivisionError, KeyError):
        return None
    return [*found, *[None] * len(node.outputs)][: len(node.outputs)]


def _number(node: ir.Node, name: str, default: int = 0) -> int:
    return node.attributes[name].as_int() if name in node.attributes else default


def _scaled(size: Size, numerator: int, denominator: int = 1) -> Size:
    return size[0] * numerator // denominator, size[1] * numerator // denominator


def _plus(a: Size, b: Size) -> Size:
    return a[0] + b[0], a[1] + b[1]


def _given(node: ir.Node, position: int) -> bool:
    return position < len(node.inputs) and node.inputs[position] is not None


def _same(node: ir.Node, shapes: list[Shape]) -> list[Shape | None]:
    return [shapes[0]]


def _broadcast(shapes: list[Shape]) -> Shape:
    rank = max(len(shape) for shape in shapes)
    columns = [[shape[axis] for shape in shapes if -axis <= len(shape)] for axis in range(-rank, 0)]
    return tuple(next((size for size in column if size != ONE), ONE) for column in columns)


def _over(*positions: int) -> Rule:
    """The broadcast of some inputs."""
    return lambda node, shapes: [_broadcast([shapes[p] for p in positions if _given(node, p)])]


def _swapped(shape: Shape, swap: bool) -> Shape:
    return (*shape[:-2], shape[-1], shape[-2]) if swap and len(shape) > 1 else shape


def _matmul(a: Shape, b: Shape) -> Shape:
    rows, columns = a[-2:-1], b[-1:] if len(b) > 1 else ()
    batch = _broadcast([a[:-2], b[:-2]]) if len(a) > 2 or len(b) > 2 else ()
    return (*batch, *rows, *columns)


def _product(a: int, b: int) -> Rule:
    def rule(node: ir.Node, shapes: list[Shape]) -> list[Shape | None]:
        left = _swapped(shapes[a], _number(node, "transA") == 1)
        return [_matmul(left, _swapped(shapes[b], _number(node, "transB") == 1))]

    return rule


def _nbits(node: ir.Node, shapes: list[Shape]) -> list[Shape | None]:
    width = _number(node, "N")
    return [(*shapes[0][:-1], (width, width))]


def _skip_norm(node: ir.Node, shapes: list[Shape]) -> list[Shape | None]:
    statistics = (*shapes[0][:-1], ONE)
    return [shapes[0], statistics, statistics, shapes[0]]


def _embed_norm(node: ir.Node, shapes: list[Shape]) -> list[Shape | None]:
    full = (*shapes[0], shapes[2][-1])
    return [full, shapes[0][:1], full]


def _packed_attention(node: ir.Node, shapes: list[Shape]) -> list[Shape | None]:
    x, weight = shapes[0], shapes[1]
    heads = _number(node, "num_heads", 1)
    sizes = (
        list(node.attributes["qkv_hidden_sizes"].as_ints()) if "qkv_hidden_sizes" in node.attributes else []
    )
    value = (sizes[2], sizes[2]) if sizes else _scaled(weight[1], 1, 3)
    past = 4 if node.op_type == "Attention" else 8
    total = _plus(x[1], shapes[past][3]) if _given(node, past) else x[1]
    return [(*x[:2], value), ((2, 2), x[0], (heads, heads), total, _scaled(value, 1, heads))]


def _multi_head(node: ir.Node, shapes: list[Shape]) -> list[Shape | None]:
    q, heads = shapes[0], _number(node, "num_heads", 1)
    if len(q) == 5:
        size, tokens = (q[4], q[4]), q[1]
        width = _scaled(q[4], heads)
    elif len(shapes[1]) == 5:
        size, tokens = (shapes[1][4], shapes[1][4]), shapes[1][1]
        width = q[2]
    else:
        k, v = shapes[1], shapes[2]
        parts = [shape[3] if len(shape) == 4 else _scaled(shape[2], 1, heads) for shape in (k, v)]
        size, tokens = (parts[0], parts[1]), k[2] if len(k) == 4 else k[1]
        width = _scaled(size[1], heads)
    total = _plus(tokens, shapes[6][2]) if _given(node, 6) else tokens
    count = (heads, heads)
    caches: list[Shape | None] = [(q[0], count, total, part) for part in size]
    return [(*q[:2], width), *caches, (q[0], count, q[1], total)]


def _group_query(node: ir.Node, shapes: list[Shape]) -> list[Shape | None]:
    q, heads, groups = shapes[0], _number(node, "num_heads", 1), _number(node, "kv_num_heads", 1)
    size = _scaled(q[2], 1, heads if _given(node, 1) else heads + 2 * groups)
    past = shapes[3] if _given(node, 3) else EMPTY
    cache: Shape | None = (q[0], (groups, groups), _plus(past[2], q[1]), size) if past else None
    return [(*q[:2], _scaled(size, heads)), cache, cache]


def _linear_attention(node: ir.Node, shapes: list[Shape]) -> list[Shape | None]:
    q, k, v = shapes[:3]
    heads, groups = _number(node, "q_num_heads", 1), _number(node, "kv_num_heads", 1)
    dims, values = _scaled(k[2], 1, groups), _scaled(v[2], 1, groups)
    state = None if _number(node, "state_window") else (q[0], (groups, groups), dims, values)
    return [(*q[:2], _scaled(values, max(heads, groups))), state]


def _causal_conv(node: ir.Node, shapes: list[Shape]) -> list[Shape | None]:
    x, weight = shapes[0], shapes[1]
    length = (weight[2][0] - 1) * _number(node, "dilation", 1)
    plain = not _number(node, "channels_last") and not _number(node, "state_window") and len(x) == 3
    return [x, (x[0], x[1], (length, length)) if plain else None]


def _gate(node: ir.Node, shapes: list[Shape]) -> list[Shape | None]:
    return [(*shapes[0][:-1], _scaled(shapes[0][-1], 1, 2))]


def _twice(node: ir.Node, shapes: list[Shape]) -> list[Shape | None]:
    return [shapes[0], shapes[0]]


def _gather_blocks(node: ir.Node, shapes: list[Shape]) -> list[Shape | None]:
    data, value = shapes[0], node.inputs[0]
    axis, quantised = _number(node, "gather_axis") % len(data), _number(node, "quantize_axis", 1) % len(data)
    packed = value is not None and value.dtype == ir.DataType.UINT8
    whole = [
        _scaled(size, 8 // _number(node, "bits", 4)) if packed and i == quantised else size
        for i, size in enumerate(data)
    ]
    return [(*whole[:axis], *shapes[1], *whole[axis + 1 :])]


def _global_pool(node: ir.Node, shapes: list[Shape]) -> list[Shape | None]:
    x = shapes[0]
    rest = (ONE,) * (len(x) - 2)
    return [(x[0], *rest, x[-1]) if _number(node, "channels_last") else (*x[:2], *rest)]


def _reduce_mean(node: ir.Node, shapes: list[Shape]) -> list[Shape | None]:
    x = shapes[0]
    axes = node.attributes["axes"].as_ints() if "axes" in node.attributes else range(len(x))
    gone = {axis % len(x) for axis in axes}
    keep = _number(node, "keepdims", 1)
    return [tuple(ONE if i in gone else size for i, size in enumerate(x) if keep or i not in gone)]


def _concat(node: ir.Node, shapes: list[Shape]) -> list[Shape | None]:
    parts = shapes[2::3]
    axis = _number(node, "axis") % len(parts[0])
    total = (sum(part[axis][0] for part in parts), sum(part[axis][1] for part in parts))
    return [(*parts[0][:axis], total, *parts[0][axis + 1 :])]


def _conv(weight: int, last: bool | None = None) -> Rule:
    """A convolution with channels first or last, or as its attribute says."""

    def rule(node: ir.Node, shapes: list[Shape]) -> list[Shape | None]:
        x = shapes[0]
        turned = _number(node, "channels_last") == 1 if last is None else last
        found = conv_shape(node, (x[0], x[-1], *x[1:-1]) if turned else x, shapes[weight])
        return [(found[0], *found[2:], found[1]) if turned and found is not None else found]

    return rule


def _dynamic_lstm(node: ir.Node, shapes: list[Shape]) -> list[Shape | None]:
    x, directions = shapes[0], shapes[1][0]
    hidden = _number(node, "hidden_size")
    state = (directions, x[1], (hidden, hidden))
    return [(x[0], *state), state, state]


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(
        [
            "QuickGelu",
            "Gelu",
            "FastGelu",
            "RotaryEmbedding",
            "MoE",
            "QMoE",
            "QuantizeLinear",
            "DequantizeLinear",
            "GroupNorm",
            "QLinearLeakyRelu",
            "QLinearSigmoid",
            "QLinearSoftmax",
            "Trilu",
            "ScaledSiLU",
            "BiasSoftmax",
        ],
        _same,
    ),
    "BiasGelu": _over(0, 1),
    "BiasAdd": _over(0, 1, 2),
    "BiasDropout": _over(0, 1, 2),
    "QLinearAdd": _over(0, 3),
    "QLinearMul": _over(0, 3),
    "QLinearWhere": _over(0, 1, 4),
    **dict.fromkeys(
        [
            "FusedMatMul",
            "TransposeMatMul",
            "FusedMatMulActivation",
            "FusedGemm",
            "GemmFastGelu",
            "DynamicQuantizeMatMul",
            "MatMulIntegerToFloat",
        ],
        _product(0, 1),
    ),
    "QGemm": _product(0, 3),
    "FusedConv": _conv(1, last=False),
    "NhwcConv": _conv(1, last=True),
    "NhwcFusedConv": _conv(1, last=True),
    "QLinearConv": _conv(3),
    "DynamicQuantizeLSTM": _dynamic_lstm,
    "MatMulNBits": _nbits,
    "MatMulBnb4": _nbits,
    "SkipLayerNormalization": _skip_norm,
    "SkipSimplifiedLayerNormalization": _skip_norm,
    "SkipGroupNorm": _twice,
    "EmbedLayerNormalization": _embed_norm,
    "Attention": _packed_attention,
    "QAttention": _packed_attention,
    "MultiHeadAttention": _multi_head,
    "GroupQueryAttention": _group_query,
    "LinearAttention": _linear_attention,
    "CausalConvWithState": _causal_conv,
    "BiasSplitGelu": _gate,
    "GatherBlockQuantized": _gather_blocks,
    "QLinearGlobalAveragePool": _global_pool,
    "QLinearReduceMean": _reduce_mean,
    "QLinearConcat": _concat,
}
"""Shape rules from ONNX Runtime's ContribOperators page; pools keep declared shapes."""

LEARNING: Mapping[str, Rule] = dict.fromkeys(
    ["Binarizer", "CategoryMapper", "Imputer", "LabelEncoder", "Normalizer", "Scaler"], _same
)
"""Operators of ai.onnx.ml that keep their input's shape."""
DOMAINS: Mapping[str, Mapping[str, Rule]] = {"com.microsoft": RULES, "ai.onnx.ml": LEARNING}

TYPE_SOURCE: Mapping[str, int] = {
    "Where": 1,
    "DequantizeLinear": 1,
    "MatMulIntegerToFloat": 2,
    "QuantizeLinear": 2,
    "QLinearConcat": 2,
    "EmbedLayerNormalization": 2,
    "GatherBlockQuantized": 2,
    "QAttention": 3,
    "QLinearWhere": 1,
    "CastLike": 1,
}
"""Input whose element type the outputs have, where it is not input 0."""


PREDICATES = frozenset(
    ["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Xor", "Not", "IsNaN", "IsInf"]
)


ENCODED = {
    "values_strings": ir.DataType.STRING,
    "values_int64s": ir.DataType.INT64,
    "values_floats": ir.DataType.FLOAT,
}
"""What a LabelEncoder gives, by the attribute that holds it (since its version 2)."""


def _encoded(node: ir.Node) -> ir.DataType | None:
    """Words become numbers and numbers words, unless attributes say more."""
    if "values_tensor" in node.attributes:
        return node.attributes["values_tensor"].as_tensor().dtype
    for name, kind in ENCODED.items():
        if name in node.attributes:
            return kind
    words = node.inputs[0] is not None and node.inputs[0].dtype == ir.DataType.STRING
    return ir.DataType.INT64 if words else ir.DataType.STRING


def element_type(node: ir.Node, position: int) -> ir.DataType | None:
    """The element type of an output that follows one input; None when it is not known."""
    if node.op_type in PREDICATES:
        return ir.DataType.BOOL
    if node.domain == "ai.onnx.ml" and node.op_type in ("LabelEncoder", "CategoryMapper"):
        return _encoded(node)
    if node.domain == "ai.onnx.ml" and node.op_type in ("Scaler", "Normalizer"):
        return ir.DataType.FLOAT
    if node.op_type in ("Cast", "QuantizeLinear"):
        name = "to" if node.op_type == "Cast" else "output_dtype"
        if _number(node, name):
            return ir.DataType(_number(node, name))
    if node.op_type == "QuantizeLinear" and not _given(node, 2):
        return ir.DataType.UINT8
    if node.op_type == "EmbedLayerNormalization" and position == 1:
        return ir.DataType.INT32
    if node.op_type.startswith("Skip") and position in (1, 2):
        return ir.DataType.FLOAT
    source = TYPE_SOURCE.get(node.op_type, 0)
    value = node.inputs[source] if source < len(node.inputs) else None
    return None if value is None else value.dtype
