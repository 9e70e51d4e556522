"""How an oracle is stated: Units by Group, the slots one Unit touches, and the cut that must prove itself."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graphprune.axes import Analysis, Options, analyse
from graphprune.proof.prove import prove
from graphprune.prune.plan import Plan
from graphprune.prune.rewrite import rewrite
from graphprune.runtime.inputs import runnable_inputs
from graphprune.runtime.session import open_session
from tests.ops.exotic_graphs import counts_as_foreseen, plans
from tests.proof.building import model

Array = np.ndarray


def sketch(body: str, options: Options | None = None, opset: int = 18, **weights: object) -> Analysis:
    """The analysis of a graph in ONNX text; a tuple stands for random weights of that shape."""
    return analyse(model(body, opset, **weights), options)


def units(analysis: Analysis) -> list[int]:
    """Sizes of the prunable Groups, ascending."""
    return sorted(group.size for group in analysis.prunable)


def touched(analysis: Analysis, group: str, unit: int) -> dict[tuple[str, int], list[int]]:
    """Slots of every initializer axis that one Unit owns."""
    found: dict[tuple[str, int], set[int]] = {}
    for owned in analysis.group(group).slices:
        numbers, slots = owned.pairs
        found.setdefault((owned.initializer, owned.axis), set()).update(slots[numbers == unit].tolist())
    return {place: sorted(slots) for place, slots in found.items() if slots}


def pins(analysis: Analysis) -> dict[str, str]:
    """Why Groups are pinned."""
    return {group.id: group.pin.reason for group in analysis.groups if group.pin is not None}


def proves(analysis: Analysis, adds: int = 0) -> None:
    """Two random cuts of everything equal the masked reference, and have the size that was foreseen."""
    feeds = runnable_inputs(analysis.model)
    for plan in plans(analysis):
        assert not plan.empty
        pruned = rewrite(analysis.model, analysis, plan)
        proof = prove(analysis.model, analysis, plan, pruned, [feeds])
        assert proof.ok, proof.details
        counts_as_foreseen(analysis, plan, pruned, adds)


def cut(analysis: Analysis, **kept: tuple[int, ...]) -> ir.Model:
    """The model that keeps these Units of the Groups whose ids begin with the given names."""
    ids = {name: next(g.id for g in analysis.prunable if g.id.startswith(name)) for name in kept}
    widths = {ids[name]: analysis.group(ids[name]).size for name in kept}
    plan = Plan(analysis.options, {ids[name]: units for name, units in kept.items()}, widths)
    return rewrite(analysis.model, analysis, plan)


def run(model: ir.Model, **feeds: object) -> Array:
    """The first output of a model."""
    session = open_session(model)
    return session.run({name: np.asarray(value, np.float32) for name, value in feeds.items()})[
        session.outputs[0]
    ]


def weight(model: ir.Model, name: str) -> Array:
    """The value of an initializer."""
    tensor = model.graph.initializers[name].const_value
    assert tensor is not None
    return tensor.numpy()
