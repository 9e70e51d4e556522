"""Command line: ``python -m tools.accuracy run | page``."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from tools.command import ended
from tools.real_models.registry import WORKLOADS, workload_named
from tools.real_models.store import default_cache


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(
        prog="python -m tools.accuracy", description="Metric against size and speed."
    )
    root.add_argument("--cache", type=Path, default=default_cache(), help="dense models and results")
    commands = root.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="compile and score what is missing")
    running.add_argument("--only", nargs="*", default=[], help="names of workloads")
    running.add_argument("--methods", nargs="*", default=[], help="names of methods")
    running.add_argument(
        "--ratios", nargs="*", type=float, default=[], help="only these, the usual ones or others"
    )
    running.add_argument("--again", action="store_true", help="repeat what is there")
    commands.add_parser("page", help="write docs/accuracy.md and its plots")
    return root


def carry_out(options: argparse.Namespace) -> None:
    if options.command == "page":
        from .page import write

        write(options.cache)
    else:
        from .run import Choice, run

        small = tuple(each for each in WORKLOADS if not each.large)
        workloads = tuple(workload_named(name) for name in options.only) or small
        choice = Choice(tuple(options.methods), tuple(options.ratios), options.again)
        run(workloads, options.cache, choice)


if __name__ == "__main__":
    sys.exit(ended(partial(carry_out, parser().parse_args())))
