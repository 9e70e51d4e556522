"""Control flow, and operators that read axes by position: frozen (docs/theory.md#control-flow)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from graphprune.ir.operators import Attributes
from graphprune.labels.algebra import ONE, is_static
from graphprune.labels.visit import Visit
from graphprune.ops import counting as macs
from graphprune.ops.elementwise import scan, unary
from graphprune.ops.operands import all_fixed, fix_positions, per_slot
from graphprune.ops.record import Layer, Record, ops, traits
from graphprune.ops.shaping import SAME, always
from graphprune.ops.traits import Trait


def _bodies(node: ir.Node) -> Iterator[ir.Graph]:
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def _captured(node: ir.Node) -> Iterator[ir.Value]:
    """Every value that a body reads or returns, those of nested bodies included."""
    for graph in _bodies(node):
        yield from graph.outputs
        for inner in graph:
            yield from (value for value in inner.inputs if value is not None)
            yield from _captured(inner)


def branch(visit: Visit) -> None:
    """If: the branches are analysed like any node; what they return is fixed."""
    for graph in _bodies(visit.node):
        for value in graph.outputs:
            for label in visit.state.facts.values.get(value, ()):
                visit.fix(label, "a branch of If returns it")
    visit.fix_all("If returns one of two branches")


def loop(visit: Visit) -> None:
    """Loop, Scan, SequenceMap: everything that goes in is fixed, captured values included."""
    reason = f"the body of {visit.node.op_type} reads it"
    for value in _captured(visit.node):
        for label in visit.state.facts.values.get(value, ()):
            visit.fix(label, reason)
    visit.fix_all(reason)


def reverse_sequence(visit: Visit) -> None:
    """The time axis is fixed; lengths belong to the batch axis."""
    axes = visit.axes(0)
    visit.fix(axes[visit.int_attr("time_axis", 0)], "ReverseSequence walks along it")
    visit.equal(axes[visit.int_attr("batch_axis", 1)], visit.axis(1, 0))
    visit.out(axes)


def compress(visit: Visit) -> None:
    """The chosen axis is fixed; others pass. Without an axis the flattened input is read by position."""
    if "axis" not in visit.node.attributes:
        visit.fix_all("Compress reads its flattened input by position")
        return
    out = list(visit.axes(0))
    axis = visit.int_attr("axis", 0) % len(out)
    visit.fix(out[axis], "Compress picks from it at run time")
    visit.fix(visit.axis(1, 0), "Compress picks by it at run time")
    out[axis] = visit.fixed((visit.out_shape() or visit.shape(0) or (ONE,))[axis])
    visit.out(out)


def determinant(visit: Visit) -> None:
    """Batch axes pass; the matrix is fixed."""
    axes = visit.axes(0)
    for label in axes[-2:]:
        visit.fix(label, "Det contracts it with itself")
    visit.out(axes[:-2])


def center_crop_pad(visit: Visit) -> None:
    """Cropped or padded axes are fixed; others pass."""
    after = visit.out_shape() or ()
    out = list(visit.axes(0))
    for axis in visit.ints_attr("axes") or range(len(out)):
        visit.fix(out[axis], "CenterCropPad cuts around its middle")
        out[axis] = visit.fixed(after[axis]) if len(after) == len(out) else out[axis]
    visit.out(out)


def col2im(visit: Visit) -> None:
    """in.1 = (channels, block); the block becomes pixels."""
    shape, block = visit.shape(0), visit.data(2)
    if shape is None or block is None or block.dynamic.any() or not is_static(shape[1]):
        visit.fix_all("the block of Col2Im is not constant")
        return
    pixels, width = int(np.prod(block.a.astype(np.int64))), shape[1][0]
    refined = visit.refine(visit.axis(0, 1), (width // pixels, pixels)) if width % pixels == 0 else None
    for label in visit.axes(0)[2:]:
        visit.fix(label, "Col2Im makes pixels of it")
    out = all_fixed(visit, 2 + len(block.a))
    if refined is not None:
        visit.fix(visit.between(refined, width // pixels, width), "Col2Im makes pixels of it")
        out[0], out[1] = visit.axis(0, 0), visit.between(refined, 1, width // pixels)
    visit.out(out)


def deform_conv(visit: Visit) -> None:
    """group=1 with one set of offsets: as Conv. Otherwise channels are fixed."""
    visit.kernel(1)
    fix_positions(visit)
    x, weight = visit.axis(0, 1), visit.axes(1)
    visit.roles(1, "source")
    visit.role(1, 1, "sink")
    visit.contract(0, 1)
    if visit.int_attr("group", 1) == 1:
        visit.equal(x, weight[1])
    if visit.int_attr("group", 1) != 1 or visit.int_attr("offset_group", 1) != 1:
        for label in (x, weight[0], weight[1]):
            visit.fix(label, "the groups of DeformConv are kept whole")
    per_slot(visit, 3, weight[0], "bias")
    for position in (2, 4):
        for label in visit.axes(position) if visit.has(position) else ():
            visit.fix(label, "DeformConv reads it by position")
    out = all_fixed(visit, visit.rank(0))
    out[0], out[1] = visit.axis(0, 0), weight[0]
    visit.out(out)


def bit_cast(visit: Visit) -> None:
    """Out = in where elements keep their width; else the last axis is fixed."""
    if visit.shape(0) == visit.out_shape():
        unary(visit)
        return
    axes = list(visit.axes(0))
    visit.fix(axes[-1], "BitCast regroups its bits")
    visit.out([*axes[:-1], *visit.top()[-1:]])


def positional(visit: Visit) -> None:
    """The operator reads its inputs by absolute position."""
    visit.fix_all(f"{visit.node.op_type} reads its input by position")


def sequence(visit: Visit) -> None:
    """Tensors inside a sequence, an optional or a map are not followed."""
    visit.fix_all(f"{visit.node.op_type}: values inside a sequence or an optional are not followed")


def transform(visit: Visit) -> None:
    """A fixed basis whose size is part of its meaning."""
    visit.fix_all(f"{visit.node.op_type} is a transform with a fixed basis")


def classical(visit: Visit) -> None:
    """Trees, vectorisers and encoders have no width that a neighbour shares."""
    visit.fix_all(f"{visit.node.op_type} is a classical model without removable widths")


def tabular(visit: Visit) -> None:
    """One number in, one number out, and a table of its own that is kept whole."""
    axes = visit.axes(0)
    for label in axes:
        visit.fix(label, f"{visit.node.op_type} has a number of its own for every feature")
    visit.out(axes)


def text(visit: Visit) -> None:
    """Strings and images have no channels yet."""
    visit.fix_all(f"{visit.node.op_type} works on strings or encoded files")


def search(visit: Visit) -> None:
    """A whole decoding loop in one operator."""
    visit.fix_all(f"{visit.node.op_type} holds a whole decoder")


ENCODED = {
    "values_strings": ir.DataType.STRING,
    "values_int64s": ir.DataType.INT64,
    "values_floats": ir.DataType.FLOAT,
}
"""What a LabelEncoder gives, by the attribute that holds it (since its version 2)."""


def encoded_kind(at: Attributes, output: int) -> ir.DataType | None:
    """Words become numbers and numbers words, unless attributes say more."""
    if "values_tensor" in at.node.attributes:
        return at.node.attributes["values_tensor"].as_tensor().dtype
    for name, kind in ENCODED.items():
        if name in at.node.attributes:
            return kind
    return ir.DataType.INT64 if at.kind(0) == ir.DataType.STRING else ir.DataType.STRING


ROWS = (
    Record(
        ops("If"),
        branch,
        "branches are analysed; their results are fixed",
        "frozen",
        traits=traits(Trait.BODY, Trait.BRANCHES),
    ),
    Record(
        ops("Loop Scan SequenceMap"),
        loop,
        "inputs and captured values are fixed",
        "frozen",
        traits=traits(Trait.BODY),
    ),
    Record(ops("ReverseSequence"), reverse_sequence, "time axis fixed; others pass", "parallel"),
    Record(ops("Compress"), compress, "chosen axis fixed; others pass", "parallel"),
    Record(ops("Det"), determinant, "matrix fixed; batch passes", "frozen"),
    Record(ops("CenterCropPad"), center_crop_pad, "cut axes fixed; others pass", "parallel"),
    Record(ops("Col2Im"), col2im, "in.1 = channels x block; block fixed", "structural"),
    Record(
        ops("DeformConv"),
        deform_conv,
        "as Conv; offsets and masks fixed",
        "contraction",
        "W, bias",
        macs.conv(),
        layer=Layer(1, 0, 1, bias=3, channel=1, kernel="columns", result="fused"),
    ),
    Record(ops("BitCast"), bit_cast, "out = in", "parallel"),
    Record(ops("CumProd"), scan, "out = in; the walked axis is fixed", "frozen"),
    Record(
        ops(
            "NonMaxSuppression NonZero Unique MaxUnpool AffineGrid NegativeLogLikelihoodLoss "
            "SoftmaxCrossEntropyLoss"
        ),
        positional,
        "all axes fixed",
        "frozen",
    ),
    Record(
        ops(
            "Unique CropAndResize MaxpoolWithMask NGramRepeatBlock BifurcationDetector IsAllFinite "
            "MurmurHash3 DynamicTimeWarping EPContext GridSample",
            "com.microsoft",
        ),
        positional,
        "all axes fixed",
        "frozen",
    ),
    Record(
        ops(
            "SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength "
            "SplitToSequence ConcatFromSequence Optional OptionalGetElement OptionalHasElement"
        ),
        sequence,
        "all axes fixed",
        "frozen",
    ),
    Record(
        ops("DFT STFT MelWeightMatrix BlackmanWindow HammingWindow HannWindow"),
        transform,
        "all axes fixed",
        "frozen",
    ),
    Record(
        ops("StringConcat StringNormalizer StringSplit RegexFullMatch TfIdfVectorizer ImageDecoder")
        + ops("Tokenizer", "com.microsoft"),
        text,
        "all axes fixed",
        "frozen",
    ),
    Record(
        ops(
            "ArrayFeatureExtractor CastMap DictVectorizer FeatureVectorizer LinearRegressor OneHotEncoder "
            "SVMRegressor TreeEnsemble TreeEnsembleRegressor ZipMap",
            "ai.onnx.ml",
        ),
        classical,
        "all axes fixed",
        "frozen",
    ),
    Record(ops("Binarizer Imputer", "ai.onnx.ml"), classical, "all axes fixed", "frozen", shaping=SAME),
    Record(
        ops("CategoryMapper LabelEncoder", "ai.onnx.ml"),
        classical,
        "all axes fixed",
        "frozen",
        shaping=replace(SAME, kind=encoded_kind),
    ),
    Record(
        ops("Normalizer", "ai.onnx.ml"),
        classical,
        "all axes fixed",
        "frozen",
        shaping=replace(SAME, kind=always(ir.DataType.FLOAT)),
    ),
    Record(
        ops("LinearClassifier SVMClassifier TreeEnsembleClassifier", "ai.onnx.ml"),
        classical,
        "all axes fixed",
        "frozen",
        traits=traits(Trait.CLASSIFIER),
    ),
    Record(
        ops("Scaler", "ai.onnx.ml"),
        tabular,
        "out = in; fixed",
        "frozen",
        shaping=replace(SAME, kind=always(ir.DataType.FLOAT)),
    ),
    Record(
        ops("BeamSearch GreedySearch Sampling WhisperBeamSearch", "com.microsoft"),
        search,
        "all axes fixed",
        "frozen",
    ),
)
