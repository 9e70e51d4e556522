"""How well the result agrees with the dense model, and whether that is enough: no proof says so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from graphprune.errors import ArgumentError, ModelError, PromiseError, did_you_mean
from graphprune.ir.names import quote
from graphprune.pipeline.agreement import ROUNDS, OpenedOnce, saturation
from graphprune.pipeline.outcome import interval, told
from graphprune.pipeline.report import AgreementReport, Interval, OutputDrop
from graphprune.pipeline.runner import Runner, ran, runner, running
from graphprune.pipeline.samples import Judging, Narrow, Samples, same
from graphprune.pipeline.settings import Gating, Settings
from graphprune.run import CPU_ALONE
from graphprune.runtime.session import Feeds

if TYPE_CHECKING:
    from graphprune.axes.outputs import Judged
    from graphprune.ir.arrays import Arrays, Bools
    from graphprune.ir.shapes import Sizes
    from graphprune.pipeline.manager import Step
    from graphprune.runtime.drop import Drop, Tally
    from graphprune.runtime.estimate import Estimate

SAME = 0.005
"""A drop printed with three digits that differs by less is no other verdict."""
BATCH = 32
"""Samples at a time for a model that does not run on one."""
FORESEEN, UNMOVED = 64, 1e-3
"""Positions at which logits are compared, and the share of the largest by which rounding moves them."""
MISFIT_ERRORS, MISFIT_GROWTH = 2.5, 1.25
"""Standard errors, and the factor, by which held-back samples have to be worse than those repaired on."""
MISFIT_LEAST = 0.01
"""A smaller error on samples held back harms nobody, whatever it is on the others."""


def how_judged(model: ir.Model, sizes: Sizes, settings: Gating) -> tuple[Judged, ...]:
    """What each output is, with what the user said of some.

    Raises:
        ArgumentError: there is no output of that name.
    """
    from graphprune.axes.outputs import judged

    names = [value.name or "" for value in model.graph.outputs]
    for name in settings.outputs:
        if name not in names:
            raise ArgumentError(f"the model has no output {quote(name)}", did_you_mean(name, names))
    return judged(model, sizes, settings.outputs)


def require_data(settings: Settings, given: bool) -> None:
    """Refuse a bound that nothing can be measured for.

    Raises:
        ArgumentError: there are no samples, or it is no share.
    """
    if settings.max_drop is not None and not 0 <= settings.max_drop <= 1:
        raise ArgumentError(f"max-drop is a share: it must be in [0, 1], got {settings.max_drop}")
    if settings.max_drop is not None and not given:
        message = "--max-drop needs samples to measure the drop on"
        raise ArgumentError(message, "give some: --calibration FILE or --inputs FILE")


def drops(dense: Runner, small: Runner, outputs: tuple[Judged, ...], judging: Judging) -> tuple[Drop, ...]:
    """What each output lost over the samples, one after the other; only sums are held.

    Arrays of a sequence or a map are judged one by one. One that the smaller model does not return is lost
    for that sample; one that it alone returns is told.
    """
    return drops_of(dense, (small,), outputs, judging)[0]


def drops_of(
    dense: Runner, small: Sequence[Runner], outputs: tuple[Judged, ...], judging: Judging
) -> tuple[tuple[Drop, ...], ...]:
    """The same of several models, over samples that are read once."""
    tallies = [_Tallies(dense, outputs) for _ in small]
    for feed, one in _runs(dense, judging):
        for mine, run in zip(tallies, small, strict=True):
            mine.add(feed, one, run(feed))
    return tuple(mine.drops() for mine in tallies)


class _Tallies:
    """Sums of all outputs of one model."""

    def __init__(self, dense: Runner, outputs: tuple[Judged, ...]) -> None:
        self._dense, self._outputs = dense, outputs
        self._tallies: list[dict[str, Tally]] = [{} for _ in outputs]
        self._samples = 0

    def add(self, feed: Feeds, one: Arrays, two: Arrays) -> None:
        """One sample: what the dense model returns, and what the other does."""
        from graphprune.runtime.drop import Tally
        from graphprune.runtime.gaps import real_tokens

        real = real_tokens(feed)
        self._samples += 1
        for item, mine in zip(self._outputs, self._tallies, strict=True):
            for name in dict.fromkeys(name for name in (*one, *two) if _of(name, item.name)):
                if name not in mine:
                    array = one[name] if name in one else two[name]
                    mine[name] = Tally(_settled(item, feed, name, array, self._dense))
                _take(mine[name], name, feed, one, two, real)

    def drops(self) -> tuple[Drop, ...]:
        """What each output lost so far."""
        return tuple(
            replace(tally.drop(self._samples), name=name)
            for mine in self._tallies
            for name, tally in mine.items()
        )


def _take(tally: Tally, name: str, feed: Feeds, one: Arrays, two: Arrays, real: Bools | None) -> None:
    """One sample of an array that one model or both return."""
    if name not in one:
        tally.extra += 1
    elif name not in two:
        tally.miss(one[name])
    else:
        ids = feed[tally.judged.tokens] if tally.judged.kind == "tokens" else None
        tally.add(one[name], two[name], ids, real)


def _runs(dense: Runner, judging: Judging) -> Iterator[tuple[Feeds, dict[str, np.ndarray]]]:
    """Each sample with what the dense model gives."""
    for feed in _feeds(dense, judging):
        yield feed, dense(feed)


def _feeds(dense: Runner, judging: Judging) -> Iterator[Feeds]:
    """Each sample; several at a time where the dense model refuses one."""
    size = 1
    try:
        dense(next(iter(judging.feeds(size))))
    except ModelError:
        size = BATCH
    yield from judging.feeds(size)


def _of(array: str, output: str) -> bool:
    """Whether an array is of this output: a sequence or a map gives several, as `name[0]`."""
    return array == output or (array.startswith(f"{output}[") and array.endswith("]"))


def _settled(item: Judged, feed: Feeds, name: str, array: np.ndarray, dense: Runner) -> Judged:
    """How an array of an output is judged, now that its type is known, and whether it foresees tokens."""
    if array.dtype.kind in "biuOSU" and item.kind != "scores":
        return replace(item, kind="exact")
    if item.kind == "tokens" and not (name == item.name and _continues(item, feed, array, dense)):
        return replace(item, kind="classes")
    return item


def _continues(item: Judged, feed: Feeds, logits: np.ndarray, dense: Runner) -> bool:
    """Whether logits tell the next token without seeing it: those before a token do not change with it."""
    ids = feed[item.tokens]
    if ids.ndim != 2 or logits.shape[:2] != ids.shape or ids.shape[1] < 2:
        return False
    other = np.array(ids)
    other[:, -1] = (ids[:, -1] + 1) % logits.shape[-1]
    moved = dense({**feed, item.tokens: other})[item.name]
    at = np.unique(np.linspace(0, ids.shape[1] - 2, FORESEEN).astype(np.int64))
    before, after = (array[:, at].astype(np.float64) for array in (logits, moved))
    return bool(np.abs(before - after).max() <= UNMOVED * np.abs(before).max())


def verdict(
    once: OpenedOnce,
    steps: Sequence[Step],
    outputs: tuple[Judged, ...],
    samples: Samples,
    settings: Settings,
) -> tuple[AgreementReport, tuple[str, ...]]:
    """How the result agrees with the dense model, and lines that somebody should act on."""
    dense = once.model
    judging, small, narrow = samples.judging(), steps[-1].model, [step.narrow for step in steps]
    repaired = any(step.plan and (step.plan.replaced or step.plan.biases) for step in steps)
    # Generated inputs are few, and nobody's: what comes of them is no headline.
    optimise = judging.source != "generated" or once.optimise
    shared = optimise == once.optimise and settings.providers == CPU_ALONE
    runs = (
        running(once.session, dense, settings) if shared else runner(dense, settings, optimise=optimise),
        runner(small, settings, narrow=narrow, optimise=optimise),
    )
    unrecovered = _unrecovered(steps, settings, optimise)
    found, *before = drops_of(runs[0], (runs[1], *unrecovered), outputs, judging)
    report = told(found, judging, ran(runs))
    report = replace(report, before=_same_output(report, before))
    if not report.measured:
        return report, ()
    report = beside(report, dense, small, outputs, judging, settings, narrow)
    lines = [*dead(report), *unpaired(report), *filter(None, [report.saturation]), *few(samples)]
    own = judging.source not in ("repaired on", "given")
    if repaired and own and samples.batches and apart(found):
        lines += misfit(found, drops(*runs, outputs, samples.seen()), judging.source)
    return report, tuple(lines)


def _unrecovered(steps: Sequence[Step], settings: Settings, optimise: bool) -> tuple[Runner, ...]:
    """The model before its last recovery, if there was one."""
    at = max((at for at, step in enumerate(steps) if step.item.learns), default=0)
    if not at:
        return ()
    narrow = [step.narrow for step in steps[:at]]
    return (runner(steps[at - 1].model, settings, narrow=narrow, optimise=optimise),)


def _same_output(report: AgreementReport, found: Sequence[tuple[Drop, ...]]) -> Interval | None:
    """The drop of the output that the headline is of, in other drops."""
    return next((interval(d.drop) for each in found for d in each if d.name == report.output), None)


def beside(
    report: AgreementReport,
    dense: ir.Model,
    small: ir.Model,
    outputs: tuple[Judged, ...],
    judging: Judging,
    settings: Gating,
    narrow: Sequence[Narrow] = (),
) -> AgreementReport:
    """The exact drop beside the native one where bytes are multiplied, and why where they judge otherwise."""
    from graphprune.runtime.exact import has_products

    drop = report.drop
    if drop is None or not (has_products(dense) or has_products(small)):
        return report
    runs = runner(dense, settings, exact=True), runner(small, settings, True, narrow)
    exact = {each.name: interval(each.drop) for each in drops(*runs, outputs, judging)}.get(report.output)
    report = replace(report, exact=exact)
    if exact is None or not _otherwise(drop, exact, settings.max_drop):
        return report
    resized = any(step is not same for step in narrow)  # the small model takes other feeds then
    why = saturation((dense,) if resized else (dense, small), _feeds(runs[0], judging), settings) or ROUNDS
    here = f"the drop of output {quote(report.output)} is {drop.value:.3f} here"
    return replace(report, saturation=f"{here} and {exact.value:.3f} in exact arithmetic: {why}")


def _otherwise(native: Interval, exact: Interval, bound: float | None) -> bool:
    """Whether two drops judge otherwise: on the bound, or since each lies outside the other's interval."""
    if bound is not None and (native.value > bound) != (exact.value > bound):
        return True
    inside = native.low <= exact.value <= native.high or exact.low <= native.value <= exact.high
    return not inside and abs(native.value - exact.value) >= SAME


