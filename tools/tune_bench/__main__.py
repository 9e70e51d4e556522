"""Command line: ``python -m tools.tune_bench run | page``."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from tools.accuracy.state import ROOT
from tools.command import ended
from tools.real_models.registry import WORKLOADS, workload_named
from tools.real_models.store import default_cache

from .estimates import estimates
from .page import SHORT, write
from .results import Store
from .run import Asked, run

CLASSIFIERS = ("digits-cnn", "mnist-cnn", "mnist-mlp", "mnist-resnet-se", "mnist-vit", "ppocr-direction")


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(prog="python -m tools.tune_bench", description="tune on every real model.")
    root.add_argument(
        "--cache", type=Path, default=default_cache(), help="folder that keeps the dense models"
    )
    root.add_argument("--results", type=Path, default=ROOT / "docs" / "tune.jsonl", help="rows that are kept")
    commands = root.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="search for what this state of the code lacks")
    running.add_argument("--only", nargs="*", default=[], help="names of workloads; all but the large ones")
    running.add_argument("--minutes", nargs="*", type=float, default=[SHORT])
    running.add_argument("--seeds", nargs="*", type=int, default=[0])
    foretold = commands.add_parser("estimates", help="how well the loss on test data is foretold")
    foretold.add_argument("only", nargs="*", default=[*CLASSIFIERS], help="names of workloads")
    commands.add_parser("page", help="write the measured part of docs/tune.md")
    return root


def carry_out(options: argparse.Namespace) -> None:
    store = Store(options.results)
    if options.command == "page":
        write(store)
        return
    if options.command == "estimates":
        estimates([*map(workload_named, options.only)], options.cache)
        return
    small = tuple(each for each in WORKLOADS if not each.large)
    workloads = tuple(workload_named(name) for name in options.only) or small
    run(Asked(workloads, tuple(options.minutes), tuple(options.seeds)), options.cache, store)


if __name__ == "__main__":
    sys.exit(ended(partial(carry_out, parser().parse_args())))
