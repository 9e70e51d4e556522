"""Gradients of whole nets are those of the modules that they were exported from, parameter by parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import torch

pytestmark = [pytest.mark.zoo, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def timm_net(name: str, **options: object) -> tuple[torch.nn.Module, Mapping[str, torch.Tensor]]:
    import torch

    from tools.zoo import shim

    shim.install()
    import timm

    torch.manual_seed(0)
    module = timm.create_model(name, exportable=True, num_classes=10, **options)
    return module, {"input": torch.randn(2, 3, 64, 64)}


def nets(name: str) -> tuple[torch.nn.Module, Mapping[str, torch.Tensor]]:
    from tools.torch_speed import llama, resnet

    if name == "resnet18":
        return resnet(2, 64)
    if name == "llama":
        return llama(128, 2, 16, 2)
    return timm_net(name, **({"img_size": 64} if "vit" in name else {}))


def settle(module: torch.nn.Module) -> None:
    """Statistics and zero-initialised scales as of a net that was trained: no gradient is zero by chance."""
    import torch

    torch.manual_seed(1)
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if tensor.is_floating_point() and name.rsplit(".")[-1] in (
                "weight",
                "gamma",
                "running_mean",
                "bias",
            ):
                tensor.add_(0.05 * torch.randn_like(tensor))
            if name.endswith("running_var"):
                tensor.mul_(1 + 0.2 * torch.rand_like(tensor))


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenetv3_small_050", "vit_tiny_patch16_224", "convnext_atto", "llama"]
)
def test_every_parameter_has_the_gradient_of_its_module(name: str) -> None:
    import torch

    from tools.torch_speed import twin

    module, example = nets(name)
    settle(module)
    pair = twin(module, example, precision="float64")
    parameters = pair.net.trainable()
    native, mine = pair.outputs()
    assert torch.allclose(native, mine, rtol=1e-6, atol=1e-6 * float(native.abs().max()))
    for output in (native, mine):
        output.square().mean().backward()
    expected = {key: tensor.grad for key, tensor in pair.module.named_parameters() if tensor.grad is not None}
    assert len(expected) == len(dict(module.named_parameters()))
    for key, slope in expected.items():
        found = parameters[key].grad
        assert found is not None, key
        scale = float(slope.abs().max())
        assert scale and float((found - slope).abs().max()) <= 1e-5 * scale, key


@pytest.mark.timed
def test_forward_and_backward_take_at_most_half_as_long_again() -> None:
    from tools.torch_speed import llama, ratio, resnet, twin

    assert ratio(twin(*resnet(2, 128)), 7)[2] <= 1.5
    assert ratio(twin(*llama()), 7)[2] <= 1.5