def dead(report: AgreementReport) -> tuple[str, ...]:
    """A line for each output that tells no more than a constant."""
    return tuple(f"as good as dead: {_why_dead(each)}" for each in report.outputs if each.dead)


def _why_dead(output: OutputDrop) -> str:
    name = quote(output.name)
    hint = "cut less, or repair: the file does what the plan says, but not what the model did"
    if output.top1 is not None and output.constant_top1 is not None:
        constant = f"{output.constant_top1:.3f} for the best constant answer"
        return f"output {name} agrees with the dense model on {output.top1.value:.3f}, {constant}; {hint}"
    if output.kind == "scores":
        return f"output {name} is no better than calling everything positive; {hint}"
    return f"output {name} explains none of the dense model's variance; {hint}"


def unpaired(report: AgreementReport) -> tuple[str, ...]:
    """A line on arrays of sequences and maps that only one of the two models returns."""
    sides = (
        ("missing", "of the dense model are missing from the smaller one: each is a full drop of its sample"),
        ("extra", "are returned by the smaller model alone"),
    )
    found = [(side, words, [each for each in report.outputs if getattr(each, side)]) for side, words in sides]
    return tuple(
        f"{sum(getattr(each, side) for each in ones)} arrays, such as {quote(ones[0].name)}, {words}"
        for side, words, ones in found
        if ones
    )


