"""Compiles one graph with every pipeline, under the graphprune that PYTHONPATH names.

Run as a file by `tools.same`, once per graph and state of the code; it must not import `tools`, whose state
is another one. Results are lines of JSON, one per pipeline, so that a run that was stopped goes on.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

OUTPUT = "out.onnx"
TIMES = ("timings", "latency", "latencies", "times", "bench", "versions", "memory", "date", "recipe")
"""Keys of a report that hold what differs from run to run, and what names every option that there is."""


def cpu() -> float:
    """CPU seconds of this process and of those that it waited for."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def steady(value: Any) -> Any:
    """A report without times."""
    if isinstance(value, Mapping):
        return {key: steady(part) for key, part in value.items() if key not in TIMES}
    return [steady(part) for part in value] if isinstance(value, list | tuple) else value


def keep(data: bytes, store: Path) -> str:
    """Puts bytes into the store, under the name of what they are; both states share what is equal."""
    name = hashlib.sha256(data).hexdigest()
    if not (store / name).exists():
        with tempfile.NamedTemporaryFile(dir=store, delete=False) as stream:
            stream.write(data)
        Path(stream.name).replace(store / name)
    return name


def compiled(task: Mapping[str, Any], pipeline: Mapping[str, Any]) -> dict[str, bytes]:
    """What one compile leaves, by kind: files and report, or the error."""
    import graphprune

    wanted = {
        "calibration": task["calibration"] if pipeline["data"] else None,
        "fix": task["fix"],
        "jobs": 1,
        "seed": 0,
        "allow_short": True,
        "force": True,
        "overwrite": True,  # as older commits call it
        "metadata": False,  # says the version, and nothing where the base is older
    }
    known = inspect.signature(graphprune.compile).parameters
    given = {name: value for name, value in wanted.items() if name in known and value is not None}
    try:
        result = graphprune.compile(task["model"], pipeline["text"], OUTPUT, **given)
    except Exception as error:  # an internal error is a result as well
        hint = getattr(error, "hint", "")
        return {"error": f"{type(error).__name__}: {error}{' | ' if hint else ''}{hint}\n".encode()}
    found = {path.name: path.read_bytes() for path in sorted(Path().iterdir()) if path.is_file()}
    report = steady(result.report.to_json())
    return {**found, "report": json.dumps(report, indent=1, sort_keys=True).encode()}


def attempt(task: Mapping[str, Any], name: str, pipeline: Mapping[str, Any]) -> dict[str, object]:
    """One row: names of what was left, in the store, and CPU seconds."""
    home, start = Path.cwd(), cpu()
    folder = tempfile.mkdtemp(dir=task["scratch"])
    os.chdir(folder)
    try:
        found = compiled(task, pipeline)
        spent = cpu() - start
    finally:
        os.chdir(home)
        shutil.rmtree(folder)
    kept = {kind: keep(data, Path(task["store"])) for kind, data in found.items()}
    return {"pipeline": name, "text": pipeline["text"], "found": kept, "cpu": round(spent, 3)}


def done(path: Path) -> set[tuple[str, str]]:
    """Pipelines that have a row already, with their text."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:  # torn by a stop
            continue
    return {(row["pipeline"], row["text"]) for row in rows}


def main() -> None:
    """Carries out the task in the file that is named on the command line."""
    import graphprune

    task = json.loads(Path(sys.argv[1]).read_text())
    if not Path(graphprune.__file__).is_relative_to(task["side"]):
        sys.exit(f"graphprune was imported from {graphprune.__file__}, not from {task['side']}")
    results = Path(task["results"])
    known = done(results)
    for name, pipeline in task["pipelines"].items():
        if (name, pipeline["text"]) not in known:
            row = attempt(task, name, pipeline)
            with results.open("a") as stream:
                stream.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
