"""A finished compile."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir

from graphprune.ir.load import Source
from graphprune.pipeline.clock import Timings
from graphprune.pipeline.option import path_of
from graphprune.pipeline.output import copy, require_free, write
from graphprune.pipeline.planfile import PlanFile
from graphprune.pipeline.report import Report
from graphprune.shown import Shown

if TYPE_CHECKING:
    import onnx

    from graphprune.prune.plan import Plan


@dataclass(frozen=True)
class Result(Shown):
    """A finished compile; wherever a model is taken, a Result is.

    Attributes:
        model: the compiled model.
        plans: what each deciding pass decided.
        plan_file: all decisions, to be replayed.
        report: what was done, measured and proved.
        copied: the file of which the result is a copy, byte for byte, if it is one.
        source: the model as given; its files are never written.
    """

    model: ir.Model
    plans: tuple[Plan, ...]
    plan_file: PlanFile
    report: Report
    copied: Path | None = None
    source: Source | None = None

    @property
    def timings(self) -> Timings:
        """CPU and wall seconds per phase."""
        return self.report.timings

    def proto(self) -> onnx.ModelProto:
        """The model as protobuf, for the onnx package; up to 2 GB."""
        return ir.to_proto(self.model)

    def save(self, output: str | os.PathLike[str], *, force: bool = False) -> tuple[str, ...]:
        """Write the model with its plan beside it, as `compile` does with an output; all files or none.

        Args:
            output: where the model goes, e.g. "small.onnx".
            force: replace files that exist.

        Returns:
            The files that were written.

        Raises:
            OutputError: it is an input, exists, or cannot be written.
        """
        path = path_of("output", output)
        assert self.source is not None
        require_free(path, self.source, (), force)
        if self.plan_file.entries or self.copied is None:
            return tuple(write(self.model, path, self.source, self.plan_file, overwrite=force))
        return tuple(copy(self.source, path, overwrite=force))

    def to_html(self, output: str | os.PathLike[str] | None = None, *, force: bool = False) -> str:
        """The report as a page of its own, as `--report FILE.html` writes it.

        Args:
            output: where the page goes; None writes nothing.
            force: replace a file that exists.

        Raises:
            OutputError: it exists, or cannot be written.
        """
        return self.report.to_html(output, force=force)
