"""Control flow, sequences, losses, and transforms of signals."""

from __future__ import annotations

from collections.abc import Callable

import torch

from graphprune.ops.torch.call import Call, Tensor, number, sizes

Sequenced = list[Tensor]


WIDER = {4: torch.uint16, 12: torch.uint32, 13: torch.uint64}
"""What has the bits of an ONNX type that another type holds here."""


def branch(call: Call, condition: Tensor) -> tuple[object, ...]:
    """One of two graphs."""
    return tuple(call.body("then_branch" if bool(number(condition)) else "else_branch")())


def loop(call: Call, most: Tensor | None, go: Tensor | None, *carried: object) -> tuple[object, ...]:
    """A graph, as often as a number or a condition says; what it carries on, and what it collects."""
    limit = None if most is None else int(number(most))
    going, state = go is None or bool(number(go)), list(carried)
    collected: list[list[object]] = [[] for _ in range(len(call.wanted) - len(carried))]
    step, body = 0, call.body("body")
    while going and (limit is None or step < limit):
        condition, *rest = body(torch.tensor(step), torch.tensor(True), *state)
        state, found = rest[: len(carried)], rest[len(carried) :]
        for each, value in zip(collected, found, strict=True):
            each.append(value)
        going = bool(number(condition))
        step += 1
    return (*state, *(torch.stack(each) if each else torch.zeros(0) for each in collected))


def scan(call: Call, *inputs: Tensor) -> tuple[object, ...]:
    """A graph once for each slot of some inputs; from opset 9 on."""
    if call.opset < 9:
        raise call.refuse("Scan of opset 8 runs over a batch, which is not written out")
    count = call.integer("num_scan_inputs")
    state, given = list(inputs[: len(inputs) - count]), inputs[len(inputs) - count :]
    axes = call.integers("scan_input_axes") or [0] * count
    back = call.integers("scan_input_directions") or [0] * count
    turned = [x.flip(a) if b else x for x, a, b in zip(given, axes, back, strict=True)]
    carried, body = len(state), call.body("body")
    outputs: list[list[Tensor]] = [[] for _ in range(len(call.wanted) - carried)]
    for step in range(turned[0].shape[axes[0]]):
        found = body(*state, *(x.select(a, step) for x, a in zip(turned, axes, strict=True)))
        state = list(found[:carried])
        for each, value in zip(outputs, found[carried:], strict=True):
            each.append(value)
    to, way = call.integers("scan_output_axes"), call.integers("scan_output_directions")
    joined = []
    for at, each in enumerate(outputs):
        axis = to[at] if to else 0
        stacked = torch.stack(each, axis) if each else torch.zeros(0)
        joined.append(stacked.flip(axis) if way and way[at] else stacked)
    return (*state, *joined)


def sequence_map(call: Call, first: Sequenced, *others: object) -> tuple[object, ...]:
    """A graph once for each element of a sequence."""
    found = [
        call.body("body")(one, *(each[at] if isinstance(each, list) else each for each in others))
        for at, one in enumerate(first)
    ]
    return tuple([row[at] for row in found] for at in range(len(call.wanted)))


def insert(call: Call, sequence: Sequenced, tensor: Tensor, at: Tensor | None = None) -> Sequenced:
    """One more element."""
    place = len(sequence) if at is None else int(number(at))
    place = place + len(sequence) if place < 0 else place
    return [*sequence[:place], tensor, *sequence[place:]]


def erase(call: Call, sequence: Sequenced, at: Tensor | None = None) -> Sequenced:
    """One element less."""
    place = -1 if at is None else int(number(at))
    place = place + len(sequence) if place < 0 else place
    return [*sequence[:place], *sequence[place + 1 :]]


def split_to_sequence(call: Call, x: Tensor, lengths: Tensor | None = None) -> Sequenced:
    """Stretches along an axis."""
    axis = call.integer("axis")
    if lengths is None:
        parts = list(x.split(1, axis))
        return parts if call.integer("keepdims", 1) else [part.squeeze(axis) for part in parts]
    return list(x.split(int(number(lengths)) if lengths.dim() == 0 else sizes(lengths), axis))


def join_sequence(call: Call, sequence: Sequenced) -> Tensor:
    """One after the other, or as slots of a new axis."""
    axis = call.integer("axis")
    return torch.stack(sequence, axis) if call.integer("new_axis") else torch.cat(sequence, axis)


