"""Whether a choice of samples beats random draws: how well it repeats the second moments of the pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Floats, Ids
from graphprune.ir.shapes import Sizes
from graphprune.run import USUAL, Run
from graphprune.runtime.data import batches
from graphprune.runtime.session import open_session
from graphprune.sampling.choose import draw
from graphprune.sampling.features import CHUNK, chunks
from graphprune.sampling.pool import Pool
from graphprune.statistics.rows import signature, source
from graphprune.statistics.sites import Site, find_sites

DRAWS, LAYERS = 10, 5
POSITIONS = 64  # rows looked at per sample and layer
COLUMNS = 600  # wider layers are passed over: their moments would take most of the time
BEYOND = 2.0  # standard deviations


@dataclass(frozen=True)
class Judgement:
    """Relative errors of second moments |H_S - H| / |H|, averaged over layers.

    Attributes:
        layers: weights of the layers looked at.
        error: of the choice.
        draws: of ten random choices of the same size.
    """

    layers: tuple[str, ...]
    error: float
    draws: tuple[float, ...]

    @property
    def deviations(self) -> float:
        """How many standard deviations the choice lies below the mean of the draws."""
        spread = float(np.std(self.draws, ddof=1))
        return (float(np.mean(self.draws)) - self.error) / spread if spread > 0 else 0.0

    @property
    def verdict(self) -> str:
        """Better or worse only beyond two standard deviations."""
        if self.deviations > BEYOND:
            return "better than random draws"
        return (
            "worse than random draws" if self.deviations < -BEYOND else "no measurable gain over random draws"
        )


def judge(
    model: ir.Model,
    sizes: Sizes,
    pool: Pool,
    numbers: Ids,
    *,
    run: Run = USUAL,
) -> Judgement | None:
    """Run the pool once more and compare; None where no layer is narrow enough."""
    sites = spread(find_sites(model, sizes))
    if not sites or len(numbers) >= pool.count:
        return None
    choices = [numbers, *(draw(pool.count, len(numbers), run.seed + 1 + each) for each in range(DRAWS))]
    member = np.zeros((1 + len(choices), pool.count), dtype=bool)
    member[0] = True
    for number, chosen in enumerate(choices):
        member[1 + number, chosen] = True
    inputs = {value.name for value in model.graph.inputs}
    edges = {site.edge.name or "" for site in sites}
    session = open_session(model, extra_outputs=sorted(edges - inputs), exact=True)
    moments = [np.zeros((len(member), site.blocks, site.columns, site.columns)) for site in sites]
    for taken, arrays in chunks(pool, run.progress, "comparing with random draws"):
        feeds = list(batches(arrays, model, CHUNK))
        found = [{**feed, **made} for feed, made in zip(feeds, session.run_each(feeds, run), strict=True)]
        for site, total in zip(sites, moments, strict=True):
            rows = np.concatenate([_rows(site, each[site.edge.name or ""]) for each in found])
            _add(total, rows, member[:, taken.start : taken.stop])
    errors = np.mean([_errors(total, member.sum(1)) for total in moments], axis=0)
    return Judgement(tuple(site.name for site in sites), float(errors[0]), tuple(map(float, errors[1:])))


def spread(sites: Sequence[Site]) -> tuple[Site, ...]:
    """Some layers with different inputs, from the first to the last."""
    first: dict[object, Site] = {}
    for site in sites:
        if site.columns <= COLUMNS and site.columns > 1:
            first.setdefault(signature(site), site)
    narrow = list(first.values())
    if not narrow:
        return ()
    at = np.unique(np.linspace(0, len(narrow) - 1, LAYERS).round().astype(int))
    return tuple(narrow[each] for each in at)


def _rows(site: Site, edge: np.ndarray) -> np.ndarray:
    """Evenly spaced rows of each sample [samples, blocks, rows, columns]."""
    found = source(site, edge)
    valid = found.valid(None).reshape(len(edge), -1)
    picks = np.unique(np.linspace(0, valid.shape[1] - 1, min(POSITIONS, valid.shape[1])).astype(int))
    rows = np.asarray(found.take(valid[:, picks].ravel()))
    return rows.reshape(site.blocks, len(edge), len(picks), -1).transpose(1, 0, 2, 3)


def _add(total: Floats, rows: np.ndarray, member: np.ndarray) -> None:
    """Add the moments of the samples that each choice holds."""
    each = len(rows) // member.shape[1]  # feeds of a stack hold several rows per sample
    for number, inside in enumerate(member):
        chosen = rows[np.repeat(inside, each)]
        if len(chosen):
            flat = chosen.transpose(1, 0, 2, 3).reshape(rows.shape[1], -1, rows.shape[3])
            total[number] += np.matmul(flat.transpose(0, 2, 1), flat)


def _errors(total: Floats, counts: Ids) -> Floats:
    """Of every choice against the pool, which comes first."""
    means = total.reshape(len(total), -1) / counts[:, None]
    apart = np.linalg.norm(means[1:] - means[0], axis=1)
    return np.asarray(apart / max(float(np.linalg.norm(means[0])), np.finfo(np.float64).tiny))
