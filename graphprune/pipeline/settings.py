"""How commands run: each field is one option, of the command line, of Python and mostly of recipes.

A command takes one of these classes, and with it the options that it heeds; a class that is a kind of another
heeds that one's, too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Literal

from graphprune.pipeline.option import (
    Bytes,
    Contents,
    Duration,
    File,
    Flag,
    Kinds,
    Left,
    Number,
    Providers,
    Shapes,
    Target,
    Text,
    Whole,
    Word,
    option,
    options,
)
from graphprune.run import CPU_ALONE, Progress, Run, silent

if TYPE_CHECKING:
    from graphprune.axes.outputs import UserKind
    from graphprune.ir.fixed import Fixed
    from graphprune.ir.limits import Limits


@dataclass(frozen=True, kw_only=True)
class Looking:
    """What is said about a model file and its inputs; enough to look at it.

    Raises:
        ArgumentError: a value is none that its option takes.
    """

    shape: Mapping[str, tuple[int, ...]] = option(
        {},
        Shapes(),
        "Concrete shape of a graph input.",
        usage="e.g. image=1x3x224x224; repeat for several",
    )
    fix: Fixed = option(
        {},
        Contents(),
        "Make an input a constant, and take the branches it decides.",
        usage="e.g. sr=16000; repeat for several",
    )
    max_bytes: float | None = option(
        None, Bytes(), "Refuse model files larger than this.", usage="e.g. 500MB", found=False, rare=True
    )
    allow_external_links: bool = option(
        False,
        Flag(),
        "Accept external data behind symbolic or hard links (for caches you trust).",
        found=False,
        rare=True,
    )

    def __post_init__(self) -> None:
        defaults = {each.name: each for each in fields(self)}
        for each in options(type(self)):
            value, default = getattr(self, each.name), defaults[each.name]
            if value is None and isinstance(default.default_factory, type):
                value = default.default_factory()
            if value is not None or default.default is not None:
                value = each.checked(each.name, value)
            object.__setattr__(self, each.name, value)

    @property
    def limits(self) -> Limits:
        """What a model file may cost."""
        from graphprune.ir.limits import Limits

        limits = Limits(allow_external_links=self.allow_external_links)
        return limits if self.max_bytes is None else replace(limits, max_bytes=int(self.max_bytes))


@dataclass(frozen=True, kw_only=True)
class Running(Looking):
    """How models are run."""

    seed: int = option(0, Whole(least=0), "Seed of everything random.")
    timeout: float = option(120.0, Number("SECONDS"), "Seconds that the first runs of the model may take.")
    progress: Progress = option(silent, None, "Called with (done, total, what).", flag="", recipe=False)

    @property
    def run(self) -> Run:
        """How our own work is done."""
        return Run(self.seed, timeout=self.timeout, progress=self.progress)


@dataclass(frozen=True, kw_only=True)
class Timing(Running):
    """How models are run against a clock (`bench`)."""

    threads: int = option(
        1, Whole(least=1), "Threads of ONNX Runtime; in a compile, where latency is measured."
    )
    providers: tuple[str, ...] = option(
        CPU_ALONE,
        Providers(),
        "Execution providers of ONNX Runtime that models are timed and compared on.",
        usage="e.g. openvino,cpu; a node runs on the first that can",
        shown="cpu",
    )

    @property
    def run(self) -> Run:
        """How our own work is done."""
        return replace(super().run, threads=self.threads)


@dataclass(frozen=True, kw_only=True)
class Inspecting(Timing):
    """How a model is looked at (`inspect`)."""

    time: bool = option(False, Flag(), "Also run the model, and show where its time goes.", recipe=False)


@dataclass(frozen=True, kw_only=True)
class Profiling(Timing):
    """How a machine is measured (`profile`)."""

    minutes: float = option(
        10.0, Number("MINUTES"), "Stop measuring after this long; another run goes on.", recipe=False
    )


@dataclass(frozen=True, kw_only=True)
class Packing(Running):
    """What goes into a kit (`bench-kit`)."""

    cuts: int = option(
        24, Whole(least=0), "Random widths that each model is cut to beside its own.", recipe=False
    )
    force: bool = option(False, Flag(), "Replace the output if it exists.", found=False)


@dataclass(frozen=True, kw_only=True)
class Comparing(Timing):
    """How two models are compared (`validate`)."""

    tolerance: float = option(
        1e-4, Number(), "Largest difference that passes, relative to the largest output.", shown="1e-4"
    )


_KINDS_HELP = (
    "Judge an output of the model as classes, scores or values, where the report takes it for something else."
)


@dataclass(frozen=True, kw_only=True)
class Gating(Timing):
    """What a result has to keep to, measured on samples."""

    max_drop: float | None = option(
        None,
        Number(share=True),
        "Largest drop of any output against the dense model, in [0, 1]; more fails.",
    )
    strict: bool = option(False, Flag(), "Exit 1 where the samples cannot decide about a bound.")
    outputs: Mapping[str, UserKind] = option({}, Kinds(), _KINDS_HELP, flag="")


@dataclass(frozen=True, kw_only=True)
class Checking(Gating):
    """What a smaller model has to keep to (`check`); `thresholds` says what each bound is of."""

    min_top1: float | None = option(
        None, Number(share=True), "Least top-1 agreement of any output that holds classes, in [0, 1]."
    )
    min_worst_class: float | None = option(
        None, Number(share=True), "Least top-1 agreement of any class of ten samples or more, in [0, 1]."
    )
    min_cosine: float | None = option(
        None, Number(share=True), "Least cosine of any output with the dense model's, in [0, 1]."
    )
    min_speedup: float | None = option(
        None, Number(), "How many times as fast as the dense model it has to be.", usage="e.g. 1.3"
    )
    max_bytes: float | None = option(
        None,
        Left(),
        "Largest file, weights beside it included.",
        usage="e.g. 4MB; up to 1 a share of the dense model's",
    )
    min_metric: float | None = option(None, Number(), "Least value of --metric.")
    max_metric_loss: float | None = option(
        None, Number(), "By how much --metric may be below the dense model's."
    )
    outputs: Mapping[str, UserKind] = option({}, Kinds(), _KINDS_HELP, flag="--output")

    @property
    def limits(self) -> Limits:
        """What a model file may cost; --max-bytes is a bound here, not a limit."""
        return Looking(allow_external_links=self.allow_external_links).limits


@dataclass(frozen=True, kw_only=True)
class Choosing(Running):
    """How samples are chosen (`calibrate`)."""

    jobs: int | None = option(
        None,
        Whole(least=1),
        "Batches of calibration data that run side by side.",
        shown="the number of cores",
    )
    force: bool = option(False, Flag(), "Replace the output if it exists.", found=False)

    @property
    def run(self) -> Run:
        """How our own work is done."""
        from graphprune.runtime.jobs import cores

        return replace(super().run, jobs=cores() if self.jobs is None else self.jobs)


@dataclass(frozen=True, kw_only=True)
class Spreading(Choosing):
    """How compiles are spread over machines (`tune`, `sweep`)."""

    engine: Literal["local", "ray"] = option(
        "local",
        Word("local|ray", words=("local", "ray")),
        "Compile here, or by the workers of a Ray cluster.",
        shown="local",
        recipe=False,
    )
    address: str = option(
        "", Text("HOST:PORT"), "The Ray cluster; one on this machine if not said.", recipe=False
    )
    resume: bool = option(False, Flag(), "Go on with what is there.", recipe=False)


@dataclass(frozen=True, kw_only=True)
class Sweeping(Spreading):
    """How models are compiled by many recipes (`sweep`)."""

    bench: bool = option(False, Flag(), "Also measure latency, one result after the other.", recipe=False)


@dataclass(frozen=True, kw_only=True)
class Tuning(Spreading, Gating):
    """How the fastest model at a bound loss is searched for (`tune`)."""

    max_drop: float | None = option(
        0.01,
        Number(share=True),
        "Most that any output may lose against the dense model; of a metric, how far it may fall.",
        recipe=False,
    )
    metric: str | None = option(
        None,
        Text("NAME"),
        "Bound a metric's fall: top1, auc, boxes, exact, perplexity, retrieval or module:function.",
        recipe=False,
    )
    labels: str | os.PathLike[str] | None = option(
        None, File(), "Labels for the metric, one per sample: an .npy or .npz.", recipe=False
    )
    target: str = option(
        "latency",
        Text("WHAT"),
        "What is to be least: latency, macs, params or bytes; or what is to be reached.",
        usage="e.g. latency=8ms,bytes=4MB",
        shown="latency",
        recipe=False,
    )
    time: float = option(
        600.0,
        Duration(),
        "When the answer is due.",
        usage="e.g. 30s or 1h",
        shown="10m",
        recipe=False,
    )
    steps: int | None = option(
        None, Whole(least=1), "Try so many candidates, however long that takes.", recipe=False
    )
    batch: int = option(
        2,
        Whole(least=1),
        "Candidates that are proposed at a time; part of what makes a study repeat.",
        recipe=False,
    )
    study: str | os.PathLike[str] | None = option(
        None, File("DIR"), "Where the study is kept; NAME.tune beside the output if not said.", recipe=False
    )
    keep_all: bool = option(
        False, Flag(), "Leave the model of every candidate in the study, not only its recipe.", recipe=False
    )
    profile: str | os.PathLike[str] | None = option(
        None,
        File(),
        "A device profile to predict latency from; measured on this machine where none is given.",
        recipe=False,
    )
    dry_run: bool = option(
        False, Flag(), "Only print the predicted curve, and what the search would cost.", recipe=False
    )


@dataclass(frozen=True, kw_only=True)
class Lowering(Comparing):
    """How a model is rewritten into an equal one that ONNX Runtime runs faster (`lower`)."""

    target: str | os.PathLike[str] = option(
        "portable",
        Target(),
        "Lower by rules that pay wherever they were measured, on this machine (native), on an instruction "
        "set, or where a device profile was made.",
        usage="e.g. avx512, avx512/1.20 or phone.json",
        shown="portable",
    )
    opset: str = option(
        "keep",
        Word("keep|auto", words=("keep", "auto")),
        "Whether lowering may raise the opset of the file where that opens faster operators.",
        usage="auto: as far as every ONNX Runtime that --target stands for reads it",
        shown="keep",
    )
    bench: bool = option(False, Flag(), "Measure latency before and after.", flag="--bench/--no-bench")


@dataclass(frozen=True, kw_only=True)
class Settings(Lowering, Choosing, Gating):
    """How a compile runs, apart from what it does to the model (`compile`)."""

    set_shape: Mapping[str, tuple[int, ...]] = option(
        {},
        Shapes(),
        "Write a fixed shape of a graph input into the file, and all that follows from it.",
        usage="e.g. image=1x3x224x224; repeat for several",
    )
    statistics: str | os.PathLike[str] | None = option(
        None,
        File(),
        "Keep what is measured on --calibration here, and use what an earlier compile measured.",
        found=False,
    )
    allow_short: bool = option(False, Flag(), "Write a model that misses its budget.")
    device_profile: str | os.PathLike[str] | None = option(
        None,
        File("FILE.json"),
        "What nodes cost on the target, for latency= and align=auto: a file that `profile` wrote, the name "
        "of a profile that ships, or builtin for the nearest of these.",
        usage="without it the file of --target, or else this machine is measured",
    )
    latency_factor: float | None = option(
        None,
        Number(),
        "By which measurements and the device profile are apart, as an earlier compile found; "
        "latency= is then solved once.",
        rare=True,
    )
    lower: bool = option(
        True,
        Flag(),
        "At the end rewrite the result into an equal graph that ONNX Runtime runs faster.",
        flag="--lower/--no-lower",
    )
    time: bool = option(False, Flag(), "Also measure where the time goes; a report in HTML shows it anyway.")
    verify_each: bool = option(False, Flag(), "Check the graph after every pass, not only the last.")
    sparse_initializers: bool = option(
        False,
        Flag(),
        "Write weights as sparse tensors where that is smaller; few tools beside ONNX Runtime read them.",
    )
    keep_initializer_inputs: bool = option(
        False,
        Flag(),
        "Leave weights that are inputs as well on the list of inputs; runtimes then fold less.",
    )
    metadata: bool = option(
        True,
        Flag(),
        "Say in the metadata of the written file where it comes from: version, hash of the source, passes.",
        flag="--metadata/--no-metadata",
        shown="on",
    )
    reproducer: str | os.PathLike[str] | None = option(
        None, File("DIR"), "If the compile fails, store how to repeat it.", found=False, rare=True
    )


@dataclass(frozen=True, kw_only=True)
class Files:
    """What a compile reads and writes besides the model; in Python these are arguments of the function."""

    calibration: str | None = option(
        None, File("DATA"), "Samples for criteria and repair; some are held back."
    )
    general: str | None = option(
        None,
        File("DATA"),
        "Samples of all else, for passes that weigh the domain of --calibration against it.",
    )
    selection: str | None = option(
        None,
        File("DATA"),
        "Samples that learning chooses by, and the result is judged on; calibration is then used whole.",
    )
    inputs: str | None = option(
        None,
        File("DATA"),
        "Inputs to prove, time and judge the result on: an .npz, an .npy or a folder of them.",
    )
    output: str | None = option(None, File(), "Where the compiled model goes.", flag="", found=False)
    report: str | None = option(None, File(), "Also write the report: .html or .json.", found=False)