def likelihood(call: Call, scores: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Negative log-likelihood, summed, averaged or as it is."""
    ignored = call.attributes.get("ignore_index")
    kept = torch.ones_like(target, dtype=torch.bool) if ignored is None else target != ignored
    index = target.long().where(kept, 0)
    share = scores.new_ones(target.shape) if weight is None else weight[index]
    share = share * kept
    losses = -scores.gather(1, index.unsqueeze(1)).squeeze(1) * share
    reduction = call.text("reduction", "mean")
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" else losses.sum() / share.sum()


def cross_entropy(
    call: Call, scores: Tensor, target: Tensor, weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """As above, after a log-softmax, which is the second result."""
    logs = torch.log_softmax(scores, 1)
    return likelihood(call, logs, target, weight), logs


def fourier(call: Call, x: Tensor, length: Tensor | None = None, axis: Tensor | None = None) -> Tensor:
    """The discrete Fourier transform; real and imaginary part on the last axis."""
    along = (
        call.integer("axis", 1)
        if axis is None and call.opset < 20
        else -2
        if axis is None
        else int(number(axis))
    )
    along = along % x.dim()
    inverse, half = call.integer("inverse"), call.integer("onesided")
    size = None if length is None else int(number(length))
    if half and inverse:
        return torch.fft.irfft(torch.view_as_complex(x.contiguous()), size, along).unsqueeze(-1)
    wide = x.squeeze(-1) if x.shape[-1] == 1 else torch.view_as_complex(x.contiguous())
    if half:
        return torch.view_as_real(torch.fft.rfft(wide, size, along))
    return torch.view_as_real((torch.fft.ifft if inverse else torch.fft.fft)(wide, size, along))


def short_fourier(
    call: Call, x: Tensor, step: Tensor, window: Tensor | None = None, length: Tensor | None = None
) -> Tensor:
    """Transforms of windows: [batch, frames, bins, 2]."""
    size = len(window) if window is not None else int(number(length)) if length is not None else x.shape[1]
    signal = x.squeeze(-1) if x.dim() == 3 and x.shape[-1] == 1 else x
    if signal.dim() == 3:
        signal = torch.view_as_complex(signal.contiguous())
    frames = signal.unfold(1, size, int(number(step)))
    frames = frames if window is None else frames * window
    half = call.integer("onesided", 1) and not frames.is_complex()
    return torch.view_as_real(torch.fft.rfft(frames) if half else torch.fft.fft(frames))


def window(a: float, b: float, c: float) -> Callable[[Call, Tensor], Tensor]:
    """A sum of cosines over a window."""

    def run(call: Call, size: Tensor) -> Tensor:
        count = int(number(size))
        at = torch.arange(count, dtype=torch.float64)
        angle = 2 * torch.pi * at / (count if call.integer("periodic", 1) else max(count - 1, 1))
        numbers = a - b * torch.cos(angle) + c * torch.cos(2 * angle)
        return numbers.to(call.dtype(call.integer("output_datatype", 1)))

    return run


def optional(call: Call, value: object = None) -> object:
    """A value, or none."""
    return value


def reinterpret(call: Call, x: Tensor) -> Tensor:
    """The same bits as another type."""
    wide, to = WIDER.get(call.kind(0)), call.integer("to")
    x = x if wide is None else x.to(wide)
    narrow = WIDER.get(to)
    return x.view(call.dtype(to)) if narrow is None else x.view(narrow).to(call.dtype(to))


ROWS: dict[str, Callable[..., object]] = {
    "If": branch,
    "Loop": loop,
    "Scan": scan,
    "SequenceMap": sequence_map,
    "SequenceConstruct": lambda call, *tensors: list(tensors),
    "SequenceEmpty": lambda call: [],
    "SequenceAt": lambda call, sequence, at: sequence[int(number(at))],
    "SequenceLength": lambda call, sequence: torch.tensor(len(sequence)),
    "SequenceInsert": insert,
    "SequenceErase": erase,
    "SplitToSequence": split_to_sequence,
    "ConcatFromSequence": join_sequence,
    "Optional": optional,
    "OptionalGetElement": optional,
    "OptionalHasElement": lambda call, value=None: torch.tensor(value is not None),
    "NegativeLogLikelihoodLoss": likelihood,
    "SoftmaxCrossEntropyLoss": cross_entropy,
    "DFT": fourier,
    "STFT": short_fourier,
    "BlackmanWindow": window(0.42, 0.5, 0.08),
    "HannWindow": window(0.5, 0.5, 0.0),
    "HammingWindow": window(25 / 46, 21 / 46, 0.0),
    "Det": lambda call, x: torch.linalg.det(x),
    "BitCast": reinterpret,
}
HOST: dict[str, tuple[int, ...]] = {
    "If": (0,),
    "Loop": (0, 1),
    "SequenceAt": (1,),
    "SequenceInsert": (2,),
    "SequenceErase": (1,),
    "SplitToSequence": (1,),
    "DFT": (1, 2),
    "STFT": (1, 3),
}
