"""Models of other tools: what a file or a folder is, and the line that makes an ONNX file of it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from graphprune.errors import ModelError
from graphprune.ir.names import quote

EXPORT = 'torch.onnx.export(model, example_inputs, "model.onnx", dynamo=True)'
TF2ONNX = "python -m tf2onnx.convert"


@dataclass(frozen=True)
class Foreign:
    """Another format: what it is, and how to convert it; `{path}` stands for the file."""

    what: str
    how: str


_TORCH = Foreign("a file of PyTorch", f"load it in Python, then {EXPORT}")
_ENGINE = Foreign("a TensorRT engine", "nothing converts one back: give the ONNX file that it was built from")
_KERAS = Foreign("a file of Keras", f"{TF2ONNX} --keras {{path}} --output model.onnx")
BY_SUFFIX = {
    ".pt": _TORCH,
    ".pth": _TORCH,
    ".ckpt": _TORCH,
    ".pt2": _TORCH,
    ".safetensors": Foreign(
        "weights without a graph",
        "optimum-cli export onnx --model FOLDER out/ for a folder of transformers; else load them in Python, "
        f"then {EXPORT}",
    ),
    ".tflite": Foreign("a TensorFlow Lite model", f"{TF2ONNX} --tflite {{path}} --output model.onnx"),
    ".engine": _ENGINE,
    ".trt": _ENGINE,
    ".h5": _KERAS,
    ".keras": _KERAS,
}
NO_MODEL = "not an ONNX model"
BY_CONTENT: tuple[tuple[int, bytes, Foreign], ...] = (
    (4, b"TFL3", BY_SUFFIX[".tflite"]),
    (0, b"ftrt", _ENGINE),
    (8, b'{"', BY_SUFFIX[".safetensors"]),
)
"""Where the first bytes tell, whatever the name of the file."""


def refuse_foreign(head: bytes, path: Path) -> None:
    """Name the model of another tool by its first bytes.

    Raises:
        ModelError: it is one; the hint converts it.
    """
    for at, magic, found in BY_CONTENT:
        if head[at : at + len(magic)] == magic:
            raise _foreign(found, path)


def explained(error: ModelError, path: Path) -> ModelError:
    """An error of a file that is no ONNX model, with what its name says it is."""
    suffix = path.suffix.lower()
    if suffix in BY_SUFFIX and "not an ONNX model" in error.message:
        return _foreign(BY_SUFFIX[suffix], path)
    if error.message.startswith(NO_MODEL):
        error = ModelError(f"{quote(str(path))} is {error.message}", error.hint)
    if suffix == ".pb":
        error.hint = _graph_hint(path)
    return error


def _foreign(found: Foreign, path: Path) -> ModelError:
    how = found.how.format(path=shlex.quote(str(path)))
    return ModelError(f"{quote(str(path))} is {found.what}, not an ONNX model", how)


def _graph_hint(path: Path) -> str:
    """How a graph of TensorFlow becomes ONNX."""
    if path.name == "saved_model.pb":
        return f"{TF2ONNX} --saved-model {shlex.quote(str(path.parent))} --output model.onnx"
    graph = f"{TF2ONNX} --graphdef {shlex.quote(str(path))} --inputs X:0 --outputs Y:0 --output model.onnx"
    return f"a graph of TensorFlow becomes one by {graph}"


def folder_error(path: Path) -> ModelError:
    """What a folder is where a model was wanted."""
    where = quote(str(path))
    models = sorted(path.glob("*.onnx"))
    if models:
        return ModelError(
            f"{where} is a folder", f"it holds {', '.join(quote(str(each)) for each in models[:4])}"
        )
    if (path / "saved_model.pb").exists():
        return ModelError(f"{where} is a SavedModel of TensorFlow", _graph_hint(path / "saved_model.pb"))
    if (path / "config.json").exists():
        export = f"optimum-cli export onnx --model {shlex.quote(str(path))} out/"
        return ModelError(f"{where} is a folder of transformers", export)
    return ModelError(f"{where} is a folder, not a model file")
