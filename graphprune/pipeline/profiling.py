"""What nodes of models cost on this machine, measured into a file that a later run goes on with."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from graphprune.errors import ArgumentError, ModelError
from graphprune.ir.names import quote
from graphprune.pipeline.opened import load_to_run
from graphprune.pipeline.samples import Given, timed_feed
from graphprune.pipeline.settings import Profiling
from graphprune.run import CPU_ALONE

if TYPE_CHECKING:
    import onnx_ir as ir

    from graphprune.runtime.device import DeviceProfile, Machine
    from graphprune.runtime.pieces import Piece
    from graphprune.runtime.session import Feeds

NARROWED, SEED = 6, 0
"""Cuts of a model of which the nodes are measured, too, and what they are drawn from."""


@dataclass(frozen=True)
class PredictedModel:
    """A model as the profile sees it beside what it takes.

    Attributes:
        name: of the model.
        nodes: that run.
        alike: of these, never measured and told from others of their operator.
        unknown: of these, in no prediction.
        predicted_ms: what all others take together.
        measured_ms: what the model takes.
    """

    name: str
    nodes: int
    alike: int
    unknown: int
    predicted_ms: float
    measured_ms: float


@dataclass(frozen=True)
class Profiled:
    """What a run of `profile` did.

    Attributes:
        features: instructions of the machine that matter.
        runtime: version of ONNX Runtime.
        threads: of ONNX Runtime.
        providers: what runs the nodes.
        kinds: of nodes that the file holds now.
        new: of these, measured in this run.
        left: that there was no time for.
        noise: how far two measurements of one node are apart, as a share.
        minutes: that all measurements in the file took.
        models: with what they take.
    """

    features: tuple[str, ...]
    runtime: str
    threads: int
    providers: tuple[str, ...]
    kinds: int
    new: int
    left: int
    noise: float
    minutes: float
    models: tuple[PredictedModel, ...]


def profile_machine(
    models: Sequence[object], output: Path, settings: Profiling, inputs: Given = None
) -> Profiled:
    """Measure what is missing in the file, kind by kind, and write it after each.

    Raises:
        ModelError: a model does not load or run.
        ArgumentError: the file is of another machine, ONNX Runtime, number of threads or provider.
        DataError: the file is no profile.
        OutputError: it cannot be written.
    """
    from graphprune.runtime.device import measured, noise_of, this_machine
    from graphprune.runtime.latency import Subject, measure
    from graphprune.runtime.pieces import pieces
    from graphprune.runtime.session import open_session

    before = _known(output, this_machine(settings.threads, settings.providers))
    timed: list[tuple[str, tuple[Piece, ...], float]] = []
    narrow: list[Piece] = []
    for model in models:
        settings.progress(0, 0, "load")
        ready = load_to_run(model, settings)
        feeds = timed_feed(ready.model, inputs, settings, ready.constants)
        how = settings.threads, settings.providers
        found = pieces(ready.model, feeds, *how)
        narrow += pieces_of_narrowed(ready.model, feeds, *how)
        subject = Subject(
            "", open_session(ready.model, threads=settings.threads, providers=settings.providers), feeds
        )
        timing = measure([subject], max_seconds=3, run=settings.run).timings[0]
        own = settings.threads == 1 and settings.providers == CPU_ALONE
        seconds = timing.cpu_median if own else timing.wall_median
        timed.append((str(model) if isinstance(model, str | Path) else type(model).__name__, found, seconds))
    every = [piece for _, found, _ in timed for piece in found]
    profile, left, start = before, 0, time.monotonic()
    for profile, left in measured([*every, *narrow], before):
        spent = (time.monotonic() - start) / 60
        profile = replace(profile, minutes=before.minutes + spent)
        profile.save(output)
        done = len(profile.costs) - len(before.costs)
        settings.progress(done, done + left, "measure")
        if spent > settings.minutes:
            break
    profile = replace(profile, noise=noise_of(every, profile))
    profile.save(output)
    models_seen = [_predicted(name, found, seconds, profile) for name, found, seconds in timed]
    return _profiled(profile, before, left, models_seen)


def _profiled(
    profile: DeviceProfile, before: DeviceProfile, left: int, models: Sequence[PredictedModel]
) -> Profiled:
    kinds = {*profile.costs, *profile.seen}
    return Profiled(
        profile.machine.features,
        profile.machine.runtime,
        profile.machine.threads,
        profile.machine.providers,
        len(kinds),
        len(kinds - {*before.costs, *before.seen}),
        left,
        profile.noise,
        profile.minutes,
        tuple(models),
    )


def profile_of_kit(folder: Path, output: Path) -> Profiled:
    """Write the profile of what a kit measured.

    Raises:
        DataError: the folder holds no results of one kit on one machine, or the file is no profile.
        ArgumentError: the file is of another machine.
        OutputError: it cannot be written.
    """
    from graphprune.runtime.kit_results import profile_of, results

    found = results(folder)
    machine = found[0].machine
    before = _known(output, machine)
    made = profile_of(found, before)
    made.save(output)
    models = [_predicted(each.name, each.found, each.whole, made) for each in found]
    return _profiled(made, before, 0, models)


def pieces_of_narrowed(
    model: ir.Model, feeds: Feeds, threads: int = 1, providers: Sequence[str] = CPU_ALONE
) -> list[Piece]:
    """What runs at some other widths of a normalised model."""
    from graphprune.pipeline.narrowed import narrowed
    from graphprune.runtime.pieces import pieces

    found: list[Piece] = []
    for small in narrowed(model, NARROWED, SEED):
        with suppress(ModelError):
            found += pieces(small, feeds, threads, providers)
    return found


def _known(output: Path, machine: Machine) -> DeviceProfile:
    """What the file holds already."""
    from graphprune.runtime.device import DeviceProfile

    if not output.exists():
        return DeviceProfile(machine)
    known = DeviceProfile.load(output)
    if known.machine != machine:
        own = known.machine
        told = f"{', '.join(own.features)}; ONNX Runtime {own.runtime}, threads {own.threads}"
        fault = f"{quote(str(output))} was measured elsewhere: {told}, {', '.join(own.providers)}"
        raise ArgumentError(fault, "give another file with -o")
    return known


def _predicted(name: str, found: Sequence[Piece], seconds: float, profile: DeviceProfile) -> PredictedModel:
    predicted = profile.predict(found)
    return PredictedModel(
        name, len(found), predicted.alike, predicted.unknown, 1e3 * predicted.seconds, 1e3 * seconds
    )
