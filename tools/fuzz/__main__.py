"""`python -m tools.fuzz --count N --seed S --jobs J`: a campaign over random graphs, which can be interrupted
and resumed.

Seeds S .. S+N-1 are examined; those already in FOLDER/done.jsonl are skipped. Every failing graph is written
to FOLDER as ONNX, and its line in the summary says how to repeat it. Exit code 1 when anything failed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path

import onnx_ir as ir

from tools.fuzz.check import Failure, GeneratorError, examine, outputs
from tools.fuzz.generate import generate
from tools.fuzz.outcome import Outcome
from tools.fuzz.page import render

STEP = 50


def attempt(seed: int, folder: Path) -> Outcome:
    """Examines one seed and saves the graphs that fail."""
    start = time.process_time()
    failures: list[tuple[str, str]] = []
    try:
        for failure in examine(seed):
            failures.append((failure.kind, failure.detail))
            save(failure, folder)
    except GeneratorError as error:
        failures.append(("generator", str(error)))
    spent = round(time.process_time() - start, 3)
    graphs = 1 + generate(seed, planted=True).plantable
    return Outcome(seed, generate(seed).trail, tuple(failures), spent, graphs)


def save(failure: Failure, folder: Path) -> None:
    """Writes the graph of a failure."""
    graph = failure.graph
    graph.model.doc_string = f"{graph.label}\n{failure.kind}: {failure.detail}"
    ir.save(graph.model, folder / f"{failure.kind}-{graph.seed}.onnx")


def read(done: Path, seeds: range) -> list[Outcome]:
    """Outcomes of an earlier campaign in the same folder."""
    if not done.exists():
        return []
    rows = [json.loads(line) for line in done.read_text().splitlines()]
    outcomes = [
        Outcome(r["seed"], tuple(r["blocks"]), tuple(map(tuple, r["failures"])), r["cpu_s"], r["graphs"])
        for r in rows
    ]
    return [outcome for outcome in outcomes if outcome.seed in seeds]


def outcomes_of(seeds: list[int], folder: Path, jobs: int) -> Iterator[Outcome]:
    """Examines seeds in processes of their own, which a crash of ONNX Runtime may end."""
    done = 0
    while done < len(seeds):
        rest = seeds[done:]
        try:
            with ProcessPoolExecutor(jobs) as pool:
                for outcome in pool.map(attempt, rest, [folder] * len(rest)):
                    yield outcome
                    done += 1
        except BrokenProcessPool:
            for seed in seeds[done : done + 2 * jobs]:  # one of those that were under way
                yield alone(seed, folder)
                done += 1


def alone(seed: int, folder: Path) -> Outcome:
    """One seed in a process that may crash."""
    try:
        with ProcessPoolExecutor(1) as pool:
            return pool.submit(attempt, seed, folder).result()
    except BrokenProcessPool:
        pass
    with ProcessPoolExecutor(1) as pool:
        ended = pool.submit(run_dense, seed).exception()
    kind = "runtime" if isinstance(ended, BrokenProcessPool) else "crash"
    return Outcome(seed, generate(seed).trail, ((kind, "the process died"),), 0.0, 1)


def run_dense(seed: int) -> None:
    """The generated graph as it is."""
    graph = generate(seed)
    outputs(graph.model, graph)


def summary(outcomes: Iterable[Outcome]) -> str:
    """Graphs, failures and CPU time, blocks by how often they stood in a graph, and one line per failure."""
    rows = list(outcomes)
    kinds = Counter(kind for row in rows for kind, _ in row.failures)
    blocks = Counter(block for row in rows for block in row.blocks)
    bad = [row for row in rows if row.failures]
    cpu = sum(row.cpu_s for row in rows)
    graphs = sum(row.graphs for row in rows)
    lines = [f"seeds {len(rows)}, graphs {graphs}, failing seeds {len(bad)}, CPU {cpu:.0f} s"]
    lines.append(
        "failures: " + (", ".join(f"{kind} {count}" for kind, count in kinds.most_common()) or "none")
    )
    lines.append("blocks: " + ", ".join(f"{block} {count}" for block, count in sorted(blocks.items())))
    for row in bad:
        for kind, detail in row.failures:
            lines.append(
                f"  {kind}: {detail[:300]}\n"
                f"    repeat: python -m tools.fuzz --count 1 --seed {row.seed} --fresh"
            )
    return "\n".join(lines)


def main() -> int:
    """Runs a campaign."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.fuzz", description=(__doc__ or "").split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--count", type=int, default=200, help="number of seeds")
    parser.add_argument("--seed", type=int, default=0, help="first seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument(
        "--folder", type=Path, default=Path("build/fuzz"), help="where results and failing graphs go"
    )
    parser.add_argument("--page", type=Path, help="write the campaign's figures to this Markdown page")
    parser.add_argument("--fresh", action="store_true", help="examine seeds again that are already done")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    done = arguments.folder / "done.jsonl"
    seeds = range(arguments.seed, arguments.seed + arguments.count)
    known = {outcome.seed: outcome for outcome in ([] if arguments.fresh else read(done, seeds))}
    with done.open("a") as log:
        rest = [seed for seed in seeds if seed not in known]
        for number, outcome in enumerate(outcomes_of(rest, arguments.folder, arguments.jobs), 1):
            known[outcome.seed] = outcome
            log.write(json.dumps(asdict(outcome)) + "\n")
            log.flush()
            if outcome.failures or number % STEP == 0:
                print(f"{number}/{len(rest)} seed {outcome.seed}: {outcome.failures or 'ok'}", flush=True)
    print(summary(known[seed] for seed in sorted(known)))
    if arguments.page:
        arguments.page.write_text(render([known[seed] for seed in sorted(known)]))
    return int(any(outcome.failures for outcome in known.values()))


if __name__ == "__main__":
    raise SystemExit(main())
