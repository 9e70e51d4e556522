"""Analysis grows with the model, not with its square: counted in calls, which no clock disturbs."""

from __future__ import annotations

import sys
from types import FrameType

import onnx_ir as ir
import pytest

import graphprune
from graphprune.axes import analyse
from graphprune.axes.cost import CostModel
from graphprune.axes.kept import Kept
from graphprune.pipeline import inspection
from graphprune.pipeline.settings import Settings
from tests.proof.building import model

FEW, MANY = 10, 40


def residual(blocks: int) -> ir.Model:
    """A stream of 8 channels with blocks of two convolutions beside it, every one a group of its own."""
    lines, weights, stream = ["s0 = Conv(x, stem)"], {"stem": (8, 3, 1, 1)}, "s0"
    for at in range(blocks):
        lines += [
            f"a{at} = Conv({stream}, wa{at})",
            f"r{at} = Relu(a{at})",
            f"b{at} = Conv(r{at}, wb{at})",
            f"s{at + 1} = Add({stream}, b{at})",
        ]
        weights |= {f"wa{at}": (16, 8, 1, 1), f"wb{at}": (8, 16, 1, 1)}
        stream = f"s{at + 1}"
    lines.append(f"y = Conv({stream}, head)")
    body = "\n".join(lines)
    return model(f"(float[n,3,4,4] x) => (float[n,5,4,4] y) {{ {body} }}", 17, **weights, head=(5, 8, 1, 1))


def calls_of_inspect(dense: ir.Model) -> int:
    return _calls(lambda: inspection.inspect(dense, Settings()))


def calls_of_prune(dense: ir.Model) -> int:
    return _calls(lambda: graphprune.compile(dense, "prune(params=0.6, per=budget)"))


def calls_of_plain_prune(dense: ir.Model) -> int:
    return _calls(lambda: graphprune.compile(dense, "prune(params=0.6)"))


def _calls(work: object) -> int:
    assert callable(work)
    count = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize(
    "calls", [calls_of_inspect, calls_of_prune, calls_of_plain_prune], ids=["inspect", "per-budget", "prune"]
)
def test_four_times_the_groups_take_four_times_the_work(calls: object) -> None:
    assert callable(calls)
    calls(residual(2))  # what the first run imports and caches is none of its work
    assert calls(residual(MANY)) < 1.25 * MANY / FEW * calls(residual(FEW))


def test_counting_a_model_again_looks_at_no_tensor_one_by_one() -> None:
    def calls_of_count(blocks: int) -> int:
        analysis = analyse(residual(blocks))
        model = CostModel(analysis, {})
        kept = Kept(analysis, {group.id: range(group.size // 2) for group in analysis.prunable})
        assert model.params(kept) < model.dense_params and model.macs(kept) < model.dense_macs
        return _calls(lambda: (model.params(kept), model.macs(kept)))

    assert calls_of_count(MANY) == calls_of_count(FEW)
