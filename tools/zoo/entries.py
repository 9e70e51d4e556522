"""What the zoo holds, and the names of the first 24."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from tools.zoo import foreign, language, vision
from tools.zoo.entry import Entry

CORE = (
    "alexnet",
    "vgg16_bn",
    "resnet18",
    "resnet50",
    "resnext50_32x4d",
    "densenet121",
    "googlenet",
    "squeezenet1_1",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "shufflenet_v2_x1_0",
    "convnext_tiny",
    "vit_b_16",
    "swin_t",
    "repvgg_a0",
    "dla34",
    "hrnet_w18_small",
    "ghostnet_100",
    "mixer_s16",
    "pvt_v2_b0",
    "deit_tiny",
    "cspdarknet53",
    "mobilevit_s",
)


def entries(pattern: str = "*") -> Sequence[Entry]:
    """The rows whose name matches a glob (`core` stands for the first 24), in table order.

    Raises:
        LookupError: nothing matches.
    """
    rows = (*vision.ENTRIES, *language.ENTRIES, *foreign.ENTRIES)
    chosen = [
        row for row in rows if (row.name in CORE if pattern == "core" else fnmatch.fnmatch(row.name, pattern))
    ]
    if not chosen:
        raise LookupError(
            f"no entry of the zoo matches '{pattern}' (names are in the Model column of docs/coverage.md)"
        )
    return chosen
