"""Transformers rows: small random configurations, so that every family exports in seconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tools.zoo.entry import Entry, Exporter, Inputs

_ENCODER = {
    "vocab_size": 256,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 64,
}
_DECODER = {**_ENCODER, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_HEAD_DIM = {**_DECODER, "head_dim": 16}
_EAGER = {"attn_implementation": "eager"}
_VISION = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "image_size": 64,
    "patch_size": 16,
}
_MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 96}
_SEQ2SEQ = {
    "vocab_size": 256,
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}
_T5 = {
    "vocab_size": 256,
    "d_model": 64,
    "d_kv": 16,
    "d_ff": 128,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}
_AUDIO = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "conv_dim": [32, 32, 32],
    "conv_stride": [5, 4, 4],
    "conv_kernel": [10, 4, 4],
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": 32,
}

Row = tuple[str, str, Inputs, Mapping[str, Any]]

# Class suffixes decide nothing here: the config class is the model class's own `config_class`.
_FAMILIES: tuple[Row, ...] = (
    ("bert", "BertForSequenceClassification", "text", _ENCODER),
    ("roberta", "RobertaForSequenceClassification", "text", _ENCODER),
    (
        "deberta_v2",
        "DebertaV2ForSequenceClassification",
        "text",
        {**_ENCODER, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 16},
    ),
    (
        "distilbert",
        "DistilBertForSequenceClassification",
        "text",
        {
            "vocab_size": 256,
            "dim": 64,
            "n_layers": 2,
            "n_heads": 4,
            "hidden_dim": 128,
            "max_position_embeddings": 64,
        },
    ),
    ("albert", "AlbertForSequenceClassification", "text", {**_ENCODER, "embedding_size": 32}),
    ("mpnet", "MPNetForSequenceClassification", "text", _ENCODER),
    ("electra", "ElectraForSequenceClassification", "text", {**_ENCODER, "embedding_size": 32}),
    (
        "modernbert",
        "ModernBertForSequenceClassification",
        "text",
        {
            **_ENCODER,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "cls_token_id": 1,
            "sep_token_id": 2,
            **_EAGER,
        },
    ),
    (
        "gpt2",
        "GPT2LMHeadModel",
        "causal",
        {"vocab_size": 256, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64},
    ),
    ("gpt_neox", "GPTNeoXForCausalLM", "causal", _ENCODER),
    (
        "opt",
        "OPTForCausalLM",
        "causal",
        {
            "vocab_size": 256,
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "ffn_dim": 128,
            "max_position_embeddings": 64,
            "word_embed_proj_dim": 64,
        },
    ),
    (
        "bloom",
        "BloomForCausalLM",
        "causal",
        {"vocab_size": 256, "hidden_size": 64, "n_layer": 2, "n_head": 4},
    ),
    ("llama", "LlamaForCausalLM", "causal", _DECODER),
    ("mistral", "MistralForCausalLM", "causal", {**_DECODER, "sliding_window": None}),
    ("qwen2", "Qwen2ForCausalLM", "causal", _DECODER),
    ("qwen3", "Qwen3ForCausalLM", "causal", _HEAD_DIM),
    ("phi", "PhiForCausalLM", "causal", _DECODER),
    ("gemma2", "Gemma2ForCausalLM", "causal", {**_HEAD_DIM, **_EAGER}),
    ("stablelm", "StableLmForCausalLM", "causal", _DECODER),
    (
        "falcon",
        "FalconForCausalLM",
        "causal",
        {
            "vocab_size": 256,
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "alibi": False,
        },
    ),
    (
        "mixtral",
        "MixtralForCausalLM",
        "causal",
        {**_DECODER, "num_local_experts": 4, "num_experts_per_tok": 2},
    ),
    (
        "qwen2_moe",
        "Qwen2MoeForCausalLM",
        "causal",
        {**_DECODER, **_MOE, "shared_expert_intermediate_size": 96},
    ),
    ("qwen3_moe", "Qwen3MoeForCausalLM", "causal", {**_HEAD_DIM, **_MOE}),
    (
        "mamba",
        "MambaForCausalLM",
        "causal",
        {"vocab_size": 256, "hidden_size": 64, "num_hidden_layers": 2, "state_size": 8, "use_mambapy": False},
    ),
    ("t5", "T5ForConditionalGeneration", "seq2seq", _T5),
    ("t5_gated", "T5ForConditionalGeneration", "seq2seq", {**_T5, "feed_forward_proj": "gated-gelu"}),
    ("bart", "BartForConditionalGeneration", "seq2seq", _SEQ2SEQ),
    ("marian", "MarianMTModel", "seq2seq", _SEQ2SEQ),
    (
        "whisper",
        "WhisperForConditionalGeneration",
        "mel",
        {**_SEQ2SEQ, "num_mel_bins": 16, "max_source_positions": 50, "max_target_positions": 64},
    ),
    ("vit", "ViTForImageClassification", "pixels", _VISION),
    ("deit", "DeiTForImageClassification", "pixels", _VISION),
    ("beit", "BeitForImageClassification", "pixels", _VISION),
    ("dinov2", "Dinov2ForImageClassification", "pixels", _VISION),
    (
        "swin",
        "SwinForImageClassification",
        "pixels",
        {
            "image_size": 64,
            "patch_size": 4,
            "embed_dim": 32,
            "depths": [2, 2],
            "num_heads": [2, 4],
            "window_size": 4,
        },
    ),
    (
        "convnext",
        "ConvNextForImageClassification",
        "pixels",
        {"hidden_sizes": [32, 64], "depths": [2, 2], "num_stages": 2, "image_size": 64},
    ),
    (
        "clip",
        "CLIPModel",
        "image-text",
        {"text_config": {**_ENCODER, "eos_token_id": 2}, "vision_config": _VISION, "projection_dim": 48},
    ),
    (
        "detr",
        "DetrForObjectDetection",
        "pixels",
        {
            "d_model": 64,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 128,
            "decoder_ffn_dim": 128,
            "num_queries": 10,
            "use_timm_backbone": False,
            "use_pretrained_backbone": False,
            "backbone": None,
            "backbone_config": {
                "model_type": "resnet",
                "hidden_sizes": [16, 32, 48, 64],
                "depths": [1, 1, 1, 1],
                "embedding_size": 16,
                "layer_type": "basic",
                "out_features": ["stage4"],
            },
        },
    ),
    (
        "segformer",
        "SegformerForSemanticSegmentation",
        "pixels",
        {
            "hidden_sizes": [16, 32, 48, 64],
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 2, 3, 4],
            "decoder_hidden_size": 64,
        },
    ),
    ("wav2vec2", "Wav2Vec2ForCTC", "waveform", {**_AUDIO, **_EAGER}),
    ("hubert", "HubertForCTC", "waveform", {**_AUDIO, **_EAGER}),
)

_CACHED = ("gpt2", "gpt_neox", "opt", "llama", "mistral", "qwen2", "qwen3", "phi", "gemma2", "mixtral")
_DYNAMO = ("bert", "distilbert", "gpt2", "llama", "qwen2", "vit", "segformer")
_OPSET_24 = ("bert", "gpt2", "llama", "qwen2", "qwen3", "vit", "gemma2")


def _entry(row: Row, prefix: str, exporter: Exporter, opset: int, inputs: Inputs | None = None) -> Entry:
    name, model, usual, options = row
    return Entry(f"{prefix}_{name}", "transformers", model, exporter, opset, inputs or usual, 64, options)


def _rows() -> Iterator[Entry]:
    for row in _FAMILIES:
        yield _entry(row, "hf", "torchscript", 17)
    for row in _FAMILIES:
        yield _entry(row, "native", "native", 20)
    for row in _FAMILIES:
        if row[0] in _CACHED:
            yield _entry(row, "hf_cache", "torchscript", 17, "cached")
            yield _entry(row, "native_cache", "native", 20, "cached")
    for row in _FAMILIES:
        if row[0] in _DYNAMO:
            yield _entry(row, "dynamo_hf", "dynamo", 20)
        if row[0] in _OPSET_24:
            yield _entry(row, "native24", "native", 24)


ENTRIES: tuple[Entry, ...] = tuple(_rows())
