"""A kit: models of many widths and a script, to be timed on a machine that graphprune does not run on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from graphprune.errors import ModelError, OutputError
from graphprune.ir.names import quote
from graphprune.ir.normalise import normalise
from graphprune.ops import record_of
from graphprune.pipeline.narrowed import narrowed
from graphprune.pipeline.opened import load_to_run
from graphprune.pipeline.samples import Given, timed_feed
from graphprune.pipeline.settings import Packing
from graphprune.runtime import kit_script
from graphprune.runtime.alone import fixed_product
from graphprune.runtime.pools import Pools
from graphprune.runtime.profile import BODIES
from graphprune.runtime.session import Feeds, open_session

README = """A kit of `graphprune bench-kit`: models without weights, and what times them.

    python run.py

needs Python 3.8 or later, numpy and onnxruntime, and writes the folder `results`. Bring it back, and

    graphprune profile --from results -o device.json

makes a device profile of it. Threads and execution providers: `python run.py --help`.
"""


@dataclass(frozen=True)
class Kit:
    """What was written.

    Attributes:
        folder: of the kit.
        models: at all their widths.
        bytes: of all files.
        weights_bytes: of the random weights that the script makes beside them.
    """

    folder: str
    models: int
    bytes: int
    weights_bytes: int


def write_kit(models: Sequence[object], folder: Path, settings: Packing, inputs: Given = None) -> Kit:
    """Models, cut to random widths, and the script.

    Raises:
        ModelError: a model does not load or run.
        OutputError: the folder is there, or cannot be written.
    """
    _require_free(folder, settings.force)
    pools, names, feeds = Pools(), list[str](), list[Feeds]()
    for number, model in enumerate(models):
        settings.progress(number, len(models), "cut")
        ready = load_to_run(model, settings)
        batch = timed_feed(ready.model, inputs, settings, ready.constants)
        open_session(ready.model).run(batch, settings.timeout)
        own = ready.model.clone()
        normalise(own, record_of)
        small = (each for each in narrowed(own, settings.cuts, settings.seed) if _runs(each, batch))
        for cut, each in enumerate((own.clone(), *small)):
            pools.add(each)
            names.append(f"{number:02}-{cut:02}")
        feeds.append(batch)
    pools.add(fixed_product()[0])
    partial = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        _write(partial, pools, names, feeds)
        size = sum(path.stat().st_size for path in partial.rglob("*") if path.is_file())
        _put(partial, folder)
    except OSError as error:
        raise OutputError(f"cannot write {quote(str(folder))}: {(error.strerror or '').lower()}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Kit(str(folder), len(names), size, sum(int(str(each["bytes"])) for each in pools.described))


def _require_free(folder: Path, force: bool) -> None:
    if not folder.exists():
        return
    if not (folder / kit_script.ABOUT).is_file():
        raise OutputError(f"{quote(str(folder))} exists and is no kit", "give another folder with -o")
    if not force:
        raise OutputError(f"{quote(str(folder))} exists", "give another folder with -o, or --force")


def _runs(model: ir.Model, feeds: Feeds) -> bool:
    try:
        open_session(model).run(feeds)
    except ModelError:
        return False
    return True


def _write(folder: Path, pools: Pools, names: Sequence[str], feeds: Sequence[Feeds]) -> None:
    for name in ("models", "inputs"):
        (folder / name).mkdir(parents=True)
    told = hashlib.sha256()
    files = (*(f"{name}.onnx" for name in names), kit_script.REFERENCE)
    for file, model in zip(files, pools.models(), strict=True):
        path = folder / "models" / file
        ir.save(model, path)
        told.update(path.read_bytes())
    for number, batch in enumerate(feeds):
        np.savez(folder / "inputs" / f"{number:02}.npz", **dict(batch))  # type: ignore[arg-type]
    about = {
        "format": kit_script.FORMAT,
        "kit": told.hexdigest()[:16],
        "pools": pools.described,
        "bodies": sorted(BODIES),
        "models": list(names),
        "inputs": {name: name.partition("-")[0] for name in names},
    }
    (folder / kit_script.ABOUT).write_text(json.dumps(about, indent=1), encoding="utf-8")
    (folder / "README.txt").write_text(README, encoding="utf-8")
    script = Path(kit_script.__file__).read_text(encoding="utf-8")
    (folder / "run.py").write_text(script, encoding="utf-8")


def _put(partial: Path, folder: Path) -> None:
    """The new folder in the place of the old one, which stays where that fails."""
    if not folder.exists():
        partial.rename(folder)
        return
    old = partial.with_suffix(".old")
    folder.rename(old)
    try:
        partial.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
