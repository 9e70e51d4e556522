"""A latency is a budget: solved by a profile, measured on the result, solved once more where it is off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import onnx_ir as ir
import pytest

import graphprune
from graphprune.errors import ArgumentError, PromiseError
from graphprune.pipeline import measure
from graphprune.pipeline.deviceprofiles import own_profile
from graphprune.pipeline.foresight import Foresight, Runs
from graphprune.pipeline.recipe import parse
from graphprune.pipeline.report import LatencyReport
from graphprune.pipeline.settings import Settings
from graphprune.runtime import builtin, device
from graphprune.runtime.device import Cost, DeviceProfile, this_machine
from graphprune.runtime.pieces import Piece
from tests.axes.claims import sketch
from tests.pipeline.conftest import mlp
from tests.prune.test_depth import stack
from tests.prune.widths import widths

Compiled = Callable[..., graphprune.Result]

DEEP = """(float[n,64] x) => (float[n,4] y) {
    a = MatMul(x, w1)\n b = Relu(a)\n c = MatMul(b, w2)\n d = Relu(c)\n y = MatMul(d, w3) }"""
CONVOLUTIONS = (
    """(float[n,3,6,6] x) => (float[n,4,2,2] y) { a = Conv(x, w1)\n b = Relu(a)\n y = Conv(b, w2) }"""
)
SWISH = """(float[n,64] x) => (float[n,4] y) {
    a = MatMul(x, w1)\n b = Add(a, three)\n c = Clip(b, zero, six)\n d = Mul(a, c)\n e = Div(d, six)
    y = MatMul(e, w2) }"""


COST_OF = device.cost_of
"""As it is, which most tests here replace."""


def deep() -> ir.Model:
    return sketch(DEEP, w1=(64, 96), w2=(96, 128), w3=(128, 4)).model


def cost_of(alike: list[Piece], *_: object) -> Cost:
    """A nanosecond per product of the widths, in place of a measurement."""
    axes = tuple((1, max(widths)) for widths in zip(*(piece.widths for piece in alike), strict=True))
    grid = np.meshgrid(*(np.array(axis, float) for axis in axes), indexing="ij")
    return Cost(axes, tuple((1e-9 * np.prod(grid, axis=0)).ravel().tolist()), 1 if alike[0].roles else 0)


class Clock:
    """Measures what it is told: shares of the model as given, one after another."""

    def __init__(self, *shares: float) -> None:
        self.shares, self.calls = list(shares), 0

    def __call__(self, *_: object) -> LatencyReport:
        share = self.shares[min(self.calls, len(self.shares) - 1)]
        self.calls += 1
        low, high = 0.99 / share, 1.01 / share
        return LatencyReport(1.0, share, 1.0, share, 1 / share, low, high, "faster", 1, 40, "stub")


@pytest.fixture(autouse=True)
def no_measuring(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(device, "cost_of", cost_of)
    monkeypatch.setattr(device, "nothing", lambda *_: 1e-9)
    monkeypatch.setattr(device, "reference", lambda *_: 1.0)
    monkeypatch.setattr(device, "stairs", lambda *_: 16)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Clock]:
    def told(*shares: float) -> Clock:
        made = Clock(*shares)
        monkeypatch.setattr(measure, "latency", made)
        return made

    return told


def compiled(passes: str, model: ir.Model | None = None, **options: object) -> graphprune.Result:
    return graphprune.compile(model or deep(), passes, lower=False, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "passes", ["prune(latency=0.5)", "prune(latency=0.5, params=0.9)", "flap(latency=0.5)"]
)
def test_what_is_foreseen_and_measured_stand_side_by_side(passes: str, clock: Callable[..., Clock]) -> None:
    told = clock(0.5)
    data = {"x": np.random.default_rng(0).standard_normal((40, 64)).astype(np.float32)}
    result = compiled(passes, calibration=data)
    budget = next(each for each in result.report.budgets if each.what == "latency")
    assert budget.asked == 0.5 and budget.left == pytest.approx(0.5) and budget.met
    assert budget.foreseen is not None and 0.4 < budget.foreseen <= 0.5
    assert result.report.latency is not None and told.calls == 1
    assert result.plan_file.latency is not None and result.plan_file.latency.factor == 1.0


def test_a_latency_that_is_off_is_solved_again_once_and_the_factor_repeats_it(
    clock: Callable[..., Clock],
) -> None:
    told = clock(0.62, 0.5)
    result = compiled("prune(latency=0.5)")
    assert told.calls == 2
    foreseen = result.report.budgets[0].foreseen
    assert foreseen is not None and 0.4 < foreseen <= 0.5 and result.plan_file.latency is not None
    factor = result.plan_file.latency.factor
    assert 1.24 <= factor < 1.55
    recipe = parse(result.report.recipe)
    assert recipe.options["latency_factor"] == factor
    clock(0.62)
    blunt = compiled("prune(latency=0.5)", latency_factor=1.0, allow_short=True)
    assert sum(widths(blunt.plans[0]).values()) > sum(widths(result.plans[0]).values())
    again = compiled("prune(latency=0.5)", latency_factor=factor, allow_short=True)
    assert again.plans[0].cuts == result.plans[0].cuts


def foresight(factor: float = 1.0, whole: int = 1000) -> Foresight:
    return Foresight(Mock(spec=Runs), DeviceProfile(this_machine()), True, whole, factor=factor)


@pytest.mark.parametrize("power", [0.6, 1.0, 1.7])
@pytest.mark.parametrize("lowered", [0.7, 1.0, 1.2])
@pytest.mark.parametrize("foreseen", [0.3, 0.45])
def test_a_machine_that_is_a_power_of_what_is_foreseen_is_met_by_one_correction(
    power: float, lowered: float, foreseen: float
) -> None:
    """The dense model is foreseen as it is; `told` is what the profile would have to say for `asked`."""
    asked = 0.45
    measured = lowered * (foreseen / lowered) ** power
    factor = foresight(lowered).corrected(asked, foreseen, measured, 1000).factor
    told = asked * lowered / factor
    assert lowered * (told / lowered) ** power == pytest.approx(asked)


def test_a_correction_is_bounded_and_holds_where_nothing_had_to_go() -> None:
    assert foresight().corrected(0.5, 0.5, 1.3, 1000).factor == pytest.approx(2.0)
    assert foresight().corrected(0.5, 0.5, 0.01, 1000).factor == pytest.approx(0.5**0.5)
    assert foresight(0.4).corrected(0.5, 0.4, 0.44, 1000).factor == pytest.approx(0.44)
    times = foresight(2.0).corrected(0.5, 0.5, 0.6, 2000)
    assert times.factor == pytest.approx(2 * foresight().corrected(0.5, 0.5, 0.6, 1000).factor)


def test_a_first_that_was_far_too_quick_is_not_taken_back_whole(clock: Callable[..., Clock]) -> None:
    clock(0.3, 0.5)
    result = compiled("prune(latency=0.5)")
    foreseen = compiled("prune(latency=0.5)", latency_factor=1.0).report.budgets[0].foreseen
    assert foreseen is not None and result.plan_file.latency is not None
    power = np.log(0.3) / np.log(foreseen)
    assert result.plan_file.latency.factor == pytest.approx(0.5 ** (1 - 1 / power))


def test_a_second_solution_that_is_too_late_gives_way_to_a_first_that_is_not(
    clock: Callable[..., Clock],
) -> None:
    told = clock(0.3, 0.9)
    result = compiled("prune(latency=0.5)")
    assert told.calls == 2 and result.report.budgets[0].met and result.report.budgets[0].left < 0.4
    assert result.plan_file.latency is not None and result.plan_file.latency.factor == 1.0


def test_where_both_are_too_late_the_quicker_one_is_told(clock: Callable[..., Clock]) -> None:
    clock(0.62, 0.58)
    assert compiled("prune(latency=0.5)", allow_short=True).report.budgets[0].left == pytest.approx(0.58)
    clock(0.62, 0.7)
    assert compiled("prune(latency=0.5)", allow_short=True).report.budgets[0].left == pytest.approx(0.62)


def test_passes_before_the_first_latency_budget_run_once(clock: Callable[..., Clock]) -> None:
    clock(0.62, 0.5)
    result = compiled("canonicalize, prune(ratio=0.1), prune(latency=0.5)")
    assert [each.text for each in result.report.passes][:2] == ["canonicalize", "prune(ratio=0.1)"]
    assert result.report.budgets[-1].met


def test_a_plan_gives_the_same_bytes_and_is_held_to_what_is_measured(
    tmp_path: Path, clock: Callable[..., Clock]
) -> None:
    clock(0.5)
    result = compiled("prune(latency=0.5)")
    again = graphprune.compile(deep(), plan=result.plan_file, lower=False)
    one, two = (each.proto().SerializeToString() for each in (result, again))
    assert one == two and again.report.budgets[0].met
    clock(0.8)
    with pytest.raises(PromiseError, match=r"latency=0.5 is missed: 0.800 \(0.792 to 0.808\)"):
        graphprune.compile(deep(), plan=result.plan_file, lower=False)


def test_it_is_missed_where_the_whole_interval_is_more_than_five_percent_above(
    clock: Callable[..., Clock],
) -> None:
    clock(0.5, 0.53)
    assert compiled("prune(latency=0.5)").report.budgets[0].met
    clock(0.54)
    with pytest.raises(PromiseError, match=r"latency=0.5 is missed: .* was foreseen"):
        compiled("prune(latency=0.5)", latency_factor=1.0, bench=True)


def test_out_of_reach_it_says_the_nearest_that_can_be_had(clock: Callable[..., Clock]) -> None:
    clock(0.1)
    with pytest.raises(PromiseError, match=r"latency=0.01 cannot be met: .* at least 0.0\d+ of the latency"):
        compiled("prune(latency=0.01)")
    short = compiled("prune(latency=0.01)", allow_short=True)
    assert not short.report.budgets[0].met


def test_a_time_is_a_time(clock: Callable[..., Clock]) -> None:
    """The dense model takes 1 ms by the stub, and 18 us by the profile."""
    told = clock(1.0, 0.4)
    result = compiled("prune(latency=400us)")
    assert told.calls == 2 and result.plan_file.latency is not None
    assert result.plan_file.latency.factor == pytest.approx(1e6 / 18_900, rel=0.05)
    budget = result.report.budgets[0]
    assert budget.asked == pytest.approx(0.4) and budget.foreseen == pytest.approx(0.4, abs=0.05)


def test_where_lowering_alone_is_enough_nothing_is_cut(clock: Callable[..., Clock]) -> None:
    model = sketch(SWISH, w1=(64, 96), w2=(96, 4), three=(), zero=(), six=()).model
    for name, value in (("three", 3.0), ("zero", 0.0), ("six", 6.0)):
        model.graph.initializers[name].const_value = ir.tensor(np.array(value, np.float32), name=name)
    told = clock(0.7)
    result = graphprune.compile(model, "prune(latency=0.8)")
    assert result.report.lowering is not None and result.report.lowering.uses and told.calls == 2
    assert not result.plans[0].cuts
    assert result.report.passes[0].notes == ("latency=0.8 is met by lowering alone; it removes nothing",)
    assert result.report.budgets[0].met


def test_a_profile_of_another_machine_decides_and_nothing_is_measured(
    tmp_path: Path, clock: Callable[..., Clock]
) -> None:
    clock(0.5)
    compiled("prune(latency=0.5)")
    (cached,) = (tmp_path / "cache" / "graphprune" / "profiles").iterdir()
    own = DeviceProfile.load(cached)
    file = tmp_path / "phone.json"
    replace(own, machine=replace(own.machine, features=("aarch64", "asimd"))).save(file)
    told = clock(9.0)
    result = compiled("prune(latency=0.5)", device_profile=file)
    assert told.calls == 0 and result.report.budgets[0].met
    assert result.report.budgets[0].left == result.report.budgets[0].foreseen
    target = graphprune.compile(deep(), "prune(latency=0.5)", target=file)
    assert told.calls == 0 and target.plans[0].cuts == result.plans[0].cuts
    replace(own, machine=this_machine(2)).save(file)
    with pytest.raises(ArgumentError, match="measured with --threads 2, not 1"):
        compiled("prune(latency=0.5)", device_profile=file)


def test_widths_keep_to_the_step_of_the_profile(tmp_path: Path) -> None:
    model = sketch(CONVOLUTIONS, w1=(64, 3, 3, 3), w2=(4, 64, 3, 3)).model
    kept = {}
    for step in (16, 1):
        DeviceProfile(this_machine(), step=step).save(tmp_path / "device.json")
        (plan,) = compiled("prune(ratio=0.3)", model, device_profile=tmp_path / "device.json").plans
        kept[step] = [len(units) for units in plan.cuts.values()]
    assert kept == {16: [48], 1: [45]}


@pytest.mark.parametrize(
    "passes", ["depth(latency=0.6, criterion=reverse)", "pagcp(latency=0.8, delta0=0.4, tau=40, align=1)"]
)
def test_passes_that_remove_sublayers_or_search_are_held_to_it_too(
    passes: str, clock: Callable[..., Clock]
) -> None:
    clock(0.62)
    data = {"x": np.random.default_rng(0).standard_normal((40, 5, 6)).astype(np.float32)}
    result = compiled(passes, stack(), calibration=data, allow_short=True, latency_factor=1.0)
    budget = result.report.budgets[0]
    assert budget.foreseen is not None and budget.asked - 0.25 < budget.foreseen <= budget.asked
    assert result.plans[0].bypassed or result.plans[0].cuts


def test_a_profile_that_ships_serves_with_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    model = sketch(CONVOLUTIONS, w1=(64, 3, 3, 3), w2=(4, 64, 3, 3)).model
    monkeypatch.setattr(builtin, "remark", lambda machine: "that of another serves")
    result = compiled("prune(ratio=0.3), prune(ratio=0.1)", model, device_profile="builtin")
    assert [step.warnings for step in result.report.passes] == [("that of another serves",), ()]
    assert [len(units) for units in result.plans[0].cuts.values()] == [48]
    named = compiled("prune(ratio=0.3)", model, device_profile=builtin.names()[0])
    assert not named.report.passes[0].warnings


@pytest.mark.parametrize(
    ("passes", "said"),
    [
        ("prune(latency=3)", "or a time with its unit; got 3"),
        ("prune(latency=0)", r"in \(0, 1\], or a time"),
        ("prune(latency=3MB)", "expected a number or an amount such as 3ms"),
        ("prune(latency=0.5), prune(latency=3ms)", "a share in one pass and a time in another"),
        ("prune(latency=0.5, ratio=0.5)", "ratio says how much goes"),
    ],
)
def test_what_is_no_latency_is_said(passes: str, said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        compiled(passes)


def spread(widths: tuple[int, ...], roles: bool) -> Piece:
    """A node of one kind at some widths; without roles they are elements."""
    places = tuple((((0, at, 1),)) for at in range(len(widths))) if roles else ()
    node = ir.node("MatMul" if roles else "Softmax", [])
    return Piece(node.op_type, widths, places, node, ())


@pytest.mark.parametrize(
    ("roles", "one", "other"),
    [
        (True, (512, 64), (32, 64)),
        (True, (32, 64), (512, 64)),
        (True, (512, 16), (16, 512)),
        (False, (100_000,), (100,)),
        (False, (100,), (100_000,)),
    ],
)
def test_a_kind_that_comes_in_other_sizes_is_measured_there_and_stays_known(
    monkeypatch: pytest.MonkeyPatch, roles: bool, one: tuple[int, ...], other: tuple[int, ...]
) -> None:
    monkeypatch.setattr(device, "seconds_of", lambda piece, widths, *_: 1e-9 * float(np.prod(widths)))
    monkeypatch.setattr(device, "cost_of", COST_OF)
    first, second = spread(one, roles), spread(other, roles)
    own_profile([first], 1, Settings())
    both = own_profile([second], 1, Settings()).costs[first.kind]
    for sizes in (one, other):
        assert both.covers(sizes) and both.at(sizes) == pytest.approx(1e-9 * np.prod(sizes))
    monkeypatch.setattr(device, "cost_of", Mock(side_effect=AssertionError("measured again")))
    for piece in (first, second):
        assert own_profile([piece], 1, Settings()).costs[first.kind] == both


def test_a_cost_that_is_close_by_is_not_measured_again() -> None:
    assert Cost(((16, 64, 256),), (1e-6, 2e-6, 3e-6), 16).covers((32,))
    assert Cost(((16, 64, 256),), (1e-6, 2e-6, 3e-6), 16).covers((16,))
    assert not Cost(((128, 256),), (2e-6, 3e-6), 16).covers((128,))
    assert not Cost(((16, 64, 256),), (1e-6, 2e-6, 3e-6), 16).covers((272,))
    assert Cost(((100, 400),), (1e-6, 4e-6), 0).covers((1600,))
    assert not Cost(((100, 400),), (1e-6, 4e-6), 0).covers((1601,))


def test_a_profile_that_is_misspelt_is_answered_with_the_names() -> None:
    with pytest.raises(ArgumentError, match="no device profile is named 'builtn'") as caught:
        graphprune.compile(mlp(), "prune(latency=0.5)", device_profile="builtn")
    assert caught.value.hint == "did you mean 'builtin'?"
