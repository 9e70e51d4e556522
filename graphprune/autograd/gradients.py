"""What gradients are asked for: of any value, per sample, and of gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch

from graphprune.autograd.differentiable import Differentiable, Gates
from graphprune.errors import ArgumentError, DataError
from graphprune.ops.torch.call import Tensor

Loss = Callable[[Mapping[str, Tensor]], Tensor]
"""One number from the outputs by name."""
Batch = Mapping[str, Tensor]


def gradients(
    net: Differentiable, feeds: Batch, loss: Loss, names: Iterable[str], gates: Gates | None = None
) -> dict[str, Tensor]:
    """The gradient of a loss in parameters, inputs or any other values of the main graph.

    Args:
        net: the model.
        feeds: inputs by name.
        loss: of the model's outputs.
        names: of floating values; parameters need not be trainable.
        gates: as in `Differentiable.run`.

    Raises:
        DataError: there is no such value, or it is not made of floating numbers.
    """
    wanted = list(dict.fromkeys(names))
    parameters = {name: _leaf(net.parameters[name]) for name in wanted if name in net.parameters}
    inner = [name for name in wanted if name not in parameters]
    taps = [name for name in inner if name not in net.outputs]
    hooks = {**(gates or {}), **dict.fromkeys(inner, _differentiable)}
    found = net.run(feeds, [*net.outputs, *taps], parameters=parameters, gates=hooks)
    for name in inner:
        if not found[name].requires_grad:
            raise DataError(f"the value {name!r} is not made of floating numbers", "name another value")
    at = {**found, **parameters}
    slopes = _slopes(loss({name: found[name] for name in net.outputs}), [at[name] for name in wanted])
    return dict(zip(wanted, slopes, strict=True))


def _slopes(value: Tensor, at: Sequence[Tensor], *, again: bool = False) -> list[Tensor]:
    """The gradient of a number; zero in what it does not depend on."""
    if not value.requires_grad:
        return [torch.zeros_like(each) for each in at]
    found = torch.autograd.grad(value, at, allow_unused=True, create_graph=again)
    return [torch.zeros_like(e) if slope is None else slope for e, slope in zip(at, found, strict=True)]


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_()


def _differentiable(value: Tensor) -> Tensor:
    plain = value.requires_grad or not value.is_floating_point()
    return value if plain else _leaf(value)


def per_sample(
    net: Differentiable,
    feeds: Batch,
    loss: Loss,
    names: Iterable[str],
    *,
    shared: Iterable[str] = (),
    vectorised: bool = False,
) -> dict[str, Tensor]:
    """The gradient of the loss of every sample by itself: [samples, *shape] by name of a parameter.

    Args:
        net: the model.
        feeds: inputs by name; axis 0 counts samples.
        loss: of the outputs for one sample, which keep an axis 0 of size 1.
        names: of parameters.
        shared: inputs that all samples share, as they are.
        vectorised: all samples at once (torch.func.vmap) instead of one after the other; for graphs without
            operators whose result's shape depends on data.

    Raises:
        ArgumentError: there is no such parameter.
        DataError: inputs hold different numbers of samples.
    """
    chosen = {name: _parameter(net, name) for name in names}
    common = set(shared)
    split = {name: tensor for name, tensor in feeds.items() if name not in common}
    fixed = {name: tensor for name, tensor in feeds.items() if name in common}
    counts = {len(tensor) for tensor in split.values()}
    if len(counts) != 1:
        raise DataError(f"inputs hold {sorted(counts)} samples", "name what all samples share in shared=")

    def one(parameters: Batch, sample: Batch) -> Tensor:
        whole = {name: tensor.unsqueeze(0) for name, tensor in sample.items()}
        return loss(net.run({**fixed, **whole}, parameters=parameters))

    slope = torch.func.grad(one)
    if vectorised:
        found: dict[str, Tensor] = torch.func.vmap(slope, (None, 0))(chosen, split)
        return found
    rows = [slope(chosen, {n: t[at] for n, t in split.items()}) for at in range(counts.pop())]
    return {name: torch.stack([row[name] for row in rows]) for name in chosen}


def hessian_vector(
    net: Differentiable, feeds: Batch, loss: Loss, vector: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The Hessian of a loss in some parameters times a vector, by name of a parameter.

    Raises:
        ArgumentError: there is no such parameter.
    """
    at = {name: _leaf(_parameter(net, name)) for name in vector}
    value = loss(net.run(feeds, parameters=at))
    first = _slopes(value, list(at.values()), again=True)
    along = torch.stack([(g * vector[name]).sum() for g, name in zip(first, at, strict=True)]).sum()
    return dict(zip(at, _slopes(along, list(at.values())), strict=True))


def _parameter(net: Differentiable, name: str) -> Tensor:
    if name not in net.parameters:
        raise ArgumentError(f"no floating initializer is named {name!r}", "see net.parameters")
    return net.parameters[name].detach()
