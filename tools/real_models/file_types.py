"""Magika, file type from content: files of this machine whose extension leaves no doubt."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import sysconfig
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graphprune.errors import DataError

from .session import input_name, open_session, run_batched
from .store import copied, shipped
from .workload import Arrays, Evaluation, Kind, ModelSource, Workload

MODEL = "models/standard_v3_3/model.onnx"
CONFIG = "models/standard_v3_3/config.min.json"
HEAD = TAIL = 1024
BLOCK, PADDING = 4096, 256
SMALLEST, PER_TYPE = 64, 30
FIXTURES = {"test", "tests", "testing", "testdata"}  # broken files on purpose: their extension is no promise
LABELS = {
    ".c": "c", ".cpp": "cpp", ".css": "css", ".csv": "csv", ".gz": "gzip", ".html": "html", ".ipynb": "ipynb",
    ".js": "javascript", ".json": "json", ".md": "markdown", ".npy": "npy", ".npz": "npz", ".onnx": "onnx",
    ".pdf": "pdf", ".png": "png", ".py": "python", ".pyc": "pythonbytecode", ".rs": "rust", ".rst": "rst",
    ".sh": "shell", ".so": "elf", ".sql": "sql", ".svg": "svg", ".toml": "toml", ".ttf": "ttf", ".wav": "wav",
    ".xml": "xml", ".yaml": "yaml", ".zip": "zip",
}  # fmt: skip


@cache
def candidates() -> dict[str, tuple[str, ...]]:
    """Paths by extension below the standard library, site-packages and share, in the order of their hash."""
    named = sysconfig.get_paths()
    roots = {named["stdlib"], named["purelib"], f"{sys.base_prefix}/share"}
    groups: dict[str, set[str]] = {suffix: set() for suffix in LABELS}
    for root in sorted(roots):
        for folder, inner, names in os.walk(root):
            inner[:] = [name for name in inner if name not in FIXTURES]
            for name in names:
                suffix = f".{name.rpartition('.')[2]}"
                if suffix in groups:
                    groups[suffix].add(f"{folder}/{name}")
    return {suffix: tuple(sorted(paths, key=fingerprint)) for suffix, paths in groups.items()}


def fingerprint(path: str) -> str:
    """Hash of the last two parts of a path: the same on every machine that has the file."""
    return hashlib.sha256("/".join(Path(path).parts[-2:]).encode()).hexdigest()


def files(second: bool) -> list[tuple[Path, str]]:
    """Files with their label, at most PER_TYPE of each; the halves share no file and no content."""
    seen: set[bytes] = set()
    chosen: list[tuple[Path, str]] = []
    for suffix, label in LABELS.items():
        taken = {False: 0, True: 0}
        for number, name in enumerate(candidates()[suffix]):
            half, path = number % 2 == 1, Path(name)
            if taken[half] >= PER_TYPE or not path.is_file() or path.stat().st_size < SMALLEST:
                continue
            digest = hashlib.sha256(path.read_bytes()).digest()
            if digest in seen:
                continue
            seen.add(digest)
            taken[half] += 1
            if half == second:
                chosen.append((path, label))
            if min(taken.values()) >= PER_TYPE:
                break
    if not chosen:
        raise DataError("found no files with a known extension", "install a complete Python")
    np.random.default_rng(6001).shuffle(chosen)  # so that any prefix is a sample
    return chosen


def features(path: Path) -> NDArray[np.int32]:
    """First and last 1024 bytes without the white space around them, padded with 256 [2048]."""
    content = path.read_bytes()
    head, tail = content[:BLOCK].lstrip()[:HEAD], content[-BLOCK:].rstrip()[-TAIL:]
    row = np.full(HEAD + TAIL, PADDING, dtype=np.int32)
    row[: len(head)] = np.frombuffer(head, dtype=np.uint8)
    if tail:
        row[-len(tail) :] = np.frombuffer(tail, dtype=np.uint8)
    return row


@cache
def labels() -> tuple[str, ...]:
    """Label of each output."""
    return tuple(json.loads(shipped("magika", CONFIG).read_text())["target_labels_space"])


def evaluate(model: ModelSource, limit: int | None = None) -> Evaluation:
    """Share of files whose type is told right."""
    chosen = files(second=False)[:limit]
    session = open_session(model)
    output = run_batched(
        session, {input_name(session): np.stack([features(path) for path, _ in chosen])}, batch=32
    )
    known = labels()
    right = [known[best] == label for best, (_, label) in zip(output.argmax(1), chosen, strict=True)]
    items = np.array(right, dtype=np.float64)
    return Evaluation({"accuracy": float(items.mean())}, items)


def calibration(count: int) -> Arrays:
    """Bytes [n,2048] of other files."""
    return {"bytes": np.stack([features(path) for path, _ in files(second=True)[:count]])}


WORKLOADS = (
    Workload(
        name="magika",
        kind=Kind.GROUND_TRUTH,
        metric="file type of real files",
        expected=0.96,
        about="JAX through TensorFlow: embedding, dense layers, GlobalMaxPool, no convolution",
        fetch=copied("magika", MODEL, "magika"),
        evaluate=evaluate,
        calibration=calibration,
    ),
)
