"""`python -m tools.torch_speed`: forward and backward of graphs in torch, beside the modules they come from.

CPU seconds on one thread, in turns; the figure is the median of the ratios of neighbouring runs.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx_ir as ir
import torch
from torch import nn

from graphprune.autograd import Differentiable

Example = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Twin:
    """A module and the graph that was exported from it, with the same weights under the same names."""

    module: nn.Module
    example: Example
    net: Differentiable

    def outputs(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What the module and the graph compute."""
        return self.module(*self.example.values()), next(iter(self.net.run(self.example).values()))


def twin(module: nn.Module, example: Example, *, precision: str = "") -> Twin:
    """Exports a module as it is, nothing folded, so that names and weights stay."""
    with TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        path = Path(folder) / "net.onnx"
        torch.onnx.export(
            module.eval(),
            tuple(example.values()),
            str(path),
            opset_version=17,
            dynamo=False,
            input_names=list(example),
            output_names=["output"],
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
        )
        model = ir.load(path)
        net = Differentiable(model, precision=precision)
    if precision == "float64":
        module = module.double()
        example = {name: t.double() if t.is_floating_point() else t for name, t in example.items()}
    return Twin(module, example, net)


def resnet(batch: int = 8, size: int = 224) -> tuple[nn.Module, Example]:
    """Torchvision's resnet18."""
    from tools.zoo import shim

    shim.install()
    import torchvision

    torch.manual_seed(0)
    return torchvision.models.resnet18(weights=None), {"input": torch.randn(batch, 3, size, size)}


class Blocks(nn.Module):
    """Decoder blocks with rotary positions and a causal mask, from hidden states to hidden states."""

    def __init__(self, layers: nn.ModuleList, rotary: nn.Module, tokens: int) -> None:
        super().__init__()
        self.layers, self.rotary = layers, rotary
        ahead = torch.full((tokens, tokens), torch.finfo(torch.float32).min).triu(1)
        self.register_buffer("mask", ahead[None, None])
        self.register_buffer("places", torch.arange(tokens)[None])

    def forward(self, hidden: torch.Tensor) -> Any:
        angles = self.rotary(hidden, self.places)
        for layer in self.layers:
            out = layer(hidden, attention_mask=self.mask, position_embeddings=angles)
            hidden = out[0] if isinstance(out, tuple) else out
        return hidden


def llama(width: int = 512, layers: int = 1, tokens: int = 128, batch: int = 4) -> tuple[nn.Module, Example]:
    """Blocks of a Llama: grouped queries, rotation, RMS norms, a gated unit."""
    from tools.zoo import shim

    shim.install()
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=width,
        intermediate_size=width * 8 // 3 // 8 * 8,
        num_attention_heads=max(2, width // 64),
        num_key_value_heads=max(1, width // 128),
    )
    config._attn_implementation = "eager"
    stack = nn.ModuleList(LlamaDecoderLayer(config, at) for at in range(layers))
    module = Blocks(stack, LlamaRotaryEmbedding(config), tokens)
    return module, {"hidden": torch.randn(batch, tokens, width)}


def _seconds(run: Callable[[], torch.Tensor]) -> float:
    start = time.process_time()
    run().square().mean().backward()
    return time.process_time() - start


def ratio(pair: Twin, rounds: int) -> tuple[float, float, float]:
    """Median seconds of the module and the graph, and the median of their ratios."""
    pair.net.trainable()
    native: list[float] = []
    mine: list[float] = []
    for _ in range(rounds + 1):
        native.append(_seconds(lambda: pair.module(*pair.example.values())))
        mine.append(_seconds(lambda: next(iter(pair.net.run(pair.example).values()))))
    ratios = [b / a for a, b in zip(native[1:], mine[1:], strict=True)]
    return statistics.median(native[1:]), statistics.median(mine[1:]), statistics.median(ratios)


def main() -> None:
    """Prints one line per net."""
    parser = argparse.ArgumentParser(prog="python -m tools.torch_speed", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print("| net | module, CPU s | graph, CPU s | ratio |\n|---|---|---|---|")
    for name, make in (("resnet18, 8 x 224 x 224", resnet), ("a Llama block, 4 x 128 tokens of 512", llama)):
        native, mine, quotient = ratio(twin(*make()), rounds)
        print(f"| {name} | {native:.3f} | {mine:.3f} | {quotient:.2f} |")


if __name__ == "__main__":
    main()
