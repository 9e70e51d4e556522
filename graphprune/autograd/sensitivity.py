"""How a loss depends on weights and on gates, measured sample by sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from graphprune.autograd.differentiable import Differentiable
from graphprune.autograd.gradients import Batch, Loss, gradients, hessian_vector
from graphprune.autograd.likelihood import Likelihood
from graphprune.ir.arrays import Arrays, Doubles
from graphprune.ops.torch.call import Tensor
from graphprune.run import Progress

Elements = dict[str, Tensor]
"""By name of an initializer, in its shape."""
CHANGES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda slope: slope,
    "absolute": torch.Tensor.abs,
    "square": torch.Tensor.square,
    "cube": lambda slope: slope**3,
    "fourth": lambda slope: slope**4,
}
"""What is averaged of the gradients of samples."""


@dataclass(frozen=True)
class Data:
    """Samples and their losses.

    Attributes:
        samples: feeds of one sample each.
        likelihood: of a model's outputs.
        seed: of what is drawn for each.
        progress: told how far the work is.
    """

    samples: Sequence[Arrays]
    likelihood: Likelihood
    seed: int
    progress: Progress

    def each(self, what: str) -> Iterator[tuple[int, Batch, Loss]]:
        """The number of every sample, its inputs, and its loss."""
        for at, feeds in enumerate(self.samples):
            self.progress(at, len(self.samples), what)
            tensors = {name: torch.from_numpy(np.array(array)) for name, array in feeds.items()}
            yield at, tensors, self.likelihood.loss(feeds, (self.seed, at))


def moments(
    net: Differentiable, data: Data, names: Sequence[str], wanted: Iterable[str]
) -> dict[str, Elements]:
    """Means over samples of the gradients in some initializers, of their absolute values, of their squares.

    Args:
        net: the model.
        data: samples and losses.
        names: of floating initializers.
        wanted: keys of `CHANGES`.
    """
    totals = {what: _zeros(net, names) for what in wanted}
    for _, feeds, loss in data.each("gradients"):
        found = gradients(net, feeds, loss, names)
        for what, total in totals.items():
            _add(total, ((name, CHANGES[what](slope)) for name, slope in found.items()), data)
    return totals


def flow(net: Differentiable, data: Data, names: Sequence[str]) -> Elements:
    """The Hessian of the mean loss times its gradient: how the norm of the gradient changes."""
    mean = moments(net, data, names, ["mean"])["mean"]
    total = _zeros(net, names)
    for _, feeds, loss in data.each("second gradients"):
        _add(total, hessian_vector(net, feeds, loss, mean).items(), data)
    return total


def curvature(net: Differentiable, data: Data, names: Sequence[str]) -> Elements:
    """The diagonal of the Hessian, v * Hv signs v drawn anew for every sample (Hutchinson's estimate)."""
    total = _zeros(net, names)
    for at, feeds, loss in data.each("second gradients"):
        draw = np.random.default_rng((data.seed, at))
        signs = {name: _signs(zero, draw) for name, zero in _zeros(net, names).items()}
        along = hessian_vector(net, feeds, loss, signs)
        _add(total, ((name, signs[name] * along[name]) for name in names), data)
    return total


def gate_gradients(net: Differentiable, data: Data, gates: Arrays) -> dict[str, Doubles]:
    """The gradients in inputs that are gates, as they are: [samples, gates] by name."""
    rows: dict[str, list[Doubles]] = {name: [] for name in gates}
    tensors = {name: torch.from_numpy(array) for name, array in gates.items()}
    for _, feeds, loss in data.each("gradients"):
        for name, slope in gradients(net, {**feeds, **tensors}, loss, gates).items():
            rows[name].append(slope.double().numpy(force=True))
    return {name: np.stack(found) for name, found in rows.items()}


def _signs(like: Tensor, draw: np.random.Generator) -> Tensor:
    return torch.from_numpy(draw.integers(0, 2, tuple(like.shape), np.int8)).to(like) * 2 - 1


def _zeros(net: Differentiable, names: Iterable[str]) -> Elements:
    return {name: torch.zeros_like(net.parameters[name]) for name in names}


def _add(totals: Elements, found: Iterable[tuple[str, Tensor]], data: Data) -> None:
    for name, tensor in found:
        totals[name].add_(tensor, alpha=1 / len(data.samples))
