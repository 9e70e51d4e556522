"""The networks of nets.py; the only module here that needs torch when it is imported."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from tools.real_models.mnist_networks import Block


class Tokens(nn.Module):
    """A transformer that classifies 64 ids."""

    def __init__(self, width: int = 48, ids: int = 17, length: int = 64) -> None:
        super().__init__()
        self.table = nn.Embedding(ids, width)
        self.positions = nn.Parameter(torch.randn(1, length, width) * 0.02)
        feeds = (nn.Sequential(nn.Linear(width, 128), nn.GELU(), nn.Linear(128, width)) for _ in range(2))
        self.blocks = nn.Sequential(*(Block(width, 4, feed) for feed in feeds))
        self.classifier = nn.Linear(width, 10)

    def forward(self, ids: Tensor) -> Tensor:
        return self.classifier(self.blocks(self.table(ids) + self.positions).mean(1))


class Series(nn.Module):
    """A GRU whose last state is classified behind a hidden layer."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.gru = nn.GRU(8, width, batch_first=True)
        self.head = nn.Sequential(nn.Linear(width, 96), nn.ReLU(), nn.Linear(96, 10))

    def forward(self, steps: Tensor) -> Tensor:
        return self.head(self.gru(steps)[0][:, -1])


def convolutions() -> nn.Module:
    """Three convolutions over positions."""

    def stage(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv1d(inputs, outputs, 5, padding=2), nn.BatchNorm1d(outputs), nn.ReLU()]

    middle = (nn.MaxPool1d(2), *stage(48, 64), nn.MaxPool1d(2), *stage(64, 96))
    return nn.Sequential(*stage(28, 48), *middle, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(96, 10))


def network(name: str) -> nn.Module:
    """An untrained network."""
    return {"rows-conv": convolutions, "series-gru": Series, "tokens-transformer": Tokens}[name]()


def fit(net: nn.Module, inputs: Tensor, labels: Tensor, epochs: int) -> nn.Module:
    """Train with AdamW and one cycle of the learning rate."""
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=0.02)
    batches = [part for _ in range(epochs) for part in torch.randperm(len(inputs)).split(64)]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, len(batches))
    for rows in batches:
        loss = functional.cross_entropy(net(inputs[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return net.eval()
