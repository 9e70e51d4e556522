"""`python -m tools.same BASE HEAD`: whether two commits write the same models, plans and reports.

Every graph is compiled with one pipeline per pass under each commit, in a process of its own, from the same
files with the same samples and seed. Files, reports (without times) and errors are compared byte by byte;
each difference is a line that says what differs first. A commit against itself is compiled twice, which shows
whether it is deterministic. Differences that are meant stand in a TOML file:

    [[exception]]
    graph = "fuzz-*"        # globs; "*" where left out
    pass = "obspa"
    what = "report"         # out.onnx, out.plan.json, report, error, ...
    reason = "notes name the layer now"

What was done is kept in --folder, by the contents of commits and graphs: a run that was stopped goes on, and
a base is compiled once for many heads. Exit code 1 where anything differs that no exception covers.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from graphprune.errors import ArgumentError
from tools.command import ended

from .difference import difference
from .graphs import BLIND, DEFAULT, PIPELINES, SETS, Graph, graphs
from .sides import Side, run, unpacked
from .speed import compare_speed

WORKER = Path(__file__).with_name("work.py")
Row = Mapping[str, Any]


@dataclass
class Excuse:
    """A difference that is meant."""

    graph: str
    pipeline: str
    what: str
    reason: str
    used: int = field(default=0)

    def covers(self, difference: Difference) -> bool:
        """Whether it is about this difference."""
        pairs = (
            (difference.graph, self.graph),
            (difference.pipeline, self.pipeline),
            (difference.what, self.what),
        )
        return all(fnmatch.fnmatchcase(text, glob) for text, glob in pairs)


@dataclass(frozen=True)
class Difference:
    """What two compiles of one graph differ in."""

    graph: str
    pipeline: str
    what: str
    first: str

    def __str__(self) -> str:
        return f"{self.graph} {self.pipeline} {self.what}: {self.first}"


def read_excuses(path: Path | None) -> list[Excuse]:
    """The exceptions of a TOML file.

    Raises:
        ArgumentError: it is no such file, or an exception has no reason.
    """
    if path is None:
        return []
    try:
        rows = tomllib.loads(path.read_text("utf-8")).get("exception", [])
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ArgumentError(f"{path}: {error}") from None
    for row in rows:
        unknown = row.keys() - {"graph", "pass", "what", "reason"}
        if unknown or not row.get("reason"):
            raise ArgumentError(f"{path}: an exception has graph, pass, what and a reason, got {dict(row)}")
    return [
        Excuse(row.get("graph", "*"), row.get("pass", "*"), row.get("what", "*"), row["reason"])
        for row in rows
    ]


@dataclass(frozen=True)
class Lab:
    """Where work is done.

    Attributes:
        folder: of everything.
        pipelines: text by name.
        seconds: wall time that one graph may take.
    """

    folder: Path
    pipelines: Mapping[str, str]
    seconds: float

    @property
    def store(self) -> Path:
        """Contents of outputs, by their hash."""
        return self.folder / "store"

    def results(self, side: Side, graph: Graph) -> Path:
        """Rows of one graph under one state of the code."""
        return self.folder / "rows" / side.key / f"{graph.name}-{graph.key}.jsonl"

    def work(self, side: Side, graph: Graph) -> tuple[float, str]:
        """Compiles a graph with every pipeline; returns CPU seconds, and what went wrong with the process."""
        results = self.results(side, graph)
        for place in (results.parent, self.store, self.folder / "scratch"):
            place.mkdir(parents=True, exist_ok=True)
        todo = [name for name in self.pipelines if name not in self.rows(side, graph)]
        if not todo:
            return 0.0, ""
        task = {
            "side": str(side.folder),
            "model": str(graph.model),
            "calibration": str(graph.calibration),
            "fix": dict(graph.fix) or None,
            "pipelines": {name: {"text": self.pipelines[name], "data": name not in BLIND} for name in todo},
            "results": str(results),
            "store": str(self.store),
            "scratch": str(self.folder / "scratch"),
        }
        file = results.with_suffix(".task.json")
        file.write_text(json.dumps(task))
        end = run(["-P", str(WORKER), str(file)], side, self.seconds, results.with_suffix(".log"))
        return end.seconds, "" if end.status == 0 else f"ended with {end.status}: {end.said.strip()[-200:]}"

    def rows(self, side: Side, graph: Graph) -> dict[str, Row]:
        """What is known of a graph, by pipeline; rows of another text of the pipeline do not count."""
        path, found = self.results(side, graph), {}
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            if self.pipelines.get(row["pipeline"]) == row["text"]:
                found[row["pipeline"]] = row
        return found

    def wrote(self, side: Side, graph: Graph) -> int:
        """How many pipelines wrote a model; what all refuse is equal and tells little."""
        return sum("error" not in row["found"] for row in self.rows(side, graph).values())

    def read(self, row: Row, kind: str) -> bytes | None:
        """Contents of an output."""
        name = row["found"].get(kind)
        return None if name is None else (self.store / name).read_bytes()

    def differences(self, graph: Graph, sides: Sequence[Side]) -> Iterator[Difference | str]:
        """Differences of a graph; a line of text where there is nothing to compare."""
        one, two = (self.rows(side, graph) for side in sides)
        for name in self.pipelines:
            if name not in one or name not in two:
                yield f"{graph.name} {name}: no result under {sides[name in one].name}"
                continue
            mine, others = one[name]["found"], two[name]["found"]
            for kind in sorted({*mine, *others}):
                if mine.get(kind) != others.get(kind):
                    first = difference(kind, self.read(one[name], kind), self.read(two[name], kind))
                    yield Difference(graph.name, name, kind, first)


def told(line: str) -> None:
    """Progress."""
    print(line, file=sys.stderr, flush=True)


def carry_out(lab: Lab, chosen: Sequence[Graph], sides: Sequence[Side], jobs: int) -> dict[str, float]:
    """Compiles everything that is not known yet; returns CPU seconds by side."""
    spent: Counter[str] = Counter()
    with ThreadPoolExecutor(jobs) as pool:
        tasks: dict[Future[tuple[float, str]], tuple[Side, Graph]] = {
            pool.submit(lab.work, side, graph): (side, graph) for graph in chosen for side in sides
        }
        for number, task in enumerate(as_completed(tasks), 1):
            side, graph = tasks[task]
            seconds, wrong = task.result()
            spent[side.name] += seconds
            state = wrong or (f"{seconds:.1f} CPU s" if seconds else "known")
            told(f"[{number}/{len(tasks)}] {graph.name} under {side.name}: {state}")
    return spent


def verdict(lab: Lab, chosen: Sequence[Graph], sides: Sequence[Side], excuses: Sequence[Excuse]) -> int:
    """Prints every difference; the exit status."""
    found = [each for graph in chosen for each in lab.differences(graph, sides)]
    counts: Counter[str] = Counter()
    for each in found:
        excuse = next((e for e in excuses if isinstance(each, Difference) and e.covers(each)), None)
        if excuse is not None:
            excuse.used += 1
        label = "not compared" if isinstance(each, str) else "differs" if excuse is None else "meant"
        counts[label] += 1
        print(f"{label}: {each}" + (f" ({excuse.reason})" if excuse is not None else ""))
    for excuse in excuses:
        if not excuse.used:
            print(f"unused: exception for graph {excuse.graph}, pass {excuse.pipeline}, what {excuse.what}")
    touched = {(d.graph, d.pipeline) for d in found if isinstance(d, Difference)}
    equal = len(chosen) * len(lab.pipelines) - len(touched) - counts["not compared"]
    wrote = sum(lab.wrote(sides[0], graph) for graph in chosen)
    print(
        f"{len(chosen)} graphs, {len(lab.pipelines)} pipelines: {equal} compiles equal ({wrote} under "
        f"{sides[0].name} wrote a model), {counts['differs']} differences, {counts['meant']} meant, "
        f"{counts['not compared']} not compared"
    )
    return 1 if counts["differs"] or counts["not compared"] else 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    root = argparse.ArgumentParser(
        prog="python -m tools.same", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    root.add_argument("base", help="a commit")
    root.add_argument("head", help="another commit")
    root.add_argument("--graphs", default=DEFAULT, help=f"comma-separated: {SETS} (default {DEFAULT})")
    root.add_argument("--passes", default="*", help="glob over passes")
    root.add_argument("--exceptions", type=Path, help="TOML file of differences that are meant")
    root.add_argument("--folder", type=Path, default=Path("build/same"), help="where work is kept")
    root.add_argument("--jobs", type=int, default=1, help="graphs that are compiled side by side")
    root.add_argument("--seconds", type=float, default=1800, help="wall time of one graph under one commit")
    root.add_argument("--speed", type=int, default=0, metavar="N", help="also time N interleaved rounds")
    return root


def body(options: argparse.Namespace) -> None:
    """Compiles, compares, times."""
    folder = options.folder.resolve()
    for part in ("sides", "graphs"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    excuses = read_excuses(options.exceptions)
    pipelines = {name: text for name, text in PIPELINES.items() if fnmatch.fnmatch(name, options.passes)}
    if not pipelines:
        raise ArgumentError(f"no pass matches '{options.passes}'", f"passes are {', '.join(PIPELINES)}")
    sides = [unpacked(revision, folder / "sides") for revision in (options.base, options.head)]
    chosen = graphs(options.graphs, folder / "graphs")
    lab = Lab(folder, pipelines, options.seconds)
    if sides[0].key == sides[1].key:
        sides[1] = replace(sides[1], name=f"{options.head} again", key=f"{sides[1].key}-again")
    for name, seconds in carry_out(lab, chosen, sides, options.jobs).items():
        told(f"{name}: {seconds:.1f} CPU s in all")
    options.status = verdict(lab, chosen, sides, excuses)
    if options.speed:
        for line in compare_speed(sides, folder, options.speed):
            print(line)


def main() -> int:
    """Runs the command; its exit status."""
    options = parser().parse_args()
    options.status = 0
    return ended(partial(body, options)) or options.status


if __name__ == "__main__":
    sys.exit(main())
