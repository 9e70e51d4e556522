"""What campaigns of tools.fuzz found, once each; soundness holes have oracles of their own in tests/axes."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from graphprune.ir.normalise import normalise
from graphprune.ops import record_of
from tools.fuzz.check import examine
from tools.fuzz.generate import generate
from tools.fuzz.net import Style


def test_results_of_if_have_a_type_after_shape_inference() -> None:
    """Without one the pruned model could not be serialised."""
    model = generate(0, blocks=("branches", "mlp")).model
    normalise(model, record_of)
    assert [value.name for node in model.graph for value in node.outputs if value.dtype is None] == []


def test_a_type_that_is_not_known_is_not_guessed() -> None:
    """Results of Loop have no type; float32 was written down behind one in a half-precision model."""
    model = generate(0, blocks=("loop", "live_shape"), style=Style(half=True)).model
    normalise(model, record_of)
    assert ir.DataType.FLOAT not in {value.dtype for node in model.graph for value in node.outputs}


@pytest.mark.parametrize(
    ("blocks", "style"),
    [
        (("pixels", "pixels"), Style()),  # a pixel shuffle in primitive operators freed rows of pixels
        (("turned", "turned"), Style()),
        (("layer_norm", "layer_norm"), Style(layernorm="expand")),  # scale and bias were not cut
        (("quantised", "quantised"), Style()),  # integer weights were not scored
        (("branches", "attention"), Style(opset=23)),
        (("mlp", "loop", "attention"), Style(opset=21)),
        (("excite", "loop", "fused_attention"), Style(opset=13)),  # no shape behind a Loop, nor a type
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_chains(blocks: tuple[str, ...], style: Style) -> None:
    assert [(f.kind, f.detail) for seed in range(3) for f in examine(seed, blocks, style)] == []
