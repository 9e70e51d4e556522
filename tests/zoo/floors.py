"""Parameters kept at 0.5 at most, and groups that may shrink at least, as measured by `tools.zoo check`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Floor:
    """Limits of one graph.

    Attributes:
        kept: share of the parameters, at most.
        groups: number, at least.
    """

    kept: float
    groups: int


FLOORS = {
    "resnet18": Floor(0.265, 12),
    "squeezenet1_1": Floor(0.360, 25),
    "mobilenet_v3_small": Floor(0.360, 27),
    "shufflenet_v2_x0_5": Floor(0.445, 86),
    "regnet_y_400mf": Floor(0.280, 53),
    "densenet121": Floor(0.290, 120),
    "lraspp_mobilenet_v3_large": Floor(0.260, 30),
    "convnextv2_atto": Floor(0.285, 16),
    "deit_tiny": Floor(0.245, 37),
    "mobilevit_s": Floor(0.250, 53),
    "poolformer_s12": Floor(0.265, 16),
    "levit_128s": Floor(0.235, 50),
    "xcit_nano_12": Floor(0.265, 38),
    "ghostnet_100": Floor(0.320, 31),
    "vit_tiny_r_s16": Floor(0.225, 39),
    "mobilevitv2_050": Floor(0.305, 36),
    "resnest14d": Floor(0.300, 19),
    "ecaresnet26t": Floor(0.285, 23),
    "shvit_s1": Floor(0.270, 45),
    "efficientvit_m0": Floor(0.280, 65),
    "edgenext_xx_small": Floor(0.295, 24),
    "hf_bert": Floor(0.270, 10),
    "hf_deberta_v2": Floor(0.335, 9),
    "hf_albert": Floor(0.265, 7),
    "hf_distilbert": Floor(0.265, 10),
    "hf_mpnet": Floor(0.270, 9),
    "hf_modernbert": Floor(0.255, 8),
    "hf_gpt2": Floor(0.295, 9),
    "hf_gpt_neox": Floor(0.295, 10),
    "hf_opt": Floor(0.305, 9),
    "hf_bloom": Floor(0.285, 6),
    "hf_llama": Floor(0.290, 10),
    "hf_qwen2": Floor(0.290, 10),
    "hf_qwen3": Floor(0.290, 10),
    "hf_phi": Floor(0.300, 12),
    "hf_gemma2": Floor(0.295, 10),
    "hf_stablelm": Floor(0.290, 12),
    "hf_falcon": Floor(0.305, 6),
    "hf_mamba": Floor(0.350, 7),
    "hf_t5": Floor(0.275, 20),
    "hf_bart": Floor(0.290, 23),
    "hf_vit": Floor(0.330, 9),
    "hf_beit": Floor(0.325, 9),
    "hf_dinov2": Floor(0.310, 9),
    "hf_swin": Floor(0.255, 18),
    "hf_convnext": Floor(0.285, 6),
    "hf_clip": Floor(0.300, 19),
    "hf_detr": Floor(0.215, 33),
    "hf_segformer": Floor(0.250, 27),
    "hf_wav2vec2": Floor(0.220, 12),
    "hf_cache_gpt2": Floor(0.295, 9),
    "hf_cache_llama": Floor(0.290, 10),
    "hf_cache_qwen3": Floor(0.290, 10),
    "native_mixtral": Floor(0.195, 7),
    "native_qwen3_moe": Floor(0.215, 7),
    "native_llama": Floor(0.350, 5),
    "native_bert": Floor(0.270, 10),
    "dynamo_hf_llama": Floor(0.290, 10),
    "dynamo_hf_segformer": Floor(0.250, 27),
}
