"""What nodes cost as functions of their widths, and what graphs made of them cost."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from graphprune.errors import DataError
from graphprune.runtime import alone
from graphprune.runtime.alone import seconds_of, stairs
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
    ("widths", "step", "part", "found"),
    [
        ((64, 64), 16, False, (16, 32, 48, 64)),
        ((64, 64), 16, True, (4, 8, 16, 32, 48, 64)),
        ((10, 10), 16, True, (2, 3, 5, 8, 10)),
        ((16, 64), 1, False, (4, 8, 16, 32, 48, 64)),
        ((1, 1), 1, False, (1,)),
    ],
)
def test_a_grid_keeps_to_steps_and_reaches_below_the_least_width(widths, step, part, found):
    assert grid(*widths, step, part) == found


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


def test_a_blocked_input_below_one_block_costs_less_than_a_block():
    cost = Cost(((4, 8, 16, 32), (16, 32)), tuple(map(float, range(8))), 16)
    assert [cost.at((width, 16)) for width in (4, 6, 8, 17, 32)] == [0, 1, 2, 6, 6]


LSTM = """(float[6,1,12] x) => (float[6,1,1,{0}] y) {{
    y, h, c = LSTM<hidden_size: int = {0}>(x, w, r, b)
}}"""


def lstm(build, hidden: int):
    return build(LSTM.format(hidden), w=(1, 4 * hidden, 12), r=(1, 4 * hidden, hidden), b=(1, 8 * hidden))


def test_a_recurrent_net_has_a_hidden_width(build):
    feeds = {"x": np.ones((6, 1, 12), np.float32)}
    (wide,), (narrow,) = (pieces(lstm(build, hidden), feeds) for hidden in (64, 20))
    assert (wide.widths, narrow.widths) == ((12, 64), (12, 20))
    assert wide.kind == narrow.kind
    assert wide.at((12, 20)) == tuple(given.shape for given in narrow.inputs)
    assert seconds_of(wide, (12, 8)) < seconds_of(wide, (12, 256))


STATES = """(float[6,1,12] x, float[1,1,{0}] h, float[1,1,{0}] c) => (float[6,1,1,{0}] y)
    {{ y = LSTM<hidden_size = {0}>(x, w, r, b, , h, c) }}"""


def test_states_behind_weights_that_the_trace_leaves_out_are_states(build):
    """Two of three weights are packed by the kernel, and not told."""

    def piece(hidden: int):
        weights = {"w": (1, 4 * hidden, 12), "r": (1, 4 * hidden, hidden), "b": (1, 8 * hidden)}
        states = {name: np.ones((1, 1, hidden), np.float32) for name in "hc"}
        (found,) = pieces(
            build(STATES.format(hidden), **weights), {"x": np.ones((6, 1, 12), np.float32), **states}
        )
        return found

    wide, narrow = piece(64), piece(20)
    assert [given.shape for given in wide.inputs[-3:]] == [(1, 512), (1, 1, 64), (1, 1, 64)]
    assert [given.constant for given in wide.inputs] == [False, True, True, True, False, False]
    assert wide.kind == narrow.kind
    assert wide.at((12, 20)) == tuple(given.shape for given in narrow.inputs)


SCORES = """(float[1,{0},20,{1}] q, float[1,{0},{1},20] k, float[1,{0},20,{1}] v)
    => (float[1,{0},20,{1}] z) {{
    s = MatMul(q, k)
    p = Softmax<axis = -1>(s)
    z = MatMul(p, v)
}}"""


def test_attention_has_heads_and_a_width_of_each(build):
    def widths(heads: int, width: int):
        q = np.ones((1, heads, 20, width), np.float32)
        found = pieces(build(SCORES.format(heads, width)), {"q": q, "k": q.swapaxes(2, 3), "v": q})
        return [piece.kind for piece in found], [piece.widths for piece in found]

    (kinds, dense), (same, cut) = widths(6, 32), widths(4, 24)
    assert kinds == same
    assert (dense, cut) == ([(6, 32), (6,), (6, 32)], [(4, 24), (4,), (4, 24)])


def test_groups_of_channels_shrink_alike(build):
    def piece(each: int):
        text = (
            f"""(float[1,{4 * each},9,9] x) => (float[1,{4 * each},7,7] y) {{ y = Conv<group = 4>(x, w) }}"""
        )
        found = pieces(build(text, w=(4 * each, each, 3, 3)), {"x": np.ones((1, 4 * each, 9, 9), np.float32)})
        return next(piece for piece in found if "Conv" in piece.kind)

    wide, narrow = piece(6), piece(3)
    assert (wide.kind, wide.widths, narrow.widths) == (narrow.kind, (6, 6), (3, 3))
    assert wide.at((3, 3)) == tuple(given.shape for given in narrow.inputs)
    assert seconds_of(wide, (2, 2)) < seconds_of(wide, (64, 64))


def test_what_was_never_measured_is_told_from_what_is_alike(build):
    def product(rows: int):
        model = build(f"(float[{rows},64] x) => (float[{rows},64] y) {{ y = MatMul(x, w) }}", w=(64, 64))
        return pieces(model, {"x": np.ones((rows, 64), np.float32)})

    cost = Cost(((32, 64), (32, 64)), (1.0, 2.0, 2.0, 4.0))
    profile = DeviceProfile(this_machine(), {product(8)[0].kind: cost})
    told = profile.predict(product(16))
    assert (told.alike, told.unknown) == (1, 0)
    assert told.seconds == pytest.approx(8, rel=0.2)
    relu = pieces(build("(float[4] x) => (float[4] y) { y = Relu(x) }"), {"x": np.ones(4, np.float32)})
    assert profile.predict(relu).unknown == 1


def test_a_node_that_was_never_measured_has_a_cost_at_all_widths(build):
    found = pieces(
        build("(float[8,64] x) => (float[8,64] y) { y = MatMul(x, w) }", w=(64, 64)),
        {"x": np.ones((8, 64), np.float32)},
    )
    seen = {found[0].kind: tuple(((a, b), 1e-9 * a * b) for a in (16, 64, 96) for b in (16, 64, 96))}
    cost = DeviceProfile(this_machine(), seen=seen).cost(found[0])
    assert cost is not None
    assert cost.over([[16, 64], [32]])[:, 0] == pytest.approx([16 * 32e-9, 64 * 32e-9], rel=0.1)
    assert DeviceProfile(this_machine()).cost(found[0]) is None


@pytest.mark.parametrize(("block", "step"), [(1, 4), (4, 4), (8, 8), (16, 16), (32, 32)])
def test_the_step_of_widths_is_that_of_the_staircase(monkeypatch: pytest.MonkeyPatch, block: int, step: int):
    def sample(threads: int, providers: tuple[str, ...], channels: int) -> Callable[[], float]:
        return lambda: float(-(-channels // block) * block)

    monkeypatch.setattr(alone, "_between", sample)
    assert stairs() == step


@pytest.mark.parametrize("seed", range(20))
def test_a_step_is_told_where_three_runs_of_four_are_disturbed(monkeypatch: pytest.MonkeyPatch, seed: int):
    random = np.random.default_rng(seed)

    def sample(threads: int, providers: tuple[str, ...], channels: int) -> Callable[[], float]:
        whole = float(-(-channels // 8) * 8)
        return lambda: whole * (1 + max(0.0, random.uniform(-0.1, 0.3)))

    monkeypatch.setattr(alone, "_between", sample)
    assert stairs() == 8


def test_a_step_is_measured():
    assert stairs() in (4, 8, 16, 32)


def test_what_is_known_is_not_measured_again(build, monkeypatch):
    found = pieces(
        build("(float[8,64] x) => (float[8,8] y) { y = MatMul(x, w) }", w=(64, 8)),
        {"x": np.ones((8, 64), np.float32)},
    )
    (profile, _) = list(measured(found, DeviceProfile(this_machine())))[-1]
    monkeypatch.setattr("graphprune.runtime.device.seconds_of", None)
    assert list(measured(found, profile)) == []


COST = Cost(((1, 2),), (0.5, 1.0), 1)


def test_a_profile_comes_back_from_its_file(tmp_path):
    machine, seen = Machine(("x86_64", "avx2"), "1.2", 3, ("cuda",)), {"m": (((3, 4), 0.1),)}
    profile = DeviceProfile(machine, {"k": COST}, seen, 1e-6, 0.02, 8, 0.3, 4.5)
    profile.save(tmp_path / "device.json")
    assert DeviceProfile.load(tmp_path / "device.json") == profile


def spoilt(change) -> str:
    cost = {"axes": [[1, 2]], "seconds": [0.5, 1.0], "step": 1}
    machine = {"features": [], "runtime": "1", "threads": 1, "providers": ["cpu"]}
    numbers = dict.fromkeys(["overhead", "reference", "step", "noise", "minutes"], 0)
    seen = {"m": [[[1, 2], 0.5]]}
    told = {"format": 2, "machine": machine, "costs": {"k": cost}, "seen": seen, **numbers}
    change(told, cost, machine)
    return json.dumps(told)


@pytest.mark.parametrize(
    "change",
    [
        lambda told, cost, machine: told.update(format=1),
        lambda told, cost, machine: told.pop("noise"),
        lambda told, cost, machine: told.update(more=1),
        lambda told, cost, machine: told.update(noise="much"),
        lambda told, cost, machine: told.update(overhead=float("nan")),
        lambda told, cost, machine: told.update(costs=[]),
        lambda told, cost, machine: machine.update(runtime=1),
        lambda told, cost, machine: told.update(seen={"m": [[[0], 0.5]]}),
        lambda told, cost, machine: told.update(seen={"m": [[[1], -0.5]]}),
        lambda told, cost, machine: told.update(seen={"m": [0.5]}),
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
