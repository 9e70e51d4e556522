"""The Python API: what the commands do, as functions. Import it as `graphprune.compile` and so on.

A model is a path, `onnx.ModelProto`, `onnx_ir.Model` or `onnx_graphsurgeon.Graph`; it is never changed.

What a function takes is a class here: its own arguments, and the options of the settings that it is made of.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

from graphprune.pipeline.calls import as_call, called_as
from graphprune.pipeline.settings import Checking, Choosing, Comparing, Looking, Settings, Timing

if TYPE_CHECKING:
    import numpy
    import onnx
    import onnx_graphsurgeon
    import onnx_ir

    from graphprune.axes import Group, Options
    from graphprune.pipeline.agreement import Comparison
    from graphprune.pipeline.benchmark import Bench
    from graphprune.pipeline.checking import Check
    from graphprune.pipeline.compile import Result
    from graphprune.pipeline.passes import Pass
    from graphprune.pipeline.planfile import PlanFile
    from graphprune.pipeline.samples import Given
    from graphprune.sampling.calibrate import Chosen
    from graphprune.sampling.images import Preparation

ModelLike: TypeAlias = Union[
    str, "os.PathLike[str]", "onnx.ModelProto", "onnx_ir.Model", "onnx_graphsurgeon.Graph"
]
Arrays: TypeAlias = "Mapping[str, numpy.ndarray]"
PathLike: TypeAlias = Union[str, "os.PathLike[str]"]
Data: TypeAlias = "Arrays | PathLike | Iterable[Arrays] | None"
"""Samples: a file or folder, arrays by input name, or several such sets one after the other."""


@dataclass(frozen=True)
class _Compile(Settings):
    model: ModelLike
    passes: str | Pass | Iterable[Pass | str] = ()
    output: PathLike | None = None
    plan: PlanFile | PathLike | None = field(default=None, kw_only=True)
    calibration: Data = field(default=None, kw_only=True)
    inputs: Data = field(default=None, kw_only=True)


@called_as(_Compile)
def compile(asked: _Compile) -> Result:
    """Run passes over a model, prove the result and, if `output` is given, save it with its plan beside it.

    Args:
        model: what to compile.
        passes: pipeline text, a pass, or a list of either; empty copies the model, or only fixes inputs.
        output: where the model goes; None writes nothing.
        plan: decisions to repeat instead of running passes: a plan file or its path.
        calibration: sample inputs for criteria that need data, stacked along the first dimension; an
            iterable gives one set after the other.
        inputs: inputs to prove and time on; generated when not given.

    Raises:
        GraphpruneError: bad input (exit code 2 of the command), or a promise that could not be kept (1).
    """
    from graphprune.pipeline import planfile, registry
    from graphprune.pipeline.compile import Job, run

    plan = Path(asked.plan) if isinstance(asked.plan, str | os.PathLike) else asked.plan
    passes = registry.resolve(asked.passes)
    job = Job(
        model=asked.model,
        passes=passes,
        plan=planfile.read(plan) if isinstance(plan, Path) else plan,
        output=Path(asked.output) if asked.output is not None else None,
        calibration=_given(asked.calibration),
        inputs=_given(asked.inputs),
        also_read=(plan,) if isinstance(plan, Path) else (),
        command=as_call("graphprune.compile", asked, passes=registry.text(passes) or ()),
    )
    return run(job, asked)


@dataclass(frozen=True)
class _Calibrate(Choosing):
    model: ModelLike
    pool: Data
    output: PathLike | None = None
    samples: int = field(default=512, kw_only=True)
    select: str = field(default="random", kw_only=True)
    preparation: Preparation | None = field(default=None, kw_only=True)
    window: int | None = field(default=None, kw_only=True)


@called_as(_Calibrate)
def calibrate(asked: _Calibrate) -> Chosen:
    """Choose calibration samples from a pool and say whether the choice beats random draws.

    Args:
        model: what the samples are for.
        pool: arrays, a file or folder of them, a folder of pictures, or a file of token ids.
        output: an .npz that receives the samples, ready for `compile(calibration=...)`.
        samples: how many.
        select: random, representative, easy, hard, dbp, herding, donod or eu.
        preparation: how pictures become inputs.
        window: tokens of one sample; says that the pool is a file of token ids.

    Raises:
        GraphpruneError: the model does not load or run, or the pool does not fit it.
    """
    from graphprune.sampling.calibrate import Wish, run

    wish = Wish(asked.samples, asked.select, asked.preparation, asked.window)
    output = Path(asked.output) if asked.output is not None else None
    return run(asked.model, _given(asked.pool), output, wish, asked)


@dataclass(frozen=True)
class _FindGroups(Looking):
    model: ModelLike
    options: Options | None = None


@called_as(_FindGroups)
def find_groups(asked: _FindGroups) -> tuple[Group, ...]:
    """Every group of a model, prunable or pinned, in the order of the file.

    Args:
        model: what to look at.
        options: what the analysis may assume.

    Raises:
        ModelError: the model is malformed or unsafe.
    """
    from graphprune.axes import analyse
    from graphprune.pipeline.opened import open_model

    opened = open_model(asked.model, asked, lift=True)
    return analyse(opened.model, asked.options, opened.sizes).groups


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
        inputs: samples; generated when not given.

    Raises:
        GraphpruneError: a model does not load or run, or the inputs do not fit.
    """
    from graphprune.pipeline import agreement

    models = (asked.reference, asked.candidate)
    names = (_name(asked.reference), _name(asked.candidate))
    return agreement.compare(models, names, _given(asked.inputs), asked)


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
        inputs: samples; drop, agreement and cosine need some.
        metric: "module:function", or a function that takes a model as it was given here and returns a number
            or one per sample; higher is better.
        baseline: what the command stored with `--report FILE.json`; no figure in it may have become worse.

    Raises:
        GraphpruneError: a model does not load or run, the inputs do not fit, or nothing was asked.
    """
    from graphprune.pipeline import checking, thresholds
    from graphprune.pipeline.metric import load

    job = checking.Job(
        models=(asked.reference, asked.candidate),
        names=(_name(asked.reference), _name(asked.candidate)),
        inputs=_given(asked.inputs),
        metric=load(asked.metric) if asked.metric is not None else None,
        baseline=thresholds.baseline(Path(asked.baseline)) if asked.baseline is not None else None,
    )
    return checking.check(job, asked)


@dataclass(frozen=True)
class _Bench(Timing):
    models: Iterable[ModelLike]
    inputs: Data = None


@called_as(_Bench)
def bench(asked: _Bench) -> Bench:
    """Size and interleaved latency of models; the first is what the others are compared to.

    Args:
        models: what to measure.
        inputs: samples; generated when not given.

    Raises:
        GraphpruneError: a model does not load or run.
    """
    from graphprune.pipeline import benchmark

    models = tuple(asked.models)
    return benchmark.bench(models, [_name(model) for model in models], _given(asked.inputs), asked)


def _name(model: ModelLike) -> str:
    return os.fspath(model) if isinstance(model, str | os.PathLike) else type(model).__name__


def _given(data: Data) -> Given:
    if data is None or isinstance(data, Mapping):
        return data
    return Path(data) if isinstance(data, str | os.PathLike) else tuple(data)