def few(samples: Samples) -> tuple[str, ...]:
    """A line where the calibration data is too little to hold any back."""
    from graphprune.runtime.holding import LEAST

    number = samples.calibrated
    if samples.replay or not 0 < number < LEAST:
        return ()
    noun = "sample" if number == 1 else "samples"
    return (
        f"calibration has {number} {noun}: statistics and repair fit them rather than the task, and of fewer "
        f"than {LEAST} none is held back to show it; a few hundred help",
    )


def misfit(held: tuple[Drop, ...], seen: tuple[Drop, ...], source: str) -> tuple[str, ...]:
    """A line where outputs are further from the dense model's on other samples than on those repaired on."""
    measures = (("squared error over variance", "error"), ("drop", "drop"))
    before = {each.name: each for each in seen}
    pairs = [
        (each.name, what, getattr(each, name), getattr(before.get(each.name, each), name))
        for each in held
        for what, name in measures
    ]
    grown = [pair for pair in pairs if _beyond(*pair[2:])]
    if not grown:
        return ()
    name, what, one, two = max(grown, key=lambda pair: pair[2].value - pair[3].value)
    where = "--inputs" if source == "inputs" else "samples held back"
    return (
        f"calibration does not fit: {what} of output {quote(name)} is {one.value:.2g} on {where} and "
        f"{two.value:.2g} on those repaired on; more samples from where the model will be used would help",
    )


