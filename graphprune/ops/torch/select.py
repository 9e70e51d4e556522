"""Operators that join, part and pick."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

import numpy as np
import torch

from graphprune.ir.arrays import Doubles
from graphprune.ops.torch.call import Call, Tensor, number, sizes

REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def concat(call: Call, *tensors: Tensor) -> Tensor:
    """One after the other along an axis."""
    return torch.cat(tensors, call.integer("axis", 1))


def split(call: Call, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, ...]:
    """Stretches along an axis: as long as is said, or of equal length, the last one shorter."""
    axis, count = call.integer("axis"), call.integer("num_outputs", len(call.wanted))
    stated = call.integers("split") if lengths is None else sizes(lengths)
    if stated is None:
        size = -(-x.shape[axis] // count)
        stated = [max(0, min(size, x.shape[axis] - at * size)) for at in range(count)]
    return tuple(x.split(stated, axis))


def cut(
    call: Call,
    x: Tensor,
    starts: Tensor | None = None,
    ends: Tensor | None = None,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    """A strided stretch of each axis."""
    first = (call.integers("starts") or []) if starts is None else sizes(starts)
    last = (call.integers("ends") or []) if ends is None else sizes(ends)
    along = call.integers("axes") if axes is None else sizes(axes)
    stride = [1] * len(first) if steps is None else sizes(steps)
    chosen = list(range(len(first))) if along is None else along
    for axis, begin, end, step in zip(chosen, first, last, stride, strict=True):
        size = x.shape[axis]
        if step > 0:
            begin, end = (min(max(at + size if at < 0 else at, 0), size) for at in (begin, end))
            count = max(0, -(-(end - begin) // step))
            x = (
                x.narrow(axis, begin, end - begin)
                if count and step == 1
                else _strided(x, axis, begin, step, count)
            )
            continue
        begin = min(max(begin + size if begin < 0 else begin, 0), size - 1)
        end = -1 if end < -size else min(max(end + size if end < 0 else end, -1), size - 1)
        x = _strided(x, axis, begin, step, max(0, -(-(begin - end) // -step)))
    return x


def _strided(x: Tensor, axis: int, begin: int, step: int, count: int) -> Tensor:
    if step > 0 and count:
        slices = [slice(None)] * x.dim()
        slices[axis] = slice(begin, begin + (count - 1) * step + 1, step)
        return x[tuple(slices)]
    return x.index_select(axis, torch.arange(count, device=x.device) * step + begin)


def positions(index: Tensor, size: int) -> Tensor:
    """Positions along an axis, none negative."""
    index = index.long()
    return torch.where(index < 0, index + size, index)


def gather(call: Call, x: Tensor, index: Tensor) -> Tensor:
    """Slots along an axis, by number."""
    axis = call.integer("axis") % x.dim()
    if index.dim() == 0 and index.device.type == "cpu" and not torch._C._functorch.is_batchedtensor(index):
        at = int(index)
        return x.select(axis, at + x.shape[axis] if at < 0 else at)
    found = x.index_select(axis, positions(index, x.shape[axis]).reshape(-1))
    return found.reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


def gather_elements(call: Call, x: Tensor, index: Tensor) -> Tensor:
    """Along an axis, each element from its own place."""
    axis = call.integer("axis")
    return x.gather(axis, positions(index, x.shape[axis]))


def _places(shape: Sequence[int], index: Tensor) -> tuple[Tensor, ...]:
    return tuple(positions(index[..., at], shape[at]) for at in range(index.shape[-1]))


def gather_nd(call: Call, x: Tensor, index: Tensor) -> Tensor:
    """At tuples of positions, behind some batch axes."""
    batch = call.integer("batch_dims")
    lead = [torch.arange(n, device=x.device) for n in x.shape[:batch]]
    rank = index.dim() - 1
    grids = [each.reshape([-1 if at == axis else 1 for at in range(rank)]) for axis, each in enumerate(lead)]
    return x[(*grids, *_places(x.shape[batch:], index))]


def scatter_nd(call: Call, x: Tensor, index: Tensor, updates: Tensor) -> Tensor:
    """Written at tuples of positions."""
    reduction, places = call.text("reduction", "none"), _places(x.shape, index)
    if reduction in ("none", "add"):
        return x.index_put(places, updates.to(x.dtype), accumulate=reduction == "add")
    inner = x.shape[index.shape[-1] :]
    flat = _flat(x.shape[: index.shape[-1]], places).reshape(-1, *[1] * len(inner))
    table = x.reshape(-1, *inner)
    rows = updates.reshape(-1, *inner)
    out = table.scatter_reduce(0, flat.expand(rows.shape), rows, REDUCTIONS[reduction], include_self=True)
    return out.reshape(x.shape)


def _flat(shape: Sequence[int], places: Sequence[Tensor]) -> Tensor:
    strides = [*accumulate(list(shape[:0:-1]), lambda a, b: a * b, initial=1)][::-1]
    total = torch.zeros_like(places[0])
    for place, stride in zip(places, strides, strict=True):
        total = total + place * stride
    return total


def scatter_elements(call: Call, x: Tensor, index: Tensor, updates: Tensor) -> Tensor:
    """Along an axis, each element to its own place."""
    axis, reduction = call.integer("axis"), call.text("reduction", "none")
    places = positions(index, x.shape[axis])
    if reduction == "none":
        return x.scatter(axis, places, updates.to(x.dtype))
    return x.scatter_reduce(axis, places, updates, REDUCTIONS[reduction], include_self=True)


def extreme(largest: bool) -> Callable[[Call, Tensor], Tensor]:
    """Where the largest or smallest lies: the first, or the last, of several."""

    def run(call: Call, x: Tensor) -> Tensor:
        axis, keep = call.integer("axis"), bool(call.integer("keepdims", 1))
        last = bool(call.integer("select_last_index"))
        x = x.flip(axis) if last else x
        found = x.argmax(axis, keepdim=keep) if largest else x.argmin(axis, keepdim=keep)
        return x.shape[axis] - 1 - found if last else found

    return run


def top_k(call: Call, x: Tensor, k: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The k largest or smallest, of equal ones the first."""
    count = call.integer("k") if k is None else int(number(k))
    axis = call.integer("axis", -1)
    values, places = x.sort(dim=axis, descending=bool(call.integer("largest", 1)), stable=True)
    return values.narrow(axis, 0, count), places.narrow(axis, 0, count)


