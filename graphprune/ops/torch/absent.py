"""Operators that do not run in torch here, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass

from graphprune.ops.record import ops

NOT_HERE = "how torch runs it has not been written"


@dataclass(frozen=True)
class Absence:
    """Why an operator has no row.

    Attributes:
        why: in a few words.
        constant: whether no gradient would pass through it, so that its result may be fed as an input.
    """

    why: str
    constant: bool


TEXT = Absence("torch has no tensors of text", constant=True)
STEPS = Absence("it is a step function", constant=True)
CLASSICAL = Absence(
    "it belongs to a classical model, which is fitted and not trained by gradients", constant=False
)
BLOCKED = Absence("its layout belongs to one CPU kernel; load the model as it was exported", constant=False)
KERNEL = Absence("its weights lie in an order that one kernel alone knows", constant=False)
UNCHECKED = Absence("ONNX Runtime has no CPU kernel to compare with", constant=False)
SEARCH = Absence("it searches token by token", constant=True)
MS = "com.microsoft"

REASONS = (
    (ops("StringConcat StringNormalizer StringSplit RegexFullMatch TfIdfVectorizer"), TEXT),
    (ops("Tokenizer MurmurHash3", MS), TEXT),
    (ops("CastMap DictVectorizer LabelEncoder CategoryMapper OneHotEncoder ZipMap", "ai.onnx.ml"), TEXT),
    (ops("ImageDecoder"), Absence("it reads files", constant=True)),
    (ops("MelWeightMatrix"), Absence("it is made of sizes, not of data", constant=True)),
    (ops("Binarizer TreeEnsemble TreeEnsembleClassifier TreeEnsembleRegressor", "ai.onnx.ml"), STEPS),
    (
        ops("FeatureVectorizer Imputer LinearClassifier SVMClassifier SVMRegressor", "ai.onnx.ml"),
        CLASSICAL,
    ),
    (
        ops(
            "Conv AveragePool MaxPool GlobalAveragePool GlobalMaxPool ReorderInput ReorderOutput Upsample",
            "com.microsoft.nchwc",
        ),
        BLOCKED,
    ),
    (ops("MatMulBnb4 MatMulFpQ4 MatMulNBitsMlp MatMulNBitsQkv", MS), KERNEL),
    (ops("MatMulBlockQuantizedFp4Weight MatMulBlockQuantizedFp8Weight GemmFloat8", MS), KERNEL),
    (ops("QOrderedAttention QOrderedGelu QOrderedLayerNormalization", MS), KERNEL),
    (ops("QOrderedLongformerAttention QOrderedMatMul", MS), KERNEL),
    (
        ops("BeamSearch GreedySearch Sampling WhisperBeamSearch NGramRepeatBlock BifurcationDetector", MS),
        SEARCH,
    ),
    (ops("DynamicTimeWarping SparseAttentionIndexer PackedSparseAttentionIndexer", MS), SEARCH),
    (ops("EPContext", MS), Absence("it holds a model of one device", constant=False)),
    (ops("FlexAttention", "ai.onnx.preview"), UNCHECKED),
    (
        ops(
            "AttnLSTM BranchwiseRMSNorm CDist ConvTransposeWithDynamicPads CropAndResize DecoderAttention "
            "DecoderMaskedMultiHeadAttention DecoderMaskedSelfAttention DynamicSparseAttention EngramGate "
            "GatedAdd GatedDeltaNet GatedRMSNorm GatedRelativePositionBias GemmaRotaryEmbedding "
            "HyperConnectionPostMix HyperConnectionPreMix Irfft LinearAttentionGate LongformerAttention "
            "MRotaryEmbedding MatMulInteger16 MaxpoolWithMask MulInteger NhwcConv NhwcMaxPool "
            "PackedAttention PackedMultiHeadAttention PagedAttention QEmbedLayerNormalization "
            "RelativePositionBias RemovePadding RestorePadding Rfft ScaledSiLU SparseAttention "
            "SparsePagedAttention SparseToDenseMatMul TorchEmbedding UnfoldTensor VarlenCausalConvWithState",
            MS,
        ),
        Absence("no exporter of the zoo writes it", constant=False),
    ),
)
ABSENT: dict[str, Absence] = {name: absence for names, absence in REASONS for name in names}
