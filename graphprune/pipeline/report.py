"""The Report: what a compile did, per pass and per group, as facts for the renderers of `graphprune.report`.

`to_json` is the documented form: its keys are the field names of the classes below, nested as they nest, and
only ever grow. Numbers are raw (elements, multiply-adds, bytes, seconds, milliseconds); one that does not
exist is null.
"""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass, field
from functools import cache

from graphprune.ir.publish import write_file
from graphprune.pipeline.clock import Timings
from graphprune.pipeline.option import path_of
from graphprune.shown import Shown, page

SCHEMA = 1
Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True)
class Size:
    """Elements of all weights, multiply-adds (null where they are unknown), bytes of all tensors.

    `assumed` are the sizes that multiply-adds are counted at where the model leaves them open and nobody said
    more: by symbol, or as input[axis].
    """

    params: int
    macs: int | None
    bytes: int
    assumed: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class FileBytes:
    """What files take on disk, weights beside a model included; null where there was no file."""

    before: int | None
    after: int


@dataclass(frozen=True)
class Scores:
    """How the saliency of a group's units is spread, and the lowest score that was kept.

    `kept` and `removed` count units between neighbouring `edges`; those beyond are in the first or the last.
    """

    low: float
    median: float
    high: float
    threshold: float | None
    edges: tuple[float, ...] = ()
    kept: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()


@dataclass(frozen=True)
class GroupReport:
    """One group: width before and after, or why it may not shrink, which node says so, what would free it.

    `depth` is the place of the node that makes its units, counted from the inputs; `least` how many units the
    arguments of the pass leave in any case, 0 where it has no such arguments; `shared` says that they live in
    a layer that is applied more than once.
    """

    id: str
    width: int
    kept: int
    pin: str = ""
    pin_node: str = ""
    scores: Scores | None = None
    unblock: str = ""
    depth: int = 0
    least: int = 0
    shared: bool = False


@dataclass(frozen=True)
class ProofReport:
    """The result of a proof: worst error relative to the largest output, its bound, and remarks.

    `inexact` names the nodes that compute another function because the pass was allowed to change them. Bits
    of `tensors` were compared with what the plan makes of the dense ones, and `runs` inputs ran through both
    models.
    """

    ok: bool
    error: float
    tolerance: float
    inexact: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    tensors: int = 0
    runs: int = 0


@dataclass(frozen=True)
class TensorZeros:
    """One masked tensor."""

    name: str
    size: int
    zeros: int


@dataclass(frozen=True)
class SparseNode:
    """Whether TensorRT could run a node with its 2:4 kernels, and if not why not."""

    node: str
    weight: str
    eligible: bool
    why: str = ""


