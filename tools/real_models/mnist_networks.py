"""The networks of mnist.py and how they are trained; the only module here that needs torch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate computed from the mean of all channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(width, width // 4, 1)
        self.excite = nn.Conv2d(width // 4, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = functional.relu(self.squeeze(x.mean((2, 3), keepdim=True)))
        return x * torch.sigmoid(self.excite(gate))


class ResidualSE(nn.Module):
    """Two 3x3 convolutions and a squeeze-excite gate beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
            SqueezeExcite(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs or stride != 1:
            convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.body(x) + self.shortcut(x))


class MoE(nn.Module):
    """Each token goes to its two best experts; the router's softmax is taken over those two."""

    def __init__(self, width: int, hidden: int, experts: int = 8, top: int = 2) -> None:
        super().__init__()
        self.router = nn.Linear(width, experts)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
            for _ in range(experts)
        )
        self.top = top

    def forward(self, x: Tensor) -> Tensor:
        logits = self.router(x)
        best, index = logits.topk(self.top, dim=-1)
        weight = torch.zeros_like(logits).scatter(-1, index, best.softmax(-1))
        outputs = [expert(x) * weight[..., i : i + 1] for i, expert in enumerate(self.experts)]
        return torch.stack(outputs).sum(0)


class Attention(nn.Module):
    """Multi-head self-attention with one projection for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.heads, self.depth = heads, width // heads

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        shape = (batch, tokens, self.heads, self.depth)
        query, key, value = (part.reshape(shape).transpose(1, 2) for part in self.project(x).chunk(3, -1))
        scores = query @ key.transpose(-1, -2) / math.sqrt(self.depth)
        mixed = scores.softmax(-1) @ value
        return self.output(mixed.transpose(1, 2).reshape(batch, tokens, width))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int, feed_forward: nn.Module) -> None:
        super().__init__()
        self.before_attention, self.before_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.feed_forward = Attention(width, heads), feed_forward

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.before_attention(x))
        return x + self.feed_forward(self.before_feed(x))


class VisionTransformer(nn.Module):
    """Patches of 4x4 pixels, a class token, learned positions; `experts` makes the feed-forwards sparse."""

    def __init__(self, width: int = 64, depth: int = 4, heads: int = 4, experts: bool = False) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 50, width) * 0.02)
        self.blocks = nn.Sequential(
            *(Block(width, heads, self.feed_forward(width, experts)) for _ in range(depth))
        )
        self.norm, self.classifier = nn.LayerNorm(width), nn.Linear(width, 10)

    @staticmethod
    def feed_forward(width: int, experts: bool) -> nn.Module:
        if experts:
            return MoE(width, width)
        return nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(x.shape[0], -1, -1), x), 1) + self.positions
        return self.classifier(self.norm(self.blocks(x))[:, 0])


def mlp() -> nn.Module:
    layers = (nn.Linear(784, 640), nn.ReLU(), nn.Linear(640, 640), nn.ReLU(), nn.Linear(640, 10))
    return nn.Sequential(nn.Flatten(), *layers)


def cnn() -> nn.Module:
    def stage(inputs: int, outputs: int) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]

    head = (nn.Flatten(), nn.Linear(64 * 9, 96), nn.ReLU(), nn.Linear(96, 10))
    return nn.Sequential(*stage(1, 16), *stage(16, 32), *stage(32, 64), *head)


def resnet_se() -> nn.Module:
    stem = (nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
    body = (ResidualSE(16, 32, 2), ResidualSE(32, 32, 1), ResidualSE(32, 64, 2), ResidualSE(64, 64, 1))
    return nn.Sequential(*stem, *body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def network(name: str) -> nn.Module:
    """An untrained network by the name that the registry uses."""
    torch.manual_seed(17)
    makers = {
        "mlp": mlp,
        "cnn": cnn,
        "resnet-se": resnet_se,
        "vit": VisionTransformer,
        "moe-vit": lambda: VisionTransformer(width=48, experts=True),
    }
    return makers[name]()


def fit(net: nn.Module, images: Tensor, labels: Tensor, epochs: int, seed: int) -> nn.Module:
    """Train with AdamW and one cycle of the learning rate, shifting images by up to two pixels."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    optimizer = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=0.02)
    steps = epochs * math.ceil(len(images) / 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(64):
            shift = torch.randint(-2, 3, (2,))
            batch = torch.roll(images[rows], (int(shift[0]), int(shift[1])), (2, 3))
            loss = functional.cross_entropy(net(batch), labels[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return net.eval()
