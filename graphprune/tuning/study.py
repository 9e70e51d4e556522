"""The folder of a study: samples, what the machine was measured at, recipes, models and what was told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from graphprune import document
from graphprune.errors import OutputError
from graphprune.ir.names import quote
from graphprune.ir.publish import create, publish, temporaries, unwritable, write_file
from graphprune.pipeline.output import plan_path, require_free
from graphprune.runtime.device import DeviceProfile
from graphprune.tuning import predict
from graphprune.tuning.evaluate import Maker, Place
from graphprune.tuning.log import NAME, Log
from graphprune.tuning.parts import Counts, Parts, counts, write
from graphprune.tuning.predict import Predictor
from graphprune.tuning.trial import Trial

if TYPE_CHECKING:
    import onnx_ir as ir

    from graphprune.tuning.case import Case

PROFILING, PROFILING_LEAST, PROFILING_MOST = 0.1, 2.0, 60.0
"""Share of the time that measuring the machine may take, from how many seconds on it begins, and the most."""
BRIEF = 0.02
"""Share of the time that timing the model as a whole may take."""
NAMELESS = "model.onnx"
COUNTS = "samples.json"
"""How many samples there are of each part."""


@dataclass(frozen=True)
class Measured:
    """Seconds that the model takes as it was given, and what predicts candidates."""

    given: float
    predictor: Predictor


@dataclass(frozen=True)
class Study:
    """Files of a search.

    Attributes:
        case: what is tuned.
        temporary: the folder where nobody named one.
    """

    case: Case
    temporary: TemporaryDirectory[str] | None = None

    @cached_property
    def place(self) -> Place:
        """Where its files are."""
        output, named = self.case.job.output, self.case.settings.study
        name = output.name if output is not None else NAMELESS
        if named is not None:
            return Place(Path(named), name)
        if self.temporary is not None:
            return Place(Path(self.temporary.name), name)
        assert output is not None
        return Place(output.with_suffix(".tune"), name)

    @cached_property
    def maker(self) -> Maker:
        """Makes candidates."""
        case = self.case
        share = self.seconds(case.lowered) / self.measured.given
        return Maker(case.job.model, self.place, case.settings, case.shapes, share, case.kinds)

    @cached_property
    def log(self) -> Log:
        """What was told."""
        return Log(self.place.folder, self.case.about)

    def prepare(self) -> None:
        """Reads what was given, and makes the folder, or opens it.

        Raises:
            OutputError: there is a study already, the output exists, or something cannot be written.
            GraphpruneError: what was given does not fit.
        """
        job, settings, folder = self.case.job, self.case.settings, self.place.folder
        _ = self.case.parts  # what does not fit is told before a folder is made
        if job.output is not None:
            taken = settings.force or settings.resume
            require_free(job.output, self.case.source, job.also_read, taken)
        there = (folder / NAME).exists()
        if there and not (settings.resume or settings.force):
            hint = "--resume goes on with it, --force starts anew"
            raise OutputError(f"there is a study in {quote(str(folder))}", hint)
        try:
            if there and not settings.resume:
                shutil.rmtree(folder)
            if not there and (folder / COUNTS).is_file():  # of a search that ended before it told anything
                shutil.rmtree(folder / "samples", ignore_errors=True)
            for name in ("recipes", "samples"):
                (folder / name).mkdir(parents=True, exist_ok=True)
            parts = self._kept(there and settings.resume)
            write(parts.repair, self.place.samples("repair"))
            write(parts.few, self.place.samples("few"))
            write(parts.selection.sets, self.place.samples("selection"))
        except OSError as error:
            raise unwritable(folder, error) from None

    def _kept(self, goes_on: bool) -> Parts:
        """As many samples as there is time for, all by steps; where a study goes on, those it began with."""
        case, settings, file = self.case, self.case.settings, self.place.folder / COUNTS
        if goes_on:
            told = document.load(file)
            most = Counts(told.one("repair", int), told.one("judge", int))
        else:
            every = sum(case.samples)
            by_time = settings.steps is None
            most = counts(settings.time, case.seconds) if by_time else Counts(every, every)
            write_file(file, json.dumps(asdict(most)).encode())
        case.parts.keep(most, case.model, settings.seed)
        return case.parts

    def trials(self) -> tuple[Trial, ...]:
        """What was told before, if this goes on with it; else a new file.

        Raises:
            GraphpruneError: it is of something else, damaged, or cannot be written.
        """
        found = self.log.read() if self.case.settings.resume else ()
        if not found:
            self.log.start()
        return found

    @cached_property
    def measured(self) -> Measured:
        """The machine; measured once for a study.

        Raises:
            GraphpruneError: a file of the study is damaged, or cannot be written.
        """
        file, known = self.place.folder / "device.json", self.place.profile
        threads = self.case.settings.threads
        if self.case.settings.resume and file.is_file() and known.is_file():
            told = document.load(file)
            profile = DeviceProfile.load(known)
            return Measured(told.one("given", float), Predictor(profile, told.one("factor", float), threads))
        found = self._measure()
        found.predictor.profile.save(known)
        line = json.dumps({"given": found.given, "factor": found.predictor.factor})
        write_file(file, line.encode())
        return found

    def _measure(self) -> Measured:
        settings, case = self.case.settings, self.case
        seconds = min(PROFILING_MOST, PROFILING * settings.time)
        if settings.profile is not None:  # then nothing is measured, so that the study is the same anywhere
            known = predict.load(Path(settings.profile), settings.threads)
            told = Predictor(known, 1.0, settings.threads)
            return Measured(told.seconds(case.model, case.feed), told)
        if seconds < PROFILING_LEAST:
            seconds = 0.0
        brief = min(predict.SECONDS, BRIEF * settings.time)
        made = predict.predictor(case.lowered, case.feed, seconds, brief, settings.threads, settings.run)
        return Measured(made.seconds(case.lowered, case.feed) * case.timer.ratio(case.lowered), made)

    def seconds(self, model: ir.Model) -> float:
        """The predicted latency of a model."""
        return self.measured.predictor.seconds(model, self.case.feed)

    def write_recipe(self, found: Trial) -> None:
        """What makes a candidate again."""
        write_file(self.place.recipe(found.number), self.maker.recipe(found).encode())

    def path(self, found: Trial) -> Path:
        """Where the model of a candidate is; made again where a kill came between."""
        path = self.place.candidate(found.number)
        if not path.is_file():
            self.maker.made(found.number, found.pipeline, found.asked.level)
        return path

    def tidy(self, trials: Iterable[Trial], kept: Iterable[Trial]) -> None:
        """Removes models that will not be the result, unless all are to be kept."""
        numbers = {each.number for each in kept}
        for each in () if self.case.settings.keep_all else trials:
            if each.number not in numbers:
                self.place.drop(each.number)

    def publish(self, found: Trial, output: Path) -> tuple[str, ...]:
        """Puts a candidate where the result goes; all files or none.

        Raises:
            OutputError: a file cannot be written.
        """
        home = self.path(found).parent
        paths = sorted(home.iterdir(), key=lambda path: path.name != output.name)
        names = [output.with_name(path.name) for path in paths]
        tensors = plan_path(output).with_suffix(".safetensors")
        try:
            with temporaries(names) as staged:
                for path, temporary in zip(paths, staged, strict=True):
                    with path.open("rb") as data, create(temporary) as file:
                        shutil.copyfileobj(data, file)
                pairs = list(zip(staged, names, strict=True))
                gone = [] if tensors in names else [(None, tensors)]
                publish(pairs[0], [*pairs[1:], *gone], overwrite=True)
        except OSError as error:
            raise unwritable(output, error) from None
        return tuple(map(str, names))
