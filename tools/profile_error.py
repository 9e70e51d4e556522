"""How far predictions from a device profile are off: `python -m tools.profile_error MODEL... [--cuts N]`.

Every model is profiled, cut to random widths, and timed in turn with what is left of it. What counts is the
ratio to the dense model: the predicted one against the measured one.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np
import onnx_ir as ir

from graphprune.pipeline.profiling import pieces_of_narrowed
from graphprune.prune.rewrite import rewrite
from graphprune.runtime.device import DeviceProfile, measured, this_machine
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


def errors(path: Path, cuts: int, seconds: float) -> list[float]:
    """Relative errors of the predicted ratios, one per cut."""
    profile, model = profiled(path), ir.load(path)
    analysis = relations.analysed(model)
    feeds = runnable_inputs(model, batch=1)
    dense = profile.predict(pieces(model, feeds)).seconds
    session, found = open_session(model), []
    for number in range(cuts):
        passes = f"prune(ratio={RATIOS[number % len(RATIOS)]}, criterion=random, scope={SCOPES[number % 2]})"
        small = rewrite(analysis.model, analysis, relations.decided(model, passes, seed=number))
        cut = profile.predict(pieces(small, feeds))
        pair = [Subject("dense", session, feeds), Subject("cut", open_session(small), feeds)]
        ratio = measure(pair, max_seconds=seconds).ratios[0]
        found.append(cut.seconds / dense / ratio.value - 1)
        told = f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"
        print(
            f"{path.stem} {passes}: predicted {cut.seconds / dense:.3f}, measured {told}, "
            f"{found[-1]:+.1%}, {cut.alike} nodes told from others, {cut.unknown} unknown",
            flush=True,
        )
    return found


def report(paths: list[Path], cuts: int, seconds: float) -> None:
    every = [abs(error) for path in paths for error in errors(path, cuts, seconds)]
    print(
        f"{len(every)} cuts of {len(paths)} models: median error {np.median(every):.1%}, "
        f"95th percentile {np.quantile(every, 0.95):.1%}"
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
