"""LLM-Pruner end to end: which blocks it leaves alone, and which heads and neurons go."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

import graphprune
from graphprune.errors import ArgumentError, PromiseError
from tests.proof.building import model

pytestmark = pytest.mark.zoo

BLOCK = """
    n{i} = LayerNormalization(x{i}, scale)
    q{i} = MatMul(n{i}, wq{i})
    k{i} = MatMul(n{i}, wk{i})
    v{i} = MatMul(n{i}, wv{i})
    a{i} = Attention <q_num_heads = 4, kv_num_heads = 4> (q{i}, k{i}, v{i})
    o{i} = MatMul(a{i}, wo{i})
    y{i} = Add(x{i}, o{i})
    m{i} = LayerNormalization(y{i}, scale)
    u{i} = MatMul(m{i}, up{i})
    r{i} = Relu(u{i})
    w{i} = MatMul(r{i}, down{i})
    x{j} = Add(y{i}, w{i})"""


def decoder(blocks: int) -> ir.Model:
    """Blocks of attention and neurons along a residual stream, and a head."""
    body = "".join(BLOCK.format(i=i, j=i + 1) for i in range(blocks))
    text = (
        "(int64[b,t] tokens) => (float[b,t,11] logits) {\n    x0 = Gather(table, tokens)"
        + body
        + f"\n    logits = MatMul(x{blocks}, head)\n}}"
    )
    shapes: dict[str, object] = {"table": (11, 16), "head": (16, 11), "scale": np.ones(16, np.float32)}
    for i in range(blocks):
        shapes |= {f"{name}{i}": (16, 16) for name in ("wq", "wk", "wv", "wo")}
        shapes |= {f"up{i}": (16, 24), f"down{i}": (24, 16)}
    return model(text, opset=23, **shapes)


def cut(text: str, blocks: int = 4) -> dict[str, int]:
    """Units that each Group loses."""
    calibration = {"tokens": np.random.default_rng(0).integers(0, 11, (6, 8))}
    (step,) = graphprune.compile(decoder(blocks), text, calibration=calibration).report.passes
    assert step.proof.ok
    return {group.id: group.width - group.kept for group in step.groups if group.width > group.kept}


def test_first_and_last_blocks_stay_whole() -> None:
    found = cut("llm-pruner(ratio=0.5, keep-first=1, keep-last=1)")
    assert found == {"wq1:1": 2, "wq2:1": 2, "up1:1": 12, "up2:1": 12}


@pytest.mark.parametrize("criterion", ["taylor-vector", "taylor-second", "taylor-mixed"])
def test_its_variants_are_criteria(criterion: str) -> None:
    found = cut(f"llm-pruner(ratio=0.5, criterion={criterion})", blocks=2)
    assert found == {"wq0:1": 2, "wq1:1": 2, "up0:1": 12, "up1:1": 12}


def test_of_short_nets_a_share_of_the_blocks_stays_whole() -> None:
    assert sorted(cut("llm-pruner(ratio=0.5, kinds=neurons)", blocks=8)) == [f"up{i}:1" for i in range(1, 8)]


def test_a_window_of_no_block_is_an_error() -> None:
    with pytest.raises(PromiseError, match="leave none of 4 blocks"):
        cut("llm-pruner(keep-first=2, keep-last=2)")
    with pytest.raises(ArgumentError, match="keep-last"):
        cut("llm-pruner(keep-last=-2)")
