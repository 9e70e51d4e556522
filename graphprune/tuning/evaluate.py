"""Makes one candidate, counts it and says what it lost; the same here and on another machine."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from graphprune.errors import GraphpruneError
from graphprune.pipeline import compile as compiling
from graphprune.pipeline import recipe, registry
from graphprune.pipeline.option import options
from graphprune.pipeline.settings import Choosing, Gating, Settings, Tuning
from graphprune.tuning.goal import Figures
from graphprune.tuning.judge import Judge
from graphprune.tuning.trial import QUICK, Asked, Loss, Trial
from graphprune.tuning.ways import BY_NAME

if TYPE_CHECKING:
    import onnx_ir as ir

    from graphprune.pipeline.samples import Judging

Seconds = Callable[["ir.Model"], float]
"""Predicts the latency of a model."""


class OutOfTimeError(BaseException):
    """The answer is due: unwinds the stack, so that nothing that was under way takes it for a failure."""


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
    """

    model: object
    place: Place
    settings: Tuning

    def job(self, asked: Asked, output: Path | None = None) -> compiling.Job:
        """What to compile."""
        quick = asked.level == QUICK
        text = BY_NAME[asked.way].pipeline(asked.left)
        samples = self.place.samples("few" if quick else "repair")
        return compiling.Job(self.model, registry.read(text), output=output, calibration=samples)

    @cached_property
    def compile_settings(self) -> Settings:
        """How candidates are compiled."""
        known = {each.name for kind in (Choosing, Gating) for each in options(kind)} - {"max_drop", "strict"}
        own = {name: getattr(self.settings, name) for name in known}
        return Settings(**{**own, "allow_short": True, "force": True, "bench": False})

    def recipe(self, asked: Asked) -> str:
        """What makes a candidate again, as a file."""
        job, here = self.job(asked), self.place.recipe(0).parent
        assert isinstance(job.calibration, Path)
        beside = os.path.relpath(job.calibration, here)
        found = job.recipe(replace(self.compile_settings, force=False))
        return recipe.write(replace(found, options={**found.options, "calibration": beside}))

    def made(self, number: int, asked: Asked) -> compiling.Result:
        """Compiles a candidate into its place.

        Raises:
            GraphpruneError: nothing came of it.
        """
        output = self.place.candidate(number)
        output.parent.mkdir(parents=True, exist_ok=True)
        return compiling.run(self.job(asked, output), self.compile_settings)


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
        found = Trial(number, asked, BY_NAME[asked.way].pipeline(asked.left))
        try:
            result = self.maker.made(number, asked)
            loss = self.loss(result.model)
            size = result.report.after
            figures = Figures(seconds(result.model), size.macs, size.params, size.bytes)
        except OutOfTimeError:
            self.maker.place.drop(number)
            raise
        except GraphpruneError as error:
            self.maker.place.drop(number)
            return replace(found, why=error.message.splitlines()[0], seconds=time.monotonic() - start)
        return replace(found, figures=figures, loss=loss, seconds=time.monotonic() - start)

    def loss(self, model: ir.Model) -> Loss:
        """What a model loses on the samples that candidates are chosen by."""
        return self.judge.loss(model, self.selection)
