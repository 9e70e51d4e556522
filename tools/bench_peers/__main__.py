"""`python -m tools.bench_peers`: measures graphprune beside its peers and writes docs/benchmarks.md."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.bench_peers import big, jobs, table
from tools.zoo import store

_THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def _in_child(job: str, path: Path, repetitions: int) -> table.Row:
    """Runs one measurement in a fresh interpreter, so that nobody pays for another's imports or garbage."""
    with tempfile.NamedTemporaryFile(suffix=".json") as answer:
        command = [sys.executable, "-m", "tools.bench_peers", "--job", job, "--path", str(path)]
        command += ["--repetitions", str(repetitions), "--json", answer.name]
        done = subprocess.run(
            command, env={**os.environ, **_THREADS}, capture_output=True, text=True, check=False
        )
        text = Path(answer.name).read_text()
    if done.returncode or not text:
        lines = done.stderr.strip().splitlines()
        return table.Row(
            path.stem, job, reason=lines[-1][:200] if lines else f"exit status {done.returncode}"
        )
    return table.Row(path.stem, job, **json.loads(text))


def _one_job(arguments: argparse.Namespace) -> None:
    result = jobs.job(arguments.job)(Path(arguments.path), arguments.repetitions)
    flat = dataclasses.asdict(result)
    flat |= flat.pop("region")
    Path(arguments.json).write_text(json.dumps(flat))


def _rows(arguments: argparse.Namespace) -> list[table.Row]:
    folder = store.cache_folder(arguments.cache)
    plan = [
        (job, folder / f"{model}.onnx")
        for model in arguments.models
        for job in (*jobs.ANALYSES, *jobs.PRUNERS)
    ]
    if arguments.big:
        path = folder / "residual_mlp_1gb.onnx"
        if not path.exists():
            big.write(path)
        plan += [(job, path) for job in jobs.BIG]
    rows = []
    for job, path in plan:
        if arguments.jobs and not any(word in job for word in arguments.jobs):
            continue
        rows.append(_in_child(job, path, arguments.repetitions))
        print(table.line(rows[-1]), file=sys.stderr, flush=True)
    return rows


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.bench_peers", description=__doc__)
    parser.add_argument("--models", nargs="*", default=list(jobs.MODELS), help="names of zoo exports")
    parser.add_argument("--jobs", nargs="*", help="only measurements whose name contains one of these words")
    parser.add_argument("--no-big", dest="big", action="store_false", help="leave the 1 GB model out")
    parser.add_argument("--repetitions", type=int, default=3, help="runs per measurement; the best counts")
    parser.add_argument("--cache", help="folder of the zoo's exports")
    parser.add_argument("--json", help="write the rows here")
    parser.add_argument("--output", help="write the tables here, for example docs/benchmarks.md")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    return parser


def main() -> None:
    """Measures in children, or is such a child."""
    arguments = _parser().parse_args()
    if arguments.job:
        return _one_job(arguments)
    rows = _rows(arguments)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=1))
    text = table.render(rows)
    if arguments.output:
        Path(arguments.output).write_text(text)
    print(text)
    return None


if __name__ == "__main__":
    main()
