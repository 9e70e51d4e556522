"""torch-pruning's side, starting from the module in memory, which is where its users start."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import torch
import torch_pruning
from torch import nn

from tools.bench_peers.measure import best_of
from tools.bench_peers.result import RATIO, Result
from tools.zoo.build import build
from tools.zoo.entries import entries


def _module(path: Path) -> tuple[nn.Module, torch.Tensor]:
    """The module behind the exported file, and one image; torch-pruning's examples trace with one."""
    built = build(entries(path.stem)[0])
    return built.source, next(iter(built.example.tensors.values()))[:1].clone()


def _head(model: nn.Module) -> nn.Module:
    """The classifier, whose outputs are the model's interface and may not shrink."""
    return [module for module in model.modules() if isinstance(module, nn.Linear)][-1]


def _heads(model: nn.Module) -> dict[nn.Module, int]:
    """Attention by its number of heads, as channel groups: every head keeps as many dimensions.

    That is how torch-pruning's example prunes torchvision's transformers. Given as `num_heads` instead, it
    cuts nothing of an nn.MultiheadAttention, whose heads and hidden width are one and the same group.
    """
    return {
        module: module.num_heads for module in model.modules() if isinstance(module, nn.MultiheadAttention)
    }


def _tell_width(model: nn.Module) -> None:
    """The ViT of torchvision reshapes to a width it holds as a number, which its user has to set."""
    from torchvision.models import VisionTransformer  # only after tools.zoo.build has made it importable

    if isinstance(model, VisionTransformer):
        model.hidden_dim = model.conv_proj.out_channels


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def trace_and_group(path: Path, repetitions: int) -> Result:
    """Builds the dependency graph and enumerates every group."""
    module, image = _module(path)
    ignored = [_head(module)]
    found: list[int] = []

    def work() -> None:
        graph = torch_pruning.DependencyGraph().build_dependency(module, example_inputs=image)
        found.append(len(list(graph.get_all_groups(ignored_layers=ignored))))

    region = best_of(lambda: work, repetitions)
    return Result(region, groups=found[-1])


def prune(path: Path, repetitions: int) -> Result:
    """`MagnitudePruner.step()` with L1 scores, local scope; the copy of the module is outside the region."""
    module, image = _module(path)
    pruned: list[nn.Module] = []

    def prepare() -> Callable[[], None]:
        fresh = copy.deepcopy(module)

        def work() -> None:
            pruner = torch_pruning.pruner.MagnitudePruner(
                fresh,
                image,
                importance=torch_pruning.importance.MagnitudeImportance(p=1),
                global_pruning=False,
                pruning_ratio=RATIO,
                ignored_layers=[_head(fresh)],
                out_channel_groups=_heads(fresh),
            )
            pruner.step()
            _tell_width(fresh)

        pruned[:] = [fresh]
        return work

    region = best_of(prepare, repetitions)
    kept = _parameters(pruned[0]) / _parameters(module)
    try:
        with torch.no_grad():
            pruned[0](image)
        return Result(region, kept=kept, runs=True)
    except Exception as error:
        return Result(region, kept=kept, runs=False, note=str(error).splitlines()[0][:120])
