"""Command line: ``python -m tools.accuracy run | page``."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from tools.command import ended
from tools.real_models.registry import WORKLOADS, workload_named
from tools.real_models.store import default_cache

from .results import Store
from .state import ROOT

RESULTS = ROOT / "docs" / "accuracy.jsonl"


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(
        prog="python -m tools.accuracy", description="Metric against size and speed."
    )
    root.add_argument("--cache", type=Path, default=default_cache(), help="dense models and scores of items")
    root.add_argument("--results", type=Path, default=RESULTS, help="rows that are kept (JSON lines)")
    commands = root.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="compile and score what this state of the code lacks")
    running.add_argument("--only", nargs="*", default=[], help="names of workloads")
    running.add_argument("--methods", nargs="*", default=[], help="names of methods")
    running.add_argument(
        "--ratios", nargs="*", type=float, default=[], help="only these, the usual ones or others"
    )
    commands.add_parser("page", help="write docs/accuracy.md and its plots")
    return root


def carry_out(options: argparse.Namespace) -> None:
    store = Store(options.results, options.cache / "accuracy")
    if options.command == "page":
        from .page import write

        write(store)
    else:
        from .run import Choice, run

        small = tuple(each for each in WORKLOADS if not each.large)
        workloads = tuple(workload_named(name) for name in options.only) or small
        choice = Choice(tuple(options.methods), tuple(options.ratios))
        run(workloads, options.cache, store, choice)


if __name__ == "__main__":
    sys.exit(ended(partial(carry_out, parser().parse_args())))
