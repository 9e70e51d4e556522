"""Random weights under which a proof means something: no zero heads, no flat BatchNorm."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

SEED = 0
JITTER = 0.05


def _jitter_constants(model: nn.Module) -> None:
    """Adds small noise to every parameter initialised to one constant (zero heads, layer scales)."""
    for parameter in model.parameters():
        if (
            parameter.is_floating_point()
            and parameter.numel() > 1
            and bool((parameter == parameter.flatten()[0]).all())
        ):
            parameter.add_(torch.randn_like(parameter) * JITTER)


def _settle_batch_norms(model: nn.Module, forward: Callable[[], object]) -> None:
    """Gives BatchNorm the statistics of one random batch: deep random networks neither vanish nor explode."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    norms = [module for module in norms if module.track_running_stats]
    if not norms:
        return
    momenta = [module.momentum for module in norms]
    for module in norms:
        module.momentum = 1.0
        module.train()
    forward()
    for module, momentum in zip(norms, momenta, strict=True):
        module.momentum = momentum
        module.eval()
        assert module.running_var is not None
        module.running_var.clamp_(min=1e-3)


def _settle_scales(model: nn.Module, forward: Callable[[], object]) -> None:
    """Gives every layer of a network without norms results of unit spread, where a random batch passes it.

    Layer-sequential unit variance (Mishkin and Matas 2016): otherwise VGG's signal dies on its way, all
    scores of a detector on top of it are equal, and which boxes it returns is chance.
    """
    norms = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
    if any(isinstance(module, norms) for module in model.modules()):
        return

    def settle(layer: nn.Module, given: object, result: torch.Tensor) -> torch.Tensor:
        spread = result.std()
        if not spread > 0:  # one element, or nothing but zeros
            return result
        layer.weight.div_(spread)  # type: ignore[operator]
        if layer.bias is not None:
            layer.bias.div_(spread)  # type: ignore[operator]
        return result / spread

    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(settle) for layer in layers]
    forward()
    for hook in hooks:
        hook.remove()


@torch.no_grad()
def randomise(model: nn.Module, forward: Callable[[], object]) -> None:
    """Makes a freshly built model's function depend on every weight; deterministic after `torch.manual_seed`.

    Args:
        model: the module, in eval mode; edited in place.
        forward: runs the model once on a random batch of at least two items.
    """
    torch.manual_seed(SEED + 1)
    _jitter_constants(model)
    _settle_batch_norms(model, forward)
    _settle_scales(model, forward)
