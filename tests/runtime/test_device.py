"""What nodes cost as functions of their widths, and what graphs made of them cost."""

from __future__ import annotations

import json

import numpy as np
import pytest

from graphprune.errors import DataError
from graphprune.runtime.device import Cost, DeviceProfile, Machine, grid, measured, this_machine
from graphprune.runtime.pieces import pieces

NET = """(float[1,16,20,20] x) => (float[1,{0},20,20] z) {{
    c = Conv<pads = [1,1,1,1]>(x, w)
    y = Relu(c)
    z = Conv<pads = [1,1,1,1]>(y, v)
}}"""
FEEDS = {"x": np.ones((1, 16, 20, 20), np.float32)}


def net(build, width: int, out: int = 32):
    return build(NET.format(out), w=(width, 16, 3, 3), v=(out, width, 3, 3))


def test_costs_between_points_are_straight_and_beyond_them_in_proportion():
    cost = Cost(((10, 20, 40),), (1.0, 2.0, 3.0))
    assert [cost.at((width,)) for width in (5, 10, 15, 30, 40, 80)] == [1, 1, 1.5, 2.5, 3, 6]


def test_two_widths_are_interpolated_one_after_the_other():
    cost = Cost(((10, 20), (1, 3)), (1.0, 3.0, 5.0, 7.0))
    assert cost.at((10, 2)) == 2
    assert cost.at((15, 2)) == 4
    assert cost.at((15, 6)) == 10


def test_a_staircase_stays_one():
    cost = Cost(((16, 32),), (1.0, 2.0), 16)
    assert [cost.at((width,)) for width in (4, 16, 17, 32)] == [1, 1, 2, 2]


def test_what_is_known_by_its_elements_alone_grows_with_them():
    cost = Cost(((100, 300),), (1.0, 2.0), 0)
    assert [cost.at((elements,)) for elements in (50, 200, 600)] == [0.5, 1.5, 4]


@pytest.mark.parametrize(
    ("width", "step", "found"), [(64, 16, (16, 32, 48, 64)), (10, 16, (2, 3, 5, 8, 10)), (1, 1, (1,))]
)
def test_a_grid_keeps_to_steps(width, step, found):
    assert grid(width, step) == found


def test_widths_are_no_part_of_a_kind(build):
    wide, narrow = (pieces(net(build, width), FEEDS) for width in (64, 32))
    assert [piece.kind for piece in wide] == [piece.kind for piece in narrow]
    assert [piece.widths for piece in wide] != [piece.widths for piece in narrow]


def test_other_sizes_are(build):
    small = {"x": np.ones((1, 16, 10, 10), np.float32)}
    model = build(NET.format(32).replace("20,20", "h,h"), w=(32, 16, 3, 3), v=(32, 32, 3, 3))
    here, there = ({piece.kind for piece in pieces(model, feeds) if piece.roles} for feeds in (FEEDS, small))
    assert not here & there


def test_a_net_of_half_the_width_is_predicted(build):
    dense, small = (pieces(net(build, width), FEEDS) for width in (128, 64))
    profile, left = list(measured(dense, DeviceProfile(this_machine())))[-1]
    assert left == 0
    whole, half = profile.predict(dense), profile.predict(small)
    assert (whole.unknown, half.unknown) == (0, 0)
    assert 0.35 < half.seconds / whole.seconds < 0.65


def test_what_is_known_is_not_measured_again(build, monkeypatch):
    found = pieces(
        build("(float[8,64] x) => (float[8,8] y) { y = MatMul(x, w) }", w=(64, 8)),
        {"x": np.ones((8, 64), np.float32)},
    )
    (profile, _) = list(measured(found, DeviceProfile(this_machine())))[-1]
    monkeypatch.setattr("graphprune.runtime.device.seconds_of", None)
    assert list(measured(found, profile)) == []


def test_a_profile_comes_back_from_its_file(tmp_path):
    profile = DeviceProfile(
        Machine(("x86_64", "avx2"), "1.2", 3), {"k": Cost(((1, 2),), (0.5, 1.0), 1)}, 1e-6, 0.02, 4.5
    )
    profile.save(tmp_path / "device.json")
    assert DeviceProfile.load(tmp_path / "device.json") == profile


def spoilt(change) -> str:
    cost = {"axes": [[1, 2]], "seconds": [0.5, 1.0], "step": 1}
    machine = {"features": [], "runtime": "1", "threads": 1}
    told = {"format": 1, "machine": machine, "costs": {"k": cost}, "overhead": 0, "noise": 0, "minutes": 0}
    change(told, cost, machine)
    return json.dumps(told)


@pytest.mark.parametrize(
    "change",
    [
        lambda told, cost, machine: told.update(format=2),
        lambda told, cost, machine: told.pop("noise"),
        lambda told, cost, machine: told.update(more=1),
        lambda told, cost, machine: told.update(noise="much"),
        lambda told, cost, machine: told.update(overhead=float("nan")),
        lambda told, cost, machine: told.update(costs=[]),
        lambda told, cost, machine: machine.update(runtime=1),
        lambda told, cost, machine: cost.update(axes=[[2, 1]]),
        lambda told, cost, machine: cost.update(seconds=[1.0]),
        lambda told, cost, machine: cost.update(seconds=[1.0, -1.0]),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path, change):
    path = tmp_path / "device.json"
    path.write_text(spoilt(change))
    with pytest.raises(DataError, match="no device profile"):
        DeviceProfile.load(path)


def test_the_unspoilt_file_is_read(tmp_path):
    path = tmp_path / "device.json"
    path.write_text(spoilt(lambda *_: None))
    assert DeviceProfile.load(path).costs["k"].at((2,)) == 1
