"""The trained models of tools.real_models, as their makers exported them."""

from __future__ import annotations

import shutil
from pathlib import Path

NAMES = (
    "sklearn-mlp",
    "keras-cnn",
    "mnist-mlp",
    "mnist-cnn",
    "mnist-resnet-se",
    "mnist-vit",
    "mnist-moe-vit",
    "crepe-tiny",
    "magika",
    "ppocr-direction",
    "ppocr-detection",
    "ppocr-recognition",
    "silero-vad",
    "deepcut",
    "attacut",
)


def write(model: str, path: Path) -> None:
    """Copies the model from where tools.real_models keeps it, trained there if need be."""
    from tools.real_models.registry import workload_named
    from tools.real_models.store import default_cache

    shutil.copyfile(workload_named(model).fetch(default_cache()), path)
