"""Runs of cut models that begin where the cut does: what comes before computes what the dense model does.

A cut changes the nodes that hold or read what goes, and whatever is computed from them. All values that these
read from elsewhere are the dense model's, so they are computed once, and only the rest of a cut model is run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from graphprune.axes import Group
from graphprune.ir.arrays import Array
from graphprune.ir.graphs import nodes_in
from graphprune.ir.nodes import is_constant
from graphprune.runtime.session import Feeds, Outputs, open_session

BYTES = 2**29
"""Of stored values, at most; what does not fit is computed anew in every run."""
Run = Callable[[Feeds], Outputs]


@dataclass(frozen=True)
class Suffix:
    """What a cut of one Group changes.

    Attributes:
        nodes: names of the first results of all nodes that compute something else.
        reads: values that these read from elsewhere, but for inputs of the model.
        same: outputs of the model that stay.
        share: of the multiply-adds of the model that are theirs.
    """

    nodes: frozenset[str]
    reads: tuple[str, ...]
    same: tuple[str, ...]
    share: float


def suffix_of(model: ir.Model, group: Group, macs: Mapping[ir.Node, int | None]) -> Suffix:
    """What a cut of a Group changes.

    Args:
        model: the dense model.
        group: the one that is cut.
        macs: multiply-adds of each node; where one is not known, all nodes count.
    """
    touched = {part.use.node for part in group.slices}
    changed: set[ir.Value] = set()
    names, reads, count = set[str](), dict[str, None](), 0
    for node in model.graph:
        own = node in touched or any(value in changed for value in node.inputs if value is not None)
        if not own and not _holds(node, touched, changed):
            continue
        changed.update(node.outputs)
        names.add(_name(node))
        count += macs[node] or 0
    for node in model.graph:
        if _name(node) in names:
            reads.update(dict.fromkeys(_reads(node, changed)))
    whole = sum(each or 0 for each in macs.values())
    share = count / whole if whole and None not in macs.values() else 1.0
    same = tuple(value.name or "" for value in model.graph.outputs if value not in changed)
    return Suffix(frozenset(names), tuple(reads), same, share)


def _holds(node: ir.Node, touched: Collection[ir.Node], changed: Collection[ir.Value]) -> bool:
    """Whether something in the bodies of a node is touched."""
    return any(
        inner in touched or any(value in changed for value in inner.inputs if value is not None)
        for inner in nodes_in(node)
    )


def _reads(node: ir.Node, changed: Collection[ir.Value]) -> Iterable[str]:
    """Values from elsewhere that a node and its bodies read, inputs and weights of the model apart.

    Whole numbers may be sizes, into which a cut writes its own constants: they are computed anew, from values
    that are none.
    """
    graph, seen = node.graph, set[ir.Value]()
    waiting = [value for each in (node, *nodes_in(node)) for value in each.inputs]
    while waiting:
        value = waiting.pop(0)
        if value is None or value in seen or value in changed or is_constant(value) or value.is_graph_input():
            continue
        seen.add(value)
        maker = value.producer()
        if maker is None or maker.graph is not graph:
            continue
        if value.dtype is not None and value.dtype.is_integer():
            waiting += [other for each in (maker, *nodes_in(maker)) for other in each.inputs]
        else:
            yield value.name or ""


def _name(node: ir.Node) -> str:
    return next((value.name or "" for value in node.outputs if value.name), "")


@dataclass
class Prefixes:
    """Values of the dense model on some samples.

    Args:
        model: the dense one.
        batches: the samples; those that a run is asked for.
    """

    model: ir.Model
    batches: Sequence[Feeds]
    stored: dict[str, list[Array]] = field(default_factory=dict)

    def store(self, suffixes: Sequence[Suffix]) -> None:
        """Compute what suffixes read, those that are asked for first, as much as may be held."""
        wanted = list(dict.fromkeys(name for suffix in suffixes for name in (*suffix.same, *suffix.reads)))
        if not wanted or not self.batches:
            return
        session = open_session(self.model, extra_outputs=wanted, exact=True)
        runs = [session.run(feeds) for feeds in self.batches]
        room = BYTES
        for name in wanted:
            arrays = [np.asarray(run[name]) for run in runs]
            room -= sum(array.nbytes for array in arrays)
            if room < 0:
                break
            self.stored[name] = arrays

    def run(self, model: ir.Model, suffix: Suffix) -> Run:
        """Runs a cut model from the values that are stored, or all of it where one is missing.

        Args:
            model: the cut one.
            suffix: what the cut changes.
        """
        known = (*suffix.reads, *suffix.same)
        if any(name not in self.stored for name in known):
            return open_session(model, exact=True).run
        rest = _rest(model, suffix, {name: self.stored[name][0] for name in known})
        session = open_session(rest, exact=True)
        inputs = [value.name or "" for value in rest.graph.inputs]
        places = {id(feeds): at for at, feeds in enumerate(self.batches)}

        def run(feeds: Feeds) -> Outputs:
            at = places[id(feeds)]
            given = {n: self.stored[n][at] if n in self.stored else feeds[n] for n in inputs}
            return session.run(given) | {name: self.stored[name][at] for name in suffix.same}

        return run


def _rest(model: ir.Model, suffix: Suffix, samples: Mapping[str, Array]) -> ir.Model:
    """What is left of a cut model where some values are its inputs; it is changed."""
    graph = model.graph
    made = {value.name or "": value for node in graph for value in node.outputs}
    graph.outputs[:] = [value for value in graph.outputs if value.name not in suffix.same]
    for name, array in samples.items():
        old = made.get(name)
        if old is None:
            continue
        new = ir.Value(
            name=name,
            shape=ir.Shape([None] * array.ndim),
            type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
        )
        old.name = f"{name} of the dense model"
        ir.convenience.replace_all_uses_with(old, new)
        graph.inputs.append(new)
    needed = _needed(graph)
    graph.remove([node for node in graph if node not in needed], safe=True)
    graph.inputs[:] = [value for value in graph.inputs if value.uses()]
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]
    return model


def _needed(graph: ir.Graph) -> set[ir.Node]:
    """Nodes that outputs are computed from."""
    needed: set[ir.Node] = set()
    waiting = [value.producer() for value in graph.outputs]
    while waiting:
        node = waiting.pop()
        if node is None or node in needed or node.graph is not graph:
            continue
        needed.add(node)
        read = (value for each in (node, *nodes_in(node)) for value in each.inputs if value is not None)
        waiting += [value.producer() for value in read]
    return needed
