"""`python -m tools.torch_zoo run|table`: every exported graph of the zoo in torch, against ONNX Runtime.

Outputs agree within 1e-4 of the largest, as the proof compares them: what a discontinuous node decides
otherwise because of rounding hides what lies behind it, if its inputs agree. Then gradients are asked for.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from graphprune.ir.nodes import is_constant, operator_of
from graphprune.proof.decisions import (
    DISCONTINUOUS,
    ROUNDINGS,
    Decision,
    Tap,
    behind,
    find_holders,
    unexplained,
)
from graphprune.runtime.compare import agreement
from graphprune.runtime.inputs import runnable_inputs
from graphprune.runtime.session import open_session
from tools.zoo import entries, isolate, store
from tools.zoo.entry import Entry

LARGE = 2e8
"""Bytes of a file from which on activations are computed again."""
ROWS, PAGE = "torch.jsonl", Path("docs/torch_zoo.md")
RANDOM = {
    "Bernoulli",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Multinomial",
}
TITLES = (
    "model",
    "exporter, opset",
    "outcome",
    "error",
    "tipped, hidden",
    "gradients",
)
Arrays = Mapping[str, np.ndarray]


@dataclass
class Found:
    """What one graph came to.

    Attributes:
        outcome: agrees, differs, left out, or why it does not run.
        error: the largest difference of an output that could be compared, relative to its largest number.
        hidden: outputs behind a decision that rounding tipped, of all.
        tipped: such decisions.
        reached: floating initializers with a gradient that is finite.
        floating: floating initializers.
    """

    outcome: str = ""
    error: float = 0.0
    hidden: int = 0
    outputs: int = 0
    tipped: int = 0
    reached: int = 0
    floating: int = 0


def examine(path: Path, single: bool) -> Found:
    """Compares one file and asks for all its gradients."""
    model, found = ir.load(path), Found()
    if any(node.op_type in RANDOM for node in model.graph.all_nodes()):
        found.outcome = "left out: it draws random numbers"
        return found
    session = open_session(model, optimise=False)
    feeds = runnable_inputs(model, batch=1 if single else 2, session=session)
    expected = session.run(feeds)
    found.outputs = len(expected)
    del session
    actual = _slopes(model, feeds, found, 8 if path.stat().st_size > LARGE else 0)
    shown = {name: actual[name] for name in expected if name in actual}
    agreed = agreement(expected, shown)
    found.error = max((each.relative for each in agreed.outputs), default=0.0)
    found.outcome = "agrees" if agreed.ok else _judged(model, feeds, found)
    return found


def _judged(model: ir.Model, feeds: Arrays, found: Found) -> str:
    """The outcome where outputs differ: are decisions to blame?"""
    from graphprune.autograd import Differentiable
    from graphprune.autograd.tensors import to_array

    nodes = [node for node in model.graph if node.op_type in DISCONTINUOUS]
    computed = [v for n in nodes for v in (*n.inputs, *n.outputs) if v is not None and not is_constant(v)]
    names = list(dict.fromkeys(v.name or "" for v in computed if not v.is_graph_input()))
    outputs = {value.name or "": value for value in model.graph.outputs}
    taps = [name for name in names if name and name not in outputs]
    one: dict[str, np.ndarray] = dict(
        open_session(model, optimise=False, extra_outputs=taps).run(dict(feeds))
    )
    results = Differentiable(model).run(feeds, [name for name in one if "[" not in name])
    two = {name: to_array(t, ir.DataType.from_numpy(one[name].dtype)) for name, t in results.items()}
    one, two = {**feeds, **one}, {**feeds, **two}
    holders, hidden, wrong = find_holders(model), set[ir.Value](), []
    for node in nodes:
        if not any(value in hidden for value in node.inputs):
            why, tipped = _decided(node, one, two)
            wrong += why
            if tipped:
                found.tipped += 1
                hidden |= behind([node], holders)
    shown = {name for name, value in outputs.items() if value not in hidden and name in one}
    found.hidden = len(outputs) - len(shown)
    agreed = agreement({name: one[name] for name in shown}, {name: two[name] for name in shown})
    found.error = max((each.relative for each in agreed.outputs), default=0.0)
    wrong += [f"{each.name}: {each.note}" for each in agreed.outputs if not each.ok]
    return f"differs: {wrong[0]}" if wrong else "agrees"


def _decided(node: ir.Node, one: Arrays, two: Arrays) -> tuple[list[str], bool]:
    """What is wrong with a decision, and whether rounding tipped it."""
    given = [v for v in node.inputs if v is not None and not is_constant(v) and v.name in one]
    floats = [v for v in given if one[v.name or ""].dtype.kind == "f"]
    made = [v for v in node.outputs if v.name in one and v.name in two]
    if not floats or not made:
        return [], False
    names = [v.name or "" for v in floats]
    agreed = agreement({name: one[name] for name in names}, {name: two[name] for name in names})
    wrong = [f"input {e.name} of {operator_of(node)}: {e.note}" for e in agreed.outputs if not e.ok]
    gap = max(float(np.max(np.abs(one[n].astype(np.float64) - two[n]), initial=0.0)) for n in names)
    sharp = node.op_type in ROUNDINGS or all(one[v.name or ""].dtype.kind in "biu" for v in made)
    same = all(np.array_equal(one[v.name or ""], two[v.name or ""]) for v in made)
    if same or not sharp:
        return wrong, False
    constants = [v.const_value.numpy() for v in node.inputs if is_constant(v) and v.const_value is not None]
    decision = Decision(node, tuple(_tap(v) for v in floats), tuple(constants), tuple(_tap(v) for v in made))
    why = unexplained(decision, dict(one), dict(two), gap)
    return [*wrong, *([why] if why else [])], not why


def _tap(value: ir.Value) -> Tap:
    return Tap(value, value.name or "", value.name or "")


def _slopes(model: ir.Model, feeds: Arrays, found: Found, segments: int) -> Arrays:
    """The outputs, after the gradient of every floating initializer was asked for."""
    import torch

    from graphprune.autograd import Differentiable
    from graphprune.autograd.tensors import numpy_kind, to_array

    net = Differentiable(model, segments=segments)
    parameters, results = net.trainable(), net.run(feeds)
    tensors = [t for t in results.values() if isinstance(t, torch.Tensor) and t.is_floating_point()]
    smooth = [tensor for tensor in tensors if tensor.requires_grad]
    if smooth:
        torch.stack([torch.nan_to_num(tensor.double()).square().mean() for tensor in smooth]).sum().backward()
    slopes = [tensor.grad for tensor in parameters.values() if tensor.grad is not None]
    found.floating = len(parameters)
    found.reached = sum(bool(slope.isfinite().all()) for slope in slopes)
    kinds = {value.name or "": value.dtype for value in model.graph.outputs}
    return {
        n: to_array(t, kinds[n] or numpy_kind(t)) for n, t in results.items() if isinstance(t, torch.Tensor)
    }


def _run(arguments: argparse.Namespace) -> None:
    for module in ("graphprune.autograd", "onnxruntime", "torch.utils.checkpoint"):
        importlib.import_module(module)  # once: every child inherits them
    folder = store.cache_folder(arguments.cache)
    rows = Path(arguments.rows) if arguments.rows else folder / ROWS
    done = store.read(rows)
    limits = isolate.Limits(arguments.seconds, arguments.gigabytes)
    for entry in entries.entries(arguments.only):
        path = folder / f"{entry.name}.onnx"
        if not path.exists() or (entry.name in done and not arguments.again):
            continue
        result = isolate.run(functools.partial(examine, path, entry.single), limits)
        found = result.value or Found(outcome=f"does not run: {result.reason}")
        store.append(rows, {"name": entry.name, **asdict(found)})
        print(f"{entry.name}: {found.outcome} ({found.error:.1e})", file=sys.stderr, flush=True)


HEAD = """# The zoo in torch

