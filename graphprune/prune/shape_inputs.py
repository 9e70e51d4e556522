"""Rescales integer inputs that spell out sizes: of Reshape, Expand, Resize, Tile and others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Array, Ints
from graphprune.ir.evaluate import MOVES, CannotEvaluateError
from graphprune.ir.nodes import is_constant
from graphprune.labels.algebra import Label, Size, size_of
from graphprune.labels.edits import ShapeInput
from graphprune.ops import has
from graphprune.ops.traits import Trait
from graphprune.prune.rewriting import Chain, Rewriting

LIVE, COMPUTED = -1, -2


@dataclass(frozen=True)
class Share:
    """Kept over original slots of one shape element."""

    kept: int
    dense: int


def resize_shape_input(rewriting: Rewriting, edit: ShapeInput) -> None:
    """Makes a shape input count kept slots; elements read from Shape at run time already do."""
    dense = edit.node.inputs[edit.position]
    node = rewriting.node(edit.node)
    if dense is None:
        return
    shares = _shares(rewriting, edit.labels)
    known = rewriting.analysis.sizes.data.get(dense)
    sizes = [size_of(label) for label in edit.labels]
    if known is not None:
        shares = [
            s if _spells(int(a), int(b), n) else None
            for s, a, b, n in zip(shares, np.ravel(known.a), np.ravel(known.b), sizes, strict=True)
        ]
    if all(share is None for share in shares):
        return
    if is_constant(dense):
        assert dense.const_value is not None
        array = _scaled(np.array(dense.const_value.numpy()), shares)
        node.replace_input_with(edit.position, rewriting.constant(node, array, "shape"))
        return
    if _edit_pieces(rewriting, dense, shares):
        return
    origins = _origins(rewriting, dense)
    pending = [share if origins is None or origins[i] != LIVE else None for i, share in enumerate(shares)]
    if any(share is not None for share in pending):
        _correct(rewriting, edit, pending)


def _shares(rewriting: Rewriting, labels: tuple[Label, ...]) -> list[Share | None]:
    shares: list[Share | None] = []
    for label in labels:
        if not rewriting.kept.touches(label):
            shares.append(None)
            continue
        static = tuple(factor for factor in label if factor.atoms is not None)
        shares.append(Share(rewriting.kept.count(static), size_of(static)[0]))
    return shares


def _spells(a: int, b: int, size: Size) -> bool:
    """Whether the element is this axis's size (and not 0, -1, or the 1 of a broadcast)."""
    return (a, b) == size


def _scaled(array: Array, shares: list[Share | None]) -> Array:
    flat = np.ravel(array).copy()
    for index, share in enumerate(shares):
        if share is not None:
            flat[index] = flat[index] * share.kept // share.dense
    return flat.reshape(array.shape)


def _edit_pieces(rewriting: Rewriting, dense: ir.Value, shares: list[Share | None]) -> bool:
    """Rewrites the constant pieces of a Concat that builds the shape, when that is all there is to do."""
    producer = dense.producer()
    if producer is None or not has(producer, Trait.CONCAT) or len(dense.uses()) != 1:
        return False
    copy = rewriting.node(producer)
    start, changes = 0, []
    for position, piece in enumerate(producer.inputs):
        data = rewriting.analysis.sizes.data.get(piece) if piece is not None else None
        if piece is None or data is None:
            return False
        mine = shares[start : start + data.a.size]
        start += data.a.size
        if all(share is None for share in mine) or _is_live(rewriting, piece, mine):
            continue
        if not is_constant(piece):
            return False
        assert piece.const_value is not None
        changes.append((position, _scaled(np.array(piece.const_value.numpy()), mine)))
    for position, array in changes:
        copy.replace_input_with(position, rewriting.constant(copy, array, "shape"))
    return True


def _is_live(rewriting: Rewriting, value: ir.Value, shares: list[Share | None]) -> bool:
    origins = _origins(rewriting, value)
    return origins is not None and all(s is None or origins[i] == LIVE for i, s in enumerate(shares))


def _origins(rewriting: Rewriting, value: ir.Value) -> Ints | None:
    """Per element: LIVE if it is read from a Shape at run time, COMPUTED or a literal otherwise."""
    known: dict[ir.Value, Ints | None] = {}
    work = [value]
    while work:
        ahead = [each for each in _moved(work[-1].producer()) if each not in known]
        if ahead:
            work += ahead
        else:
            item = work.pop()
            known[item] = _origin(rewriting, item, known)
    found = known[value]
    return None if found is None else np.ravel(found)


def _moved(node: ir.Node | None) -> list[ir.Value]:
    """The values whose elements a node hands on."""
    if node is None or node.op_type not in MOVES:
        return []
    return [value for value in node.inputs[: _handed(node)] if value is not None]


def _handed(node: ir.Node) -> int:
    """How many of its inputs, the first ones, a node hands on: the others say how."""
    return len(node.inputs) if has(node, Trait.CONCAT) else 1


def _origin(rewriting: Rewriting, value: ir.Value, known: Mapping[ir.Value, Ints | None]) -> Ints | None:
    data = rewriting.analysis.sizes.data.get(value)
    if data is None:
        return None
    producer = value.producer()
    if producer is not None and data.a.ndim and has(producer, Trait.SIZES):
        return np.full(data.a.shape, COMPUTED if producer in rewriting.restored else LIVE, np.int64)
    if producer is None or producer.op_type not in MOVES:
        return np.full(data.a.shape, COMPUTED, np.int64)
    inputs: list[Array | None] = []
    for position, source in enumerate(producer.inputs):
        if source is None:
            inputs.append(None)
            continue
        constant = rewriting.analysis.sizes.data.get(source)
        handed = known[source] if position < _handed(producer) else None if constant is None else constant.a
        if handed is None:
            return None
        inputs.append(handed)
    try:
        return np.asarray(MOVES[producer.op_type](inputs, producer.attributes)).astype(np.int64)
    except (CannotEvaluateError, ValueError, IndexError, TypeError, KeyError):
        return None


def _correct(rewriting: Rewriting, edit: ShapeInput, shares: list[Share | None]) -> None:
    """Target := target * kept / dense, element by element, at run time."""
    node = rewriting.node(edit.node)
    target = node.inputs[edit.position]
    assert target is not None
    kept = np.array([1 if share is None else share.kept for share in shares], np.int64)
    dense = np.array([1 if share is None else share.dense for share in shares], np.int64)
    producer = target.producer()
    assert producer is not None
    chain = Chain(rewriting, producer)
    scaled = chain("Mul", target, rewriting.constant(node, kept, "kept"))
    node.replace_input_with(edit.position, chain("Div", scaled, rewriting.constant(node, dense, "dense")))
