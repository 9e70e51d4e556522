"""However a weight is stored, it reads as what its node reads, and what is written reads back."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.axes import analyse
from graphprune.runtime.session import open_session
from graphprune.statistics.sites import Site, find_sites
from tests.proof.building import model

Array = np.ndarray
CODES = np.random.default_rng(1).integers(-100, 101, (48, 4)).astype(np.int8)
SCALES = np.linspace(0.01, 0.02, 48, dtype=np.float32)
FORMS: dict[str, tuple[str, dict[str, object]]] = {
    "a scale": ("w = DequantizeLinear(q, s)", {"q": CODES.T.copy(), "s": np.array(0.02, np.float32)}),
    "a scale per column": ("w = DequantizeLinear <axis = 1> (q, s)", {"q": CODES.T.copy(), "s": SCALES}),
    "a scale per slot of axis 1, by default": (
        "d = DequantizeLinear(q, s)\n w = Reshape(d, to)",
        {"q": CODES.T[..., None].copy(), "s": SCALES, "to": np.array([4, 48])},
    ),
    "zero points": (
        "w = DequantizeLinear <axis = 1> (q, s, z)",
        {"q": CODES.T.astype(np.uint8), "s": SCALES, "z": np.arange(48, dtype=np.uint8)},
    ),
    "blocks": (
        "w = DequantizeLinear <axis = 0, block_size = 2> (q, s)",
        {"q": CODES.T.copy(), "s": np.linspace(0.01, 0.03, 96, dtype=np.float32).reshape(2, 48)},
    ),
    "transposed": (
        "d = DequantizeLinear <axis = 0> (q, s)\n w = Transpose <perm = [1, 0]> (d)",
        {"q": CODES, "s": SCALES},
    ),
    "reshaped": (
        "d = DequantizeLinear <axis = 0> (q, s)\n t = Transpose <perm = [2, 0, 1]> (d)\n w = Reshape(t, to)",
        {"q": CODES[:, None], "s": SCALES, "to": np.array([4, 48])},
    ),
}


def built(form: str) -> ir.Model:
    steps, weights = FORMS[form]
    body = (
        f"(float[n,4] x) => (float[n,3] y) {{ {steps}\n a = MatMul(x, w)\n b = Relu(a)\n y = MatMul(b, v) }}"
    )
    return model(body, 21, v=(48, 3), **weights)


def first(of: ir.Model) -> Site:
    return next(site for site in find_sites(of) if site.weight.name == "q")


@pytest.mark.parametrize("form", FORMS)
def test_a_weight_reads_as_what_its_node_reads(form: str) -> None:
    of = built(form)
    eye = np.eye(4, dtype=np.float32)
    run = open_session(of, extra_outputs=["a"]).run({"x": eye})["a"]
    np.testing.assert_allclose(first(of).dense[0], run.T, rtol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_what_is_written_reads_back(form: str) -> None:
    of = built(form)
    site = first(of)
    stored, grid = site.stored, site.stored.grid
    tensor = stored.value.const_value
    assert tensor is not None
    same = stored.write(stored.codes() if grid is not None else stored.read())
    assert same.dtype == tensor.numpy().dtype and same.tobytes() == tensor.tobytes()
    if grid is not None:
        np.testing.assert_allclose(grid.values(stored.codes()), stored.read(), rtol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_slices_of_the_tensor_are_rows_and_columns_of_the_weight(form: str) -> None:
    found = analyse(built(form))
    (group,) = found.prunable
    site = first(found.model)
    (mine,) = [touched for touched in group.slices if site.owns(touched)]
    assert mine.role == "source"
    units, rows = site.rows_of(mine)
    assert units.tolist() == rows.tolist() == list(range(48))
