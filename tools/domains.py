"""`python -m tools.domains run|table`: masks of SmolLM2 for one kind of text, measured on it and on others.

One resumable row per domain and method. Calibration samples are windows of the domain and, for methods that
weigh it against all else, as many of the other kinds; perplexity is that of windows of the other halves.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

import graphprune
from graphprune.errors import GraphpruneError
from tools.real_models.language import BATCH, losses, windows
from tools.real_models.registry import workload_named
from tools.real_models.session import open_session
from tools.real_models.texts import KINDS
from tools.real_models.workload import Arrays, ModelSource
from tools.zoo import store

ROWS, SAMPLES, JUDGED = "domains.jsonl", 16, 8
DOMAINS = ("code", "legal")
METHODS = {
    "dense": "",
    "magnitude": "magnitude(ratio=0.5, budget=uniform)",
    "wanda": "wanda(ratio=0.5)",
    "gblm": "gblm(ratio=0.5)",
    "gblm, paper": "gblm(ratio=0.5, alpha=100, relative=false)",
    "d-pruner": "d-pruner(ratio=0.5)",
    "gaprune": "gaprune(ratio=0.5)",
}
TWO_SETS = frozenset({"d-pruner", "gaprune"})


def feed(ids: np.ndarray) -> dict[str, np.ndarray]:
    """Inputs of the model."""
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def samples(kinds: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Windows of some kinds of text, equally many of each."""
    each = max(1, SAMPLES // len(kinds))
    return feed(np.concatenate([windows(kind, each, second=True) for kind in kinds]))


def perplexities(model: ModelSource) -> dict[str, float]:
    """Of every kind of text."""
    session, found = open_session(model), {}
    for kind in KINDS:
        parts = []
        ids = windows(kind, JUDGED, second=False)
        for at in range(0, len(ids), BATCH):
            part = ids[at : at + BATCH]
            parts.append(losses(session.run(None, feed(part))[0], part))
        found[kind] = float(np.exp(np.concatenate(parts).mean()))
    return found


def measured(model: Path, domain: str, method: str) -> dict[str, object]:
    """One row."""
    start, others = time.process_time(), tuple(kind for kind in KINDS if kind != domain)
    given: dict[str, Arrays] = {"calibration": samples((domain,))}
    if method in TWO_SETS:
        given["general"] = samples(others)
    with tempfile.TemporaryDirectory() as folder:
        out = model
        if METHODS[method]:
            out = Path(folder) / "masked.onnx"
            graphprune.compile(model, METHODS[method], out, timeout=3600, lower=False, **given)  # type: ignore[arg-type]
        spent = time.process_time() - start
        found = perplexities(out)
    elsewhere = float(np.exp(np.mean([np.log(found[kind]) for kind in others])))
    return {"perplexity": found[domain], "elsewhere": elsewhere, "seconds": round(spent)}


def _run(arguments: argparse.Namespace) -> None:
    folder = store.cache_folder(arguments.cache)
    rows, model = folder / ROWS, workload_named("smollm2").fetch(folder)
    for domain in DOMAINS:
        for method in arguments.methods or METHODS:
            name = f"{domain}/{method}"
            if name in store.read(rows):
                continue
            try:
                row = measured(model, domain, method)
            except GraphpruneError as error:
                row = {"error": error.message.splitlines()[0]}
            store.append(rows, {"name": name, **row})
            print(name, row, file=sys.stderr, flush=True)


def _table(arguments: argparse.Namespace) -> None:
    found = store.read(store.cache_folder(arguments.cache) / ROWS)
    print(f"| method | {' | '.join(f'{domain}, elsewhere' for domain in DOMAINS)} |")
    print("|---" * (len(DOMAINS) + 1) + "|")
    for method in METHODS:
        cells = [_cell(found.get(f"{domain}/{method}")) for domain in DOMAINS]
        print(f"| {method} | {' | '.join(cells)} |")


def _cell(row: Mapping[str, object] | None) -> str:
    if row is None:
        return "not run"
    return str(row.get("error") or f"{row['perplexity']:.1f}, {row['elsewhere']:.1f}")


def main() -> None:
    """Runs the chosen command."""
    parser = argparse.ArgumentParser(prog="python -m tools.domains", description=__doc__)
    parser.add_argument("--cache", help="folder of the models and rows")
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run", help="measure what has no row yet")
    run.add_argument("--methods", nargs="*", choices=METHODS, default=(), help="some of them")
    run.set_defaults(run=_run)
    commands.add_parser("table", help="print the rows as a table").set_defaults(run=_table)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
