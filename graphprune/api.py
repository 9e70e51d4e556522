"""The Python API: what the commands do, as functions. Import it as `graphprune.compile` and so on.

A model is a path, `onnx.ModelProto`, `onnx_ir.Model` or `onnx_graphsurgeon.Graph`; it is never changed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

from graphprune.pipeline.settings import Settings
from graphprune.run import Progress, silent

if TYPE_CHECKING:
    import numpy
    import onnx
    import onnx_graphsurgeon
    import onnx_ir

    from graphprune.axes import Group, Options
    from graphprune.axes.outputs import UserKind
    from graphprune.ir.fixed import Fixed
    from graphprune.pipeline.agreement import Comparison
    from graphprune.pipeline.benchmark import Bench
    from graphprune.pipeline.choosing import Chosen
    from graphprune.pipeline.compile import Result
    from graphprune.pipeline.passes import Pass
    from graphprune.pipeline.planfile import PlanFile
    from graphprune.pipeline.samples import Given
    from graphprune.statistics.data.images import Preparation

ModelLike: TypeAlias = Union[
    str, "os.PathLike[str]", "onnx.ModelProto", "onnx_ir.Model", "onnx_graphsurgeon.Graph"
]
Arrays: TypeAlias = "Mapping[str, numpy.ndarray]"
PathLike: TypeAlias = Union[str, "os.PathLike[str]"]
Data: TypeAlias = "Arrays | PathLike | Iterable[Arrays] | None"
"""Samples: a file or folder, arrays by input name, or several such sets one after the other."""


def compile(
    model: ModelLike,
    passes: str | Pass | Iterable[Pass | str] = (),
    output: PathLike | None = None,
    *,
    plan: PlanFile | PathLike | None = None,
    calibration: Data = None,
    inputs: Data = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    fix: Fixed | None = None,
    seed: int = 0,
    threads: int = 1,
    jobs: int | None = None,
    tolerance: float = 1e-4,
    verify_each: bool = False,
    allow_short: bool = False,
    overwrite: bool = False,
    bench: bool = False,
    max_drop: float | None = None,
    strict: bool = False,
    outputs: Mapping[str, UserKind] | None = None,
    timeout: float = 120.0,
    max_bytes: int | None = None,
    allow_external_links: bool = False,
    reproducer: PathLike | None = None,
    statistics: PathLike | None = None,
    sparse_initializers: bool = False,
    keep_initializer_inputs: bool = False,
    progress: Progress = silent,
) -> Result:
    """Run passes over a model, prove the result and, if `output` is given, save it with its plan beside it.

    Args:
        model: what to compile.
        passes: pipeline text, a pass, or a list of either; empty copies the model, or only fixes inputs.
        output: where the model goes; None writes nothing.
        plan: decisions to repeat instead of running passes: a plan file or its path.
        calibration: sample inputs for criteria that need data, stacked along the first dimension; an
            iterable gives one set after the other.
        inputs: inputs to prove and time on; generated when not given.
        shapes: concrete shapes of graph inputs.
        fix: inputs that become constants, such as {"sr": 16000}; branches that they decide are taken.
        seed: of generated inputs and of everything random in a pass.
        threads: of ONNX Runtime where latency is measured.
        jobs: batches of calibration data that run side by side, all cores if None; BLAS has one thread in
            the whole process meanwhile, and the result is the same for any number.
        tolerance: of the proof, relative to the largest output.
        verify_each: check the graph after every pass, not only after the last.
        allow_short: return a model that misses its budget.
        overwrite: replace an output that exists.
        bench: measure latency before and after.
        max_drop: largest drop of any output against the dense model, in [0, 1]; more ends the compile.
        strict: end it, too, where the samples cannot decide about `max_drop`.
        outputs: how outputs are judged, "classes", "scores" or "values", where the graph tells it wrong.
        timeout: seconds that the first runs of the model may take.
        max_bytes: refuse larger model files.
        allow_external_links: accept external data behind links.
        reproducer: folder that receives what is needed to repeat a compile that failed.
        statistics: file that keeps what was measured on `calibration` for the next compile.
        sparse_initializers: write initializers as sparse tensors where that makes the file smaller.
        keep_initializer_inputs: leave weights that the model lists as inputs, too, on that list.
        progress: called with (done, total, what).

    Raises:
        GraphpruneError: bad input (exit code 2 of the command), or a promise that could not be kept (1).
    """
    from graphprune.pipeline import planfile, registry
    from graphprune.pipeline.compile import Job, run

    job = Job(
        model=model,
        passes=registry.resolve(passes),
        plan=planfile.read(Path(plan)) if isinstance(plan, str | os.PathLike) else plan,
        output=Path(output) if output is not None else None,
        calibration=_given(calibration),
        inputs=_given(inputs),
        also_read=(Path(plan),) if isinstance(plan, str | os.PathLike) else (),
    )
    settings = Settings(
        shapes=dict(shapes or {}),
        fix=dict(fix or {}),
        seed=seed,
        threads=threads,
        jobs=jobs,
        tolerance=tolerance,
        verify_each=verify_each,
        allow_short=allow_short,
        overwrite=overwrite,
        bench=bench,
        max_drop=max_drop,
        strict=strict,
        outputs=dict(outputs or {}),
        timeout=timeout,
        max_bytes=max_bytes,
        allow_external_links=allow_external_links,
        reproducer=Path(reproducer) if reproducer is not None else None,
        statistics=Path(statistics) if statistics is not None else None,
        sparse_initializers=sparse_initializers,
        keep_initializer_inputs=keep_initializer_inputs,
        progress=progress,
    )
    return run(job, settings)


def calibrate(
    model: ModelLike,
    pool: Data,
    output: PathLike | None = None,
    *,
    samples: int = 512,
    select: str = "random",
    preparation: Preparation | None = None,
    window: int | None = None,
    seed: int = 0,
    jobs: int | None = None,
    timeout: float = 120.0,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Chosen:
    """Choose calibration samples from a pool and say whether the choice beats random draws.

    Args:
        model: what the samples are for.
        pool: arrays, a file or folder of them, a folder of pictures, or a file of token ids.
        output: an .npz that receives the samples, ready for `compile(calibration=...)`.
        samples: how many.
        select: random, representative, easy, hard, dbp, herding, donod or eu.
        preparation: how pictures become inputs.
        window: tokens of one sample; says that the pool is a file of token ids.
        seed: of everything random.
        jobs: batches that run side by side, all cores if None.
        timeout: seconds that a run of the model may take.
        overwrite: replace an output that exists.
        progress: called with (done, total, what).

    Raises:
        GraphpruneError: the model does not load or run, or the pool does not fit it.
    """
    from graphprune.pipeline import choosing

    wish = choosing.Wish(samples, select, preparation, window)
    settings = Settings(seed=seed, jobs=jobs, timeout=timeout, overwrite=overwrite, progress=progress)
    return choosing.run(model, _given(pool), Path(output) if output is not None else None, wish, settings)


def find_groups(
    model: ModelLike,
    options: Options | None = None,
    *,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    fix: Fixed | None = None,
) -> tuple[Group, ...]:
    """Every group of a model, prunable or pinned, in the order of the file.

    Args:
        model: what to look at.
        options: what the analysis may assume.
        shapes: concrete shapes of graph inputs, for sizes that are not known otherwise.
        fix: inputs that become constants.

    Raises:
        ModelError: the model is malformed or unsafe.
    """
    from graphprune.axes import analyse
    from graphprune.pipeline.opened import open_model

    settings = Settings(shapes=dict(shapes or {}), fix=dict(fix or {}))
    opened = open_model(model, settings, lift=True)
    return analyse(opened.model, options, opened.sizes).groups


def validate(
    reference: ModelLike,
    candidate: ModelLike,
    inputs: Data = None,
    *,
    tolerance: float = 1e-4,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    fix: Fixed | None = None,
    seed: int = 0,
    threads: int = 1,
) -> Comparison:
    """Compare every output of two models on given or generated inputs.

    Raises:
        GraphpruneError: a model does not load or run, or the inputs do not fit.
    """
    from graphprune.pipeline import agreement

    settings = Settings(
        shapes=dict(shapes or {}), fix=dict(fix or {}), seed=seed, threads=threads, tolerance=tolerance
    )
    names = (_name(reference), _name(candidate))
    return agreement.compare((reference, candidate), names, _given(inputs), settings)


def bench(
    models: Iterable[ModelLike],
    inputs: Data = None,
    *,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    fix: Fixed | None = None,
    seed: int = 0,
    threads: int = 1,
) -> Bench:
    """Size and interleaved latency of models; the first is what the others are compared to.

    Raises:
        GraphpruneError: a model does not load or run.
    """
    from graphprune.pipeline import benchmark

    subjects = tuple(models)
    settings = Settings(shapes=dict(shapes or {}), fix=dict(fix or {}), seed=seed, threads=threads)
    return benchmark.bench(subjects, [_name(model) for model in subjects], _given(inputs), settings)


def _name(model: ModelLike) -> str:
    return os.fspath(model) if isinstance(model, str | os.PathLike) else type(model).__name__


def _given(data: Data) -> Given:
    if data is None or isinstance(data, Mapping):
        return data
    return Path(data) if isinstance(data, str | os.PathLike) else tuple(data)
