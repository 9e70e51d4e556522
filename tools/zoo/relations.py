"""The sixteen relations (docs/theory.md#relations) over one real export: what must not matter does not.

Each relation yields a line per violation; one that does not apply to a graph raises `NotApplicableError`.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from unittest import mock

import numpy as np
import onnx_ir as ir

import graphprune
from graphprune.errors import GraphpruneError, PromiseError
from graphprune.ir.normalise import normalise
from graphprune.ops import BY_OP, record_of
from graphprune.proof import prove
from graphprune.prune.plan import Plan
from graphprune.prune.rewrite import rewrite
from graphprune.prune.rewriting import INSERTED
from tools import relations
from tools.zoo.isolate import Outcome
from tools.zoo.member import PASSES, Member, NotApplicableError, scaled

Violations = Iterator[str]


def identity(member: Member) -> Violations:
    """1: a ratio of 0 is the identity."""
    normal = member.model.clone()
    normalise(normal, record_of)
    if not relations.same_bits(graphprune.compile(member.model, "prune(ratio=0)", lower=False).model, normal):
        yield "prune(ratio=0) changed bits"


def planted(member: Member) -> Violations:
    """2: Units whose weights are all zero go first, and nothing is lost with them."""
    if not member.simple:
        raise NotApplicableError
    zero = {"source": 0.0, "sink": 0.0, "bias": 0.0}
    for group in member.simple:
        dead = np.arange(group.size)[: group.size // 2]
        model = scaled(member, group, dead, zero)
        again = relations.analysed(model)
        plan = relations.decided(model, PASSES).restricted({group.id})
        if set(plan.cuts.get(group.id, ())) & set(dead.tolist()):
            yield f"{group.id} keeps dead Units"
            continue
        small = member.cut(again, plan, rewrite(again.model, again, plan))
        dense = member.results(model)
        same = [name for name, array in dense.items() if array.shape == small[name].shape]  # caches shrink
        if not relations.close({name: dense[name] for name in same}, {name: small[name] for name in same}):
            yield f"{group.id} lost more than dead Units"


def masking(member: Member) -> Violations:
    """3: removal is masking."""
    proof = prove(member.analysis.model, member.analysis, member.plan, member.small, [member.feeds])
    yield from proof.failures


def permutation(member: Member) -> Violations:
    """4: the order of Units does not matter."""
    seen = False
    before = member.results(member.analysis.model)
    for group in member.simple:
        order = np.random.default_rng(0).permutation(group.size)
        model = relations.permuted(member.analysis, group, order)
        if not relations.close(before, member.results(model)):
            continue  # a constant index was not permuted along
        seen = True
        kept = relations.decided(model, PASSES).cuts[group.id]
        if {int(order[number]) for number in kept} != set(member.plan.cuts[group.id]):
            yield f"{group.id} keeps other Units in another order"
    if not seen:
        raise NotApplicableError


def scale(member: Member) -> Violations:
    """5: the scale of a whole width does not change which of its Units stay."""
    if not member.simple:
        raise NotApplicableError
    for group in member.simple:
        if any(s.role not in ("source", "bias", "sink") for s in group.slices):
            continue
        factors = {"source": 8.0, "bias": 8.0, "sink": 0.125}
        try:
            model = scaled(member, group, np.arange(group.size), factors)
            kept = relations.decided(model, PASSES).cuts[group.id]
        except PromiseError:
            continue  # the scaled model saturates, so nothing can be proved about it
        if kept != member.plan.cuts[group.id]:
            yield f"{group.id} keeps other Units at another scale"


def spelling(member: Member) -> Violations:
    """6: names, the order of nodes and unused weights do not matter."""
    member.flat()
    other, back = relations.renamed(relations.reordered(member.analysis.model))
    unused = ir.tensor(np.ones(7, np.float32), name="unused")
    other.graph.register_initializer(ir.Value(name="unused", const_value=unused))
    again = relations.analysed(other)
    if relations.partition(again, back) != relations.partition(member.analysis):
        yield "another partition under other names"
    plan = relations.decided(other, PASSES)
    if relations.kept_slots(again, plan, back) != relations.kept_slots(member.analysis, member.plan):
        yield "other Units under other names"
    small = member.cut(again, plan, rewrite(again.model, again, plan))
    if not relations.close(member.cut(member.analysis, member.plan, member.small), small):
        yield "another function under other names"


def aliases(member: Member) -> Violations:
    """7: Identity nodes and Constant nodes in place of initializers do not matter."""
    member.flat()
    for change in (relations.with_identities, relations.with_constants):
        other = change(member.analysis.model)
        if relations.decided(other, PASSES).cuts != member.plan.cuts:
            yield f"{change.__name__} changes the choice"


def commutation(member: Member) -> Violations:
    """8: cuts of different groups commute."""
    names = sorted(name for name, kept in member.plan.cuts.items() if len(kept) > 1)
    known = relations.partition(member.analysis)
    half = set(names[::2])
    plan = member.plan.restricted(set(names))
    whole = rewrite(member.analysis.model, member.analysis, plan)
    for part in (half, set(names) - half):
        first = rewrite(member.analysis.model, member.analysis, plan.restricted(part))
        step = relations.analysed(first)
        rest = plan.restricted({group.id for group in step.prunable} - part)
        if len(rest.cuts) + len(part) < len(names) or not known:
            raise NotApplicableError  # a group has another name, or is gone, once its neighbour is cut
        both = rewrite(step.model, step, rest)
        mine, other = relations.tensors(both), relations.tensors(whole)
        common = [name for name in other if not name.startswith(INSERTED) and name in mine]
        if any(mine[name].shape != other[name].shape for name in common):
            yield "another shape in another order"
            continue
        one, two = (member.cut(member.analysis, plan, model) for model in (both, whole))
        if not relations.close(one, two):
            yield "another function in another order"


def monotony(member: Member) -> Violations:
    """9: a larger ratio keeps a subset."""
    for scope in ("global", "local"):
        found = []
        for ratio in (0.25, 0.5, 0.75):
            try:
                passes = f"prune(ratio={ratio}, scope={scope}, align=1)"
                found.append(graphprune.compile(member.model, passes))
            except PromiseError as error:
                if "constant output" not in error.message:
                    raise
        for large, small in pairwise(found):
            kept = small.plans[0].cuts
            if any(not set(kept[name]) <= set(units) for name, units in large.plans[0].cuts.items()):
                yield f"{scope}: a larger ratio keeps Units that a smaller one removes"
            if small.report.after.params > large.report.after.params:
                yield f"{scope}: a larger ratio keeps more parameters"


def budget(member: Member) -> Violations:
    """10: a budget is kept or refused."""
    for what in ("params", "macs"):
        try:
            report = graphprune.compile(member.model, f"prune({what}=0.6, align=2)").report
        except PromiseError as error:
            if "cannot be met" not in error.message:
                yield f"{what}: {error.message}"
            continue
        if getattr(report.after, what) > 0.6 * getattr(report.before, what):
            yield f"{what}=0.6 is missed"


def masks(member: Member) -> Violations:
    """11: masks are idempotent."""
    tensors = relations.tensors(member.analysis.model)
    name = next((n for n, a in tensors.items() if a.dtype == np.float32 and a.ndim > 1), None)
    if name is None:
        raise NotApplicableError
    mask = np.random.default_rng(0).random(tensors[name].shape) < 0.5
    plan = Plan(member.analysis.options, masks={name: mask})
    once = rewrite(member.analysis.model, member.analysis, plan)
    step = relations.analysed(once)
    if not relations.same_bits(rewrite(step.model, step, plan), once):
        yield "masking twice is not masking once"


def determinism(member: Member) -> Violations:
    """12: another process, hash seed, folder and number of threads write the same bytes."""
    digests = set()
    with tempfile.TemporaryDirectory() as root:
        for number in range(2):
            folder = Path(root) / ("x" * (number + 1))
            folder.mkdir()
            digests.add(_digest(member.path, folder, number))
    if len(digests) > 1:
        yield "the same command wrote other bytes"


def _digest(path: Path, folder: Path, number: int) -> str:
    command = [sys.executable, "-m", "graphprune", "compile", str(path.resolve()), "--passes", PASSES, "-o"]
    environment = {**os.environ, "PYTHONHASHSEED": str(number), "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(
        [*command, "small.onnx", "--no-bench", "--quiet", "--threads", str(number + 1)],
        cwd=folder,
        env=environment,
        check=True,
        capture_output=True,
    )
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(folder.iterdir()))).hexdigest()


def storage(member: Member) -> Violations:
    """13: where weights are stored does not matter."""
    with tempfile.TemporaryDirectory() as root:
        path = Path(root) / "a.onnx"
        ir.save(member.model.clone(), path, external_data="a.data", size_threshold_bytes=0)
        if graphprune.compile(path, PASSES).plans[0].cuts != member.plan.cuts:
            yield "other Units with external weights"


def batch(member: Member) -> Violations:
    """14: the result runs at another batch, and its rows do not know of each other."""
    first = [value.shape[0] if value.shape else 0 for value in member.model.graph.inputs]
    if not first or any(isinstance(dim, int) or str(dim) != str(first[0]) for dim in first):
        raise NotApplicableError
    whole = member.cut(member.analysis, member.plan, member.small)
    alone = Member(member.path)
    alone.feeds = {name: array[:1] for name, array in member.feeds.items()}
    one = alone.cut(member.analysis, member.plan, member.small)
    if not relations.close({name: array[:1] for name, array in whole.items()}, one):
        yield "a row depends on its batch"


def outputs(member: Member) -> Violations:
    """15: an extra output pins its own width and nothing else."""
    mine = {frozenset().union(*units) for units in relations.partition(member.analysis)}
    nodes = [node for node in member.analysis.model.graph if not node.outputs[0].is_graph_output()]
    for place in np.linspace(1, len(nodes) - 1, 4).astype(int):
        model = member.analysis.model.clone()
        name = nodes[place].outputs[0].name
        value = next(out for node in model.graph for out in node.outputs if out.name == name)
        if value.dtype is None:
            continue
        model.graph.outputs.append(value)
        after = relations.analysed(model)
        found = [frozenset().union(*units) for units in relations.partition(after)]
        # What is left of a width that the output pins in part is a width of its own.
        if any(not any(units <= whole for whole in mine) for units in found):
            yield f"an output at {name} makes new Units"


def barrier(member: Member) -> Violations:
    """16: an unknown operator is a barrier, and what is left is still proved."""
    before = {slot for units in relations.partition(member.analysis) for unit in units for slot in unit}
    for name in sorted({node.op_type for node in member.analysis.model.graph} - set(_COMMON))[:2]:
        known = {op: row for op, row in BY_OP.items() if op.rpartition(":")[2] != name}
        with mock.patch.dict(BY_OP, known, clear=True):
            after = relations.analysed(member.model)
        if not {s for units in relations.partition(after) for unit in units for s in unit} <= before:
            yield f"Units appear where {name} is unknown"
        free = [group for group in after.prunable if group.block is None]
        cuts = {group.id: tuple(range(max(group.floor, -(-group.size // 2)))) for group in free}
        plan = Plan(after.options, cuts, {group.id: group.size for group in free})
        small = rewrite(after.model, after, plan)
        failures = prove(after.model, after, plan, small, [member.feeds]).failures
        yield from (f"{name} unknown: {line}" for line in failures if "proves" not in line)


_COMMON = ("Conv", "MatMul", "Gemm", "Reshape", "Transpose", "Constant")

RELATIONS: tuple[Callable[[Member], Violations], ...] = (
    identity,
    planted,
    masking,
    permutation,
    scale,
    spelling,
    aliases,
    commutation,
    monotony,
    budget,
    masks,
    determinism,
    storage,
    batch,
    outputs,
    barrier,
)


@dataclass(frozen=True)
class Verdict:
    """What one relation says about one graph: violations, or None where it does not apply."""

    relation: str
    violations: tuple[str, ...] | None


def examine(path: Path) -> list[Verdict]:
    """Every relation on one file."""
    member = Member(path)
    return [_verdict(relation, member) for relation in RELATIONS]


def _verdict(relation: Callable[[Member], Violations], member: Member) -> Verdict:
    try:
        return Verdict(relation.__name__, tuple(relation(member)))
    except NotApplicableError:
        return Verdict(relation.__name__, None)
    except (GraphpruneError, subprocess.CalledProcessError) as error:
        return Verdict(relation.__name__, (f"{type(error).__name__}: {error}",))


def row(name: str, outcome: Outcome[list[Verdict]]) -> dict[str, object]:
    """The JSON row of one graph: violations by relation, None where a relation does not apply."""
    verdicts = outcome.value or []
    return {"name": name, "reason": outcome.reason, "relations": {v.relation: v.violations for v in verdicts}}


def summary(found: Mapping[str, object]) -> str:
    """One line for a terminal."""
    verdicts = found["relations"]
    assert isinstance(verdicts, dict)
    wrong = [f"{name}: {'; '.join(lines)}" for name, lines in verdicts.items() if lines]
    held = sum(lines is not None and not lines for lines in verdicts.values())
    return str(found["reason"] or " | ".join(wrong) or f"{held} relations hold")
