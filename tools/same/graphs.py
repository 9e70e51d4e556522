"""What is compiled: graphs and their samples, made once by this checkout and read by both states."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx_ir as ir

from graphprune.errors import ArgumentError, DataError
from graphprune.runtime.inputs import default_inputs

from .sides import ROOT

SAMPLES = 32
DRAWN = 300
"""Seeds among which those are looked for that together show every block of the fuzzer."""
DEFAULT = "shipped,zoo,fuzz:18"
SETS = "shipped, zoo[:GLOB], real[:GLOB], fuzz[:COUNT[:FIRST SEED]], or the path of an .onnx file"
PIPELINES = {
    "canonicalize": "canonicalize",
    "prune": "prune(ratio=0.4)",
    "obspa": "obspa(macs=0.6)",
    "flap": "flap(ratio=0.3)",
    "wanda-sp": "wanda-sp(ratio=0.3)",
    "cfsp": "cfsp(ratio=0.3)",
    "minitron": "minitron(ratio=0.3)",
    "depth": "depth(ratio=0.25)",
    "experts": "experts(ratio=0.25)",
    "pagcp": "pagcp(macs=0.8)",
    "magnitude": "magnitude(ratio=0.5)",
    "wanda": "wanda(ratio=0.5, repair=refit)",
    "nowag": "nowag(pattern=2:4)",
    "sparsegpt": "sparsegpt(ratio=0.5)",
    "gblm": "gblm(ratio=0.5)",
    "d-pruner": "d-pruner(ratio=0.5)",
    "gaprune": "gaprune(ratio=0.5)",
    "llm-pruner": "llm-pruner(ratio=0.3)",
    "recover": "recover(steps=2)",
}
"""One pipeline for every pass, by its name."""
BLIND = frozenset({"canonicalize", "prune", "magnitude"})
"""Passes that run without calibration data."""


@dataclass(frozen=True)
class Graph:
    """One graph to compile.

    Attributes:
        name: as reports call it, `fuzz-3`.
        model: the file.
        calibration: samples for it, an .npz.
        fix: inputs that become constants.
    """

    name: str
    model: Path
    calibration: Path
    fix: Mapping[str, float] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Of the contents of its files."""
        found = hashlib.sha256(self.model.read_bytes())
        found.update(self.calibration.read_bytes())
        return found.hexdigest()[:16]


def graphs(wanted: str, folder: Path) -> list[Graph]:
    """The graphs of a list of sets.

    Raises:
        ArgumentError: no such set.
    """
    found: list[Graph] = []
    for each in wanted.split(","):
        kind, _, rest = each.strip().partition(":")
        if kind in MAKERS:
            found += MAKERS[kind](rest, folder)
        elif Path(each).is_file():
            found.append(_file(Path(each), folder))
        else:
            raise ArgumentError(f"no graphs are called '{each}'", f"--graphs takes {SETS}")
    return found


def _samples(name: str, model: ir.Model, folder: Path) -> Path:
    """Generated feeds side by side, one more axis in front of each input."""
    path = folder / f"{name}.npz"
    if not path.exists():
        feeds = [default_inputs(model, seed=seed, batch=1) for seed in range(SAMPLES)]
        _save(path, {key: np.stack([feed[key] for feed in feeds]) for key in feeds[0]})
    return path


def _save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    np.savez(path, **arrays)  # type: ignore[arg-type]


def _file(path: Path, folder: Path) -> Graph:
    """A model, and the .npz beside it if there is one."""
    beside = path.with_suffix(".npz")
    name = path.stem
    return Graph(
        name, path.resolve(), beside.resolve() if beside.exists() else _samples(name, ir.load(path), folder)
    )


def _shipped(rest: str, folder: Path) -> Iterator[Graph]:
    for model in sorted((ROOT / "models").glob("*/model.onnx")):
        with np.load(model.with_name("calibration.npz")) as arrays:
            few = {name: arrays[name][: 2 * SAMPLES] for name in arrays}
        path = folder / f"{model.parent.name}.npz"
        if not path.exists():
            _save(path, few)
        yield Graph(model.parent.name, model, path)


def _fuzz(rest: str, folder: Path) -> Iterator[Graph]:
    """By seed from a first one on, or those with the most blocks that the seeds before them do not have."""
    from tools.fuzz.generate import generate

    count, _, first = rest.partition(":")
    number = int(count or 18)
    for seed in range(int(first), int(first) + number) if first else telling(number):
        path = folder / f"fuzz-{seed}.onnx"
        graph = generate(seed)
        if not path.exists():
            ir.save(graph.model, path)
        yield Graph(path.stem, path, _samples(path.stem, graph.model, folder))


def telling(count: int) -> list[int]:
    """Seeds of the fuzzer, each with the most blocks that those before it lack."""
    from tools.fuzz.generate import generate

    trails = {seed: set(generate(seed).trail) for seed in range(DRAWN)}
    chosen: list[int] = []
    seen: set[str] = set()
    while len(chosen) < count:
        best = max(sorted(trails.keys() - set(chosen)), key=lambda seed: len(trails[seed] - seen))
        chosen.append(best)
        seen |= trails[best]
    return chosen


def _zoo(rest: str, folder: Path) -> Iterator[Graph]:
    """Rows that need no torch, and whatever else lies exported in the zoo's cache."""
    from tools.zoo import entries, foreign, store

    for entry in entries.entries(rest or "*"):
        path = store.cache_folder() / f"{entry.name}.onnx"
        bare = entry.library in foreign.FRAMEWORKS and "torch" not in foreign.FRAMEWORKS[entry.library].needs
        if not path.exists() and bare and entry.library != "trained" and not foreign.missing(entry):
            foreign.export(entry, path)
        if path.exists():
            yield Graph(entry.name, path, _samples(entry.name, ir.load(path), folder))


def _real(rest: str, folder: Path) -> Iterator[Graph]:
    """Trained models whose packages are installed."""
    from tools.real_models.registry import WORKLOADS
    from tools.real_models.store import default_cache

    for workload in WORKLOADS:
        if workload.large or not fnmatch.fnmatch(workload.name, rest or "*"):
            continue
        path = folder / f"{workload.name}.npz"
        try:
            model = workload.fetch(default_cache())
            if not path.exists():
                _save(path, workload.calibration(2 * SAMPLES))
        except DataError:
            continue
        yield Graph(workload.name, model, path, workload.fixed)


MAKERS = {"shipped": _shipped, "zoo": _zoo, "real": _real, "fuzz": _fuzz}
