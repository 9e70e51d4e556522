"""Command line: ``python -m tools.real_models list | fetch | eval | calibration``."""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np

from graphprune.errors import ArgumentError
from tools.command import ended

from .registry import WORKLOADS, workload_named
from .store import default_cache
from .workload import Evaluation, Workload, paired


def chosen(name: str) -> tuple[Workload, ...]:
    """One workload, or every one but the large for 'all'."""
    return tuple(each for each in WORKLOADS if not each.large) if name == "all" else (workload_named(name),)


def list_workloads() -> None:
    for workload in WORKLOADS:
        expected = "    -" if workload.expected is None else f"{workload.expected:.4f}"
        print(
            f"{workload.name:22s} {workload.kind.value}  {expected:>6s}  {workload.metric}; {workload.about}"
        )


def fetch(name: str, cache: Path) -> None:
    for workload in chosen(name):
        print(workload.fetch(cache))


def describe(label: str, evaluation: Evaluation, seconds: float) -> None:
    metrics = "  ".join(f"{name} {value:.4f}" for name, value in evaluation.metrics.items())
    spread = f"se {evaluation.standard_error:.4f}, {len(evaluation.items)} items, {seconds:.1f} CPU s"
    print(f"  {label:6s} {metrics}  ({spread})")


def measured(workload: Workload, label: str, model: Path, limit: int | None) -> Evaluation:
    """Evaluate and print; the seconds are CPU time of this process."""
    start = time.process_time()
    evaluation = workload.evaluate(model, limit)
    describe(label, evaluation, time.process_time() - start)
    return evaluation


def evaluate(name: str, cache: Path, model: Path | None, limit: int | None) -> None:
    """Score the dense model and, where `model` is given, that one with the paired difference."""
    if model is not None and name == "all":
        raise ArgumentError("--model needs the name of one workload", "e.g. eval magika --model small.onnx")
    if model is not None and not model.is_file():
        raise ArgumentError(f"no such file: {model}", "--model takes the path of an .onnx file")
    for workload in chosen(name):
        recorded = "" if workload.expected is None else f"  recorded dense {workload.expected:.4f}"
        print(f"{workload.name} [{workload.kind.value}]{recorded}", flush=True)
        dense = measured(workload, "dense", workload.fetch(cache), limit)
        if model is not None:
            difference = paired(measured(workload, "model", model, limit), dense)
            print(f"  paired difference {difference.mean:+.4f} +- {difference.standard_error:.4f}")


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(
        prog="python -m tools.real_models", description="Trained models and their metrics."
    )
    root.add_argument(
        "--cache", type=Path, default=default_cache(), help="folder that keeps the dense models"
    )
    commands = root.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="names, kind of metric (G, S, A), recorded dense figure")
    commands.add_parser("fetch", help="put the dense model into the cache").add_argument("name")
    scoring = commands.add_parser("eval", help="score the dense model and, with --model, another one")
    scoring.add_argument("name", help="a workload, or 'all'")
    scoring.add_argument("--model", type=Path, help="a pruned model of the same workload")
    scoring.add_argument("--limit", type=int, help="use only the first LIMIT items")
    dump = commands.add_parser("calibration", help="write unlabelled inputs as NAME.npz into a folder")
    dump.add_argument("name", help="a workload, or 'all'")
    dump.add_argument("-o", "--output", type=Path, required=True, help="folder")
    dump.add_argument("--samples", type=int, default=512)
    return root


def write_calibration(name: str, folder: Path, samples: int) -> None:
    """The calibration inputs of one workload, or of all, as `--calibration` of the compiler reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    for workload in chosen(name):
        arrays = workload.calibration(samples)
        np.savez(folder / f"{workload.name}.npz", **arrays)  # type: ignore[arg-type]
        print(workload.name, {key: value.shape for key, value in arrays.items()}, flush=True)


def carry_out(options: argparse.Namespace) -> None:
    if options.command == "list":
        list_workloads()
    elif options.command == "fetch":
        fetch(options.name, options.cache)
    elif options.command == "calibration":
        write_calibration(options.name, options.output, options.samples)
    else:
        evaluate(options.name, options.cache, options.model, options.limit)


if __name__ == "__main__":
    sys.exit(ended(partial(carry_out, parser().parse_args())))
