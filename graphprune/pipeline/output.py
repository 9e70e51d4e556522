"""What a compile leaves behind: the model, its plan, and nothing else whatever happens."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from graphprune.errors import OutputError
from graphprune.ir.digested import Digested
from graphprune.ir.load import Source
from graphprune.ir.names import quote
from graphprune.ir.paths import is_folder
from graphprune.ir.publish import (
    create,
    identity,
    publish,
    refuse_unsafe,
    settle,
    temporaries,
    unwritable,
)
from graphprune.ir.save import save
from graphprune.pipeline.planfile import PlanFile
from graphprune.pipeline.report import Json

if TYPE_CHECKING:
    import onnx_ir as ir

_NO_MODEL = ("", ".json", ".safetensors", ".data", ".toml", ".npz", ".npy", ".html")


def plan_path(output: Path) -> Path:
    """small.onnx → small.plan.json."""
    return output.with_suffix(".plan.json")


def require_free(output: Path, source: Source, others: Sequence[Path], overwrite: bool) -> None:
    """Refuse an output that is an input, has no folder, or exists, whatever name or link leads to it.

    Args:
        output: where the model goes.
        source: the model's own files are inputs.
        others: more inputs: a plan, samples.
        overwrite: accept files that exist.

    Raises:
        OutputError: saying which.
    """
    name = quote(str(output))
    inputs = [path for path in (source.path, *source.external_files, *others) if path is not None]
    if identity(output) in {identity(path) for path in inputs} - {None}:
        raise OutputError(f"the output {name} is the input", "choose another name: inputs are never touched")
    if is_folder(output):
        raise OutputError(f"the output {name} is a folder", f"name a file in it: {output / 'model.onnx'}")
    if not is_folder(output.parent):
        raise OutputError(
            f"the output's folder {quote(str(output.parent))} does not exist", "create it first"
        )
    if output.suffix in _NO_MODEL:
        raise OutputError(f"the output {name} has no model suffix", f"name it {output.stem}.onnx")
    refuse_unsafe(_finals(output), inputs)
    settle(Path(os.path.realpath(output)), _plans(output), inputs)
    for final in _finals(output) if not overwrite else ():
        if os.path.lexists(final):
            raise OutputError(f"the output {quote(str(final))} exists", "--force replaces it")


def require_apart(statistics: Path, output: Path | None, inputs: Sequence[Path]) -> None:
    """Refuse a file of statistics that is an input or goes where the result goes.

    Raises:
        OutputError: saying which.
    """
    refuse_unsafe([statistics], inputs)
    if output is None:
        return
    if statistics.resolve() in {final.resolve() for final in _finals(output)}:
        raise OutputError(
            f"--statistics {quote(str(statistics))} is where the result goes", "choose another name"
        )


def _plans(output: Path) -> tuple[Path, Path]:
    plan = plan_path(output)
    return plan, plan.with_suffix(".safetensors")


def _finals(output: Path) -> tuple[Path, ...]:
    """Names that a compile may give; weights beside the model have one that nothing else has."""
    return (output, *_plans(output))


@dataclass(frozen=True)
class Sparse:
    """Initializers to write as sparse tensors, and what looks at the written file before it gets its name."""

    names: frozenset[str]
    verify: Callable[[Path], None]


def write(
    model: ir.Model,
    output: Path,
    source: Source,
    plan: PlanFile,
    *,
    overwrite: bool,
    sparse: Sparse | None = None,
) -> dict[str, str]:
    """Save the model with its plan beside it, either all files or none; their names, with SHA-256.

    Raises:
        OutputError: a file cannot be written.
    """
    finals = _plans(output)
    kept = finals if plan.tensors else finals[:1]
    try:
        linked = output.is_symlink()
        with temporaries(kept) as staged:
            digests = _stage(plan, staged)
            gone = [(None, path) for path in finals[len(kept) :]]  # of an earlier compile
            beside = [*zip(staged, kept, strict=True), *gone]
            names, verify = (sparse.names, sparse.verify) if sparse else (frozenset[str](), None)
            files = save(
                model, output, source, overwrite=overwrite, beside=beside, sparse=names, verify=verify
            )
    except OSError as error:
        raise unwritable(finals[0], error) from None
    return _as_given(output, linked, files) | dict(zip(map(str, kept), digests, strict=True))


def _stage(plan: PlanFile, paths: Sequence[Path]) -> list[str]:
    """Write the plan, and its tensors if it has any; the SHA-256 of each."""
    contents = [(_indented(plan.to_json(), "\n") + "\n").encode()]
    if plan.tensors:
        from safetensors.numpy import save as serialise

        contents.append(serialise(plan.tensors))
    for path, content in zip(paths, contents, strict=True):
        with create(path) as file:
            file.write(content)
    return [hashlib.sha256(content).hexdigest() for content in contents]


def _indented(value: Json, line: str) -> str:
    """JSON with a line per key; a list of numbers stays on one line, which both people and encoders like."""
    deeper = line + " "
    if isinstance(value, dict) and value:
        items = [f"{json.dumps(key)}: {_indented(item, deeper)}" for key, item in value.items()]
        return "{" + deeper + ("," + deeper).join(items) + line + "}"
    if not isinstance(value, list) or not value or set(map(type, value)) <= {int, float}:
        return json.dumps(value)
    return "[" + deeper + ("," + deeper).join(_indented(item, deeper) for item in value) + line + "]"


def _as_given(output: Path, linked: bool, files: Mapping[Path, str]) -> dict[str, str]:
    """The written files as the user would name them, unless a link leads elsewhere."""
    return {str(path if linked else output.with_name(path.name)): digest for path, digest in files.items()}


def model_bytes(output: Path, files: Iterable[str]) -> int:
    """What was written, without the plan."""
    plans = {os.path.realpath(path) for path in _plans(output)}
    return sum(Path(name).stat().st_size for name in files if os.path.realpath(name) not in plans)


def copy(source: Source, output: Path, *, overwrite: bool) -> dict[str, str]:
    """The source under another name: the same bytes, unless weights beside it must get a name of their own.

    A plan that an earlier compile left under this name goes: it is of another model.

    Returns:
        The SHA-256 of the files written, by name.

    Raises:
        OutputError: the file cannot be written.
    """
    gone = [(None, path) for path in _plans(output)]
    if source.path is None or source.had_external:
        linked = output.is_symlink()
        files = save(source.model, output, source, overwrite=overwrite, beside=gone)
        return _as_given(output, linked, files)
    target = Path(os.path.realpath(output))
    try:
        refuse_unsafe([target], [source.path])
        with temporaries([target]) as (temporary,):
            with source.path.open("rb") as data, create(temporary) as file:
                copied = Digested(file)
                shutil.copyfileobj(data, copied)
            publish((temporary, target), gone, overwrite=overwrite)
    except OSError as error:
        raise unwritable(output, error) from None
    return {str(output): copied.digest}
