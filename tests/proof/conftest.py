"""Shared cases."""

from __future__ import annotations

import numpy as np
import pytest

from .building import Case, cut, model


@pytest.fixture
def conv() -> Case:
    """Conv, BatchNormalization, Relu, Conv."""
    return cut(
        model(
            """(float[n,3,8,8] x) => (float[n,5,8,8] y) {
                [first] a = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
                [norm] c = BatchNormalization(a, gamma, beta, mean, var)
                [act] d = Relu(c)
                [second] y = Conv <pads = [1, 1, 1, 1]> (d, w2)
            }""",
            w1=(8, 3, 3, 3),
            b1=(8,),
            gamma=(8,),
            beta=(8,),
            mean=(8,),
            var=np.linspace(1, 2, 8, dtype=np.float32),
            w2=(5, 8, 3, 3),
        )
    )
