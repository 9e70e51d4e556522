"""What a compile leaves behind: the model, its plan, and nothing else whatever happens."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from graphprune.errors import OutputError
from graphprune.ir.load import Source
from graphprune.ir.names import quote
from graphprune.ir.save import save
from graphprune.pipeline.planfile import PlanFile

if TYPE_CHECKING:
    import onnx_ir as ir


def plan_path(output: Path) -> Path:
    """small.onnx → small.plan.json."""
    return output.with_suffix(".plan.json")


def require_free(output: Path, source: Source, overwrite: bool) -> None:
    """Refuse an output that is the input, has no folder, or exists.

    Raises:
        OutputError: saying which.
    """
    name = quote(str(output))
    inputs = [path for path in (source.path, *source.external_files) if path is not None]
    if output.exists() and any(output.samefile(path) for path in inputs):
        raise OutputError(f"the output {name} is the input", "choose another name: inputs are never touched")
    if output.is_dir():
        raise OutputError(f"the output {name} is a folder", f"name a file in it: {output / 'model.onnx'}")
    if not output.parent.is_dir():
        raise OutputError(
            f"the output's folder {quote(str(output.parent))} does not exist", "create it first"
        )
    if output.suffix in ("", ".json", ".safetensors", ".data"):
        raise OutputError(f"the output {name} has no model suffix", f"name it {output.stem}.onnx")
    if output.exists() and not overwrite:
        raise OutputError(f"the output {name} exists", "--force replaces it")


def write(model: ir.Model, output: Path, source: Source, plan: PlanFile) -> tuple[str, ...]:
    """Save the model with its plan beside it; the plan is staged first, so that either all or none appear.

    Raises:
        OutputError: a file cannot be written.
    """
    with _staged(output, plan) as staged:
        files = save(model, output, source)
        for temporary, final in staged:
            temporary.replace(final)
    if not plan.tensors:
        plan_path(output).with_suffix(".safetensors").unlink(missing_ok=True)  # of an earlier compile
    return (*_as_given(output, files), *(str(final) for _, final in staged))


def _as_given(output: Path, files: tuple[Path, ...]) -> tuple[str, ...]:
    """The written files as the user would name them, unless a link leads elsewhere."""
    return tuple(str(path if output.is_symlink() else output.with_name(path.name)) for path in files)


@contextmanager
def _staged(output: Path, plan: PlanFile) -> Iterator[list[tuple[Path, Path]]]:
    """Plan files under temporary names, and the names they will get."""
    final = plan_path(output)
    finals = [final, final.with_suffix(".safetensors")] if plan.tensors else [final]
    pairs = [(path.with_name(f"{path.name}.tmp.{os.getpid()}"), path) for path in finals]
    try:
        pairs[0][0].write_text(json.dumps(plan.to_json(), indent=1) + "\n", encoding="utf-8")
        if plan.tensors:
            from safetensors.numpy import save_file

            save_file(plan.tensors, pairs[1][0])
        yield pairs
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OutputError(f"cannot write {quote(str(final))}: {reason}", "nothing was left behind") from None
    finally:
        for temporary, _ in pairs:
            temporary.unlink(missing_ok=True)


def copy(source: Source, output: Path) -> tuple[str, ...]:
    """The source under another name: the same bytes, unless weights beside it must get a name of their own.

    Raises:
        OutputError: the file cannot be written.
    """
    if source.path is None or source.had_external:
        return _as_given(output, save(source.model, output, source))
    temporary = output.with_name(f"{output.name}.tmp.{os.getpid()}")
    try:
        shutil.copyfile(source.path, temporary)
        temporary.replace(output)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OutputError(f"cannot write {quote(str(output))}: {reason}", "nothing was left behind") from None
    finally:
        temporary.unlink(missing_ok=True)
    return (str(output),)
