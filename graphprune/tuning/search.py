"""The search: proposes, makes and judges candidates until the answer is due, then decides."""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from graphprune.errors import PromiseError
from graphprune.ir.load import load
from graphprune.pipeline import registry
from graphprune.pipeline.output import copy
from graphprune.pipeline.report import Size
from graphprune.runtime.jobs import one_blas_thread
from graphprune.tuning import finals, goal, propose, sampler, why
from graphprune.tuning.case import Case, Job
from graphprune.tuning.deadline import OutOfTimeError, left_at, require_time
from graphprune.tuning.engine import Engine, engine
from graphprune.tuning.evaluate import Evaluator
from graphprune.tuning.finals import GIVEN, Terms
from graphprune.tuning.here import Here, here, make_here
from graphprune.tuning.processes import Died, Processes
from graphprune.tuning.sent import Sent, make, sent, unpack
from graphprune.tuning.study import Study
from graphprune.tuning.trial import FULL, QUICK, WANTED, Asked, History, Trial
from graphprune.tuning.tuned import Final, Point, Tuned
from graphprune.tuning.ways import DENSE, Way, trained

if TYPE_CHECKING:
    import onnx_ir as ir

    from graphprune.pipeline.settings import Tuning

FINALS, FINALS_MOST = 0.2, 60.0
"""Share of the time that is for the last candidates, and the most seconds."""
REPORT = 0.25
"""Share of that which is for the report part, and to time the lowered model."""
TRAINING, TRAINING_MOST = 30.0, 300.0
"""Seconds that a training takes at least and at most."""
LEARNING = 0.5
"""Share of the time after which a training does not wait until all brackets are closed."""
ENOUGH, STEP = 100, 200
"""Steps of a training that others have to wait for; and how many runs of the model one takes, about."""
STEPS = 24
"""A training that found time for fewer steps is not worth another,"""
LONGER = 2.0
"""unless that may take so many times as long."""
FOLLOWED = 2
DIED = "the process that made it died; it may have had too little memory (--jobs 1 makes one at a time)"
PAYS = 0.75
"""Share of the time of a candidate in full that a quick one takes at most."""
SCREENING = 0.3
"""Share of the time, or of the steps, that telling ways apart may take."""


