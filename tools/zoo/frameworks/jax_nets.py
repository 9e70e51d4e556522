"""Flax (nnx) modules through jax2onnx."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tools.zoo.frameworks.written import SEED, Written, normal


def _mlp(nnx: Any, jax: Any, keys: Any) -> Any:
    return nnx.Sequential(
        nnx.Linear(32, 64, rngs=keys),
        nnx.relu,
        nnx.Linear(64, 48, rngs=keys),
        nnx.gelu,
        nnx.LayerNorm(48, rngs=keys),
        nnx.Linear(48, 10, rngs=keys),
    )


def _cnn(nnx: Any, jax: Any, keys: Any) -> Any:
    def pooled(x: Any) -> Any:
        return nnx.avg_pool(x, window_shape=(2, 2), strides=(2, 2))

    return nnx.Sequential(
        nnx.Conv(3, 16, kernel_size=(3, 3), rngs=keys),
        nnx.relu,
        pooled,
        nnx.Conv(16, 32, kernel_size=(3, 3), rngs=keys),
        nnx.relu,
        pooled,
        lambda x: x.mean(axis=(1, 2)),
        nnx.Linear(32, 10, rngs=keys),
    )


def _transformer(nnx: Any, jax: Any, keys: Any) -> Any:
    class Block(nnx.Module):  # type: ignore[misc]
        """Pre-norm attention and a feed-forward layer on a residual stream."""

        def __init__(self) -> None:
            self.first, self.second = (nnx.LayerNorm(64, rngs=keys) for _ in range(2))
            self.attention = nnx.MultiHeadAttention(4, 64, decode=False, rngs=keys)
            self.up, self.down = nnx.Linear(64, 128, rngs=keys), nnx.Linear(128, 64, rngs=keys)

        def __call__(self, x: Any) -> Any:
            x = x + self.attention(self.first(x))
            return x + self.down(jax.nn.silu(self.up(self.second(x))))

    return nnx.Sequential(Block(), Block(), lambda x: x.mean(axis=1), nnx.Linear(64, 10, rngs=keys))


NETS: dict[str, tuple[Callable[[Any, Any, Any], Any], tuple[int, ...]]] = {
    "mlp": (_mlp, (2, 32)),
    "cnn": (_cnn, (2, 16, 16, 3)),
    "transformer": (_transformer, (2, 16, 64)),
}


def write(model: str, path: Path) -> Written:
    """Builds one of `NETS` with random weights and converts it, batch dynamic."""
    import jax
    from flax import nnx
    from jax2onnx import to_onnx

    build, shape = NETS[model]
    net = build(nnx, jax, nnx.Rngs(SEED))
    inputs = normal(*shape)
    to_onnx(net, [("B", *shape[1:])], model_name=model, return_mode="file", output_path=str(path))
    return Written((inputs,), np.asarray(net(inputs)))