@dataclass(frozen=True)
class ZerosReport:
    """What a mask buys: zeros, and how small they make the masked weights in an archive.

    `compressed` is measured with `codec` on a `sampled` share of the masked weights and scaled to all.
    `latency` says what the zeros do to it under ONNX Runtime.
    """

    masked: int
    zeros: int
    bytes: int
    compressed: int
    codec: str
    sampled: float
    latency: str
    tensors: tuple[TensorZeros, ...]
    sparse_nodes: tuple[SparseNode, ...]


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} (95 % interval {self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class CurvePoint:
    """Losses at a step of a training: on its draws since the last point, and on the selection part.

    A loss of 1 is that of the best constant answer; the first point has none on draws.
    """

    step: int
    training: float | None
    selection: float


@dataclass(frozen=True)
class RecoveredOutput:
    """The drop of an output on the selection part, before and after a training."""

    name: str
    kind: str
    before: Interval | None
    after: Interval | None


@dataclass(frozen=True)
class RecoveryReport:
    """What a training of the compressed model came to.

    `goals` are the values that it compared with the dense model's. `tensors` with `weights` elements were
    trained on `samples` samples, and the best of the steps was chosen on `selection` others: `best`, 0 where
    none was better than no step. `accepted` says whether the trained weights are in the result; `together`
    whether several samples ran at once.
    """

    goals: tuple[str, ...]
    tensors: int
    weights: int
    samples: int
    selection: int
    steps: int
    batch: int
    rate: float
    best: int
    accepted: bool
    together: bool
    seconds: float
    curve: tuple[CurvePoint, ...]
    outputs: tuple[RecoveredOutput, ...]
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PassReport:
    """What one pass did; `notes` are lines on it, `warnings` lines that somebody should act on."""

    text: str
    groups: tuple[GroupReport, ...]
    proof: ProofReport
    size: Size
    warnings: tuple[str, ...] = ()
    zeros: ZerosReport | None = None
    notes: tuple[str, ...] = ()
    recovery: RecoveryReport | None = None


@dataclass(frozen=True)
class SampleDrift:
    """What became of one sample, by its number in the data: its drop, and how far its numbers moved."""

    sample: int
    drop: float | None
    drift: float | None


@dataclass(frozen=True)
class OutputDrop:
    """How far an output fell below the dense model's; see docs/proof.md for what is lost in each kind.

    `dead` says that it tells no more than a constant answer would. `worst_class` is the class of ten samples
    or more on which the two agree least. `drift` is how far its numbers moved, in standard deviations of the
    dense output; `worst` are the samples with the largest drop, and `counts` those between neighbouring
    `edges` of drift. `missing` are samples on which the smaller model does not return it, each a full drop;
    `extra` those on which it alone does.
    """

    name: str
    kind: str
    drop: Interval | None
    top1: Interval | None
    worst_class: str
    worst_class_top1: float | None
    constant_top1: float | None
    cosine: float | None
    dead: bool
    note: str
    worst_class_interval: Interval | None = None
    drift: float | None = None
    worst: tuple[SampleDrift, ...] = ()
    edges: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    missing: int = 0
    extra: int = 0


@dataclass(frozen=True)
class AgreementReport:
    """How the result agrees with the dense model: the drop of the worst output, and every output's.

    `source` says on which samples: inputs, held back, repaired on, given, or generated. Where they were that,
    `measured` is false, and the figures say nothing about accuracy. `exact` is the drop of the same output
    where no CPU saturates products of bytes, if there are any; `saturation` says why it judges otherwise.
    `providers` are the execution providers that ran at least one node of either model. `before` is the drop
    of the same output before the last recovery, on the same samples.
    """

    samples: int
    source: str
    measured: bool
    output: str
    drop: Interval | None
    outputs: tuple[OutputDrop, ...]
    exact: Interval | None = None
    saturation: str = ""
    providers: tuple[str, ...] = ()
    before: Interval | None = None


@dataclass(frozen=True)
class LatencyReport:
    """Interleaved ONNX Runtime latency in milliseconds, and the speed-up with its spread (1.3 is faster).

    `clock` says what was timed (thread CPU time where one thread runs, wall time where other providers than
    the CPU do); `providers` are those that ran at least one node; `verdict` is faster, slower, or no
    measurable difference, and is the only word to be quoted: a ratio inside the noise is no speed-up. Before
    is the file as it was given. `dense_ms` is of the dense model lowered like the result, `cut_speedup` what
    the passes alone gave against it; null where nothing was lowered.
    """

    before_ms: float
    after_ms: float
    before_p10_ms: float
    after_p10_ms: float
    speedup: float
    speedup_low: float
    speedup_high: float
    verdict: str
    threads: int
    rounds: int
    clock: str
    providers: tuple[str, ...] = ()
    dense_ms: float | None = None
    cut_speedup: float | None = None
    cut_speedup_low: float | None = None
    cut_speedup_high: float | None = None


@dataclass(frozen=True)
class LoweringUse:
    """How often a rule was applied, and the milliseconds that the table foresees on the proof's inputs."""

    rule: str
    count: int
    saved_ms: float


@dataclass(frozen=True)
class LoweringReport:
    """The rewrite of the result into an equal graph that ONNX Runtime runs faster.

    `table` is the hash of what says which rules pay. `proof` compares the lowered graph with the unlowered
    one; rules in `taken_back` failed it.
    """

    target: str
    table: str
    uses: tuple[LoweringUse, ...]
    proof: ProofReport
    taken_back: tuple[str, ...]
    nodes_before: int
    nodes_after: int
    opset_before: int
    opset_after: int


@dataclass(frozen=True)
class WorkTime:
    """Milliseconds of a run that one kind of work takes, before and after."""

    work: str
    before_ms: float
    after_ms: float


@dataclass(frozen=True)
class BudgetReport:
    """A budget of a pass: the share of the model as given that was to be left, and the one that is.

    `of` is what a ratio is a share of, such as Units; `foreseen` what a device profile said would be left of
    the latency.
    """

    item: str
    what: str
    asked: float
    left: float
    met: bool
    of: str = ""
    foreseen: float | None = None


@dataclass(frozen=True)
class DataReport:
    """Samples that a compile read: what for, where from, how many, how many were held back, a hash."""

    role: str
    source: str
    samples: int
    held_back: int
    hash: str


@dataclass(frozen=True)
class Report(Shown):
    """Everything a compile has to say; `recipe` repeats it, `config` are files it came from."""

    source: str
    output: str
    pipeline: str
    before: Size
    after: Size
    passes: tuple[PassReport, ...]
    latency: LatencyReport | None
    warnings: tuple[str, ...]
    versions: dict[str, str]
    seed: int
    timings: Timings
    files: tuple[str, ...] = ()
    fixed: dict[str, object] = field(default_factory=dict)
    agreement: AgreementReport | None = None
    budgets: tuple[BudgetReport, ...] = ()
    generated: dict[str, int] = field(default_factory=dict)
    file_bytes: FileBytes | None = None
    lowering: LoweringReport | None = None
    command: str = ""
    date: str = ""
    data: tuple[DataReport, ...] = ()
    hashes: dict[str, str] = field(default_factory=dict)
    recipe: str = ""
    config: tuple[str, ...] = ()
    times: tuple[WorkTime, ...] = ()
    schema: int = field(default=SCHEMA)

    def to_json(self) -> dict[str, Json]:
        """The report as JSON values."""
        result = plain(self)
        assert isinstance(result, dict)
        return result

    def to_html(self, output: str | os.PathLike[str] | None = None, *, force: bool = False) -> str:
        """The report as a page of its own.

        Args:
            output: where the page goes; None writes nothing.
            force: replace a file that exists.

        Raises:
            OutputError: it exists, or cannot be written.
        """
        made = page(self)
        if output is not None:
            write_file(path_of("output", output), made.encode(), overwrite=force)
        return made


def plain(value: object) -> Json:
    """Dataclasses, tuples and mappings as JSON values; numbers JSON cannot write become null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        kinds = set(map(type, value))  # long lists are of one kind
        if kinds <= {int, str} or (kinds == {float} and all(map(math.isfinite, value))):
            return list(value)
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    raise TypeError(f"a report holds {type(value).__name__}")


def installed_versions() -> dict[str, str]:
    """Versions of what the result depends on."""
    names = ("graphprune", "onnx", "onnx-ir", "onnxruntime", "numpy", "scipy")
    return {name: _installed_version(name) for name in names}


@cache
def _installed_version(name: str) -> str:
    """Read from the package's files once: plan and report both say it."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return ""
