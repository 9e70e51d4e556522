"""Calibration samples run several at a time, of large ones fewer."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.pipeline.samples import BATCH, BATCH_BYTES, Samples
from graphprune.pipeline.settings import Settings


def model(width: int, batch: str = "n") -> ir.Model:
    shape = f"float[{batch},{width}]"
    return ir.from_onnx_text(
        f'<ir_version: 10, opset_import: ["" : 21]>\ng ({shape} x) => ({shape} y) {{ y = Relu(x) }}'
    )


@pytest.mark.parametrize(
    ("width", "batch", "largest"),
    [(8, "n", BATCH), (BATCH_BYTES // 16, "n", 4), (BATCH_BYTES, "n", 1), (8, "2", 2)],
    ids=["small", "a quarter", "larger than a batch may be", "as many as the model says"],
)
def test_batches_are_as_large_as_they_may_be(width: int, batch: str, largest: int) -> None:
    given = {"x": np.zeros((40, width), np.float32)}
    sizes = [len(feed["x"]) for feed in Samples(model(width, batch), given, given, Settings()).batches]
    assert max(sizes) == largest
    assert sum(sizes) == 40
