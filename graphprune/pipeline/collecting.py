"""Statistics of a compile: measured once per model and data, kept in memory and in a file if one is named."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy
    import onnx_ir as ir

    from graphprune.pipeline.scorebook import Scorebook
    from graphprune.run import Run
    from graphprune.statistics.measures import Statistics, Wanted

    Feed = Mapping[str, numpy.ndarray]


@dataclass
class Collector:
    """What is known so far.

    Args:
        path: file that an earlier compile left, and that this one leaves; None keeps nothing.
        scores: that earlier compiles found; None finds them anew.
    """

    path: Path | None = None
    scores: Scorebook | None = None
    _known: dict[str, Statistics] = field(default_factory=dict)
    _stored: dict[str, Statistics] | None = None
    _data: tuple[tuple[Feed, ...], str] | None = None
    _model: tuple[ir.Model, str] | None = None

    def collect(self, model: ir.Model, batches: tuple[Feed, ...], wanted: Wanted, run: Run) -> Statistics:
        """What is wanted; only what is not known yet is measured.

        Raises:
            DataError: the file holds no statistics.
            OutputError: the file cannot be written.
        """
        from graphprune.statistics.collect import collect
        from graphprune.statistics.measures import Statistics

        key = self.key(model, batches, run.seed)
        known = self._known.get(key) or self._from_file().get(key) or Statistics()
        missing = known.missing(wanted)
        if self.path is None:
            self._known.clear()  # of a model that an earlier pass saw: Grams are large
        self._known[key] = known
        if missing.empty:
            return known
        new = collect(model, batches, missing, run=run)
        self._known[key] = known | new
        self._save()
        return self._known[key]

    def key(self, model: ir.Model, batches: tuple[Feed, ...], seed: int) -> str:
        """What follows from a model, data and a seed is the same for the same key."""
        from graphprune.pipeline import fingerprint

        if self._model is None or self._model[0] is not model:
            self._model = (model, f"{fingerprint.structure(model)}/{fingerprint.weights(model)}")
        data = self._data_hash(batches)
        return hashlib.sha256(f"{self._model[1]}/{data}/{seed}".encode()).hexdigest()

    def _data_hash(self, batches: tuple[Feed, ...]) -> str:
        if self._data is None or self._data[0] is not batches:
            self._data = (batches, _hash(batches))
        return self._data[1]

    def _from_file(self) -> dict[str, Statistics]:
        from graphprune.ir.publish import refuse_unsafe
        from graphprune.statistics import store

        if self.path is None:
            return {}
        if self._stored is None:
            refuse_unsafe([self.path], [])
            self._stored = store.load(self.path)
        return self._stored

    def _save(self) -> None:
        """What this compile used replaces what an earlier one left; from now on it is read from the file."""
        from graphprune.statistics import store

        if self.path is not None:
            store.save(self.path, self._known)
            self._known = store.load(self.path)


def _hash(batches: Sequence[Feed]) -> str:
    import numpy as np

    digest = hashlib.sha256()
    for feed in batches:
        for name in sorted(feed):
            array = np.ascontiguousarray(feed[name])
            content = repr(array.tolist()).encode() if array.dtype == object else array.view(np.uint8).data
            digest.update(f"{name}:{array.dtype}:{array.shape}:{zlib.crc32(content)}\n".encode())
    return digest.hexdigest()
