"""A loss without labels (docs/autograd.md#losses-without-labels)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx_ir as ir
import torch
from torch.nn import functional as F  # noqa: N812

from graphprune.autograd.gradients import Loss
from graphprune.axes.outputs import Judged, judged
from graphprune.errors import DataError
from graphprune.ir.arrays import Arrays
from graphprune.ops.torch.call import Tensor
from graphprune.runtime.gaps import HALF, next_tokens, real_tokens


@dataclass(frozen=True)
class Likelihood:
    """How unlikely a model finds labels that it gives itself: the mean over positions of -log p.

    Next-token logits are judged on the tokens that follow, numbers that are no distribution on what they are
    plus N(0, their variance), so that the mean of squared gradients is Fisher's.

    Attributes:
        outputs: what each output holds; several count alike.
        drawn: labels are drawn from the model's own distribution (the true Fisher information) instead of
            being its most likely ones.
        temperature: what logits are divided by.
    """

    outputs: tuple[Judged, ...]
    drawn: bool = False
    temperature: float = 1.0

    @classmethod
    def of(cls, model: ir.Model, drawn: bool = False, temperature: float = 1.0) -> Likelihood:
        """The loss of a model.

        Raises:
            DataError: no output has a gradient.
        """
        outputs = tuple(item for item in judged(model) if item.kind != "exact")
        if not outputs:
            raise DataError("the model has no floating output, so no loss has a gradient")
        return cls(outputs, drawn, temperature)

    def answers(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What of every output is the model's answer: one in all, at the likeliest class of every position.

        Decisions share it by those that are positive, other numbers equally.
        """
        return {item.name: _answer(item, outputs[item.name]) for item in self.outputs}

    def loss(self, feeds: Arrays, seed: Sequence[int]) -> Loss:
        """The loss on one batch of inputs; what is drawn depends on the seed alone."""
        return partial(self._loss, feeds, seed)

    def _loss(self, feeds: Arrays, seed: Sequence[int], outputs: dict[str, Tensor]) -> Tensor:
        draw = np.random.default_rng(seed)
        return torch.stack([self._term(item, outputs[item.name], feeds, draw) for item in self.outputs]).sum()

    def _term(self, item: Judged, found: Tensor, feeds: Arrays, draw: np.random.Generator) -> Tensor:
        if item.kind == "scores":
            return self._decided(found, draw)
        if item.kind == "values":
            return _noisy(found, draw)
        rows = self._rows(item, found)
        real = real_tokens(feeds)
        if item.kind == "tokens" and feeds[item.tokens].shape == found.shape[:2] and found.shape[1] > 1:
            after, use = next_tokens(feeds[item.tokens], real)
            if len(after):
                return F.nll_loss(rows[torch.from_numpy(use)], torch.from_numpy(after).to(rows.device))
        if real is not None and found.shape[:2] == real.shape and item.axis % found.ndim > 1:
            rows = rows[torch.from_numpy(np.repeat(real.ravel(), len(rows) // real.size))]
        return F.nll_loss(rows, self._labels(rows.detach(), draw))

    def _rows(self, item: Judged, found: Tensor) -> Tensor:
        """Log-probabilities [positions, classes]."""
        rows = found.movedim(item.axis, -1).flatten(0, -2)
        if item.scale == "probabilities":
            rows = rows.clamp_min(torch.finfo(rows.dtype).tiny).log()
        return F.log_softmax(rows / self.temperature, dim=-1)

    def _labels(self, rows: Tensor, draw: np.random.Generator) -> Tensor:
        if not self.drawn:
            return rows.argmax(-1)
        level = torch.from_numpy(draw.random((len(rows), 1))).to(rows)
        below = rows.exp().cumsum(-1) < level
        return below.sum(-1).clamp_max(rows.shape[-1] - 1)

    def _decided(self, found: Tensor, draw: np.random.Generator) -> Tensor:
        """Of scores in [0, 1]."""
        chance = torch.from_numpy(draw.random(tuple(found.shape))).to(found) if self.drawn else HALF
        small = torch.finfo(found.dtype).eps
        return F.binary_cross_entropy(found.clamp(small, 1 - small), (found.detach() > chance).to(found))


def _answer(item: Judged, found: Tensor) -> Tensor:
    if item.kind in ("classes", "tokens"):
        best = found.argmax(item.axis, keepdim=True)
        chosen = torch.zeros_like(found).scatter_(item.axis, best, 1.0)
    elif item.kind == "scores" and bool((found > HALF).any()):
        chosen = (found > HALF).to(found)
    else:
        chosen = torch.ones_like(found)
    return chosen / chosen.sum()


def _noisy(found: Tensor, draw: np.random.Generator) -> Tensor:
    """Half the squared distance from what a normal distribution around the values draws, in its units."""
    values = found[found.isfinite()]
    spread = values.detach().std(unbiased=False) if values.numel() else values.sum()
    noise = torch.from_numpy(draw.standard_normal(values.numel())).to(values)
    if not spread > 0:
        spread = torch.ones_like(spread)
    target = values.detach() + spread * noise
    return ((values - target) / spread).square().sum() / (2 * max(1, values.numel()))