Generated by `python -m tools.torch_zoo table`; do not edit. To repeat: `python -m tools.zoo export`, then
`python -m tools.torch_zoo run`, which continues where it stopped.

A graph runs in torch ([autograd](autograd.md)) and in ONNX Runtime on the same inputs. *Error* is the
largest difference of an output, relative to its largest number; the bound is 1e-4. *Tipped* counts decisions
(Round, ArgMax, TopK, QuantizeLinear, comparisons, casts to integers) that came out otherwise although their
inputs agree; outputs behind them are *hidden*, as in the [proof](proof.md). *Gradients* is how many floating
initializers got a finite gradient of the mean square of all outputs; others are read as plain numbers (scales
of a Resize, sizes), or only decide.
"""


def _table(arguments: argparse.Namespace) -> None:
    found = store.read(Path(arguments.rows) if arguments.rows else store.cache_folder(arguments.cache) / ROWS)
    listed = [entry for entry in entries.entries(arguments.only) if entry.name in found]
    Path(arguments.output).write_text(_page(listed, found))


def _page(listed: Sequence[Entry], found: Mapping[str, Mapping[str, object]]) -> str:
    agree = sum(str(found[entry.name]["outcome"]) == "agrees" for entry in listed)
    left = sum(str(found[entry.name]["outcome"]).startswith("left out") for entry in listed)
    lines = [
        HEAD,
        f"{len(listed)} of {len(entries.entries())} graphs were run: {agree} agree, {left} left out, "
        f"{len(listed) - agree - left} do not. Those without a row were not exported or not run yet.\n",
        f"| {' | '.join(TITLES)} |",
        "|---|---|---|---|---|---|",
    ]
    for entry in listed:
        row = found[entry.name]
        tips = f"{row['tipped']}, {row['hidden']} of {row['outputs']}" if row["tipped"] else ""
        outcome = str(row["outcome"]).replace("|", "\\|")
        lines.append(
            f"| {entry.name} | {entry.exporter}, {entry.opset or ''} | {outcome} | {row['error']:.1e} "
            f"| {tips} | {row['reached']} of {row['floating']} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Runs the chosen command."""
    parser = argparse.ArgumentParser(prog="python -m tools.torch_zoo", description=__doc__)
    commands = parser.add_subparsers(required=True)
    for name, run, text in (
        ("run", _run, "compare the files that have no row yet"),
        ("table", _table, f"render {PAGE} from the rows"),
    ):
        command = commands.add_parser(name, help=text)
        command.set_defaults(run=run)
        command.add_argument("--only", default="*", help="glob over names")
        command.add_argument("--cache", help="folder of the exports")
        command.add_argument("--rows", help="JSON lines file (default: torch.jsonl in the cache)")
        if name == "table":
            command.add_argument("--output", default=str(PAGE))
            continue
        command.add_argument("--again", action="store_true", help="redo rows that are already there")
        command.add_argument("--seconds", type=int, default=300, help="CPU seconds per model")
        command.add_argument("--gigabytes", type=float, default=12.0, help="memory per model")
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
