"""`python -m tools.zoo export|check|relations|table`: the matrix of real exports."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

from tools.zoo import entries, isolate, outcome, store
from tools.zoo.entry import Entry

EXPORTS = "exports.jsonl"
CHECKS = "checks.jsonl"
RELATIONS = "relations.jsonl"


def _preload(modules: tuple[str, ...]) -> None:
    """Imports heavy libraries once in the parent; each forked child inherits them."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if "timm" in modules:
        from tools.zoo import shim

        shim.install()
    for module in modules:
        importlib.import_module(module)


def _export(arguments: argparse.Namespace) -> None:
    from tools.zoo import foreign

    folder = store.cache_folder(arguments.cache)
    done = store.read(folder / EXPORTS)
    for entry in entries.entries(arguments.only):
        path = folder / f"{entry.name}.onnx"
        known = done.get(entry.name)
        if not arguments.again and (path.exists() or (known and known["reason"])):
            continue
        lacking = foreign.missing(entry)
        if lacking:
            print(f"{entry.name}: skipped, {lacking}", file=sys.stderr, flush=True)
            continue
        result = isolate.run(functools.partial(_exporter(entry), entry, path), arguments.limits)
        row: dict[str, object] = {"name": entry.name, "reason": result.reason}
        if result.value is not None:
            row |= dataclasses.asdict(result.value)
        store.append(folder / EXPORTS, row)
        print(
            f"{entry.name}: {result.reason or 'exported'} ({result.seconds:.1f} s)",
            file=sys.stderr,
            flush=True,
        )


def _exporter(entry: Entry) -> Callable[[Entry, Path], outcome.Export]:
    """The function that exports a row; what it imports lies behind it, so that no framework needs another."""
    from tools.zoo import foreign

    if entry.library in foreign.FRAMEWORKS:
        return foreign.export
    _preload(("torchvision", "timm", "transformers", "onnxruntime", "onnxscript"))
    from tools.zoo import export

    return export.export


def _check(arguments: argparse.Namespace) -> None:
    from tools.zoo import check

    folder = store.cache_folder(arguments.cache)
    _preload(("graphprune", "onnxruntime", "onnx_ir"))
    results = Path(arguments.results) if arguments.results else folder / CHECKS
    done = store.read(results)
    exports = store.read(folder / EXPORTS)
    for entry in entries.entries(arguments.only):
        path = folder / f"{entry.name}.onnx"
        if entry.name in done and not arguments.again:
            continue
        if not path.exists():
            reason = str(exports[entry.name]["reason"]) if entry.name in exports else check.NOT_YET
            store.append(results, check.not_exported(entry, reason))
            continue
        result = isolate.run(functools.partial(check.check, path, entry.single), arguments.limits)
        row = check.row(entry, result)
        store.append(results, row)
        print(f"{entry.name}: {check.summary(row)}", file=sys.stderr, flush=True)


def _relations(arguments: argparse.Namespace) -> None:
    from tools.zoo import relations

    folder = store.cache_folder(arguments.cache)
    _preload(("graphprune", "onnxruntime", "onnx_ir"))
    done = store.read(folder / RELATIONS)
    for entry in entries.entries(arguments.only):
        path = folder / f"{entry.name}.onnx"
        large = not path.exists() or path.stat().st_size > arguments.megabytes * 1e6
        if large or (entry.name in done and not arguments.again):
            continue
        result = isolate.run(functools.partial(relations.examine, path), arguments.limits)
        row = relations.row(entry.name, result)
        store.append(folder / RELATIONS, row)
        print(f"{entry.name}: {relations.summary(row)}", file=sys.stderr, flush=True)


def _table(arguments: argparse.Namespace) -> None:
    from tools.zoo import table

    folder = store.cache_folder(arguments.cache)
    results = Path(arguments.results) if arguments.results else folder / CHECKS
    rows = table.render(store.read(results), store.read(folder / RELATIONS), entries.entries(arguments.only))
    Path(arguments.output).write_text(rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.zoo", description=__doc__)
    commands = parser.add_subparsers(required=True)
    for name, run, text in (
        ("export", _export, "write the ONNX files that are missing from the cache"),
        ("check", _check, "analyse, prune, prove and run each file; one JSON row per model"),
        ("relations", _relations, "the sixteen metamorphic relations on the small files"),
        ("table", _table, "render docs/coverage.md from those rows"),
    ):
        command = commands.add_parser(name, help=text)
        command.set_defaults(run=run)
        command.add_argument("--only", default="*", help="glob over names, or 'core' for the first 24")
        command.add_argument(
            "--cache", help="folder of the exports (default: $GRAPHPRUNE_CACHE or ~/.cache/graphprune)"
        )
        if name in ("check", "table"):
            command.add_argument("--results", help="JSON lines file (default: checks.jsonl in the cache)")
        if name == "table":
            command.add_argument("--output", default="docs/coverage.md")
            continue
        command.add_argument("--again", action="store_true", help="redo rows that are already there")
        command.add_argument("--seconds", type=int, default=300, help="CPU seconds per model")
        command.add_argument("--gigabytes", type=float, default=14.0, help="memory per model")
        if name == "relations":
            command.add_argument("--megabytes", type=float, default=2.0, help="largest file to examine")
    return parser


def main() -> None:
    """Runs the chosen command."""
    arguments = _parser().parse_args()
    if "seconds" in arguments:
        arguments.limits = isolate.Limits(arguments.seconds, arguments.gigabytes)
    arguments.run(arguments)


if __name__ == "__main__":
    main()
