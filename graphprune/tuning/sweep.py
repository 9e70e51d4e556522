"""Models times recipes times seeds as one table, here or by the workers of a cluster."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

from graphprune.document import Document
from graphprune.errors import ArgumentError, GraphpruneError
from graphprune.ir.load import load
from graphprune.ir.names import quote
from graphprune.ir.publish import write_file
from graphprune.pipeline import compile as compiling
from graphprune.pipeline import registry
from graphprune.pipeline.job import Job as CompileJob
from graphprune.pipeline.recipe import Recipe
from graphprune.pipeline.report import Report
from graphprune.pipeline.settings import Settings, Sweeping
from graphprune.run import silent
from graphprune.shown import Shown
from graphprune.tuning.engine import engine

FREE = ("output", "report", "reproducer", "statistics", "force")
"""Options of a recipe that a sweep has no use for: it writes no models."""


@dataclass(frozen=True)
class SweepRow:
    """One compile: shares that are left, what was lost, and how much faster the result is.

    `drop` is null without samples, `speedup` without --bench; `error` says why there is no result.
    """

    model: str
    recipe: str
    seed: int
    pipeline: str = ""
    params: float | None = None
    macs: float | None = None
    bytes: float | None = None
    drop: float | None = None
    drop_low: float | None = None
    drop_high: float | None = None
    speedup: float | None = None
    seconds: float = 0.0
    error: str = ""

    @property
    def key(self) -> tuple[str, str, int]:
        """What tells it from the others."""
        return self.model, self.recipe, self.seed


@dataclass(frozen=True)
class Swept(Shown):
    """All rows, in the order of models, recipes and seeds."""

    rows: tuple[SweepRow, ...]


@dataclass(frozen=True)
class Job:
    """What to sweep.

    Attributes:
        models: files.
        recipes: by the name that rows give them.
        seeds: of everything random.
        calibration: samples for those recipes that name none.
        output: where rows are kept, a line of JSON each.
    """

    models: Sequence[Path]
    recipes: Mapping[str, Recipe]
    seeds: Sequence[int]
    calibration: Path | None
    output: Path | None = None


@dataclass(frozen=True)
class _Shared:
    """What all compiles need; with files, these stand for those of this machine."""

    job: Job
    settings: Sweeping
    files: Mapping[str, bytes] = field(default_factory=dict)
    key: str = ""


Item = tuple[int, str, int]
"""The number of a model, the name of a recipe, a seed."""


def sweep(job: Job, settings: Sweeping) -> Iterator[SweepRow]:
    """Rows as they come; those that the output holds come first.

    Raises:
        ArgumentError: nothing to do, or the output holds something else.
        OutputError: the output cannot be written.
    """
    if not (job.models and job.recipes):
        hint = "give --passes or --recipe, as often as you like"
        raise ArgumentError("a sweep needs models and recipes", hint)
    rows = {} if job.output is None else {row.key: row for row in _read(job.output, settings)}
    items = [
        (number, name, seed)
        for number, name, seed in product(range(len(job.models)), job.recipes, job.seeds)
        if (str(job.models[number]), name, seed) not in rows
    ]
    yield from rows.values()
    shared = _Shared(job, replace(settings, progress=silent))
    if settings.engine == "ray":
        shared = _packed(shared)
    workers = engine(settings.engine, settings.address, settings.progress)
    try:
        for found in workers.map(_row, shared, items):
            rows[found.key] = found
            if job.output is not None:
                lines = "".join(json.dumps(asdict(each)) + "\n" for each in rows.values())
                write_file(job.output, lines.encode())
            yield found
    finally:
        workers.close()


def _read(path: Path, settings: Sweeping) -> Iterator[SweepRow]:
    if not path.exists():
        return
    if not (settings.resume or settings.force):
        raise ArgumentError(f"{quote(str(path))} exists", "--resume goes on with it, --force starts anew")
    if settings.force:
        return
    known = {each.name for each in fields(SweepRow)}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            told = json.loads(line)
        except ValueError:
            told = None
        if not isinstance(told, dict) or not {"model", "recipe", "seed"} <= told.keys() <= known:
            raise ArgumentError(f"line {number} of {quote(str(path))} is no row of a sweep")
        where = Document(told, quote(str(path)))
        where.one("seed", int)
        yield SweepRow(**told)


def _packed(shared: _Shared) -> _Shared:
    """With the bytes of all files, which travel once."""
    job = shared.job
    paths: list[Path] = []
    for model in job.models:
        source = load(model, shared.settings.limits)
        paths += [model, *source.external_files]
    named = [each.options.get("calibration", job.calibration) for each in job.recipes.values()]
    for data in (Path(str(each)) for each in named if each is not None):
        paths += [each for each in sorted(data.rglob("*")) if each.is_file()] if data.is_dir() else [data]
    files = {str(path): path.read_bytes() for path in dict.fromkeys(paths)}
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(name.encode() + hashlib.sha256(content).digest())
    return replace(shared, files=files, key=digest.hexdigest())


@lru_cache(maxsize=1)
def _folder(key: str) -> TemporaryDirectory[str]:
    """Of a worker, for the files of one sweep."""
    return TemporaryDirectory(prefix="graphprune")


def _place(shared: _Shared, path: Path) -> Path:
    """Where a file is: here, or where a worker put it."""
    if not shared.files:
        return path
    home = Path(_folder(shared.key).name)
    if not any(home.iterdir()):
        for name, content in shared.files.items():
            target = home / Path(name).absolute().relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    return home / path.absolute().relative_to("/")


def _row(shared: _Shared, item: Item) -> SweepRow:
    """One compile."""
    number, name, seed = item
    job, told = shared.job, shared.job.recipes[name]
    found = SweepRow(str(job.models[number]), name, seed, told.pipeline or "")
    start = time.monotonic()
    try:
        report = compiling.run(*_compile(shared, item)).report
    except GraphpruneError as error:
        why = error.message.splitlines()[0]
        return replace(found, error=why, seconds=round(time.monotonic() - start, 3))
    return replace(_told(found, report), seconds=round(time.monotonic() - start, 3))


def _compile(shared: _Shared, item: Item) -> tuple[CompileJob, Settings]:
    number, name, seed = item
    job, told = shared.job, shared.job.recipes[name]
    options = {key: value for key, value in told.of(Settings).items() if key not in FREE}
    options |= {"seed": seed, "allow_short": True, "bench": shared.settings.bench}
    options = {"timeout": shared.settings.timeout, "jobs": shared.settings.jobs, **options}
    given = told.options.get("calibration", job.calibration)
    calibration = None if given is None else _place(shared, Path(str(given)))
    model = _place(shared, job.models[number])
    compile_job = CompileJob(model, registry.read(told.pipeline or ""), calibration=calibration)
    return compile_job, Settings(**options)  # type: ignore[arg-type]  # checked as they are read


def _told(row: SweepRow, report: Report) -> SweepRow:
    before, after = report.before, report.after
    drop = report.agreement.drop if report.agreement is not None and report.agreement.measured else None
    return replace(
        row,
        params=after.params / max(1, before.params),
        macs=None if before.macs is None or after.macs is None else after.macs / max(1, before.macs),
        bytes=after.bytes / max(1, before.bytes),
        drop=None if drop is None else drop.value,
        drop_low=None if drop is None else drop.low,
        drop_high=None if drop is None else drop.high,
        speedup=None if report.latency is None else report.latency.speedup,
    )
