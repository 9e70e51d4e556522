"""Makes one candidate, counts it and says what it lost; the same here and on another machine."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from graphprune.errors import GraphpruneError
from graphprune.pipeline import compile as compiling
from graphprune.pipeline import recipe, registry
from graphprune.pipeline.job import Job as CompileJob
from graphprune.pipeline.option import options
from graphprune.pipeline.result import Result
from graphprune.pipeline.settings import Choosing, Gating, Settings, Tuning
from graphprune.tuning.deadline import OutOfTimeError
from graphprune.tuning.goal import Figures
from graphprune.tuning.judge import Judge
from graphprune.tuning.trial import QUICK, Asked, Level, Loss, Trial
from graphprune.tuning.ways import BY_NAME, DENSE

if TYPE_CHECKING:
    import onnx_ir as ir

    from graphprune.axes.outputs import UserKind
    from graphprune.pipeline.samples import Judging

LATENCY = ("device_profile", "latency_factor")
"""Options that a recipe without a latency budget does not need."""
Seconds = Callable[["ir.Model"], float]
"""Predicts the latency of a model."""


@dataclass(frozen=True)
class Place:
    """Where a study keeps its files.

    Attributes:
        folder: of the study.
        name: of the model's file.
    """

    folder: Path
    name: str

    def samples(self, what: str) -> Path:
        """A folder of samples."""
        return self.folder / "samples" / what

    def candidate(self, number: int) -> Path:
        """The model of a candidate, in a folder of its own."""
        return self.folder / "candidates" / f"{number:04}" / self.name

    @property
    def scores(self) -> Path:
        """What criteria found of the model, for the next candidate."""
        return self.folder / "scores"

    @property
    def profile(self) -> Path:
        """What nodes cost here."""
        return self.folder / "profile.json"

    def recipe(self, number: int) -> Path:
        """What makes a candidate again."""
        return self.folder / "recipes" / f"{number:04}.toml"

    def drop(self, number: int) -> None:
        """Removes the model of a candidate; its recipe stays."""
        shutil.rmtree(self.candidate(number).parent, ignore_errors=True)


@dataclass(frozen=True)
class Maker:
    """Makes candidates of one model.

    Attributes:
        model: as it was given.
        place: of the files.
        settings: of the search.
        shapes: of one sample.
        share: of the time that the model takes as it was given, what it takes lowered.
        kinds: what outputs are, besides what the user said.
    """

    model: object
    place: Place
    settings: Tuning
    shapes: Mapping[str, tuple[int, ...]]
    share: float
    kinds: Mapping[str, UserKind] = field(default_factory=dict)

    def pipeline(self, asked: Asked) -> str:
        """Passes of a candidate as text."""
        return BY_NAME[asked.way].pipeline(asked.left, asked.seconds)

    def job(self, pipeline: str, level: Level, output: Path | None = None) -> CompileJob:
        """What to compile."""
        return CompileJob(
            self.model,
            registry.read(pipeline),
            output=output,
            calibration=self.place.samples("few" if level == QUICK else "repair"),
            selection=self.place.samples("selection"),
            compared=False,
            scores=self.place.scores,
        )

    @cached_property
    def compile_settings(self) -> Settings:
        """How candidates are compiled."""
        known = {each.name for kind in (Choosing, Gating) for each in options(kind)} - {"max_drop", "strict"}
        own = {name: getattr(self.settings, name) for name in known}
        own |= {"shape": {**self.shapes, **self.settings.shape}, "device_profile": self.place.profile}
        own["outputs"] = {**self.kinds, **self.settings.outputs}
        own |= {"latency_factor": self.share, "allow_short": True, "force": True, "bench": False}
        return Settings(**own)

    def recipe(self, found: Trial) -> str:
        """What makes a candidate again, as a file."""
        job, here = self.job(found.pipeline, found.asked.level), self.place.recipe(0).parent
        told = job.recipe(replace(self.compile_settings, force=False))
        named = {
            name: os.path.relpath(str(told.options[name]), here) for name in ("calibration", "selection")
        }
        rest = told.options
        if "latency=" in found.pipeline:
            named["device_profile"] = os.path.relpath(self.place.profile, here)
        else:
            rest = {name: value for name, value in rest.items() if name not in LATENCY}
        return recipe.write(replace(told, options={**rest, **named}))

    def made(self, number: int, pipeline: str, level: Level) -> Result:
        """Compiles a candidate into its place.

        Raises:
            GraphpruneError: nothing came of it.
        """
        output = self.place.candidate(number)
        output.parent.mkdir(parents=True, exist_ok=True)
        return compiling.run(self.job(pipeline, level, output), self.compile_settings)


@dataclass(frozen=True)
class Evaluator:
    """Makes candidates and judges them.

    Attributes:
        maker: of candidates.
        judge: of what they lose.
        selection: the samples that they are chosen by.
    """

    maker: Maker
    judge: Judge
    selection: Judging

    def trial(self, number: int, asked: Asked, seconds: Seconds) -> Trial:
        """One candidate; what cannot be made says why."""
        start = time.monotonic()
        found = Trial(number, asked, self.maker.pipeline(asked))
        try:
            result = self.maker.made(number, found.pipeline, asked.level)
            # Passes that were told a time say there in how many steps they used it.
            found = replace(found, pipeline=recipe.parse(result.report.recipe).pipeline or found.pipeline)
            loss = self._loss(result.model, asked)
            size = result.report.after
            figures = Figures(seconds(result.model), size.macs, size.params, size.bytes)
        except OutOfTimeError:
            self.maker.place.drop(number)
            raise
        except GraphpruneError as error:
            self.maker.place.drop(number)
            return replace(found, why=error.message.splitlines()[0], seconds=time.monotonic() - start)
        return replace(found, figures=figures, loss=loss, seconds=time.monotonic() - start)

    def _loss(self, model: ir.Model, asked: Asked) -> Loss:
        """What a model loses on the samples that choose; one that is only lowered needs no closer look."""
        judge = self.judge.loss if asked.way == DENSE else self.judge.estimate
        return judge(model, self.selection)
