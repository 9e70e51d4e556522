"""Run `graphprune compile` on an archive of hostile models and check what it does to each.

    python -m tools.hostile --cases DIR     DIR holds cases.tar.gz and manifest.json

Prints a table, writes it into docs/security.md, and exits 1 if a promise of that page is broken.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DOC = Path(__file__).parents[1] / "docs" / "security.md"
BEGIN, END = "<!-- hostile: begin -->", "<!-- hostile: end -->"
COMMAND = ("compile", "model.onnx", "-o", "out.onnx", "--no-bench", "--quiet", "--timeout", "5")
PIPELINE = "prune(ratio=0.5)"
RELAY = """
import json, os, sys
silent = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
process = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[silent])
_, status, usage = os.wait4(process, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss]))
"""
"""Starts a command and says what it cost. Linux counts as peak of a process what the one that started it
held, so that is a small one."""
MAX_CPU, MAX_MB, MAX_WALL = 10.0, 1024.0, 300.0
OUTPUTS = re.compile(r"out\.(onnx|onnx\.[0-9a-f]{16}\.data|plan\.json)")
NOTHING = "error: nothing to prune"
# What the page says about cases that are neither plainly wrong nor plainly right: exit code and reason.
POLICIES = {
    "A21_nul_in_name": (0, "accepted, names are escaped in every output"),
    "B16_custom_domain": (2, "a barrier for the analysis; no library is loaded, so nothing can be proved"),
    "C03_not_topological": (0, "accepted, the nodes are sorted"),
    "D37_inf_weights": (2, "loads; weights that are not finite cannot be ranked"),
    "D38_all_zero_weights": (0, "accepted, all units tie and the first ones stay"),
    "D39_value_info_lies": (0, "accepted, the declaration is dropped"),
    "D51_bn_negative_var": (2, "loads; what it scales cannot be ranked"),
    "D52_loop_infinite": (1, "accepted, and nothing in it can be cut; runs have a time limit"),
    "E27_dunder_key": (0, "accepted, unknown keys are ignored and not written back"),
    "E32_overlapping": (0, "accepted, inputs are never changed in place"),
    "E37_same_name_output": (0, "accepted, weights of an output are named after their content"),
}


@dataclass(frozen=True)
class Case:
    """A hostile model: what is expected, and why it hurts."""

    id: str
    expect: str
    why: str


@dataclass(frozen=True)
class Run:
    """What the command did: exit code (negative: a signal), stderr, cost and files."""

    code: int
    error: str
    cpu: float
    megabytes: float
    created: frozenset[str]
    untouched: bool


@dataclass(frozen=True)
class Verdict:
    """A case, its run, and the promises that the run broke."""

    case: Case
    run: Run
    broken: tuple[str, ...]

    @property
    def line(self) -> str:
        """The first line of stderr."""
        return self.run.error.split("\n", 1)[0]


def cases(folder: Path) -> list[Case]:
    """The cases that a manifest lists."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return [Case(entry["id"], entry["expect"], entry["why"]) for entry in manifest]


