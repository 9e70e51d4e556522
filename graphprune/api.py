"""The Python API: what the commands do, as functions. Import it as `graphprune.compile` and so on.

A model is a path, bytes, an `onnx.ModelProto`, an `onnx_ir.Model`, an `onnx_graphsurgeon.Graph`, a torch
`ONNXProgram` or the `Result` of a compile; it is never changed. Samples are a path, an array or tensor, a
dict of input name to array, or an iterable of these, such as a torch `DataLoader`; graphprune imports none
of these packages for that.

What a function takes is a class here: its own arguments, and the options of the settings that it is made of.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from graphprune.errors import ArgumentError
from graphprune.forms import Data, ModelLike, PathLike, as_model, as_samples, name_of
from graphprune.pipeline.calls import as_call, called_as
from graphprune.pipeline.option import Whole, Word, options, path_of
from graphprune.pipeline.settings import Checking, Choosing, Comparing, Lowering, Settings, Timing, Tuning

if TYPE_CHECKING:
    from graphprune.labels.options import LayerNorm
    from graphprune.pipeline.agreement import Comparison
    from graphprune.pipeline.benchmark import Bench
    from graphprune.pipeline.checking import Check
    from graphprune.pipeline.passes import Pass
    from graphprune.pipeline.planfile import PlanFile
    from graphprune.pipeline.repairing import Repair
    from graphprune.pipeline.result import Result
    from graphprune.prune.plan import Plan
    from graphprune.sampling.calibrate import Chosen
    from graphprune.sampling.images import Preparation
    from graphprune.tuning.search import Search


@dataclass(frozen=True)
class _Compile(Settings):
    model: ModelLike
    passes: str | Pass | Iterable[Pass | str] = ()
    output: PathLike | None = None
    plan: PlanFile | Plan | PathLike | None = field(default=None, kw_only=True)
    calibration: Data = field(default=None, kw_only=True)
    general: Data = field(default=None, kw_only=True)
    selection: Data = field(default=None, kw_only=True)
    inputs: Data = field(default=None, kw_only=True)


@called_as(_Compile)
def compile(asked: _Compile) -> Result:
    """Run passes over a model, prove the result and, if `output` is given, save it with its plan beside it.

    Args:
        model: what to compile.
        passes: pipeline text, a pass of `graphprune.passes`, or a list of either; empty copies the model, or
            only fixes inputs.
        output: where the model goes; None writes nothing, `Result.save` does so later.
        plan: decisions to repeat instead of running passes: a plan file, its path, or a Plan.
        calibration: samples for criteria that need data and for repair, stacked along the first axis
            ([samples, ...]). Of an iterable each item is a batch, or one sample without that axis; it is read
            once, and what goes beyond 256 MiB is kept in a temporary file.
        general: samples of all else, for passes that weigh the domain of `calibration` against it.
        selection: samples that passes that learn choose by, and that the result is judged on where there are
            no inputs; then `calibration` is used whole.
        inputs: samples to prove, time and judge the result on; generated when not given.

    Raises:
        GraphpruneError: bad input (exit code 2 of the command), or a promise that could not be kept (1).

    Example:
        >>> import graphprune
        >>> from graphprune.passes import Prune
        >>> result = graphprune.compile("models/digits_cnn/model.onnx", Prune(ratio=0.4))
        >>> result.report.after.params < result.report.before.params / 2
        True
        >>> result.report.passes[0].proof.ok
        True
    """
    from graphprune.pipeline import planfile, registry
    from graphprune.pipeline.compile import run
    from graphprune.pipeline.job import Job
    from graphprune.pipeline.planfile import PlanFile

    passes, path = registry.resolve(asked.passes), None
    if passes and asked.plan is not None:
        raise ArgumentError("give only one: passes or plan")
    if isinstance(asked.plan, str | os.PathLike):
        path = path_of("plan", asked.plan)
    plan = planfile.read(path) if path is not None else planfile.given(asked.plan)
    job = Job(
        model=as_model("model", asked.model),
        passes=passes if isinstance(plan, PlanFile | None) else (plan,),
        plan=plan if isinstance(plan, PlanFile) else None,
        output=path_of("output", asked.output) if asked.output is not None else None,
        calibration=as_samples("calibration", asked.calibration),
        general=as_samples("general", asked.general),
        selection=as_samples("selection", asked.selection),
        inputs=as_samples("inputs", asked.inputs),
        also_read=(path,) if path is not None else (),
        command=as_call("graphprune.compile", asked, passes=registry.text(passes) or ()),
    )
    return run(job, asked)


@dataclass(frozen=True)
class _Cut(Settings):
    model: ModelLike
    remove: Mapping[str, Sequence[int]]
    output: PathLike | None = None
    repair: Repair = field(default="auto", kw_only=True)
    layernorm: LayerNorm = field(default="refuse", kw_only=True)
    allow_inexact: bool = field(default=False, kw_only=True)
    calibration: Data = field(default=None, kw_only=True)
    inputs: Data = field(default=None, kw_only=True)


@called_as(_Cut)
def cut(asked: _Cut) -> Result:
    """Remove Units that were picked by hand, and everything that depends on them; proved like any compile.

    The same as `compile` with the pass `graphprune.passes.Cut`.

    Args:
        model: what to cut.
        remove: indices of Units by Group id; `find_groups` lists the ids and how many Units each has.
        output: where the model goes; None writes nothing.
        repair: what makes up for the cut; auto is refit where there is calibration data, else none.
        layernorm: widths under LayerNorm: refuse, expand or slice.
        allow_inexact: permit cuts that change what a normalisation computes.
        calibration: samples for the repair, as in `compile`.
        inputs: samples to prove, time and judge the result on; generated when not given.

    Raises:
        GraphpruneError: no such Group or Unit, a pinned Group, or what `compile` raises.

    Example:
        >>> import graphprune
        >>> dense = "models/digits_cnn/model.onnx"
        >>> result = graphprune.cut(dense, {"onnx::Conv_142:0": [0, 3, 5]})
        >>> result.plans[0].cuts["onnx::Conv_142:0"][:4]
        (1, 2, 4, 6)
    """
    from graphprune.pipeline.compile import run
    from graphprune.pipeline.cut import Cut
    from graphprune.pipeline.job import Job

    item = Cut(
        remove=asked.remove,  # type: ignore[arg-type]  # which it makes tuples of
        repair=asked.repair,
        layernorm=asked.layernorm,
        allow_inexact=asked.allow_inexact,
    )
    job = Job(
        model=as_model("model", asked.model),
        passes=(item,),
        output=path_of("output", asked.output) if asked.output is not None else None,
        calibration=as_samples("calibration", asked.calibration),
        inputs=as_samples("inputs", asked.inputs),
        command=as_call("graphprune.cut", asked, remove=item.remove),
    )
    return run(job, asked)


@dataclass(frozen=True)
class _Lower(Lowering):
    model: ModelLike
    output: PathLike | None = None
    inputs: Data = field(default=None, kw_only=True)
    force: bool = field(default=False, kw_only=True)


@called_as(_Lower)
def lower(asked: _Lower) -> Result:
    """Rewrite a model into an equal one that ONNX Runtime runs faster, and prove that it is equal.

    Args:
        model: what to rewrite.
        output: where the model goes; None writes nothing.
        inputs: samples to prove and time on; generated when not given.
        force: replace the output if it exists.

    Raises:
        GraphpruneError: bad input, or an output that cannot be written.

    Example:
        >>> import graphprune
        >>> graphprune.lower("models/digits_cnn/model.onnx").report.lowering.taken_back
        ()
    """
    from graphprune.pipeline.compile import run
    from graphprune.pipeline.job import Job

    job = Job(
        model=as_model("model", asked.model),
        output=path_of("output", asked.output) if asked.output is not None else None,
        inputs=as_samples("inputs", asked.inputs),
        command=as_call("graphprune.lower", asked),
        lower=True,
    )
    own = {each.name: getattr(asked, each.name) for each in options(Lowering)}
    return run(job, Settings(**own, force=asked.force))


@dataclass(frozen=True)
class _Calibrate(Choosing):
    model: ModelLike
    pool: Data
    output: PathLike | None = None
    samples: int = field(default=512, kw_only=True)
    select: str = field(default="random", kw_only=True)
    size: int | tuple[int, int] | None = field(default=None, kw_only=True)
    resize: int | None = field(default=None, kw_only=True)
    mean: Sequence[float] = field(default=(0.0,), kw_only=True)
    std: Sequence[float] = field(default=(1.0,), kw_only=True)
    layout: Literal["auto", "nchw", "nhwc"] = field(default="auto", kw_only=True)
    order: Literal["rgb", "bgr"] = field(default="rgb", kw_only=True)
    window: int | None = field(default=None, kw_only=True)
    token_type: str = field(default="uint16", kw_only=True)


@called_as(_Calibrate)
def calibrate(asked: _Calibrate) -> Chosen:
    """Choose calibration samples from a pool and say whether the choice beats random draws.

    Args:
        model: what the samples are for.
        pool: samples, a folder of pictures, or a file of token ids.
        output: an .npz that receives the samples, ready for `compile(calibration=...)`.
        samples: how many.
        select: random, representative, easy, hard, dbp, herding, donod or eu.
        size: of pictures: height and width in pixels, or one number for both, where the model leaves it open.
        resize: of pictures: pixels of the shorter side before the centre is cropped.
        mean: of pictures: subtracted, of values in 0..1; one number per channel, or one for all.
        std: of pictures: then divided by.
        layout: of pictures: where the channels are; auto, nchw or nhwc.
        order: of pictures: of the channels; rgb or bgr.
        window: tokens of one sample; says that the pool is a file of token ids.
        token_type: of a .bin of token ids: uint16, int16, uint32, int32 or int64.

    Raises:
        GraphpruneError: the model does not load or run, or the pool does not fit it.

    Example:
        >>> import graphprune
        >>> folder = "models/digits_cnn"
        >>> chosen = graphprune.calibrate(f"{folder}/model.onnx", f"{folder}/calibration.npz", samples=64)
        >>> chosen.arrays["image"].shape
        (64, 1, 28, 28)
    """
    from graphprune.sampling.calibrate import Wish, run

    wish = Wish(asked.samples, str(asked.select), _preparation(asked), asked.window, asked.token_type)
    output = path_of("output", asked.output) if asked.output is not None else None
    return run(as_model("model", asked.model), as_samples("pool", asked.pool), output, wish, asked)


def _preparation(asked: _Calibrate) -> Preparation | None:
    """How pictures become inputs; None where nothing was said about pictures."""
    from graphprune.sampling.images import Preparation

    for name, least in (("samples", 1), ("resize", 1), ("window", 2)):
        value = getattr(asked, name)
        if value is not None:
            Whole(least=least).value(name, value)
    Word(words=("auto", "nchw", "nhwc")).value("layout", asked.layout)
    Word(words=("rgb", "bgr")).value("order", asked.order)
    size = (asked.size, asked.size) if isinstance(asked.size, int) else asked.size
    mean, std = tuple(asked.mean), tuple(asked.std)
    wanted = Preparation(size, asked.resize, mean, std, asked.layout, asked.order)
    return None if wanted == Preparation() else wanted


@dataclass(frozen=True)
class _Validate(Comparing):
    reference: ModelLike
    candidate: ModelLike
    inputs: Data = None


@called_as(_Validate)
def validate(asked: _Validate) -> Comparison:
    """Compare every output of two models on given or generated inputs.

    Args:
        reference: the model that is right.
        candidate: the model to compare with it.
        inputs: samples, as in `compile`; generated when not given.

    Raises:
        GraphpruneError: a model does not load or run, or the inputs do not fit.

    Example:
        >>> import graphprune
        >>> dense = "models/digits_cnn/model.onnx"
        >>> graphprune.validate(dense, graphprune.compile(dense, "canonicalize")).ok
        True
    """
    from graphprune.pipeline import agreement

    models = (as_model("reference", asked.reference), as_model("candidate", asked.candidate))
    names = (name_of(asked.reference), name_of(asked.candidate))
    return agreement.compare(models, names, as_samples("inputs", asked.inputs), asked)


@dataclass(frozen=True)
class _Check(Checking):
    reference: ModelLike
    candidate: ModelLike
    inputs: Data = None
    metric: str | Callable[[object], object] | None = field(default=None, kw_only=True)
    baseline: PathLike | None = field(default=None, kw_only=True)


@called_as(_Check)
def check(asked: _Check) -> Check:
    """Judge a smaller model by thresholds; what was not asked is not judged.

    Args:
        reference: the dense model.
        candidate: the smaller one.
        inputs: samples, as in `compile`; drop, agreement and cosine need some.
        metric: "module:function", or a function that takes a model as it was given here and returns a number
            or one per sample; higher is better.
        baseline: what the command stored with `--report FILE.json`; no figure in it may have become worse.

    Raises:
        GraphpruneError: a model does not load or run, the inputs do not fit, or nothing was asked.

    Example:
        >>> import graphprune
        >>> dense, samples = "models/digits_cnn/model.onnx", "models/digits_cnn/calibration.npz"
        >>> small = graphprune.compile(dense, "prune(macs=0.6)")
        >>> graphprune.check(dense, small, samples, max_drop=0.02, min_top1=0.98).ok
        True
    """
    from graphprune.pipeline import checking, thresholds
    from graphprune.pipeline.metric import load

    baseline = path_of("baseline", asked.baseline) if asked.baseline is not None else None
    job = checking.Job(
        models=(as_model("reference", asked.reference), as_model("candidate", asked.candidate)),
        names=(name_of(asked.reference), name_of(asked.candidate)),
        inputs=as_samples("inputs", asked.inputs),
        metric=load(asked.metric) if asked.metric is not None else None,
        baseline=thresholds.baseline(baseline) if baseline is not None else None,
    )
    return checking.check(job, asked)


@dataclass(frozen=True)
class _Bench(Timing):
    models: ModelLike | Iterable[ModelLike]
    inputs: Data = None


@called_as(_Bench)
def bench(asked: _Bench) -> Bench:
    """Size and interleaved latency of models, in milliseconds; the first is what the others are compared to.

    Args:
        models: a model, or several.
        inputs: samples, as in `compile`; generated when not given.

    Raises:
        GraphpruneError: a model does not load or run.

    Example:
        >>> import graphprune
        >>> dense = "models/digits_cnn/model.onnx"
        >>> small = graphprune.compile(dense, "prune(ratio=0.5)")
        >>> [row.verdict for row in graphprune.bench([dense, small]).models]
        ['baseline', 'faster']
    """
    from graphprune.pipeline import benchmark

    several = isinstance(asked.models, list | tuple)
    given = list(asked.models) if several else [asked.models]  # type: ignore[arg-type]
    if not given:
        raise ArgumentError("models are none", "give at least one")
    models = [as_model(f"models[{at}]" if several else "models", each) for at, each in enumerate(given)]
    return benchmark.bench(models, list(map(name_of, given)), as_samples("inputs", asked.inputs), asked)


@dataclass(frozen=True)
class _Tune(Tuning):
    model: ModelLike
    calibration: Data
    output: PathLike | None = None


@called_as(_Tune)
def tune(asked: _Tune) -> Search:
    """Search for the fastest model whose outputs lose at most `max_drop` against the dense one.

    Candidates come lazily: iterate to see each when it is told, or call `finish` for the result, which writes
    `output` if it was given. What is there when an iteration is left can be gone on with: `resume=True`.

    Args:
        model: what to tune.
        calibration: unlabelled samples, as in `compile`; half repair, a quarter chooses, a quarter reports.
        output: where the result goes, with the study beside it; None writes nothing that stays.

    Raises:
        GraphpruneError: bad input, or an output that cannot be written.

    Example:
        >>> import graphprune
        >>> folder = "models/digits_cnn"
        >>> search = graphprune.tune(f"{folder}/model.onnx", f"{folder}/calibration.npz", steps=1, time="1s")
        >>> [trial.pipeline for trial in search]
        ['canonicalize', 'obspa(latency=0.75, allocate=local, io=fixed)']
    """
    from graphprune.tuning.case import Job
    from graphprune.tuning.search import Search

    job = Job(
        model=as_model("model", asked.model),
        calibration=as_samples("calibration", asked.calibration),
        output=path_of("output", asked.output) if asked.output is not None else None,
    )
    return Search(job, Tuning(**{each.name: getattr(asked, each.name) for each in options(Tuning)}))
