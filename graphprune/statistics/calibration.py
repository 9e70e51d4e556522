"""Calibration batches with what is known about their rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphprune.ir.shapes import Sizes, infer
from graphprune.runtime.session import Session
from graphprune.statistics.places import Bools, Places
from graphprune.statistics.reductions import MASK, SAMPLES
from graphprune.statistics.rows import Sampling, signature
from graphprune.statistics.sites import Site, find_sites

Array = npt.NDArray[np.generic]
Arrays = Mapping[str, Array]
Feed = Mapping[str, np.ndarray]


class Calibration:
    """Batches of one model.

    Args:
        model: what they are for; only read.
        batches: input arrays by name.
        sites: of the model, found if None.
        sizes: of its values, inferred if None.
        axes: channel axes of values where they are not the obvious ones.
        timeout: seconds of one run.
        rows: most rows that a Gram sums per Site; None for eight per column and at least 8192.
        seed: of the choice of rows.
    """

    def __init__(
        self,
        model: ir.Model,
        batches: Sequence[Feed],
        sites: Sequence[Site] | None = None,
        *,
        sizes: Sizes | None = None,
        axes: Mapping[str, int] | None = None,
        timeout: float | None = None,
        rows: int | None = None,
        seed: int = 0,
    ) -> None:
        self.batches = batches
        self.sizes = sizes or infer(model)
        self.sites = tuple(sites) if sites is not None else find_sites(model, self.sizes)
        self.places = Places(model, self.sizes, self.sites, batches, axes)
        self.masks = [self.places.mask(feed) for feed in batches]
        first: dict[tuple[object, ...], str] = {}
        self.shared = {s.name: first.setdefault(signature(s), s.name) for s in self.sites}
        self._timeout = timeout
        elements = [sum(np.size(array) for array in feed.values()) for feed in batches]
        shares = [count / max(1, sum(elements)) for count in elements]
        self.samplings = [Sampling(seed, rows, share, number) for number, share in enumerate(shares)]

    def __len__(self) -> int:
        return len(self.batches)

    def run(self, session: Session | None, number: int, held: Arrays) -> dict[str, Array]:
        """What a session computes of a batch, and what was known of it before."""
        known: dict[str, Array] = {**self.batches[number], **held}
        if session is None:
            return known
        mask = self.masks[number]
        known[SAMPLES] = np.array([self.samples(number)], np.int64)
        if mask is not None:
            known[MASK] = mask.astype(np.float32)[..., None]
        feeds = {name: np.asarray(known[name]) for name in session.inputs if name in known}
        return {**known, **session.run(feeds, self._timeout)}

    def samples(self, number: int) -> int:
        """Samples of a batch."""
        return self.places.samples(self.batches[number])

    def row_mask(self, site: Site, number: int) -> Bools | None:
        """Which rows of a Site's columns are no padding; None for all."""
        mask = self.masks[number]
        if mask is None or site.kernel or not self.places.place(site.edge.name or "").masked:
            return None
        return np.asarray(mask.ravel())
