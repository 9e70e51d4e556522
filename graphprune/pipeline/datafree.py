"""Calibration without data: noise, and moments that BatchNormalizations imply where there are some."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from graphprune.pipeline.collecting import Collector

if TYPE_CHECKING:
    import onnx_ir as ir

    from graphprune.pipeline.passes import Context
    from graphprune.run import Run
    from graphprune.statistics.measures import Statistics, Wanted

    Feed = Mapping[str, np.ndarray]

BATCHES, SAMPLES = 8, 8


@dataclass
class Assumed(Collector):
    """Measures on noise, and replaces each Gram that the weights themselves imply."""

    def collect(self, model: ir.Model, batches: tuple[Feed, ...], wanted: Wanted, run: Run) -> Statistics:
        """What is wanted."""
        from graphprune.statistics.assumed import assumed_gram
        from graphprune.statistics.sites import find_sites

        sites = {site.name: site for site in find_sites(model)}
        implied = {name: assumed_gram(sites[name]) for name in sorted(wanted.grams) if name in sites}
        grams = {name: gram for name, gram in implied.items() if gram is not None}
        rest = dataclasses.replace(wanted, grams=wanted.grams - grams.keys())
        measured = super().collect(model, batches, rest, run)
        shared = {site: by for site, by in measured.shared.items() if site not in grams}
        return dataclasses.replace(measured, grams={**measured.grams, **grams}, shared=shared)


def noise(model: ir.Model, context: Context) -> tuple[dict[str, np.ndarray], ...]:
    """Uniform noise of mean 0 and variance 1 for every float input, seeded; other inputs as for a proof."""
    from scipy.special import ndtr

    from graphprune.runtime.inputs import default_inputs, runnable_inputs

    first = runnable_inputs(model, context.shapes, SAMPLES, run=context.run)
    shapes = {name: array.shape for name, array in first.items()}
    return tuple(
        default_inputs(
            model, shapes, context.seed + 1 + number, noise=lambda x: np.sqrt(3) * (2 * ndtr(x) - 1)
        )
        for number in range(BATCHES)
    )
