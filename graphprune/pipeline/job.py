"""What to compile, as a value."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path

from graphprune.pipeline import recipe, registry
from graphprune.pipeline.passes import Pass
from graphprune.pipeline.planfile import PlanFile
from graphprune.pipeline.samples import Given as Data
from graphprune.pipeline.settings import Files, Settings


@dataclass(frozen=True)
class Job:
    """What to compile: a model, the passes or the plan to replay, and where the result goes, if anywhere.

    `command` is the line or the call that asked for it, `config` are files that settings were taken from.
    With `lower` it is lowered even where there are no passes. Without `compared` nothing is said of how well
    the result agrees with the dense model: whoever asked judges that. In the folder `scores` are those that
    compiles of the same model found before.
    """

    model: object
    passes: tuple[Pass, ...] = ()
    plan: PlanFile | None = None
    output: Path | None = None
    calibration: Data = None
    general: Data = None
    selection: Data = None
    inputs: Data = None
    also_read: tuple[Path, ...] = ()
    report: Path | None = None
    command: str = ""
    lower: bool = False
    compared: bool = True
    scores: Path | None = None
    config: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """What is read besides the model, and so never written."""
        tensors = (path.with_suffix(".safetensors") for path in self.also_read)
        data = (
            item
            for item in (self.calibration, self.general, self.selection, self.inputs)
            if isinstance(item, Path)
        )
        return (*self.also_read, *tensors, *data)

    @property
    def source(self) -> str:
        """The model's path, or what it is."""
        return (
            os.fspath(self.model) if isinstance(self.model, str | os.PathLike) else type(self.model).__name__
        )

    @property
    def copies(self) -> bool:
        """Whether nothing is asked of any pass."""
        return not self.passes and self.plan is None and not self.lower

    @property
    def pipeline(self) -> str:
        """The passes as text."""
        return self.plan.pipeline if self.plan is not None else registry.text(self.passes)

    def recipe(self, settings: Settings, pipeline: str = "") -> recipe.Recipe:
        """What repeats this, as far as it was given in files; `pipeline` says what passes found."""
        names = {each.name: getattr(self, each.name) for each in fields(Files)}
        paths = {name: str(given) for name, given in names.items() if isinstance(given, Path)}
        return recipe.of(pipeline or self.pipeline, settings, Files(**paths))
