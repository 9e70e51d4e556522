"""Device profiles that ship: one for this kind of machine, the nearest for others."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest

from graphprune.errors import DataError
from graphprune.runtime import builtin
from graphprune.runtime.device import DeviceProfile, Machine
from graphprune.runtime.pieces import pieces

VNNI, AVX2 = "x86_64-avx512_vnni", "x86_64-avx2"


def machine(*features: str) -> Machine:
    return Machine(features, "1.32.0", 1)


def test_what_ships_is_whole():
    assert {VNNI, AVX2} <= {*builtin.names()}
    for name in builtin.names():
        profile = builtin.shipped(name)
        assert len(profile.costs) > 200
        assert profile.step in (4, 8, 16) and 0 < profile.reference < 1
        assert name.startswith(profile.machine.features[0])


@pytest.mark.parametrize("name", [VNNI, AVX2])
def test_the_machine_that_it_was_measured_on_is_not_remarked_on(name: str):
    own = builtin.shipped(name).machine
    assert builtin.remark(own) == ""
    assert builtin.nearest(own) == builtin.shipped(name)
    assert builtin.remark(replace(own, runtime="1.20.0", threads=4)) == ""


@pytest.mark.parametrize("features", [("x86_64", "sse4_1", "avx"), ("aarch64", "asimd"), ("riscv64",)])
def test_another_machine_gets_the_nearest_and_one_remark(features: tuple[str, ...]):
    said = builtin.remark(machine(*features))
    assert f"({' '.join(features)})" in said and "serves" in said


def test_the_architecture_comes_first(monkeypatch: pytest.MonkeyPatch):
    made = {
        "a": DeviceProfile(machine("x86_64", "avx2")),
        "b": DeviceProfile(machine("x86_64", "avx2", "avx512f")),
        "c": DeviceProfile(machine("aarch64", "asimd")),
    }
    monkeypatch.setattr(builtin, "names", lambda: tuple(made))
    monkeypatch.setattr(builtin, "shipped", made.__getitem__)
    assert builtin.nearest(machine("x86_64", "sse4_1", "avx2")) is made["a"]
    assert builtin.nearest(machine("x86_64", "avx2", "avx512f", "amx_tile")) is made["b"]
    assert builtin.nearest(machine("aarch64", "sve")) is made["c"]


def test_a_damaged_file_is_said_to_be_one(monkeypatch: pytest.MonkeyPatch, tmp_path):
    (tmp_path / "profiles").mkdir()
    for name, content in {
        "torn": b"\x1f\x8b\x08",
        "text": b"{}",
        "old": gzip.compress(json.dumps({"format": 1}).encode()),
    }.items():
        (tmp_path / "profiles" / f"{name}.json.gz").write_bytes(content)
    monkeypatch.setattr(builtin, "files", lambda package: tmp_path)
    builtin.names.cache_clear()
    try:
        for name in ("torn", "text", "old"):
            with pytest.raises(DataError, match=f"'{name}' is damaged"):
                builtin.shipped(name)
        with pytest.raises(DataError, match="no device profile 'none' ships"):
            builtin.shipped("none")
    finally:
        builtin.names.cache_clear()


NET = """(float[1,16,20,20] x) => (float[1,64,20,20] z) {{
    c = Conv<pads = [1,1,1,1]>(x, w)
    y = Relu(c)
    z = Conv<pads = [1,1,1,1]>(y, v)
}}"""


@pytest.mark.parametrize("name", [VNNI, AVX2])
def test_a_model_that_nobody_profiled_is_predicted_roughly(build, name: str):
    """Half of the width between two convolutions is half of the work."""

    def seconds(width: int) -> float:
        model = build(NET.format(), w=(width, 16, 3, 3), v=(64, width, 3, 3))
        told = builtin.shipped(name).predict(pieces(model, {"x": np.ones((1, 16, 20, 20), np.float32)}))
        assert told.unknown == 0
        return told.seconds

    assert 0.35 < seconds(64) / seconds(128) < 0.7


@pytest.mark.parametrize("name", builtin.names())
def test_two_samples_take_about_twice_as_long_as_one_though_only_one_was_measured(name: str) -> None:
    profile = builtin.shipped(name)
    ratios = []
    for text, cost in profile.costs.items():
        kind = json.loads(text)
        if kind[0].endswith("nchwc:Conv") and max(cost.seconds) > 2e-5:
            kind[2][0][2] = kind[3][0] = 2
            widths = tuple(axis[-1] for axis in cost.axes)
            ratios.append(profile.at(json.dumps(kind), widths) / cost.at(widths))
    assert len(ratios) > 10
    assert 1.5 < np.median(ratios) < 2.7
    assert min(ratios) > 0.7 and max(ratios) < 6
