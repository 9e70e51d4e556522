"""The certificate: every tensor and attribute of the pruned model is what the Plan says, bit by bit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Array, Bools
from graphprune.ir.element import is_packed
from graphprune.ir.names import called
from graphprune.labels.state import Use
from graphprune.proof.declared import Declared, Place
from graphprune.proof.pairing import Pairing, contents, is_constant, same_attribute
from graphprune.proof.survivors import Survivors

STEPS = 2
"""A compensated weight is rounded once for the factor and once for the product."""


@dataclass(frozen=True)
class Certificate:
    """Result of the comparison of tensors.

    Attributes:
        compared: number of uses of initializers whose bits were compared.
        differences: what differs although nothing declares it.
    """

    compared: int
    differences: tuple[str, ...]


def certify(survivors: Survivors, declared: Declared, pairing: Pairing) -> Certificate:
    """Slices the dense tensors by label, applies the declared edits, and compares with the pruned model."""
    compared = 0
    found = list(pairing.problems)
    for dense, pruned in pairing.nodes.items():
        found += _attributes(dense, pruned, declared)
        for position in range(max(len(dense.inputs), len(pruned.inputs))):
            if is_constant(_input(dense, position)):
                compared += 1
            found += _operand(survivors, declared, dense, pruned, position)
    for node in pairing.replaced:
        count, missing = _expanded(survivors, pairing, node)
        compared += count
        found += missing
    return Certificate(compared, tuple(found))


def _input(node: ir.Node, position: int) -> ir.Value | None:
    return node.inputs[position] if position < len(node.inputs) else None


def _operand(
    survivors: Survivors, declared: Declared, dense: ir.Node, pruned: ir.Node, position: int
) -> Iterator[str]:
    """Differences of one input, if it is (or becomes) an initializer."""
    place: Place = (dense, position)
    source, at = declared.gone.read(dense, position)
    old, new = _input(source, at), _input(pruned, position)
    if place in declared.free or not (is_constant(old) or is_constant(new) or position >= len(dense.inputs)):
        return
    name = (old.name if old is not None else "") or f"input {position}"
    if place in declared.changes:
        yield from _changed(declared, place, old, new, name, dense)
        return
    if not (is_constant(old) and is_constant(new)):
        if old is not new:
            yield f"input {position} of {called(dense)} is not an initializer in both models"
        return
    reason = _unlike(survivors, declared, Use(source, at), contents(new))
    if reason:
        yield f"tensor {name!r} at {called(dense)}: {reason}"


def _changed(
    declared: Declared, place: Place, old: ir.Value | None, new: ir.Value | None, name: str, node: ir.Node
) -> Iterator[str]:
    if old is not None and not is_constant(old):
        return  # computed while the model runs: only a run can judge it
    dense = None if old is None else np.asarray(contents(old).numpy())
    expected = declared.expected(place, dense)
    actual = np.asarray(contents(new).numpy()) if is_constant(new) else None
    if not _same_numbers(expected, actual):
        yield f"tensor {name!r} at {called(node)} must be {_show(expected)}, not {_show(actual)}"


def _unlike(survivors: Survivors, declared: Declared, use: Use, actual: ir.TensorProtocol) -> str:
    """Why the tensor that a pruned node reads is not the declared part of the dense one; empty if it is."""
    tensor = contents(use.value)
    plan, name = survivors.plan, use.value.name or ""
    edited = name in plan.replaced or name in plan.masks
    masks = _masks(survivors, use)
    scale = declared.scales.get((use.node, use.position), 1.0)
    if actual is tensor and not edited and scale == 1.0 and all(mask is None for mask in masks):
        return ""
    if actual.dtype != tensor.dtype:
        return f"its type became {actual.dtype.name}"
    blocks = survivors.analysis.state.blocks.get((use, 1), 1)
    expected = sliced(repaired(survivors, name, tensor), masks, blocks)
    found = np.asarray(actual.numpy())
    if found.shape != expected.shape:
        return f"its shape is {found.shape}, the plan says {expected.shape}"
    return _difference(expected, found, scale)


def _masks(survivors: Survivors, use: Use) -> list[Bools | None]:
    labels = survivors.analysis.uses.get(use) or ((),) * len(contents(use.value).shape)
    return [survivors.mask(label) for label in labels]


def repaired(survivors: Survivors, name: str, tensor: ir.TensorProtocol) -> Array:
    """The dense tensor with the Plan's replacement and mask."""
    plan = survivors.plan
    array = np.asarray(plan.replaced[name] if name in plan.replaced else tensor.numpy())
    if is_packed(tensor.dtype):  # in a plan's file they take whole bytes
        array = array.astype(tensor.dtype.numpy())
    if name in plan.masks:
        array = np.where(np.asarray(plan.masks[name], bool), array, np.zeros((), array.dtype))
    return array