def one_hot(call: Call, index: Tensor, depth: Tensor, values: Tensor) -> Tensor:
    """One value where a place is, another elsewhere; of places that are not there nowhere."""
    count, axis = int(number(depth)), call.integer("axis", -1)
    places = positions(index, count).unsqueeze(axis)
    shape = [1] * places.dim()
    shape[axis] = count
    hot = places == torch.arange(count, device=index.device).reshape(shape)
    return torch.where(hot, values[1], values[0])


def compress(call: Call, x: Tensor, condition: Tensor) -> Tensor:
    """Slots of an axis, or elements, that are wanted."""
    wanted = condition.nonzero().reshape(-1)
    axis = call.attributes.get("axis")
    return x.reshape(-1)[wanted] if axis is None else x.index_select(call.integer("axis"), wanted)


def reverse_sequence(call: Call, x: Tensor, lengths: Tensor) -> Tensor:
    """The beginning of each sequence turned round."""
    time, batch = call.integer("time_axis"), call.integer("batch_axis", 1)
    at, ends = torch.arange(x.shape[time], device=x.device).unsqueeze(1), lengths.long()
    index = torch.where(at < ends, ends - 1 - at, at.expand(-1, len(ends)))
    index = index if time < batch else index.mT
    index = index.reshape(*index.shape, *[1] * (x.dim() - 2))
    return x.gather(time, index.expand(x.shape))


def unique(call: Call, x: Tensor) -> tuple[Tensor, ...]:
    """Different elements or slots: where each is first, which each is, and how often."""
    axis = call.integer("axis") if "axis" in call.attributes else None
    array = (x.float() if x.dtype == torch.bfloat16 else x).detach().cpu().numpy()
    values, first, inverse, counts = np.unique(
        array, return_index=True, return_inverse=True, return_counts=True, axis=axis
    )
    inverse = inverse.reshape(-1)
    if not call.integer("sorted", 1):
        order = np.argsort(first)
        rank = np.argsort(order)
        values = np.take(values, order, axis=0 if axis is None else axis)
        first, inverse, counts = first[order], rank[inverse], counts[order]
    places = (torch.from_numpy(np.ascontiguousarray(each)) for each in (first, inverse, counts))
    return (torch.from_numpy(np.ascontiguousarray(values)).to(x.dtype), *places)