def execute(folder: Path, passes: str = PIPELINE) -> Run:
    """Compile `model.onnx` of a folder in a process of its own."""
    before = snapshot(folder.parent)
    command = [sys.executable, "-m", "graphprune", *COMMAND, "--passes", passes]
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", RELAY, *command],
            cwd=folder,
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
        )
        timer = threading.Timer(MAX_WALL, os.killpg, (process.pid, signal.SIGKILL))
        timer.start()
        told, _ = process.communicate()
        timer.cancel()
        code, cpu, kilobytes = json.loads(told or "[-9, 0, 0]")
        stderr.seek(0)
        error = stderr.read().decode("utf-8", "backslashreplace")
    after = snapshot(folder.parent)
    return Run(
        code,
        error.replace(str(folder.resolve()) + os.sep, ""),
        cpu,
        kilobytes / 1024,
        frozenset(Path(path).name for path in after.keys() - before.keys()),
        all(after.get(path) == state for path, state in before.items()),
    )


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def snapshot(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Size, time and hash of every entry below a folder; links, pipes and devices are not opened."""
    found = {}
    for path in sorted(Path(top, name) for top, below, files in os.walk(folder) for name in (*below, *files)):
        status = path.lstat()
        if path.is_dir() and not path.is_symlink():
            found[str(path)] = (0, 0, "folder")  # its time changes with what comes and goes in it
            continue
        plain = path.is_file() and not path.is_symlink()
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if plain else ""
        found[str(path)] = (status.st_size, status.st_mtime_ns, digest)
    return found


def judge(case: Case, run: Run) -> tuple[str, ...]:
    """The promises of docs/security.md that a run broke."""
    return tuple(_broken(case, run))


def _broken(case: Case, run: Run) -> Iterator[str]:
    wanted = {"reject": (2,), "ok": (0, 1), "policy": (POLICIES.get(case.id, (-1, ""))[0],)}[case.expect]
    if run.code not in wanted:
        yield f"exit code {run.code}"
    lines = run.error.splitlines()
    if run.code == 1 and case.expect == "ok" and not run.error.startswith(NOTHING):
        yield "does not compile"
    if "Traceback" in run.error:
        yield "traceback"
    if run.code and sum(line.startswith("error: ") for line in lines) != 1:
        yield "not one error line"
    if any(not line.startswith(("error: ", "hint: ", "  ")) or not line.isprintable() for line in lines):
        yield "noise on stderr"
    if not run.untouched:
        yield "an input changed"
    extra = {name for name in run.created if run.code or not OUTPUTS.fullmatch(name)}
    if extra or (run.code == 0 and "out.onnx" not in run.created):
        yield f"files: {sorted(run.created)}"
    if run.cpu >= MAX_CPU:
        yield f"{run.cpu:.1f} CPU s"
    if run.megabytes >= MAX_MB:
        yield f"{run.megabytes:.0f} MB"


def runs(folder: Path) -> bool:
    """Whether a written model loads again and runs in ONNX Runtime."""
    command = [sys.executable, "-m", "graphprune", "validate", "out.onnx", "out.onnx"]
    done = subprocess.run(
        command, cwd=folder, env=_environment(), capture_output=True, timeout=MAX_WALL, check=False
    )
    return done.returncode in (0, 1)  # 1: what it computes is infinite, or the same everywhere


def run_all(folder: Path, wanted: str) -> Iterator[Verdict]:
    """Every case of an archive whose id starts with a prefix."""
    with tempfile.TemporaryDirectory() as name:
        with tarfile.open(folder / "cases.tar.gz") as archive:
            archive.extractall(name, filter="fully_trusted")  # links and devices are the point
        for case in cases(folder):
            if not case.id.startswith(wanted):
                continue
            model = Path(name) / case.id / "m"
            run = execute(model)
            yield Verdict(case, run, (*judge(case, run), *_unusable(case, model, run)))


def _unusable(case: Case, folder: Path, run: Run) -> Iterator[str]:
    """What is wrong with an accepted model's output; where there is nothing to prune, with its copy."""
    if case.expect == "ok" and run.code == 1:
        run = execute(folder, "")
        if run.code != 0 or not run.untouched:
            yield "an empty pipeline does not copy it"
    if run.code == 0 and not runs(folder):
        yield "the output does not run"


def summary(verdicts: list[Verdict], seconds: float) -> str:
    """Counts and the highest costs."""
    parts = []
    for kind, meaning in (("reject", "refused"), ("ok", "accepted"), ("policy", "as documented")):
        mine = [verdict for verdict in verdicts if verdict.case.expect == kind]
        parts.append(f"{sum(not v.broken for v in mine)} of {len(mine)} `{kind}` {meaning}")
    idle = sum(v.case.expect == "ok" and v.run.code == 1 for v in verdicts)
    cpu, memory = max(v.run.cpu for v in verdicts), max(v.run.megabytes for v in verdicts)
    return (
        f"{len(verdicts)} cases: {', '.join(parts)} ({idle} of the `ok` ones hold nothing to prune: "
        f"exit 1, and an empty pipeline copies them). "
        f"Highest cost of one run: {cpu:.1f} CPU s, {memory:.0f} MB, the start of Python included; "
        f"{seconds:.0f} s in all."
    )


def table(verdicts: list[Verdict]) -> str:
    """The cases as Markdown."""
    head = ["| case | what it is | expected | exit | what graphprune says |", "|---|---|---|---|---|"]
    return "\n".join([*head, *(_row(verdict) for verdict in verdicts)])


def _row(verdict: Verdict) -> str:
    case, line = verdict.case, verdict.line.removeprefix("error: ")
    shown = line if len(line) <= 130 else line[:130] + "..."
    said = f"`{shown}`" if shown else ""
    note = POLICIES[case.id][1] if case.id in POLICIES else ""
    if verdict.broken:
        note = f"**{'; '.join(verdict.broken)}**"
    says = ": ".join(part for part in (note, said) if part) or "compiles"
    cells = (case.id, case.why, case.expect, str(verdict.run.code), says)
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def write(text: str) -> None:
    """Put the generated text between the markers of the page."""
    page = DOC.read_text(encoding="utf-8")
    head, _, rest = page.partition(BEGIN)
    tail = rest.partition(END)[2]
    DOC.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}", encoding="utf-8")


def main() -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description="Run graphprune over an archive of hostile models.")
    parser.add_argument(
        "--cases", type=Path, required=True, help="folder with cases.tar.gz and manifest.json"
    )
    parser.add_argument("--only", default="", help="run the cases whose id starts so, and write nothing")
    arguments = parser.parse_args()
    start, verdicts = time.monotonic(), []
    for verdict in run_all(arguments.cases, arguments.only):
        run, mark = verdict.run, "; ".join(verdict.broken) or "as promised"
        cost = f"{run.cpu:5.1f} s {run.megabytes:5.0f} MB"
        print(
            f"{verdict.case.id:32} {verdict.case.expect:7} {run.code:3} {cost}  {mark}  {verdict.line[:90]}"
        )
        sys.stdout.flush()
        verdicts.append(verdict)
    text = summary(verdicts, time.monotonic() - start)
    print(f"\n{text}")
    if not arguments.only:
        write(f"{text}\n\n{table(verdicts)}")
    return int(any(verdict.broken for verdict in verdicts))


if __name__ == "__main__":
    sys.exit(main())
