"""`python -m tools.mutants --commit HEAD --jobs 2`: how many mutants of the heart the tests notice.

The commit is unpacked into temporary folders; the checkout is never touched. The first step runs the suite
once to learn which tests call which functions, the second runs them against each mutant, the third runs those
that noticed one on the commit as it is. All is kept in FOLDER and resumed from there. `--page FILE` writes
the page; `--area`, `--share` and `--seed` take other samples meanwhile.
Exit code 1 when less than 85 % were noticed, or more than 10 % are excused.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tools.mutants.draw import AREAS, CPU_S, commit_of, draw, read_tests
from tools.mutants.page import MOST_EXCUSED, Outcome, flat, outcomes, page, score
from tools.mutants.run import false_alarms, forget, judged, map_tests, run_all, unpack

ROOT = Path(__file__).parents[2]
ENOUGH = 0.85
FOLDERS = (
    "axes", "experts", "ops", "labels", "prune", "proof", "pipeline", "passes", "properties", "statistics",
)  # fmt: skip
"""Folders of tests that run the heart; those that are left out start processes and look at files."""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.mutants", description=(__doc__ or "").split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--commit", default="HEAD", help="what is mutated")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--folder", type=Path, default=Path("build/mutants"), help="where results are kept")
    parser.add_argument(
        "--reach", type=Path, help="which tests call what, where another run has found it out"
    )
    parser.add_argument("--area", action="append", choices=AREAS, help="only this one")
    parser.add_argument("--share", type=float, default=1.0, help="of the usual number of mutants")
    parser.add_argument("--spend", type=float, default=CPU_S, help="CPU seconds of tests for each mutant")
    parser.add_argument("--seed", help="in hexadecimal, instead of the commit's hash")
    parser.add_argument("--page", type=Path, help="write the result to this Markdown page")
    return parser.parse_args()


def told(found: list[Outcome]) -> None:
    """Survivors, one per line, and the score."""
    for each in found:
        if each.state == "survived":
            mutant = each.mutant
            place = f"{mutant.path}:{mutant.line} {mutant.function}"
            print(f"survived: {place}: {flat(mutant.was)} -> {flat(mutant.now)}")
    killed, counted, excused = score(found)
    print(f"{killed} of {counted} noticed ({killed / max(counted, 1):.1%}), {excused} excused")


def main() -> int:
    """Maps, draws, runs, tells."""
    options = arguments()
    commit = commit_of(ROOT, options.commit)
    folder = options.folder.resolve() / commit[:12]
    folder.mkdir(parents=True, exist_ok=True)
    reach = (options.reach or folder / "reach.jsonl").resolve()
    if not reach.exists():
        started = reach.with_suffix(".part")
        started.unlink(missing_ok=True)
        map_tests(ROOT, commit, started, options.jobs, [f"tests/{name}" for name in FOLDERS])
        started.rename(reach)
    with tempfile.TemporaryDirectory(prefix="mutants-") as tree:
        unpack(ROOT, commit, Path(tree))
        drawn = draw(Path(tree), options.area or AREAS, options.share, options.seed or commit)
    log, tests, false = folder / "verdicts.jsonl", read_tests(reach), {""}
    while false:
        tests = [test for test in tests if test.name not in false]
        verdicts = run_all(ROOT, commit, drawn, tests, log, options.jobs, options.spend)
        for number, verdict in enumerate(verdicts, 1):
            print(f"{number} {verdict.how} {verdict.id[:100]} {verdict.by} {verdict.wall} s", flush=True)
        killers = sorted({verdict.by for verdict in judged(log).values()} & {test.name for test in tests})
        false = false_alarms(ROOT, commit, killers)
        forget(log, false)
    found = outcomes(drawn, judged(log))
    told(found)
    if options.page:
        options.page.write_text(page(found, len(drawn) - len(found), commit, options.jobs, options.spend))
    killed, counted, excused = score(found)
    return int(killed < ENOUGH * counted or excused > MOST_EXCUSED * len(found))


if __name__ == "__main__":
    raise SystemExit(main())