def sliced(array: Array, masks: list[Bools | None], blocks: int) -> Array:
    """The kept part; with blocks, axis 1 of row block q is read through the q-th stretch of its mask."""
    inner = masks[1] if len(masks) > 1 else None
    if blocks == 1 or inner is None:
        for axis, mask in enumerate(masks):
            if mask is not None:
                array = np.compress(mask, array, axis=axis)
        return array
    rows = np.ones(len(array), bool) if masks[0] is None else masks[0]
    parts = zip(np.split(array, blocks), np.split(rows, blocks), np.split(inner, blocks), strict=True)
    return np.concatenate([part[keep][:, columns] for part, keep, columns in parts])


def _difference(expected: Array, found: Array, scale: float) -> str:
    if scale != 1.0:
        wanted = np.asarray(expected, np.float64) * scale
        bound = STEPS * float(ir.DataType.from_numpy(expected.dtype).eps) * np.abs(wanted)
        wrong = ~(np.abs(np.asarray(found, np.float64) - wanted) <= bound)
    elif expected.dtype == object:
        wrong = np.asarray(expected != found)
    else:
        wrong = _bits(expected) != _bits(found)
    if not wrong.any():
        return ""
    first = tuple(int(i) for i in np.argwhere(wrong.reshape(expected.shape or (1,)))[0])
    return f"{int(wrong.sum())} of {expected.size} elements differ from the plan, the first at {list(first)}"


def _bits(array: Array) -> Array:
    width = min(array.dtype.itemsize, 8)  # complex numbers are two words
    return np.atleast_1d(np.ascontiguousarray(array)).view(f"u{width}")


def _expanded(survivors: Survivors, pairing: Pairing, node: ir.Node) -> tuple[int, list[str]]:
    """The weights of a replaced node must be read, as the plan says, by the nodes that stand for it."""
    held = [contents(v) for n in pairing.inserted for v in n.inputs if is_constant(v)]
    known = survivors.analysis.uses
    weights = [p for p, v in enumerate(node.inputs) if is_constant(v) and Use(node, p) in known]
    missing = []
    for position in weights:
        use = Use(node, position)
        if all(_unlike(survivors, Declared(), use, tensor) for tensor in held):
            name = use.value.name
            missing.append(f"tensor {name!r} of {called(node)} is not read by the nodes that replace it")
    return len(weights), missing


def _attributes(dense: ir.Node, pruned: ir.Node, declared: Declared) -> Iterator[str]:
    added = (name for node, name in declared.changes if node is dense and isinstance(name, str))
    for name in sorted({*dense.attributes, *pruned.attributes, *added}):
        place: Place = (dense, name)
        old, new = dense.attributes.get(name), pruned.attributes.get(name)
        if place in declared.free or (old is None and new is None and place not in declared.changes):
            continue
        if place in declared.changes:
            expected, actual = declared.expected(place, _numbers(old)), _numbers(new)
            if not _same_numbers(expected, actual):
                wrong = f"must be {_show(expected)}, not {_show(actual)}"
                yield f"attribute {name!r} of {called(dense)} {wrong}"
        elif not same_attribute(old, new):
            yield f"attribute {name!r} of {called(dense)} changed although nothing declares it"


def _numbers(attribute: ir.Attr | None) -> Array | None:
    return None if attribute is None else np.asarray(attribute.value)


def _same_numbers(expected: Array | None, actual: Array | None) -> bool:
    if expected is None or actual is None:
        return expected is actual
    if expected.size != actual.size:
        return False
    if expected.dtype.kind == "f":
        return bool(np.allclose(expected, actual, rtol=1e-6, atol=0))
    return bool(np.array_equal(expected.ravel(), actual.ravel()))


def _show(array: Array | None) -> str:
    return "absent" if array is None else str(array.tolist())