def apart(held: tuple[Drop, ...]) -> bool:
    """Whether any output on samples held back is so far from the dense model's that it could harm."""
    found = (estimate for each in held for estimate in (each.error, each.drop) if estimate is not None)
    return any(estimate.value >= MISFIT_LEAST for estimate in found)


def _beyond(held: Estimate | None, seen: Estimate | None) -> bool:
    if held is None or seen is None:
        return False
    noise = float(np.hypot(held.error, seen.error))
    if held.value < MISFIT_LEAST:
        return False
    return held.value - seen.value > MISFIT_ERRORS * noise and held.value > MISFIT_GROWTH * seen.value


def gate(report: AgreementReport, settings: Settings) -> tuple[str, ...]:
    """Lines on whether the drop keeps its bound.

    Raises:
        PromiseError: it does not; or, where settings are strict, the samples cannot decide.
    """
    bound = settings.max_drop
    if bound is None:
        return ()
    hint = "cut less, repair with more samples, or allow more; --allow-short writes it all the same"
    if report.drop is None:
        return _missed(
            "--max-drop cannot be judged: these samples say nothing about any output", hint, settings
        )
    drop, name = report.drop, quote(report.output)
    unsure = inconclusive(drop, bound, report.samples)
    if drop.value > bound:
        line = f"the drop of output {name} is {drop.value:.3f}, more than --max-drop {bound:g}"
        beside = report.saturation and f"\n  {report.saturation}"
        return _missed(f"{line}{unsure and f' (inconclusive, {unsure})'}{beside}", hint, settings)
    if drop.high <= bound:
        return ()
    line = f"--max-drop {bound:g} is inconclusive, {unsure}: the drop of output {name} is {drop}"
    if settings.strict:
        raise PromiseError(line, "give more samples, or leave --strict out")
    return (line,)


def _missed(line: str, hint: str, settings: Settings) -> tuple[str, ...]:
    if not settings.allow_short:
        raise PromiseError(line, hint)
    return (line,)


def inconclusive(found: Interval, bound: float, number: int, most: bool = True, noun: str = "samples") -> str:
    """What more samples would decide; empty where the whole interval lies on one side of the bound.

    Args:
        found: the estimate.
        bound: the most that it may be; the least if not `most`.
        number: of samples that it rests on.
        most: whether more than the bound is too much.
        noun: what they are.
    """
    within = [end <= bound if most else end >= bound for end in (found.low, found.high)]
    if within[0] == within[1]:
        return ""
    reach = found.high - found.value if found.value <= bound else found.value - found.low
    apart = abs(bound - found.value)
    if not apart:
        return f"{number} {noun}; no number would decide"
    return f"{number} {noun}; about {int(np.ceil(number * (reach / apart) ** 2))} would decide"
