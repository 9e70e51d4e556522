"""What must not matter does not, and what was promised holds (docs/theory.md#relations)."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import graphprune
from graphprune.errors import PromiseError
from graphprune.ir.normalise import normalise
from graphprune.ops import BY_OP, record_of
from graphprune.prune.plan import Plan
from graphprune.prune.rewrite import rewrite
from graphprune.prune.rewriting import INSERTED
from tools import relations
from tools.fuzz.check import cut_and_prove, dead_units_are_free
from tools.relations import LOCAL, analysed, close, decided, kept_slots, outputs, partition

from .nets import CHAINS, net

chains = pytest.mark.parametrize("chain", CHAINS, ids="-".join)


@chains
def test_1_a_ratio_of_zero_is_the_identity(chain: tuple[str, ...], tmp_path: Path) -> None:
    graph = net(chain)
    normal = graph.model.clone()
    normalise(normal, record_of)
    assert relations.same_bits(graphprune.compile(graph.model, "prune(ratio=0)", lower=False).model, normal)
    ir.save(graph.model, tmp_path / "a.onnx")
    graphprune.compile(tmp_path / "a.onnx", "", tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


@chains
def test_2_dead_units_can_go(chain: tuple[str, ...]) -> None:
    assert list(dead_units_are_free(net(chain, planted=True))) == []


@chains
def test_3_removal_is_masking(chain: tuple[str, ...]) -> None:
    assert list(cut_and_prove(net(chain, zero_preserving=False), 1)) == []


@chains
def test_4_the_order_of_units_does_not_matter(chain: tuple[str, ...]) -> None:
    graph = net(chain)
    found = analysed(graph.model)
    before = outputs(graph.model, graph.feeds)
    for group in [g for g in found.prunable if g.block is None and all(s.blocks == 1 for s in g.slices)][
        1::2
    ]:
        order = np.random.default_rng(0).permutation(group.size)
        model = relations.permuted(found, group, order)
        if not close(before, outputs(model, graph.feeds)):
            continue  # a constant index (a shuffle) was not permuted along
        kept, again = decided(graph.model).cuts[group.id], decided(model).cuts[group.id]
        assert {int(order[number]) for number in again} == set(kept)


@pytest.mark.parametrize("criterion", ["l1", "l2", "fpgm", "lamp"])
def test_5_the_scale_of_a_width_does_not_matter(criterion: str) -> None:
    """All rows of a Group times a, its readers times 1/a: same function, same choice in every scope."""
    graph = net(("inception",))
    model = graph.model.clone()
    group = next(
        g for g in analysed(model).prunable if all(s.role in ("source", "bias", "sink") for s in g.slices)
    )
    for owned in group.slices:
        value = model.graph.initializers[owned.initializer]
        assert value.const_value is not None
        array = np.array(value.const_value.numpy())
        where = (slice(None),) * owned.axis + (np.unique(owned.pairs[1]),)
        array[where] *= 0.125 if owned.role == "sink" else 8
        value.const_value = ir.tensor(array, name=value.name)
    activations = {node.op_type for node in model.graph} - {
        "Conv",
        "Concat",
        "Gemm",
        "MatMul",
        "Flatten",
        "GlobalAveragePool",
        "ReduceMean",
    }
    if activations <= {"Relu", "LeakyRelu", "PRelu"}:
        assert close(outputs(graph.model, graph.feeds), outputs(model, graph.feeds))
    passes = f"prune(ratio=0.5, align=1, criterion={criterion}, scope=local)"
    assert decided(model, passes).cuts[group.id] == decided(graph.model, passes).cuts[group.id]


@chains
def test_6_names_order_and_unused_weights_do_not_matter(chain: tuple[str, ...]) -> None:
    graph = net(chain)
    found, plan = analysed(graph.model), decided(graph.model)
    other, back = relations.renamed(relations.reordered(graph.model))
    other.graph.register_initializer(
        ir.Value(name="unused", const_value=ir.tensor(np.ones(7, np.float32), name="unused"))
    )
    again = analysed(other)
    assert partition(again, back) == partition(found)
    assert kept_slots(again, decided(other), back) == kept_slots(found, plan)
    small = [rewrite(a.model, a, p) for a, p in ((found, plan), (again, decided(other)))]
    assert close(*(outputs(model, graph.feeds) for model in small))


@chains
@pytest.mark.parametrize("change", [relations.with_identities, relations.with_constants])
def test_7_how_a_graph_is_spelled_does_not_matter(chain: tuple[str, ...], change: object) -> None:
    graph = net(chain)
    other = change(graph.model)  # type: ignore[operator]
    assert partition(analysed(other)) == partition(analysed(graph.model))
    assert decided(other).cuts == decided(graph.model).cuts
    one, two = (graphprune.compile(model, LOCAL).model for model in (graph.model, other))
    assert close(outputs(one, graph.feeds), outputs(two, graph.feeds))


@pytest.mark.parametrize(("share", "widths"), [("tie", 1), ("split", 2)])
def test_7_a_shared_matrix_ties_its_uses_or_is_cloned_and_not_sliced(share: str, widths: int) -> None:
    graph = net(("plain_conv", "shared"))
    passes = f"prune(ratio=0.5, align=1, scope=local, criterion=random, share={share})"
    plan = decided(graph.model, passes)
    cuts = {plan.cuts[name] for name in plan.cuts if name.startswith("shared_w")}
    assert len(cuts) == widths
    model = graphprune.compile(graph.model, passes).model
    stored = [
        name for name in model.graph.initializers if name.startswith(("shared_w", INSERTED + "shared_w"))
    ]
    assert len(stored) == widths


@chains
def test_8_cuts_of_different_groups_commute(chain: tuple[str, ...]) -> None:
    graph = net(chain)
    found, plan = analysed(graph.model), decided(graph.model)
    # A width of one has no Group any more, and a clone of a shared weight has a name of its own.
    names = sorted(
        name for name, kept in plan.cuts.items() if len(kept) > 1 and not name.startswith("shared")
    )
    plan = plan.restricted(set(names))
    half = set(names[::2])
    parts = [plan.restricted(half), plan.restricted(set(names) - half)]
    whole = rewrite(found.model, found, plan)
    for first, second in (parts, parts[::-1]):
        model = rewrite(found.model, found, first)
        step = analysed(model)
        both = rewrite(step.model, step, second)
        mine, other = relations.tensors(both), relations.tensors(whole)
        common = {name for name in other if not name.startswith(INSERTED) and name in mine}
        assert all(mine[name].shape == other[name].shape for name in common)
        floats = [name for name in common if other[name].dtype.kind == "f"]
        assert all(np.allclose(mine[name], other[name], rtol=1e-6) for name in floats)
        assert close(outputs(both, graph.feeds), outputs(whole, graph.feeds))


@chains
@pytest.mark.parametrize("scope", ["global", "local", "isomorphic"])
def test_9_a_larger_ratio_keeps_a_subset(chain: tuple[str, ...], scope: str) -> None:
    graph = net(chain)
    results = [
        graphprune.compile(graph.model, f"prune(ratio={r}, scope={scope}, align=1)")
        for r in (0.25, 0.5, 0.75)
    ]
    for large, small in pairwise(results):
        for name, kept in large.plans[0].cuts.items():
            assert set(small.plans[0].cuts[name]) <= set(kept)
        assert small.report.after.params <= large.report.after.params
        assert small.report.after.macs <= large.report.after.macs


@chains
@pytest.mark.parametrize("what", ["params", "macs"])
def test_10_a_budget_is_kept_or_refused(chain: tuple[str, ...], what: str) -> None:
    graph = net(chain)
    for share in (0.8, 0.4, 0.05):
        try:
            result = graphprune.compile(graph.model, f"prune({what}={share}, align=2)")
        except PromiseError as error:
            assert "cannot be met" in error.message or "constant output" in error.message
            continue
        assert getattr(result.report.after, what) <= share * getattr(result.report.before, what)
        kernels = {
            name: array.shape[0]
            for name, array in relations.tensors(result.model).items()
            if name.startswith("conv_w")
        }
        dense = relations.tensors(graph.model)
        assert all(count % 2 == 0 or count == dense[name].shape[0] for name, count in kernels.items())


def test_11_masks_are_idempotent() -> None:
    graph = net(("residual",))
    found = analysed(graph.model)
    name = next(name for name, array in relations.tensors(found.model).items() if array.ndim == 4)
    mask = np.random.default_rng(0).random(relations.tensors(found.model)[name].shape) < 0.5
    plan = Plan(found.options, masks={name: mask})
    once = rewrite(found.model, found, plan)
    step = analysed(once)
    assert (relations.tensors(once)[name][~mask] == 0).all()
    assert relations.same_bits(rewrite(step.model, step, plan), once)


def test_12_the_same_command_writes_the_same_bytes(tmp_path: Path) -> None:
    """Another process, hash seed, folder and number of threads."""
    graph = net(("residual", "attention"))
    digests = set()
    for number, threads in ((0, 1), (1, 2)):
        folder = tmp_path / ("x" * (number + 1))
        folder.mkdir()
        ir.save(graph.model, folder / "model.onnx")
        command = [
            sys.executable,
            "-m",
            "graphprune",
            "compile",
            "model.onnx",
            "--passes",
            "prune(ratio=0.4, align=1)",
            "-o",
            "small.onnx",
            "--no-bench",
        ]
        environment = {**os.environ, "PYTHONHASHSEED": str(number), "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [*command, "--threads", str(threads)],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        files = [(folder / name).read_bytes() for name in ("small.onnx", "small.plan.json")]
        digests.add(hashlib.sha256(b"".join(files)).hexdigest())
    assert len(digests) == 1


@chains
def test_13_where_weights_are_stored_does_not_matter(chain: tuple[str, ...], tmp_path: Path) -> None:
    graph = net(chain)
    ir.save(graph.model, tmp_path / "a.onnx", external_data="a.data", size_threshold_bytes=0)
    assert (tmp_path / "a.data").exists()
    assert decided(tmp_path / "a.onnx").cuts == decided(graph.model).cuts  # type: ignore[arg-type]


@chains
def test_13_half_precision_keeps_the_same_units(chain: tuple[str, ...]) -> None:
    """With planted margins: dead Units are dead in any precision."""
    half, whole = (net(chain, planted=True, half=half) for half in (True, False))
    assert decided(half.model).cuts == decided(whole.model).cuts


@pytest.mark.parametrize(
    "chain", [("residual", "excite"), ("gate", "inception"), ("mlp", "attention")], ids="-".join
)
def test_13_the_opset_does_not_matter(chain: tuple[str, ...]) -> None:
    plans = [
        decided(net(chain, opset=opset).model) for opset in (13, 17, 18)
    ]  # constants have other names in each
    assert len({tuple(plan.cuts.values()) for plan in plans}) == 1


@chains
def test_14_the_batch_does_not_matter(chain: tuple[str, ...]) -> None:
    free, fixed = net(chain, dynamic=True), net(chain, dynamic=False)
    assert decided(free.model).cuts == decided(fixed.model).cuts
    small = graphprune.compile(free.model, LOCAL).model
    whole = outputs(small, free.feeds)
    for batch in (1, 7):
        rows = np.arange(batch) % 2
        feeds = {name: array if array.ndim == 0 else array[rows] for name, array in free.feeds.items()}
        assert close(outputs(small, feeds), {name: array[rows] for name, array in whole.items()})


@chains
def test_15_an_extra_output_pins_its_own_width_and_nothing_else(chain: tuple[str, ...]) -> None:
    graph = net(chain)
    before = analysed(graph.model)
    seen = 0
    for place in range(1, len(graph.model.graph) - 3, 4):
        model = graph.model.clone()
        value = model.graph[place].outputs[0]
        if value.is_graph_output():
            continue
        value.type = ir.TensorType(ir.DataType.FLOAT)
        model.graph.outputs.append(value)
        after = analysed(model)
        seen += len(after.prunable) < len(before.prunable)
        mine = {frozenset().union(*units) for units in partition(before)}
        assert all(frozenset().union(*units) in mine for units in partition(after))
    assert seen


@chains
def test_16_an_unknown_operator_is_a_barrier(chain: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    graph = net(chain)
    before = analysed(graph.model)
    unknown = sorted(
        {node.op_type for node in graph.model.graph} - {"Conv", "MatMul", "Gemm", "Reshape", "Transpose"}
    )[:3]
    for name in unknown:
        with monkeypatch.context() as patch:
            for op in [op for op in BY_OP if op.rpartition(":")[2] == name]:
                patch.delitem(BY_OP, op)
            after = analysed(graph.model)
            assert {s for units in partition(after) for u in units for s in u} <= {
                s for units in partition(before) for u in units for s in u
            }
            assert list(cut_and_prove(_without_expectation(graph), 2)) == []


def _without_expectation(graph: object) -> object:
    from dataclasses import replace

    return replace(graph, expected=None)  # type: ignore[type-var]
