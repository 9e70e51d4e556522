"""Concrete sizes for the open dimensions of a model's inputs, and which other sizes to try."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from graphprune.errors import ArgumentError, ModelError, did_you_mean

ELEMENT_CAP = 2**28  # synthetic elements over all inputs; more would be a mistake or an attack
SHAPE_HINT = "give the sizes with --shape NAME=2,3,224,224, or real samples with --inputs FILE.npz"

# The first size of each row is the default; the others are tried in this order.
TRIES: dict[str, tuple[int, ...]] = {
    "spatial": (32, 64, 96, 128, 160, 192, 224, 256, 299, 320, 384, 448, 512, 640),
    "length": (16, 32, 64, 128, 256, 512, 1024, 1536, 3000, 4096, 16000, 1),
    "rate": (16000, 8000, 22050, 24000, 44100, 48000),
}
BATCH = re.compile(r"batch|^(n|b|bs)$", re.IGNORECASE)
SPATIAL = re.compile(r"height|width|^(h|w)$", re.IGNORECASE)
LENGTH = re.compile(r"seq|len|time|frames|samples|tokens|^(t|l|s)$", re.IGNORECASE)
RATE = re.compile(r"^(sr|fs|rate|(sample|sampling)_?rate)$", re.IGNORECASE)


@dataclass(frozen=True)
class Sizes:
    """One guess at every open dimension, by its role.

    `middle` is the size of an open inner axis between static ones, as in a recurrent state
    (2, ?, 128): the batch or a length, nobody can tell beforehand.
    """

    batch: int = 2
    spatial: int = TRIES["spatial"][0]
    length: int = TRIES["length"][0]
    middle: str = "length"
    rate: int = TRIES["rate"][0]

    def of(self, role: str) -> int:
        """The size of a dimension of this role."""
        sizes = {"batch": self.batch, "spatial": self.spatial, "length": self.length}
        return sizes[self.middle if role == "middle" else role]


def data_inputs(model: ir.Model) -> tuple[ir.Value, ...]:
    """The inputs that a caller has to feed: those without an initializer behind them."""
    return tuple(value for value in model.graph.inputs if value.name not in model.graph.initializers)


def is_rate(value: ir.Value) -> bool:
    """Whether an input is a sampling rate, which only a few numbers satisfy."""
    return bool(RATE.search(value.name or "")) and value.dtype is not None and value.dtype.is_integer()


def resolve(
    model: ir.Model, shapes: Mapping[str, Sequence[int]], sizes: Sizes, cap: int = ELEMENT_CAP
) -> dict[str, tuple[int, ...]]:
    """Concrete shapes of all inputs; a symbol has one size wherever it appears.

    Args:
        model: the model.
        shapes: shapes by input name, given by the user; they also bind the symbols they meet.
        sizes: the size of each role for what is left open.
        cap: the most elements that all inputs together may have.

    Raises:
        ArgumentError: a given shape names no input, or contradicts the model or another shape.
        ModelError: an input has no rank or is not a tensor, or the cap is exceeded.
    """
    inputs = data_inputs(model)
    bound = bound_sizes(inputs, shapes)
    _bind_rest(inputs, bound, sizes)
    result = {}
    for value in inputs:
        name = value.name or ""
        dims = shapes[name] if name in shapes else _sizes(value, bound, sizes)
        result[name] = tuple(int(dim) for dim in dims)
    elements = sum(math.prod(shape) for shape in result.values())
    if elements > cap:
        raise ModelError(f"synthetic inputs would need {elements} elements, the limit is {cap}", SHAPE_HINT)
    return result


def require_fits(model: ir.Model, shapes: Mapping[str, Sequence[int]], called: str = "--shape") -> None:
    """Refuse shapes of inputs that the model does not have, or declares otherwise.

    Raises:
        ArgumentError: the message names the input.
    """
    bound_sizes(data_inputs(model), shapes, called)


def candidates(model: ir.Model, shapes: Mapping[str, Sequence[int]], batch: int) -> Iterator[Sizes]:
    """Guesses, the likely first: those that differ from the default in one role before those in two."""
    inputs = data_inputs(model)
    roles = {_role(v, axis) for v in inputs if v.name not in shapes for axis in _open_axes(v)}
    choices: dict[str, tuple[int | str, ...]] = {"batch": (batch, 1) if batch != 1 else (1,)}
    if "middle" in roles:
        choices["middle"] = ("length", "batch")
    choices.update({role: TRIES[role] for role in ("spatial", "length") if role in roles})
    if "middle" in roles:
        choices.setdefault("length", TRIES["length"])
    if any(map(is_rate, inputs)):
        choices["rate"] = TRIES["rate"]
    default = Sizes(batch=batch)
    options = [range(len(values)) for values in choices.values()]
    for picks in sorted(itertools.product(*options), key=lambda p: (sum(map(bool, p)), sum(p))):
        changes = {role: choices[role][pick] for role, pick in zip(choices, picks, strict=True)}
        yield replace(default, **changes)  # type: ignore[arg-type]


def _dims(value: ir.Value) -> tuple[int | str | None, ...]:
    """Sizes, symbol names, or None; sizes below 1 and `?` are an exporter's way to write "open"."""
    if not isinstance(value.type, ir.TensorType):
        raise ModelError(f"the input {value.name!r} is not a tensor; such inputs are not supported")
    if value.shape is None:
        raise ModelError(f"the input {value.name!r} has no declared rank", SHAPE_HINT)
    raw = (dim if isinstance(dim, int) else dim.value for dim in value.shape)
    return tuple(None if _nameless(dim) else dim for dim in raw)


