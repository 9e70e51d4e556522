"""Vision rows: torchvision classification, video, segmentation and detection; timm families."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tools.zoo.entry import Entry, Inputs

_TORCHVISION: tuple[tuple[str, int], ...] = (
    ("alexnet", 224),
    ("vgg16_bn", 224),
    ("resnet18", 224),
    ("resnet50", 224),
    ("resnext50_32x4d", 224),
    ("densenet121", 224),
    ("googlenet", 224),
    ("squeezenet1_1", 224),
    ("mobilenet_v2", 224),
    ("mobilenet_v3_large", 224),
    ("efficientnet_b0", 224),
    ("shufflenet_v2_x1_0", 224),
    ("convnext_tiny", 224),
    ("vit_b_16", 224),
    ("swin_t", 224),
    ("vgg11", 224),
    ("resnet34", 224),
    ("wide_resnet50_2", 224),
    ("inception_v3", 299),
    ("squeezenet1_0", 224),
    ("mnasnet0_5", 224),
    ("mobilenet_v3_small", 224),
    ("efficientnet_v2_s", 224),
    ("regnet_x_400mf", 224),
    ("regnet_y_400mf", 224),
    ("shufflenet_v2_x0_5", 224),
    ("swin_v2_t", 256),
    ("maxvit_t", 224),
    ("densenet161", 224),
    ("vit_b_32", 224),
)

_TORCHVISION_OTHER: tuple[tuple[str, Inputs, int], ...] = (
    ("r3d_18", "video", 112),
    ("mc3_18", "video", 112),
    ("r2plus1d_18", "video", 112),
    ("s3d", "video", 224),
    ("mvit_v2_s", "video", 224),
    ("swin3d_t", "video", 112),
    ("deeplabv3_mobilenet_v3_large", "image", 224),
    ("deeplabv3_resnet50", "image", 224),
    ("fcn_resnet50", "image", 224),
    ("lraspp_mobilenet_v3_large", "image", 224),
    ("ssd300_vgg16", "detection", 300),
    ("ssdlite320_mobilenet_v3_large", "detection", 320),
    ("retinanet_resnet50_fpn", "detection", 256),
    ("fcos_resnet50_fpn", "detection", 256),
    ("fasterrcnn_mobilenet_v3_large_320_fpn", "detection", 256),
    ("maskrcnn_resnet50_fpn", "detection", 256),
    ("keypointrcnn_resnet50_fpn", "detection", 256),
    ("raft_small", "flow", 128),
)

# Reduced depth and width where a family has no small member: the topology is what the zoo is for.
_SMALL_VIT = {"depth": 4, "embed_dim": 192, "num_heads": 3}

_TIMM: tuple[tuple[str, str, int], ...] = (
    ("repvgg_a0", "repvgg_a0", 224),
    ("dla34", "dla34", 224),
    ("hrnet_w18_small", "hrnet_w18_small", 224),
    ("ghostnet_100", "ghostnet_100", 224),
    ("mixer_s16", "mixer_s16_224", 224),
    ("pvt_v2_b0", "pvt_v2_b0", 224),
    ("deit_tiny", "deit_tiny_patch16_224", 224),
    ("cspdarknet53", "cspdarknet53", 256),
    ("mobilevit_s", "mobilevit_s", 256),
    ("cait_xxs24", "cait_xxs24_224", 224),
    ("coat_lite_tiny", "coat_lite_tiny", 224),
    ("convit_tiny", "convit_tiny", 224),
    ("convmixer_1024_20", "convmixer_1024_20_ks9_p14", 224),
    ("convnextv2_atto", "convnextv2_atto", 224),
    ("crossvit_tiny", "crossvit_tiny_240", 240),
    ("cs3darknet_s", "cs3darknet_s", 256),
    ("davit_tiny", "davit_tiny", 224),
    ("dpn48b", "dpn48b", 224),
    ("edgenext_xx_small", "edgenext_xx_small", 256),
    ("efficientformer_l1", "efficientformer_l1", 224),
    ("efficientformerv2_s0", "efficientformerv2_s0", 224),
    ("tf_efficientnetv2_b0", "tf_efficientnetv2_b0", 192),
    ("mixnet_s", "mixnet_s", 224),
    ("efficientvit_b0", "efficientvit_b0", 224),
    ("efficientvit_m0", "efficientvit_m0", 224),
    ("eva02_tiny", "eva02_tiny_patch14_224", 224),
    ("fasternet_t0", "fasternet_t0", 224),
    ("fastvit_t8", "fastvit_t8", 256),
    ("focalnet_tiny", "focalnet_tiny_srf", 224),
    ("gcvit_xxtiny", "gcvit_xxtiny", 224),
    ("ghostnetv2_100", "ghostnetv2_100", 224),
    ("hardcorenas_a", "hardcorenas_a", 224),
    ("hgnetv2_b0", "hgnetv2_b0", 224),
    ("hiera_tiny", "hiera_tiny_224", 224),
    ("inception_next_atto", "inception_next_atto", 224),
    ("inception_v4", "inception_v4", 299),
    ("inception_resnet_v2", "inception_resnet_v2", 299),
    ("levit_128s", "levit_128s", 224),
    ("mambaout_femto", "mambaout_femto", 224),
    ("coatnet_nano", "coatnet_nano_rw_224", 224),
    ("poolformer_s12", "poolformer_s12", 224),
    ("caformer_s18", "caformer_s18", 224),
    ("gmlp_s16", "gmlp_s16_224", 224),
    ("resmlp_12", "resmlp_12_224", 224),
    ("lcnet_050", "lcnet_050", 224),
    ("fbnetc_100", "fbnetc_100", 224),
    ("tinynet_e", "tinynet_e", 106),
    ("mobilenetv4_conv_small", "mobilenetv4_conv_small", 224),
    ("mobileone_s0", "mobileone_s0", 224),
    ("mobilevitv2_050", "mobilevitv2_050", 256),
    ("mvitv2_tiny", "mvitv2_tiny", 224),
    ("nest_tiny", "nest_tiny", 224),
    ("nextvit_small", "nextvit_small", 224),
    ("nf_regnet_b0", "nf_regnet_b0", 192),
    ("eca_nfnet_l0", "eca_nfnet_l0", 224),
    ("pit_ti", "pit_ti_224", 224),
    ("repghostnet_050", "repghostnet_050", 224),
    ("repvit_m0_9", "repvit_m0_9", 224),
    ("res2net50_14w_8s", "res2net50_14w_8s", 224),
    ("resnest14d", "resnest14d", 224),
    ("resnetv2_50", "resnetv2_50", 224),
    ("ecaresnet26t", "ecaresnet26t", 256),
    ("rexnet_100", "rexnet_100", 224),
    ("selecsls42b", "selecsls42b", 224),
    ("legacy_seresnet18", "legacy_seresnet18", 224),
    ("sequencer2d_s", "sequencer2d_s", 224),
    ("shvit_s1", "shvit_s1", 224),
    ("skresnet18", "skresnet18", 224),
    ("starnet_s1", "starnet_s1", 224),
    ("swiftformer_xs", "swiftformer_xs", 224),
    ("swinv2_cr_tiny", "swinv2_cr_tiny_ns_224", 224),
    ("tiny_vit_5m", "tiny_vit_5m_224", 224),
    ("tresnet_m", "tresnet_m", 224),
    ("twins_svt_small", "twins_svt_small", 224),
    ("twins_pcpvt_small", "twins_pcpvt_small", 224),
    ("visformer_tiny", "visformer_tiny", 224),
    ("vit_tiny_r_s16", "vit_tiny_r_s16_p8_224", 224),
    ("vitamin_small", "vitamin_small_224", 224),
    ("volo_d1", "volo_d1_224", 224),
    ("ese_vovnet19b_dw", "ese_vovnet19b_dw", 224),
    ("xception41", "xception41", 299),
    ("xcit_nano_12", "xcit_nano_12_p16_224", 224),
    ("bat_resnext26ts", "bat_resnext26ts", 256),
    ("eca_halonext26ts", "eca_halonext26ts", 256),
    ("lambda_resnet26t", "lambda_resnet26t", 256),
    ("gernet_s", "gernet_s", 224),
    ("rdnet_tiny", "rdnet_tiny", 224),
)

_TIMM_SMALL_VIT = (
    ("beit_small", "beit_base_patch16_224"),
    ("deit3_small", "deit3_small_patch16_224"),
    ("vit_relpos_small", "vit_relpos_small_patch16_224"),
    ("vit_reg4_small", "vit_small_patch16_224"),
)

# The same modules through torch's newer exporter: other node forms, other names.
_DYNAMO = (
    "alexnet",
    "resnet18",
    "resnet50",
    "resnext50_32x4d",
    "densenet121",
    "googlenet",
    "squeezenet1_1",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "shufflenet_v2_x0_5",
    "convnext_tiny",
    "vit_b_32",
    "swin_t",
    "regnet_y_400mf",
    "mnasnet0_5",
    "lraspp_mobilenet_v3_large",
    "repvgg_a0",
    "ghostnet_100",
    "mixer_s16",
    "pvt_v2_b0",
    "deit_tiny",
    "mobilevit_s",
    "convnextv2_atto",
    "levit_128s",
    "poolformer_s12",
    "xcit_nano_12",
    "eva02_tiny",
)


def _torchscript() -> Iterator[Entry]:
    for name, size in _TORCHVISION:
        # googlenet and inception warn, slowly, unless told how to initialise.
        options = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
        yield Entry(name, "torchvision", name, size=size, options=options)
    for name, factory, size in _TIMM:
        yield Entry(name, "timm", factory, size=size)
    for name, factory in _TIMM_SMALL_VIT:
        yield Entry(name, "timm", factory, options=_SMALL_VIT)
    for name, inputs, size in _TORCHVISION_OTHER:
        backbone: dict[str, Any] = {} if inputs in ("video", "flow") else {"weights_backbone": None}
        if name == "ssd300_vgg16":  # hundreds of random boxes would trade places by rounding
            backbone |= {"detections_per_img": 8, "topk_candidates": 16}
        single = name == "mvit_v2_s"  # attention over 25 089 x 6 273 positions
        yield Entry(name, "torchvision", name, inputs=inputs, size=size, options=backbone, single=single)


def _dynamo(rows: tuple[Entry, ...]) -> Iterator[Entry]:
    for row in rows:
        if row.name in _DYNAMO:
            yield Entry(
                f"dynamo_{row.name}", row.library, row.model, "dynamo", 20, row.inputs, row.size, row.options
            )


_ROWS = tuple(_torchscript())
ENTRIES: tuple[Entry, ...] = (*_ROWS, *_dynamo(_ROWS))
