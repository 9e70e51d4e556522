"""Make a device profile that ships of the profiles of models: `python -m tools.builtin_profile MODEL...`.

What tools.profile_error measured of each model is in the cache and is used again; the rest is measured, and
recurrent nets that no model has. All is brought to one state of the machine by the fixed product that every
profile holds, rounded, and written under the name of this machine's instructions.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import onnx_ir as ir

import graphprune.runtime
from graphprune.runtime.builtin import SUFFIX
from graphprune.runtime.device import FORMAT, DeviceProfile
from tools.command import ended
from tools.profile_error import joined, profiled
from tools.zoo import store

FOLDER = Path(graphprune.runtime.__file__).parent / "profiles"
WIDTH = 256
SHOWN = ("avx512_vnni", "avx512f", "avx2", "avx", "i8mm", "asimddp", "asimd")
"""Instructions that a name holds: the first of these that the machine has."""


def name_of(profile: DeviceProfile) -> str:
    """What its file is called."""
    architecture, *words = profile.machine.features
    best = next((word for word in SHOWN if word in words), "")
    return f"{architecture}-{best}".strip("-")


def recurrent() -> Iterator[Path]:
    """Models of one LSTM or GRU, of few and many steps."""
    for operator, gates in (("LSTM", 4), ("GRU", 3)):
        for steps in (1, 32):
            path = store.cache_folder() / f"{operator.lower()}_{steps}.onnx"
            text = f"""<ir_version: 8, opset_import: ["" : 17]> net (float[{steps},1,{WIDTH}] x)
                => (float[{steps},1,1,{WIDTH}] y) {{ y = {operator}<hidden_size = {WIDTH}>(x, w, r) }}"""
            shapes = {"w": (1, gates * WIDTH, WIDTH), "r": (1, gates * WIDTH, WIDTH)}
            tensors = [ir.tensor(_drawn(shape), name=name) for name, shape in shapes.items()]
            ir.save(ir.from_onnx_text(text, initializers=tensors), path)
            yield path


def _drawn(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32) / 16


def write(paths: Sequence[Path]) -> None:
    whole = joined([profiled(path) for path in (*paths, *recurrent())])
    told = json.dumps({"format": FORMAT, **asdict(whole)}, separators=(",", ":"))
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name_of(whole)}{SUFFIX}"
    path.write_bytes(gzip.compress(told.encode(), 9, mtime=0))
    print(f"{path.name}: {len(whole.costs)} kinds of {len(paths)} models, {path.stat().st_size} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.builtin_profile", description=__doc__)
    parser.add_argument("models", type=Path, nargs="+")
    sys.exit(ended(partial(write, parser.parse_args().models)))


if __name__ == "__main__":
    main()
