"""Files that ONNX Runtime runs only since it fuses what no kernel takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import graphprune
from graphprune.errors import ModelError
from graphprune.pipeline import compile as driver
from graphprune.pipeline.inspection import inspect
from graphprune.pipeline.manager import Manager
from graphprune.pipeline.settings import Settings
from graphprune.runtime.session import open_session
from tests.proof.building import parsed

from .conftest import Half

TEXT = """(float[n,8] x) => (float[n,4] y) {
    b = DequantizeLinear <axis = 0> (bq, bs)
    w = DequantizeLinear <axis = 1> (wq, ws, wz)
    v = DequantizeLinear <axis = 1> (vq, vs, vz)
    xq = QuantizeLinear(x, s, z)
    xd = DequantizeLinear(xq, s, z)
    h = Gemm(xd, w, b)
    hq = QuantizeLinear(h, s, z)
    hd = DequantizeLinear(hq, s, z)
    g = Gemm(hd, v)
    gq = QuantizeLinear(g, s, z)
    y = DequantizeLinear(gq, s, z)
}"""
"""As ONNX Runtime's static quantiser leaves a Gemm with a bias of shape [1, n]."""
X = {"x": np.random.default_rng(1).standard_normal((64, 8)).astype(np.float32)}


def quantised(scales: int = 16) -> ir.Model:
    chance = np.random.default_rng(0)
    step = chance.uniform(0.01, 0.03, 16).astype(np.float32)
    return parsed(
        TEXT, 17, s=np.float32(0.05), z=np.uint8(128), ws=step, vs=step[:4], bs=0.05 * step[:scales],
        wq=chance.integers(-90, 90, (8, 16)).astype(np.int8),
        vq=chance.integers(-90, 90, (16, 4)).astype(np.int8),
        bq=chance.integers(-900, 900, (1, 16)).astype(np.int32),
        wz=np.zeros(16, np.int8), vz=np.zeros(4, np.int8),
    )  # fmt: skip


def run(one: ir.Model | Path, optimise: bool) -> np.ndarray:
    return open_session(one, optimise=optimise).run(X)["y"]


@pytest.mark.parametrize("scales", [16, 5])
def test_the_file_runs_only_fused(scales: int) -> None:
    assert np.ptp(run(quantised(scales), True)) > 1
    with pytest.raises(ModelError, match="DequantizeLinear"):
        run(quantised(scales), False)


@pytest.mark.parametrize("passes", ["prune(params=0.6)", "obspa(params=0.6)"])
def test_a_scale_that_fits_another_axis_names_it_and_is_cut(passes: str, tmp_path: Path) -> None:
    result = graphprune.compile(quantised(), passes, tmp_path / "small.onnx", calibration=X)
    (step,) = result.report.passes
    assert step.proof.ok
    assert any("fit now: 'DequantizeLinear'" in line for line in result.report.warnings)
    small = tmp_path / "small.onnx"
    np.testing.assert_allclose(run(small, True), run(small, False), atol=0.051)  # a step apart at most
    kept = ir.load(small).graph.initializers
    assert kept["bs"].shape == kept["ws"].shape == (kept["bq"].shape or ())[1:]


def test_inspect_says_so_and_finds_the_group() -> None:
    found = inspect(quantised(), Settings())
    assert any("name the one that they fit" in line for line in found.notes)
    assert [group.width for group in found.groups if not group.pin] == [16]


REFUSED = r"runs only as ONNX Runtime fuses it; node by node: .*DequantizeLinear"


@pytest.mark.parametrize("passes", ["prune(params=0.6)", "obspa(params=0.6)", "prune(dequantize=true)"])
def test_what_fits_nowhere_is_refused_before_any_work(passes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Manager, "run", None)
    with pytest.raises(ModelError, match=REFUSED):
        graphprune.compile(quantised(5), passes, calibration=X)


def test_a_proof_that_fails_blames_such_a_file_whatever_is_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(driver, "is_suspect", lambda dense: False)
    with pytest.raises(ModelError, match=REFUSED):
        graphprune.compile(quantised(5), Half(), inputs=X)


@pytest.mark.parametrize(("scales", "said"), [(5, REFUSED), (16, "^no kernel")])
def test_statistics_that_fail_blame_such_a_file_and_no_other(
    scales: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they tap is in the way of a fusion."""

    def fail(*_: object) -> None:
        raise ModelError("no kernel")

    monkeypatch.setattr(driver, "is_suspect", lambda dense: False)
    monkeypatch.setattr(Half, "decide", fail)
    with pytest.raises(ModelError, match=said):
        graphprune.compile(quantised(scales), Half(), inputs=X)
