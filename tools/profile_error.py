"""How far predictions from a device profile are off: `python -m tools.profile_error MODEL... [--cuts N]`.

Every model is profiled, cut to random widths, and timed in turn with what is left of it. What counts is the
ratio to the dense model: the predicted one against the measured one. Beside it stands what the profiles of
all other models predict, which know little or nothing of this one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx_ir as ir

from graphprune.pipeline.profiling import pieces_of_narrowed
from graphprune.prune.rewrite import rewrite
from graphprune.runtime.device import Cost, DeviceProfile, measured, this_machine
from graphprune.runtime.inputs import runnable_inputs
from graphprune.runtime.latency import Subject, measure
from graphprune.runtime.pieces import pieces
from graphprune.runtime.session import open_session
from tools import relations
from tools.command import ended
from tools.zoo import store

RATIOS = (0.15, 0.3, 0.45, 0.6, 0.75)
SCOPES = ("local", "global")


def profiled(path: Path) -> DeviceProfile:
    """The profile of a model's nodes, kept in the cache."""
    kept = store.cache_folder() / f"{path.stem}.device.json"
    profile = DeviceProfile.load(kept) if kept.exists() else DeviceProfile(this_machine())
    if profile.machine != this_machine():
        profile = DeviceProfile(this_machine())
    model = ir.load(path)
    feeds = runnable_inputs(model, batch=1)
    found = [*pieces(model, feeds), *pieces_of_narrowed(relations.analysed(model).model, feeds)]
    for longer, _ in measured(found, profile):
        longer.save(kept)
        profile = longer
    return profile


def joined(several: Sequence[DeviceProfile]) -> DeviceProfile:
    """One profile of several of the same machine."""
    first = several[0]
    costs: dict[str, Cost] = {}
    for each in several:
        scale = first.reference / each.reference
        for kind, cost in each.costs.items():
            costs.setdefault(kind, _scaled(cost, scale))
    return replace(
        first,
        costs={kind: costs[kind] for kind in sorted(costs)},
        overhead=_rounded(float(np.median([each.overhead for each in several]))),
        noise=round(float(np.median([each.noise for each in several])), 4),
        minutes=round(sum(each.minutes for each in several), 1),
    )


def _scaled(cost: Cost, scale: float) -> Cost:
    return replace(cost, seconds=tuple(_rounded(scale * each) for each in cost.seconds))


def _rounded(seconds: float) -> float:
    """Four digits are more than any measurement has."""
    return float(f"{seconds:.4g}")


def errors(path: Path, others: DeviceProfile | None, cuts: int, seconds: float) -> list[list[float]]:
    """Relative errors of the ratios that its own profile and that of others predict, a row per cut."""
    model = ir.load(path)
    profiles = [each for each in (profiled(path), others) if each is not None]
    analysis = relations.analysed(model)
    feeds = runnable_inputs(model, batch=1)
    whole = pieces(model, feeds)
    session, found = open_session(model), []
    for number in range(cuts):
        passes = f"prune(ratio={RATIOS[number % len(RATIOS)]}, criterion=random, scope={SCOPES[number % 2]})"
        small = rewrite(analysis.model, analysis, relations.decided(model, passes, seed=number))
        left = pieces(small, feeds)
        told = [each.predict(left).seconds / each.predict(whole).seconds for each in profiles]
        pair = [Subject("dense", session, feeds), Subject("cut", open_session(small), feeds)]
        ratio = measure(pair, max_seconds=seconds).ratios[0]
        found.append([each / ratio.value - 1 for each in told])
        timed = f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"
        predicted = ", ".join(f"{each:.3f} ({off:+.1%})" for each, off in zip(told, found[-1], strict=True))
        print(f"{path.stem} {passes}: measured {timed}; predicted {predicted}", flush=True)
    return found


def report(paths: list[Path], cuts: int, seconds: float) -> None:
    every = []
    for path in paths:
        others = [profiled(other) for other in paths if other != path]
        every += errors(path, joined(others) if others else None, cuts, seconds)
    for what, found in zip(("own profile", "profiles of the others"), np.abs(every).T, strict=True):
        print(
            f"{len(every)} cuts of {len(paths)} models, {what}: median error {np.median(found):.1%}, "
            f"95th percentile {np.quantile(found, 0.95):.1%}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.profile_error", description=__doc__)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--cuts", type=int, default=5, help="of every model")
    parser.add_argument("--seconds", type=float, default=5.0, help="of timing each, at most")
    given = parser.parse_args()
    sys.exit(ended(partial(report, given.models, given.cuts, given.seconds)))


if __name__ == "__main__":
    main()
