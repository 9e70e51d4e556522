"""How a loss depends on weights and on gates, measured sample by sample."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from graphprune.autograd.differentiable import Differentiable
from graphprune.autograd.gradients import Batch, Loss, gradients, hessian_vector
from graphprune.autograd.likelihood import Likelihood
from graphprune.ir.arrays import Arrays, Doubles
from graphprune.ops.torch.call import Tensor
from graphprune.run import Run

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


T = TypeVar("T")
Measure = Callable[[int, Batch, Loss], T]
"""Of one sample: its number, its inputs and its loss."""


@dataclass(frozen=True)
class Data:
    """Samples and their losses.

    Attributes:
        samples: feeds of one sample each.
        likelihood: of a model's outputs.
        run: the seed of what is drawn for each, and how many are measured side by side.
    """

    samples: Sequence[Arrays]
    likelihood: Likelihood
    run: Run

    def over(self, what: str, measure: Measure[T]) -> Iterator[T]:
        """Measures every sample; results in order, so that sums do not depend on the jobs."""
        ahead: deque[Future[T]] = deque()
        with ThreadPoolExecutor(self.run.jobs) as pool:
            for at in range(len(self.samples)):
                self.run.progress(at, len(self.samples), what)
                ahead.append(pool.submit(self._one, measure, at))
                if len(ahead) >= self.run.jobs:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def _one(self, measure: Measure[T], at: int) -> T:
        feeds = self.samples[at]
        tensors = {name: torch.from_numpy(np.array(array)) for name, array in feeds.items()}
        return measure(at, tensors, self.likelihood.loss(feeds, (self.run.seed, at)))


def moments(
    net: Differentiable, data: Data, names: Sequence[str], wanted: Iterable[str]
) -> dict[str, Elements]:
    """Means over samples of the gradients in some initializers, of their absolute values, of their powers.

    Args:
        net: the model.
        data: samples and losses.
        names: of floating initializers.
        wanted: keys of `CHANGES`.
    """
    totals = {what: _zeros(net, names) for what in wanted}

    def slopes(at: int, feeds: Batch, loss: Loss) -> Elements:
        return gradients(net, feeds, loss, names)

    for found in data.over("gradients", slopes):
        for what, total in totals.items():
            _add(total, ((name, CHANGES[what](slope)) for name, slope in found.items()), data)
    return totals


def flow(net: Differentiable, data: Data, names: Sequence[str]) -> Elements:
    """The Hessian of the mean loss times its gradient: how the norm of the gradient changes."""
    mean, total = moments(net, data, names, ["mean"])["mean"], _zeros(net, names)

    def along(at: int, feeds: Batch, loss: Loss) -> Elements:
        return hessian_vector(net, feeds, loss, mean)

    for found in data.over("second gradients", along):
        _add(total, found.items(), data)
    return total


def curvature(net: Differentiable, data: Data, names: Sequence[str]) -> Elements:
    """The diagonal of the Hessian: v * Hv, with signs v that are drawn anew for every sample (Hutchinson)."""
    total = _zeros(net, names)

    def signed(at: int, feeds: Batch, loss: Loss) -> Elements:
        draw = np.random.default_rng((data.run.seed, at))
        signs = {name: _signs(zero, draw) for name, zero in total.items()}
        along = hessian_vector(net, feeds, loss, signs)
        return {name: signs[name] * along[name] for name in names}

    for found in data.over("second gradients", signed):
        _add(total, found.items(), data)
    return total


def gate_gradients(net: Differentiable, data: Data, gates: Arrays) -> dict[str, Doubles]:
    """The gradients in inputs that are gates, as they are: [samples, gates] by name."""
    rows: dict[str, list[Doubles]] = {name: [] for name in gates}
    tensors = {name: torch.from_numpy(array) for name, array in gates.items()}

    def slopes(at: int, feeds: Batch, loss: Loss) -> Elements:
        return gradients(net, {**feeds, **tensors}, loss, gates)

    for found in data.over("gradients", slopes):
        for name, slope in found.items():
            rows[name].append(slope.double().numpy(force=True))
    return {name: np.stack(found) for name, found in rows.items()}


def _signs(like: Tensor, draw: np.random.Generator) -> Tensor:
    return torch.from_numpy(draw.integers(0, 2, tuple(like.shape), np.int8)).to(like) * 2 - 1


def _zeros(net: Differentiable, names: Iterable[str]) -> Elements:
    return {name: torch.zeros_like(net.parameters[name]) for name in names}


def _add(totals: Elements, found: Iterable[tuple[str, Tensor]], data: Data) -> None:
    for name, tensor in found:
        totals[name].add_(tensor, alpha=1 / len(data.samples))
