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
