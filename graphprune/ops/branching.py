"""Single slots of a routing axis: each belongs to one expert's branch (axes/branches.py)."""

from __future__ import annotations

from graphprune.ir.arrays import Ids
from graphprune.labels.algebra import Factor, Label, size_of
from graphprune.labels.edits import BranchRemoval
from graphprune.labels.structures import Branch
from graphprune.labels.visit import Visit


def single_slot(visit: Visit, label: Label, output: int = 0) -> Label | None:
    """The label of the one slot that an output holds, if an expert goes with it; else None."""
    branch = visit.state.branches.picks.get((visit.node, output))
    if branch is None:
        return None
    pick = next(p for p in (branch.pick, *branch.others) if (p.node, p.output) == (visit.node, output))
    atoms = visit.flat_or_pinned(label, size_of(label)[0], "branch")
    slot = atoms[pick.slot : pick.slot + 1]
    known = visit.state.facts.slots.setdefault(branch, slot)
    visit.state.atoms.union(known, slot)
    held = (Factor((1, 1), slot),)
    if pick is branch.pick:
        if pick.state == "zero" and visit.node.op_type != "Equal":
            visit.contract(pick.position, pick.axis)
        visit.edit(BranchRemoval(visit.node, held, branch))
    return held


def piece(visit: Visit, position: int) -> Ids | None:
    """The slot that a piece of a Concat stands for, if the piece is an expert's."""
    branch: Branch | None = visit.state.branches.pieces.get((visit.node, position))
    return None if branch is None else visit.state.facts.slots.get(branch)


def why_not(visit: Visit, output: int = 0) -> str:
    """Why the slot that an output holds cannot go with an expert; empty if nothing is known."""
    return visit.state.branches.reasons.get((visit.node, output), "")
