"""What must hold for a generated graph: it runs, Units are found, cuts prove, dead Units are free."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

import graphprune
from graphprune.axes import Analysis, Options, analyse
from graphprune.errors import GraphpruneError
from graphprune.ir.check import check
from graphprune.ir.normalise import normalise
from graphprune.ops import record_of
from graphprune.proof.prove import prove
from graphprune.prune.plan import Plan
from graphprune.prune.rewrite import rewrite
from graphprune.runtime.session import open_session
from tools.fuzz.generate import Graph, generate
from tools.fuzz.net import Array, Style

HALF = "prune(ratio=0.5, scope=local, align=1, criterion=l2, layernorm={layernorm})"


class GeneratorError(Exception):
    """The generated graph itself does not run: a mistake of this tool, not of graphprune."""


@dataclass(frozen=True)
class Failure:
    """What went wrong with a graph: "units", "cut", "proof", "dead" or "crash", and the details."""

    kind: str
    detail: str
    graph: Graph


def examine(seed: int, blocks: tuple[str, ...] | None = None, style: Style | None = None) -> list[Failure]:
    """Everything that does not hold for the graphs of this seed.

    Raises:
        GeneratorError: ONNX Runtime refuses the graph before anything is cut.
    """
    graph = generate(seed, blocks=blocks, style=style)
    failures = list(guarded(graph, cut_and_prove(graph, seed)))
    planted = generate(seed, planted=True, blocks=blocks, style=style)
    if planted.plantable:
        failures += guarded(planted, dead_units_are_free(planted))
    return failures


def guarded(graph: Graph, steps: Iterator[Failure]) -> Iterator[Failure]:
    """The failures of a check, an exception among them."""
    try:
        yield from steps
    except (GeneratorError, KeyboardInterrupt):
        raise
    except Exception as error:  # an uncaught exception is a finding like any other
        import traceback

        where = traceback.extract_tb(error.__traceback__)[-1]
        yield Failure("crash", f"{type(error).__name__} at {where.name}:{where.lineno}: {error}", graph)


def cut_and_prove(graph: Graph, seed: int) -> Iterator[Failure]:
    """The expected Units are found; two random admissible cuts are rewritten, checked and proved."""
    outputs(graph.model, graph)
    model = graph.model.clone()
    analysis = analyse(model, Options(layernorm=layernorm(graph)), normalise(model, record_of))
    found = sorted(group.size for group in analysis.prunable)
    if graph.expected is not None and found != graph.expected:
        yield Failure("units", f"found {found}, expected {graph.expected}; {pins(analysis)}", graph)
    for number in range(2):
        plan = random_plan(analysis, np.random.default_rng([seed, 3, number]))
        if plan.empty:
            continue
        pruned = rewrite(model, analysis, plan)
        check(pruned)
        proof = prove(model, analysis, plan, pruned, [graph.feeds])
        if not proof.ok and not all(
            "proves" in line for line in proof.failures
        ):  # a constant output shows nothing
            yield Failure("proof", "; ".join(proof.details)[:600], graph)


def dead_units_are_free(graph: Graph) -> Iterator[Failure]:
    """A 50 % prune takes exactly the dead Units, so the outputs stay."""
    before = outputs(graph.model, graph)
    try:
        result = graphprune.compile(
            graph.model, HALF.format(layernorm=graph.style.layernorm), inputs=graph.feeds
        )
    except GraphpruneError as error:
        if "nothing to prune" not in error.message and "constant output" not in error.message:
            yield Failure("dead", f"{type(error).__name__}: {error.message}", graph)
        return
    after = open_session(result.model).run(graph.feeds)
    bound = 2e-2 if graph.style.half else 1e-4
    for name, array in before.items():
        scale = float(np.abs(array).max()) or 1.0
        difference = float(np.abs(array.astype(np.float64) - after[name].astype(np.float64)).max()) / scale
        if not difference <= bound:
            yield Failure("dead", f"{name} moved by {difference:.2e}", graph)


def layernorm(graph: Graph) -> str:
    return graph.style.layernorm


def outputs(model: ir.Model, graph: Graph) -> dict[str, Array]:
    """What ONNX Runtime makes of a generated graph."""
    try:
        return open_session(model).run(graph.feeds)
    except GraphpruneError as error:
        raise GeneratorError(f"{graph.label}: {error.message}") from error


def random_plan(analysis: Analysis, draw: np.random.Generator) -> Plan:
    """A random choice of Units that keeps balance and floors; some Groups stay whole."""
    cuts: dict[str, tuple[int, ...]] = {}
    for group in analysis.prunable:
        blocks = np.zeros(group.size, int) if group.block is None else group.block
        members = [np.flatnonzero(blocks == block) for block in np.unique(blocks)]
        least = -(-max(1, group.floor) // len(members))
        count = max(least, int(np.ceil(len(members[0]) * draw.uniform(0, 1))))
        if draw.random() < 0.85 and count <= len(members[0]):
            kept = np.concatenate([draw.permutation(m)[:count] for m in members])
            cuts[group.id] = tuple(int(i) for i in np.sort(kept))
    return Plan(analysis.options, cuts, {name: analysis.group(name).size for name in cuts})


def pins(analysis: Analysis) -> str:
    """Pinned Groups with their reasons."""
    return ", ".join(f"{g.id}({g.size}): {g.pin.reason} [{g.pin.node}]" for g in analysis.groups if g.pin)