def _nameless(dim: int | str | None) -> bool:
    return dim < 1 if isinstance(dim, int) else not re.search(r"\w", dim or "")


def _open_axes(value: ir.Value) -> list[int]:
    return [axis for axis, dim in enumerate(_dims(value)) if not isinstance(dim, int)]


def _role(value: ir.Value, axis: int) -> str:
    dims = _dims(value)
    name = dims[axis] if isinstance(dims[axis], str) else ""
    for role, pattern in (("batch", BATCH), ("spatial", SPATIAL), ("length", LENGTH)):
        if pattern.search(str(name)):
            return role
    open_axes = set(_open_axes(value))
    if axis in _spatial_axes(dims) and _spatial_axes(dims) <= open_axes:
        return "spatial"
    if axis == 0:
        return "batch"
    inner = len(dims) >= 3 and 0 not in open_axes and open_axes == {axis}
    return "middle" if inner and axis < len(dims) - 1 else "length"


def _spatial_axes(dims: Sequence[int | str | None]) -> set[int]:
    """Where an image of this rank has its height and width (and depth)."""
    if len(dims) == 3:
        return {1, 2} if isinstance(dims[0], int) and dims[0] <= 4 else set()
    if len(dims) not in (4, 5):
        return set()
    channels_last = dims[-1] in (1, 3, 4) and not isinstance(dims[1], int)
    return set(range(1, len(dims) - 1)) if channels_last else set(range(2, len(dims)))


def bound_sizes(
    inputs: Sequence[ir.Value], shapes: Mapping[str, Sequence[int]], called: str = "--shape"
) -> dict[str, int]:
    """Symbols that the given shapes determine.

    Raises:
        ArgumentError: a shape names no input, or contradicts it or another shape.
    """
    known = {value.name or "": value for value in inputs}
    bound: dict[str, int] = {}
    for name, shape in shapes.items():
        if name not in known:
            raise ArgumentError(f"{called}: the model has no input named {name!r}", did_you_mean(name, known))
        if any(size < 1 for size in shape):
            raise ArgumentError(f"{called} {name}: sizes start at 1, got {_text(shape)}")
        if known[name].shape is None:
            continue
        dims = _dims(known[name])
        declared = f"the model declares ({', '.join('?' if dim is None else str(dim) for dim in dims)})"
        if len(dims) != len(shape):
            every = "x".join(str(dim) if isinstance(dim, int) else "N" for dim in dims)
            hint = f"give every size: {name}={every}"
            raise ArgumentError(f"{called} {name}={_text(shape)} has {len(shape)} sizes, {declared}", hint)
        for dim, size in zip(dims, shape, strict=True):
            if isinstance(dim, int) and dim != size:
                raise ArgumentError(f"{called} {name}={_text(shape)} does not fit, {declared}")
            if isinstance(dim, str) and bound.setdefault(dim, size) != size:
                raise ArgumentError(
                    f"{called} gives the dimension {dim!r} two sizes, {bound[dim]} and {size}"
                )
    return bound


def _bind_rest(inputs: Sequence[ir.Value], bound: dict[str, int], sizes: Sizes) -> None:
    """Every remaining symbol: plain names by role, then sums and other expressions of them."""
    later = []
    for value in inputs:
        if value.shape is None:
            continue
        for axis in _open_axes(value):
            symbol = _dims(value)[axis]
            if isinstance(symbol, str) and symbol not in bound:
                if _derived(symbol):
                    later.append((symbol, value, axis))
                else:
                    bound[symbol] = sizes.of(_role(value, axis))
    for symbol, value, axis in later:
        total = _total(inputs, bound) if symbol.startswith("total") else _evaluate(symbol, bound)
        bound.setdefault(symbol, total or sizes.of(_role(value, axis)))


def _derived(symbol: str) -> bool:
    return not symbol.isidentifier() or symbol.startswith("total")


def _evaluate(symbol: str, bound: Mapping[str, int]) -> int | None:
    """E.g. `past_sequence_length + 1`."""
    try:
        size = ir.SymbolicDim(symbol).evaluate(bound)
    except (ValueError, TypeError, ArithmeticError, SyntaxError):
        return None  # a name with odd characters, not an expression
    return size if isinstance(size, int) and size > 0 else None


def _total(inputs: Sequence[ir.Value], bound: Mapping[str, int]) -> int | None:
    """A decoder's `total...`: its past plus its new length, the static length of its tokens if need be."""
    past = [size for name, size in bound.items() if name.startswith("past")]
    new = [size for name, size in bound.items() if name.startswith("seq")]
    tokens = (_dims(v)[1] for v in inputs if v.shape is not None and len(v.shape) == 2)
    new += [dim for dim in tokens if isinstance(dim, int)]
    return past[0] + new[0] if past and new else None


def _sizes(value: ir.Value, bound: Mapping[str, int], sizes: Sizes) -> Iterator[int]:
    for axis, dim in enumerate(_dims(value)):
        if isinstance(dim, int):
            yield dim
        else:
            yield bound[dim] if isinstance(dim, str) else sizes.of(_role(value, axis))


def _text(shape: Sequence[int]) -> str:
    return ",".join(map(str, shape))
