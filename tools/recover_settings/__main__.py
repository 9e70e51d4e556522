"""`python -m tools.recover_settings run | table`: which settings of a training win back most.

Every setting of a model trains the same number of samples from the same cut with the same rate, but for what
the setting changes: as many as the usual one trains in `--seconds` of CPU.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from graphprune.errors import ArgumentError, DataError, did_you_mean
from tools.accuracy.state import ROOT
from tools.command import ended
from tools.real_models.registry import workload_named
from tools.real_models.store import default_cache

from .nets import OWN
from .results import read
from .table import each, table

REAL = ("ppocr-direction", "mnist-resnet-se", "mnist-vit", "deepcut")
ALL = (*REAL, *(each.name for each in OWN))


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(prog="python -m tools.recover_settings", description=__doc__)
    root.add_argument(
        "--results", type=Path, default=ROOT / "docs" / "recover.jsonl", help="rows that are kept"
    )
    commands = root.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="train what is missing")
    running.add_argument("--only", nargs="*", default=[*ALL], help="names of models")
    running.add_argument("--settings", nargs="*", default=[], help="names of settings; all")
    running.add_argument("--seeds", nargs="*", type=int, default=[0, 1])
    running.add_argument("--seconds", type=float, default=60, help="of CPU that the usual setting trains")
    commands.add_parser("table", help="print the means over models, and a row per training")
    return root


def carry_out(options: argparse.Namespace) -> None:
    if options.command == "table":
        rows = read(options.results)
        if not rows:
            fault = f"there are no rows in '{options.results}'"
            raise DataError(fault, "python -m tools.recover_settings run makes them")
        print(f"{table(rows)}\n\n{each(rows)}")
        return
    from .run import Bench, run
    from .settings import SETTINGS

    own = {each.name: each for each in OWN}
    found = [own.get(name) or workload_named(name) for name in options.only]
    benches = [Bench(each, default_cache(), options.seconds) for each in found]
    for name in options.settings:
        if name not in SETTINGS:
            raise ArgumentError(f"no setting named '{name}'", did_you_mean(name, [*SETTINGS]))
    settings = {name: SETTINGS[name] for name in options.settings or SETTINGS}
    for row in run(benches, settings, options.seeds, options.results):
        print(
            f"{row.net} {row.macs} {row.setting} {row.seed}: loss {row.loss[0]:.4f} to {row.loss[1]:.4f},"
            f" drop {row.unseen[0]:.4f} to {row.unseen[1]:.4f}, {' '.join(f'{m:.4f}' for m in row.metric)},"
            f" {row.seconds:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(ended(partial(carry_out, parser().parse_args())))
