"""Makes the reference that a pass learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from graphprune.pipeline import verdict
from graphprune.pipeline.reference import Reference
from graphprune.pipeline.runner import runner
from graphprune.pipeline.samples import Samples
from graphprune.pipeline.settings import Settings

if TYPE_CHECKING:
    import onnx_ir as ir

    from graphprune.axes.outputs import Judged
    from graphprune.runtime.drop import Drop


@dataclass(frozen=True)
class Learning:
    """The dense model of a compile, for whichever pass wants to learn from it.

    Args:
        model: as given, normalised.
        outputs: how each of its outputs is judged.
        settings: how models are run.
        output: the file that is to be written, if there is one.
    """

    model: ir.Model
    outputs: tuple[Judged, ...]
    settings: Settings
    output: Path | None = None

    def reference(self, samples: Samples) -> Reference:
        """What a pass may learn from that sees these samples."""
        selection = samples.selection

        def lost(models: Sequence[ir.Model]) -> tuple[tuple[Drop, ...], ...]:
            dense = runner(self.model, self.settings)
            small = [runner(model, self.settings, narrow=samples.narrow) for model in models]
            return verdict.drops_of(dense, small, self.outputs, selection)

        output = self.output
        scratch = None if output is None else output.with_name(f"{output.name}.stopped")
        return Reference(
            self.model,
            self.outputs,
            samples.training,
            selection,
            samples.narrowed,
            lost,
            samples.calibrated,
            scratch,
        )
