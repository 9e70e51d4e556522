"""Calibration batches with what is known about their rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Array, Arrays, Bools
from graphprune.ir.shapes import Sizes, infer
from graphprune.ops import record_of
from graphprune.run import USUAL, Run
from graphprune.runtime.session import Feeds, Session
from graphprune.statistics.held import Held
from graphprune.statistics.places import Places
from graphprune.statistics.reductions import MASK, SAMPLES
from graphprune.statistics.rows import Sampling, enough, signature
from graphprune.statistics.sites import Site, find_sites

SPREAD = 1.25
"""Rows that are run per row that is taken."""
LEAST_SAMPLES = 128
"""Samples that are always run."""


class Calibration:
    """Batches of one model.

    Args:
        model: what they are for; only read.
        batches: input arrays by name.
        sites: of the model, found if None.
        sizes: of its values, inferred if None.
        axes: channel axes of values where they are not the obvious ones.
        rows: most rows of a Site that are looked at; None for as many as its columns take.
        run: how it is run, and the seed of the choice of rows.
    """

    def __init__(
        self,
        model: ir.Model,
        batches: Sequence[Feeds],
        sites: Sequence[Site] | None = None,
        *,
        sizes: Sizes | None = None,
        axes: Mapping[str, int] | None = None,
        rows: int | None = None,
        run: Run = USUAL,
    ) -> None:
        self.batches = batches
        self.sizes = sizes or infer(model, record_of)
        self.sites = tuple(sites) if sites is not None else find_sites(model, self.sizes)
        self.places = Places(model, self.sizes, self.sites, batches, axes)
        self.masks = [self.places.mask(feed) for feed in batches]
        first: dict[tuple[object, ...], str] = {}
        self.shared = {s.name: first.setdefault(signature(s), s.name) for s in self.sites}
        self._run = run
        elements = [sum(np.size(array) for array in feed.values()) for feed in batches]
        shares = [count / max(1, sum(elements)) for count in elements]
        self.samplings = [Sampling(run.seed, rows, share, number) for number, share in enumerate(shares)]

    def __len__(self) -> int:
        return len(self.batches)

    def run(self, session: Session | None, number: int, held: Arrays) -> dict[str, Array]:
        """What a session computes of a batch, and what was known of it before."""
        return next(self.runs(session, [number], {number: held}))

    def runs(
        self, session: Session | None, numbers: Iterable[int], held: Held | Mapping[int, Arrays]
    ) -> Iterator[dict[str, Array]]:
        """The same of several batches, in their order, whatever number of them runs side by side."""
        known: deque[dict[str, Array]] = deque()

        def feeds() -> Iterator[Arrays]:
            for number in numbers:
                known.append(self._known(number, held[number]))
                names = session.inputs if session is not None else ()
                yield {name: np.asarray(known[-1][name]) for name in names if name in known[-1]}

        if session is None:
            for _ in feeds():
                yield known.popleft()
            return
        for found in session.run_each(feeds(), self._run):
            yield {**known.popleft(), **found}

    def _known(self, number: int, held: Arrays) -> dict[str, Array]:
        known: dict[str, Array] = {**self.batches[number], **held}
        mask = self.masks[number]
        known[SAMPLES] = np.array([self.samples(number)], np.int64)
        if mask is not None:
            known[MASK] = mask.astype(np.float32)[..., None]
        return known

    def samples(self, number: int) -> int:
        """Samples of a batch."""
        return self.places.samples(self.batches[number])

    def row_mask(self, site: Site, number: int) -> Bools | None:
        """Which rows of a Site's columns are no padding; None for all."""
        mask = self.masks[number]
        if mask is None or site.kernel or not self.places.place(site.edge.name or "").masked:
            return None
        return np.asarray(mask.ravel())


def sufficient(
    model: ir.Model, batches: Sequence[Feeds], needs: Sequence[tuple[Site, int]], each: int
) -> Sequence[Feeds]:
    """Some of the batches, evenly spread, where they hold more rows than any Site takes.

    Rows of one sample are much alike, so that more are run than taken, and many samples in any case. A
    classifier, which has one row per sample, asks for all of them.

    Args:
        model: what they are for.
        batches: input arrays by name.
        needs: Sites that take rows, and the columns of each that are looked at.
        each: rows per column.
    """
    if not batches or not needs:
        return batches
    shapes = {name: np.shape(array) for name, array in batches[0].items()}
    sizes = infer(model, record_of, shapes)
    shares = [SPREAD * enough(columns, each) / max(1, _rows(site, sizes)) for site, columns in needs]
    samples = max((shape[0] for shape in shapes.values() if shape), default=1)
    count = int(np.ceil(max(*shares, LEAST_SAMPLES / samples)))
    if count >= len(batches):
        return batches
    return [batches[at] for at in np.linspace(0, len(batches) - 1, count).round().astype(int)]


def _rows(site: Site, sizes: Sizes) -> int:
    """Rows of a Site in one batch; none where that is not known."""
    shape = sizes.shapes.get(site.edge if site.hidden else site.output)
    if not shape or any(low != high for low, high in shape):
        return 0
    lengths = [low for low, _ in shape]
    channels = lengths[site.in_axis if site.hidden else site.out_axis]
    return prod(lengths) // max(1, channels)