class Search:
    """A search in progress: iterate to see candidates as they come; `finish` decides.

    Args:
        job: what to tune.
        settings: how.

    Raises:
        ArgumentError: the target is none.
    """

    def __init__(self, job: Job, settings: Tuning) -> None:
        self.goal = goal.parse(settings.target)
        self.start = time.monotonic()
        self.due: float | None = None
        self.end: why.End = "tried"
        self._say = settings.progress
        self.settings = replace(settings, progress=self._tell_or_stop)
        self.case = Case(job, self.settings)
        nameless = job.output is None and settings.study is None
        self.study = Study(self.case, TemporaryDirectory(prefix="graphprune") if nameless else None)
        self.history: History | None = None
        self._tuned: Tuned | None = None

    def _tell_or_stop(self, done: int, total: int, what: str) -> None:
        """Tells how far the work is, and ends it where the answer is due."""
        require_time(self.due)
        self._say(done, total, what)

    def __iter__(self) -> Iterator[Trial]:
        """Candidates, each when it is told; at the end the result is decided and written.

        Raises:
            GraphpruneError: bad input, or an output that cannot be written.
        """
        with one_blas_thread():
            self.study.prepare()
            if self.settings.engine != "local":
                _ = self._engine
            _ = self.case.judged
            self.settings.progress(0, 0, "measure this machine")
            trials = self.study.trials()
            dense = self.case.figures(self.study.measured.given)
            self.history = History(self.goal, self.settings.max_drop or 0.0, dense, trials)
            yield from trials
            try:
                yield from self._told()
            finally:
                for workers in ("_engine", "_processes"):
                    if workers in self.__dict__:
                        self.__dict__[workers].close()
            self.due = None
            self._tuned = self._finished(self.history)

    def finish(self) -> Tuned:
        """The result; what is left of the search runs first."""
        if self._tuned is None:
            for _ in self:
                pass
        assert self._tuned is not None
        return self._tuned

    def _told(self) -> Iterator[Trial]:
        """New candidates in their order."""
        assert self.history is not None
        if not self.history.trials:
            (dense,) = self._made(self.history, [Asked(DENSE, 1.0)])
            if not dense.made:
                raise PromiseError(f"the model itself cannot be lowered and judged: {dense.why}")
            self._keep(self.history, dense)
            yield dense
        if self.settings.steps is None:
            self.due = self.start + self.settings.time - min(FINALS_MOST, FINALS * self.settings.time)
        pending = self._pending(self.history)
        try:
            while self._more(self.history):
                asked, pending = pending or self._proposed(self.history), []
                if not asked:
                    self.end = "tried"
                    return
                if self.settings.steps is not None:
                    asked = asked[: self.settings.steps + 1 - len(self.history.trials)]
                for found in self._made(self.history, asked):
                    self._keep(self.history, found)
                    yield found
                    if not self._more(self.history):
                        return
        except OutOfTimeError:
            self.end = "time"

    def _pending(self, history: History) -> list[Asked]:
        """What is left of the batch in which a study by steps was stopped."""
        done = 1
        while self.settings.steps is not None and done < len(history.trials):
            asked = self._proposed(replace(history, trials=history.trials[:done]))
            if not asked or done + len(asked) > len(history.trials):
                return asked[len(history.trials) - done :]
            done += len(asked)
        return []

    def _more(self, history: History) -> bool:
        """Whether one more may be tried."""
        if self.settings.steps is not None:
            self.end = "steps"
            return len(history.trials) <= self.settings.steps
        self.end = "time"
        return self.due is not None and time.monotonic() < self.due

    def _proposed(self, history: History) -> list[Asked]:
        """The next batch; where brackets are closed the sampler goes on, then the other ways do."""
        count, screen = self.settings.batch, self._room(history) >= propose.ROOM
        tried = self._ways(history) if screen else self.case.ways[:FOLLOWED]
        how = partial(propose.proposed, history, tried, count, screen=screen, brief=self._quick_pays(history))
        asked = how()
        least = self._worth_waiting(history) if asked else 0.0
        way = propose.to_train(history, tried) if least < math.inf else None
        if way is not None and (seconds := self._training(history, way)) > least:
            asked = propose.beyond(history, way, seconds) or asked
        if not asked and tried and sampler.is_installed():
            asked = sampler.sampled(history, tried, count, self.settings.seed)
        return asked or how(everything=True)

    def _quick_pays(self, history: History) -> bool:
        """Whether quick candidates take less time than those in full: most of it may be for the weights."""
        took = [each.seconds for each in history.trials if each.asked.level == QUICK]
        if self.settings.steps is not None or not took:
            return True
        return max(took) < PAYS * (max(took) + self.case.spared_seconds)

    def _worth_waiting(self, history: History) -> float:
        """Seconds of a training that open brackets wait for: late in the search, every other turn."""
        if self.due is None or history.trials[-1].asked.seconds:
            return math.inf
        early = time.monotonic() < self.due - (1 - LEARNING) * (self.due - self.start)
        return math.inf if early else ENOUGH * STEP * self.case.seconds

    def _training(self, history: History, way: Way) -> float:
        """How long the next training may take; 0 where there is no torch, or too little time for it.

        That is half of what is left, or all of it where half is too little.
        """
        before = history.of(trained(way).name)
        none = history.goal.bounds or self.due is None or importlib.util.find_spec("torch") is None
        if none:
            return 0.0
        assert self.due is not None
        cut = max(each.seconds for each in history.of(way.name, FULL))
        left = self.due - time.monotonic() - cut
        seconds = min(TRAINING_MOST, left / 2 if left >= 2 * TRAINING else left)
        vain = max((each.asked.seconds for each in before if steps_of(each) < STEPS), default=0.0)
        return seconds if seconds >= max(TRAINING, LONGER * vain) else 0.0

    def _room(self, history: History) -> float:
        """How many candidates there is time or steps for in all, about."""
        if self.settings.steps is not None:
            return self.settings.steps
        took = [each.seconds for each in history.trials]
        each = max(took[1:], default=took[0] + self.case.repair_seconds)
        assert self.due is not None
        return len(took) + self._at_a_time * (self.due - time.monotonic()) / max(each, 1e-3)

    def _ways(self, history: History) -> tuple[Way, ...]:
        """The first ways, as many as there is time, or steps, to tell the better ones from the others."""
        every = self.case.ways
        if self.settings.steps is not None:
            return every[: max(1, round(SCREENING * self.settings.steps))]
        took = [each.seconds for each in history.trials if each.asked.level == QUICK]
        if self.due is None or not took:
            return every[: self.settings.batch]
        left = self._at_a_time * (self.due - time.monotonic()) + sum(took)
        return every[: max(1, int(SCREENING * left / max(sum(took) / len(took), 1e-3)))]

    def _made(self, history: History, asked: Sequence[Asked]) -> Iterator[Trial]:
        """A batch of candidates, here or by workers; latency is predicted here in any case."""
        numbered = list(enumerate(asked, len(history.trials)))
        if self.settings.engine != "local":
            for made in self._engine.map(make, self._sent, numbered):
                unpack(made, self.study.place)
                yield self._predicted(made.trial)
        elif self._abreast(asked):
            assert self._here is not None
            for trial in self._processes.map(make_here, self._here, numbered):
                yield self._predicted(self._dead(trial) if isinstance(trial, Died) else trial)
        else:
            evaluator = Evaluator(self.study.maker, self.case.judge, self.case.parts.selection)
            for each in numbered:
                with left_at(self.due):
                    found = evaluator.trial(*each, self.study.seconds)
                yield found

    def _predicted(self, found: Trial) -> Trial:
        """With the latency that the profile of the study foresees."""
        if found.figures is None:
            return found
        model = load(self.study.place.candidate(found.number), self.settings.limits).model
        return replace(found, figures=replace(found.figures, latency=self.study.seconds(model)))

    def _dead(self, found: Died[tuple[int, Asked]]) -> Trial:
        number, asked = found.item
        self.study.place.drop(number)
        return Trial(number, asked, self.study.maker.pipeline(asked), why=DIED)

    def _abreast(self, asked: Sequence[Asked]) -> bool:
        """Whether candidates are made side by side; a training has all cores for itself."""
        alone = len(asked) < 2 or any(each.seconds for each in asked)
        return not alone and self._at_a_time > 1

    @cached_property
    def _at_a_time(self) -> int:
        """Candidates that are made side by side, at most."""
        side_by_side = self.settings.engine == "local" and self._here is not None
        return min(self.settings.run.jobs, self.settings.batch) if side_by_side else 1

    @cached_property
    def _here(self) -> Here | None:
        return here(self.study)

    @cached_property
    def _processes(self) -> Processes:
        return Processes(self.settings.run.jobs, self.settings.progress)

    @cached_property
    def _engine(self) -> Engine:
        return engine(self.settings.engine, self.settings.address, self.settings.progress)

    @cached_property
    def _sent(self) -> Sent:
        return sent(self.study)

    def _keep(self, history: History, found: Trial) -> None:
        """Its files first, then the line: what was told is on disk."""
        self.study.write_recipe(found)
        self.history = after = history.told(found)
        output, best = self.case.job.output, after.holding[:1]
        if output is not None and best and best != history.holding[:1]:
            self.study.publish(best[0], output)
        self.study.log.add(found)
        self.study.tidy(after.trials, [*after.last, after.trials[0]])
        if self.case.ways and sampler.is_installed():
            sampler.keep(after, self.case.ways, self.study.place.folder / "optuna.log")

    def _finished(self, history: History) -> Tuned:
        """Times the last candidates, reads the report part, and writes the result."""
        self.settings.progress(0, 0, "time the last candidates")
        fastest = history.goal.least == "latency" and not history.goal.bounds
        due = None if self.settings.steps is not None else self.start + self.settings.time
        for_report = REPORT * min(FINALS_MOST, FINALS * self.settings.time)
        models = partial(self._model, history)
        numbers = [each.number for each in history.last]
        wanted, milder = numbers[:WANTED], numbers[WANTED:]
        found = finals.timed(wanted, models, self.case.timer, fastest, due and due - for_report)
        self.settings.progress(0, 0, "report")
        case = self.case
        terms = Terms(history.bound, models, case.timer, case.judge, case.parts, not fastest, due)
        told, chosen = finals.decided(found, milder, terms)
        return self._assembled(history, told, chosen, self._written(history, chosen))

    def _model(self, history: History, number: int) -> ir.Model:
        return load(self.study.path(history.trials[number]), self.settings.limits).model

    def _written(self, history: History, chosen: int) -> tuple[str, ...]:
        output = self.case.job.output
        if output is None:
            return ()
        if chosen == GIVEN:
            return tuple(copy(self.case.source, output, overwrite=True))
        return self.study.publish(history.trials[chosen], output)

    def _assembled(
        self, history: History, told: tuple[Final, ...], chosen: int, files: tuple[str, ...]
    ) -> Tuned:
        case, seconds = self.case, time.monotonic() - self.start
        result = history.trials[max(0, chosen)]
        assert result.figures is not None
        figures = result.figures
        ending = why.Ending(
            history,
            result if chosen > 0 else None,
            self.end,
            sum(case.samples),
            seconds,
            history.trials[0].seconds + case.repair_seconds,
            decisions=self.settings.metric is None
            and any(each.endswith(" as classes") for each in case.judged),
            denormals=case.denormals,
        )
        return Tuned(
            source=case.job.source,
            output=str(case.job.output or ""),
            target=self.settings.target,
            bound=history.bound,
            judged=tuple(case.judged),
            samples=case.samples,
            before=case.size,
            after=case.size if chosen == GIVEN else Size(figures.params, figures.macs, figures.bytes),
            chosen=chosen,
            pipeline="" if chosen == GIVEN else result.pipeline,
            tried=len(history.trials),
            failed=sum(not each.made for each in history.trials),
            points=tuple(self._point(history, each) for each in history.front),
            finals=told,
            met=not history.goal.missed(_as_measured(figures, told, result.number), history.dense),
            stopped=why.stopped(ending, case.analysis),
            helps=why.helps(ending, case.analysis),
            left_out=left_out(),
            seconds=seconds,
            files=files,
            study="" if self.study.temporary is not None else str(self.study.place.folder),
        )

    def _point(self, history: History, found: Trial) -> Point:
        assert found.figures is not None
        assert found.loss is not None
        place, figures = self.study.place, found.figures
        model = place.candidate(found.number)
        return Point(
            found.number,
            found.pipeline,
            1e3 * figures.latency,
            figures.macs,
            figures.params,
            figures.bytes,
            found.loss,
            history.share(found),
            found.holds(history.bound),
            str(place.recipe(found.number)),
            str(model) if model.is_file() else "",
        )


def _as_measured(figures: goal.Figures, told: Sequence[Final], number: int) -> goal.Figures:
    """What a candidate costs, its latency as it was measured."""
    timed = [1e-3 * each.after_ms for each in told if each.number == number]
    return replace(figures, latency=timed[0]) if timed else figures


def steps_of(found: Trial) -> int:
    """How many steps the training of a candidate took."""
    last = registry.read(found.pipeline)[-1]
    return int(getattr(last, "steps", None) or 0)


def left_out() -> tuple[str, ...]:
    """What is not tried for want of a package."""
    lines = []
    if not sampler.is_installed():
        lines.append(f"proposals beyond the brackets need Optuna: {sampler.INSTALL}")
    if importlib.util.find_spec("torch") is None:
        lines.append('training what was cut needs torch: pip install "graphprune[torch]"')
    return tuple(lines)