def suppress(
    call: Call,
    boxes: Tensor,
    scores: Tensor,
    most: Tensor | None = None,
    overlap: Tensor | None = None,
    least: Tensor | None = None,
) -> Tensor:
    """Boxes in the order of their scores, without those that overlap a better one: batch, class, box."""
    limit = 0 if most is None else int(number(most))
    bound, floor = (None if each is None else float(number(each)) for each in (overlap, least))
    areas, ratings = (each.detach().double().cpu().numpy() for each in (boxes, scores))
    found = []
    for batch in range(ratings.shape[0]):
        corners = _corners(areas[batch], call.integer("center_point_box"))
        for kind in range(ratings.shape[1]):
            kept = _kept(corners, ratings[batch, kind], limit, bound or 0.0, floor)
            found += [[batch, kind, box] for box in kept]
    return torch.tensor(found, dtype=torch.int64).reshape(-1, 3)


def _corners(boxes: Doubles, centred: int) -> Doubles:
    one, two, three, four = boxes.T
    if centred:
        corners = [two - four / 2, one - three / 2, two + four / 2, one + three / 2]
    else:
        corners = [
            np.minimum(one, three),
            np.minimum(two, four),
            np.maximum(one, three),
            np.maximum(two, four),
        ]
    return np.stack(corners, 1)


def _kept(corners: Doubles, scores: Doubles, limit: int, bound: float, floor: float | None) -> list[int]:
    order = np.argsort(-scores, kind="stable")
    order = order if floor is None else order[scores[order] > floor]
    area = np.prod(corners[:, 2:] - corners[:, :2], axis=1)
    kept: list[int] = []
    while len(order) and len(kept) < limit:
        best, order = int(order[0]), order[1:]
        kept.append(best)
        low = np.maximum(corners[best, :2], corners[order, :2])
        high = np.minimum(corners[best, 2:], corners[order, 2:])
        common = np.prod(np.maximum(high - low, 0), axis=1)
        union = area[best] + area[order] - common
        order = order[~(common > bound * union) | (area[best] <= 0) | (area[order] <= 0)]
    return kept


def tensor_scatter(call: Call, cache: Tensor, update: Tensor, start: Tensor | None = None) -> Tensor:
    """Tokens written into a cache, each row from its own place on; in a ring if asked for."""
    axis = call.integer("axis", -2) % cache.dim()
    begin = (
        torch.zeros(cache.shape[0], dtype=torch.int64, device=cache.device) if start is None else start.long()
    )
    at = begin.unsqueeze(1) + torch.arange(update.shape[axis], device=cache.device)
    at = at % cache.shape[axis] if call.text("mode", "linear") == "circular" else at
    shape = [1] * cache.dim()
    shape[0], shape[axis] = cache.shape[0], -1
    return cache.scatter(axis, at.reshape(shape).expand(update.shape), update)


ROWS: dict[str, Callable[..., object]] = {
    "Concat": concat,
    "Split": split,
    "Slice": cut,
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "ScatterND": scatter_nd,
    "ScatterElements": scatter_elements,
    "Scatter": scatter_elements,
    "ArgMax": extreme(True),
    "ArgMin": extreme(False),
    "TopK": top_k,
    "OneHot": one_hot,
    "Compress": compress,
    "ReverseSequence": reverse_sequence,
    "Unique": unique,
    "com.microsoft:Unique": unique,
    "NonZero": lambda call, x: x.nonzero().mT.contiguous(),
    "NonMaxSuppression": suppress,
    "TensorScatter": tensor_scatter,
}
HOST = {"Split": (1,), "Slice": (1, 2, 3, 4), "TopK": (1,), "OneHot": (1,), "NonMaxSuppression": (2, 3, 4)}
