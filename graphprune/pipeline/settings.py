"""How a compile runs, apart from what it does to the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from graphprune.run import Progress, Run, silent

if TYPE_CHECKING:
    from graphprune.axes.outputs import UserKind
    from graphprune.ir.fixed import Fixed
    from graphprune.ir.limits import Limits


@dataclass(frozen=True)
class Settings:
    """Options of one compile.

    Args:
        shapes: concrete shapes of graph inputs.
        fix: contents of inputs that become constants.
        seed: of generated inputs and of everything random in a pass.
        threads: of ONNX Runtime where a latency is measured; everything else runs with one.
        jobs: batches that our own work takes side by side; None for the cores there are.
        tolerance: of a proof, relative to the largest output.
        verify_each: run the structural check after every pass, not only after the last.
        allow_short: write a model that misses its budget.
        overwrite: replace an output that exists.
        bench: measure latency before and after.
        max_drop: largest drop of any output against the dense model, in [0, 1]; None for any.
        strict: refuse what the samples cannot decide, too.
        outputs: how outputs are judged, by name, where the graph does not tell it right.
        timeout: seconds that the first runs of the model may take.
        max_bytes: refuse larger model files.
        allow_external_links: accept external data behind links.
        reproducer: folder that receives everything needed to repeat a compile that failed.
        statistics: file that keeps what was measured on calibration data for the next compile.
        sparse_initializers: write initializers as sparse tensors where that is smaller.
        keep_initializer_inputs: list weights that were inputs as well as inputs again.
        progress: called with (done, total, what).
    """

    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    fix: Fixed = field(default_factory=dict)
    seed: int = 0
    threads: int = 1
    jobs: int | None = None
    tolerance: float = 1e-4
    verify_each: bool = False
    allow_short: bool = False
    overwrite: bool = False
    bench: bool = True
    max_drop: float | None = None
    strict: bool = False
    outputs: Mapping[str, UserKind] = field(default_factory=dict)
    timeout: float = 120.0
    max_bytes: int | None = None
    allow_external_links: bool = False
    reproducer: Path | None = None
    statistics: Path | None = None
    sparse_initializers: bool = False
    keep_initializer_inputs: bool = False
    progress: Progress = silent

    @property
    def run(self) -> Run:
        """How our own work is done."""
        from graphprune.runtime.jobs import cores

        return Run(self.seed, cores() if self.jobs is None else self.jobs, self.timeout, self.progress)

    @property
    def limits(self) -> Limits:
        """What a model file may cost."""
        from graphprune.ir.limits import Limits

        limits = Limits(allow_external_links=self.allow_external_links)
        return limits if self.max_bytes is None else replace(limits, max_bytes=self.max_bytes)
