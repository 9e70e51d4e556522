"""The Python API: what the commands do, as functions. Import it as `graphprune.compile` and so on.

A model is a path, `onnx.ModelProto`, `onnx_ir.Model` or `onnx_graphsurgeon.Graph`; it is never changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

from graphprune.pipeline.settings import Settings, silent

if TYPE_CHECKING:
    import numpy
    import onnx
    import onnx_graphsurgeon
    import onnx_ir

    from graphprune.axes import Group, Options
    from graphprune.pipeline.agreement import Comparison
    from graphprune.pipeline.benchmark import Bench
    from graphprune.pipeline.compile import Result
    from graphprune.pipeline.passes import Pass
    from graphprune.pipeline.planfile import PlanFile

ModelLike: TypeAlias = Union[
    str, "os.PathLike[str]", "onnx.ModelProto", "onnx_ir.Model", "onnx_graphsurgeon.Graph"
]
Arrays: TypeAlias = "Mapping[str, numpy.ndarray]"
PathLike: TypeAlias = Union[str, "os.PathLike[str]"]


def compile(
    model: ModelLike,
    passes: str | Pass | Iterable[Pass | str] = (),
    output: PathLike | None = None,
    *,
    plan: PlanFile | PathLike | None = None,
    calibration: Arrays | PathLike | None = None,
    inputs: Arrays | PathLike | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    seed: int = 0,
    threads: int = 1,
    tolerance: float = 1e-4,
    verify_each: bool = False,
    allow_short: bool = False,
    overwrite: bool = False,
    bench: bool = False,
    timeout: float = 120.0,
    max_bytes: int | None = None,
    allow_external_links: bool = False,
    reproducer: PathLike | None = None,
    progress: Callable[[int, int, str], None] = silent,
) -> Result:
    """Run passes over a model, prove the result and, if `output` is given, save it with its plan beside it.

    Args:
        model: what to compile.
        passes: pipeline text, a pass, or a list of either; empty copies the model.
        output: where the model goes; None writes nothing.
        plan: decisions to repeat instead of running passes: a plan file or its path.
        calibration: sample inputs for criteria that need data, stacked along the first dimension.
        inputs: inputs to prove and time on; generated when not given.
        shapes: concrete shapes of graph inputs.
        seed: of generated inputs and of everything random in a pass.
        threads: of ONNX Runtime.
        tolerance: of the proof, relative to the largest output.
        verify_each: check the graph after every pass, not only after the last.
        allow_short: return a model that misses its budget.
        overwrite: replace an output that exists.
        bench: measure latency before and after.
        timeout: seconds that the first runs of the model may take.
        max_bytes: refuse larger model files.
        allow_external_links: accept external data behind links.
        reproducer: folder that receives what is needed to repeat a compile that failed.
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
        seed=seed,
        threads=threads,
        tolerance=tolerance,
        verify_each=verify_each,
        allow_short=allow_short,
        overwrite=overwrite,
        bench=bench,
        timeout=timeout,
        max_bytes=max_bytes,
        allow_external_links=allow_external_links,
        reproducer=Path(reproducer) if reproducer is not None else None,
        progress=progress,
    )
    return run(job, settings)


def find_groups(model: ModelLike, options: Options | None = None) -> tuple[Group, ...]:
    """Every group of a model, prunable or pinned, in the order of the file.

    Raises:
        ModelError: the model is malformed or unsafe.
    """
    from graphprune.axes import analyse
    from graphprune.ir.load import load
    from graphprune.ir.normalise import normalise

    own = load(model).model.clone()
    sizes = normalise(own)
    return analyse(own, options, sizes).groups


def validate(
    reference: ModelLike,
    candidate: ModelLike,
    inputs: Arrays | PathLike | None = None,
    *,
    tolerance: float = 1e-4,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    seed: int = 0,
    threads: int = 1,
) -> Comparison:
    """Compare every output of two models on given or generated inputs.

    Raises:
        GraphpruneError: a model does not load or run, or the inputs do not fit.
    """
    from graphprune.pipeline import agreement

    settings = Settings(shapes=dict(shapes or {}), seed=seed, threads=threads, tolerance=tolerance)
    names = (_name(reference), _name(candidate))
    return agreement.compare((reference, candidate), names, _given(inputs), settings)


def bench(
    models: Iterable[ModelLike],
    inputs: Arrays | PathLike | None = None,
    *,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    seed: int = 0,
    threads: int = 1,
) -> Bench:
    """Size and interleaved latency of models; the first is what the others are compared to.

    Raises:
        GraphpruneError: a model does not load or run.
    """
    from graphprune.pipeline import benchmark

    subjects = tuple(models)
    settings = Settings(shapes=dict(shapes or {}), seed=seed, threads=threads)
    return benchmark.bench(subjects, [_name(model) for model in subjects], _given(inputs), settings)


def _name(model: ModelLike) -> str:
    return os.fspath(model) if isinstance(model, str | os.PathLike) else type(model).__name__


def _given(data: Arrays | PathLike | None) -> Path | Arrays | None:
    return Path(data) if isinstance(data, str | os.PathLike) else data
