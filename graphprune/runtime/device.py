"""What nodes cost on one machine as functions of their widths, and what a graph made of them costs."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from graphprune.errors import DataError, ModelError, OutputError
from graphprune.ir.names import quote
from graphprune.run import CPU_ALONE
from graphprune.runtime.alone import nothing, reference, seconds_of, stairs
from graphprune.runtime.general import General, Point
from graphprune.runtime.patterns import BLOCKED, block_width
from graphprune.runtime.pieces import Piece
from graphprune.runtime.silent import ort
from graphprune.runtime.told import number, text

FORMAT = 2
STEPS = (0.125, 0.25, 0.5, 0.75, 1.0)
"""Shares of a width at which a cost is measured."""
FEW = (0.25, 0.5, 1.0)
"""The same where somebody waits for it."""
FAR = 4
POINTS = 5
"""At most, of a kind whose widths nobody knows."""
FEATURES = ("sse4_1", "avx", "avx2", "avx512f", "avx512_vnni", "amx_tile", "asimd", "asimddp", "i8mm", "sve")


@dataclass(frozen=True)
class Cost:
    """Seconds of one kind of node over a grid of widths.

    Attributes:
        axes: widths that were measured, per axis; of a kind whose widths nobody knows, elements.
        seconds: row by row.
        step: widths are filled up to multiples of it; 0 where they are elements.
    """

    axes: tuple[tuple[int, ...], ...]
    seconds: tuple[float, ...]
    step: int = 1

    def at(self, widths: Sequence[int]) -> float:
        """Between the points of the grid, in proportion beyond it; no width costs less than the least one."""
        values = np.array(self.seconds).reshape([len(axis) for axis in self.axes])
        for axis, width in zip(self.axes, widths, strict=True):
            values = self._along(axis, values, width)
        return float(values)

    def far(self, widths: Sequence[int]) -> bool:
        """Whether elements, to which a node need not be proportional, are far from all that were measured."""
        low, high = self.axes[0][0], self.axes[0][-1]
        return not self.step and not low / FAR <= widths[0] <= high * FAR

    def covers(self, widths: Sequence[int]) -> bool:
        """Whether it was measured at these widths, and at about a quarter of them."""
        if not self.step:
            return not self.far(widths)
        return all(
            axis[0] <= width / 2 + 2 * self.step and width <= axis[-1]
            for axis, width in zip(self.axes, widths, strict=True)
        )

    def joined(self, other: Cost) -> Cost:
        """With what another says of other numbers of elements."""
        told = {**dict(other.points), **dict(self.points)}
        return Cost((tuple(sorted(at for (at,) in told)),), tuple(told[at] for at in sorted(told)), 0)

    @property
    def points(self) -> tuple[Point, ...]:
        """What was measured: widths and seconds."""
        return tuple(zip(product(*self.axes), self.seconds, strict=True))

    def over(self, widths: Sequence[Sequence[int]]) -> np.ndarray:
        """The same at every combination of widths, an axis of the result per axis of the grid."""
        values = np.array(self.seconds).reshape([len(axis) for axis in self.axes])
        for axis, each in zip(self.axes, widths, strict=True):
            values = np.stack([self._along(axis, values, width) for width in each], axis=-1)
        return np.asarray(values)

    def _along(self, axis: tuple[int, ...], values: np.ndarray, width: int) -> np.ndarray:
        """The first axis of values, at a width."""
        if 1 < self.step < width and axis[-1] % self.step == 0:
            width = -(-width // self.step) * self.step
        if width >= axis[-1]:
            return np.asarray(values[-1] * (width / axis[-1]))
        if width <= axis[0]:
            return np.asarray(values[0] * (1 if self.step else width / axis[0]))
        above = int(np.searchsorted(axis, width, side="right"))
        low, high = axis[above - 1], axis[above]
        part = (width - low) / (high - low)
        return np.asarray((1 - part) * values[above - 1] + part * values[above])


@dataclass(frozen=True)
class Machine:
    """What costs depend on beside the node.

    Attributes:
        features: the architecture, and instructions that matter.
        runtime: version of ONNX Runtime.
        threads: of ONNX Runtime.
        providers: what runs the nodes, each on the first that has a kernel for it.
    """

    features: tuple[str, ...]
    runtime: str
    threads: int
    providers: tuple[str, ...] = CPU_ALONE


def this_machine(threads: int = 1, providers: Sequence[str] = CPU_ALONE) -> Machine:
    """The one that this runs on; features are those of /proc/cpuinfo, elsewhere only the architecture."""
    info = Path("/proc/cpuinfo")
    words = set(info.read_text(errors="replace").split()) if info.is_file() else set()
    return Machine(
        (platform.machine(), *(name for name in FEATURES if name in words)),
        ort.__version__,
        threads,
        tuple(providers),
    )


@dataclass(frozen=True)
class DeviceProfile:
    """Costs by kind of node.

    Attributes:
        machine: where they were measured.
        costs: by kind.
        seen: likewise, what nodes took in whole models, at the widths that these had.
        overhead: seconds of a run without any node.
        reference: seconds of a fixed product where it was measured, by which later measurements go.
        step: channels by which a convolution has to be narrower to be cheaper; 0 where nobody measured it.
        noise: how far two measurements of one node are apart, as a share: the median of some.
        minutes: that all of it took.
    """

    machine: Machine
    costs: Mapping[str, Cost] = field(default_factory=dict)
    seen: Mapping[str, tuple[Point, ...]] = field(default_factory=dict)
    overhead: float = 0.0
    reference: float = 0.0
    step: int = 0
    noise: float = 0.0
    minutes: float = 0.0

    def predict(self, found: Sequence[Piece]) -> Prediction:
        """The time of one run of these nodes."""
        each = [(piece.kind, self.at(piece.kind, piece.widths)) for piece in found]
        told = [(kind, seconds) for kind, seconds in each if seconds is not None]
        alike = sum(not self.knows(kind) for kind, _ in told)
        return Prediction(self.overhead + sum(seconds for _, seconds in told), alike, len(each) - len(told))

    def at(self, kind: str, widths: Sequence[int]) -> float | None:
        """Seconds of one node; None where nothing alike was measured."""
        cost = self.costs.get(kind)
        return self.general.at(kind, widths) if cost is None or cost.far(widths) else cost.at(widths)

    def cost(self, piece: Piece) -> Cost | None:
        """What a node costs at its widths and below; None where nothing alike was measured."""
        known = self.costs.get(piece.kind)
        if known is not None:
            return known
        step = self.step if piece.kind.startswith(f'["{BLOCKED}') and self.step else 1
        axes = tuple(grid(width, width, step) if piece.roles else (width,) for width in piece.widths)
        told = [self.general.at(piece.kind, widths) for widths in product(*axes)]
        seconds = tuple(each for each in told if each is not None)
        return Cost(axes, seconds, step if piece.roles else 0) if len(seconds) == len(told) else None

    def knows(self, kind: str) -> bool:
        """Whether nodes of a kind were measured."""
        return kind in self.costs or kind in self.seen

    @cached_property
    def general(self) -> General:
        """What is told of kinds that nobody measured."""
        return General({**self.seen, **{kind: cost.points for kind, cost in self.costs.items()}})

    @property
    def hash(self) -> str:
        """Of machine and costs."""
        told = json.dumps(
            [asdict(self.machine), {kind: asdict(self.costs[kind]) for kind in sorted(self.costs)}]
        )
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    def save(self, path: Path) -> None:
        """Write it as JSON; the old file stays until the new one is whole.

        Raises:
            OutputError: the file cannot be written.
        """
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            partial.write_text(json.dumps({"format": FORMAT, **asdict(self)}, indent=1), encoding="utf-8")
            partial.replace(path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise OutputError(f"cannot write {quote(str(path))}: {(error.strerror or '').lower()}") from error

    @classmethod
    def of(cls, told: dict[str, Any]) -> DeviceProfile:
        """From a document; whatever does not fit raises an error of Python."""
        return _read(told)

    @classmethod
    def load(cls, path: Path) -> DeviceProfile:
        """Read one.

        Raises:
            DataError: there is none, or it is no profile of this format.
        """
        try:
            return cls.of(json.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise DataError(f"cannot read {quote(str(path))}: {(error.strerror or '').lower()}") from error
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            fault = f"{quote(str(path))} is no device profile of format {FORMAT}"
            raise DataError(fault, "graphprune profile MODEL -o FILE writes one") from error


def _read(told: dict[str, Any]) -> DeviceProfile:
    """Of a document; whatever does not fit raises."""
    machine = told["machine"]
    if told["format"] != FORMAT or set(told) != {"format", *(each.name for each in fields(DeviceProfile))}:
        raise ValueError
    return DeviceProfile(
        Machine(
            tuple(map(text, machine["features"])),
            text(machine["runtime"]),
            int(machine["threads"]),
            tuple(map(text, machine["providers"])),
        ),
        {text(kind): _cost(cost) for kind, cost in told["costs"].items()},
        {text(kind): tuple(map(_point, points)) for kind, points in told["seen"].items() if points},
        step=int(number(told["step"])),
        **{name: number(told[name]) for name in ("overhead", "reference", "noise", "minutes")},
    )


def _cost(told: dict[str, Any]) -> Cost:
    axes = tuple(tuple(int(width) for width in axis) for axis in told["axes"])
    seconds = tuple(map(number, told["seconds"]))
    ordered = all(axis and axis[0] > 0 and sorted(set(axis)) == list(axis) for axis in axes)
    if not 0 < len(axes) < 3 or not ordered or math.prod(map(len, axes)) != len(seconds):
        raise ValueError
    return Cost(axes, seconds, int(told["step"]))


def _point(told: list[Any]) -> Point:
    widths, seconds = told
    if not widths or any(isinstance(width, bool) or int(width) != width or width < 1 for width in widths):
        raise ValueError
    return tuple(map(int, widths)), number(seconds)


@dataclass(frozen=True)
class Prediction:
    """Seconds of a run.

    Attributes:
        seconds: of all nodes but the unknown ones.
        alike: nodes that were never measured, and are told from others of their operator.
        unknown: nodes of which the profile knows nothing.
    """

    seconds: float
    alike: int
    unknown: int


def grid(
    least: int, most: int, step: int, part: bool = False, steps: Sequence[float] = STEPS
) -> tuple[int, ...]:
    """Widths at which a cost is measured, from the first share of the least of a kind to the largest.

    In whole steps where the largest is one, and with `part` also below the first.
    """
    step = step if most % step == 0 else 1
    shares = [share * most for share in steps]
    while shares[0] > max(step, least * steps[0]) * 2:
        shares.insert(0, shares[0] / 2)
    below = (step // 4, step // 2) if part and step > 3 else ()
    return tuple(sorted({*below, *(-(-math.ceil(share) // step) * step for share in shares)}))


def by_kind(found: Sequence[Piece]) -> dict[str, list[Piece]]:
    """Pieces whose cost is one function."""
    kinds: dict[str, list[Piece]] = {}
    for piece in found:
        kinds.setdefault(piece.kind, []).append(piece)
    return kinds


def cost_of(
    alike: Sequence[Piece],
    threads: int = 1,
    scale: float = 1.0,
    steps: Sequence[float] = STEPS,
    providers: tuple[str, ...] = CPU_ALONE,
) -> Cost:
    """Measured over the grid below the largest widths that pieces of one kind have.

    Args:
        alike: the pieces.
        threads: of ONNX Runtime.
        scale: how slow the machine is to count, as a multiple of how slow it was at the start.
        steps: shares of a width at which it is measured.
        providers: what runs it.

    Raises:
        ModelError: one does not run alone.
    """
    first = alike[0]

    def seconds(piece: Piece, widths: Sequence[int]) -> float:
        return scale * seconds_of(piece, widths, threads, providers)

    if not first.roles:
        sizes = {piece.widths[0]: piece for piece in alike}
        places = sorted(sizes)[:: max(1, len(sizes) // POINTS)]
        return Cost((tuple(places),), tuple(seconds(sizes[at], (at,)) for at in places), 0)
    grouped = any(times > 1 for role in first.roles for _, _, times in role)
    step = block_width() if first.kind.startswith(f'["{BLOCKED}') and not grouped else 1
    every = zip(*(piece.widths for piece in alike), strict=True)
    inwards = len(first.roles) > 1
    axes = tuple(
        grid(min(widths), max(widths), step, inwards and not at, steps) for at, widths in enumerate(every)
    )
    return Cost(axes, tuple(seconds(first, widths) for widths in product(*axes)), step)


def measured(
    found: Sequence[Piece], known: DeviceProfile, steps: Sequence[float] = STEPS
) -> Iterator[tuple[DeviceProfile, int]]:
    """The profile, longer by one kind at a time, and how many are left; what does not run alone stays out."""
    threads, providers = known.machine.threads, known.machine.providers
    missing = {kind: alike for kind, alike in by_kind(found).items() if kind not in known.costs}
    now = reference(threads, providers)
    scale = known.reference / now if known.reference else 1.0
    profile = replace(
        known,
        overhead=scale * nothing(threads, providers),
        reference=scale * now,
        step=known.step or stairs(threads, providers),
    )
    for at, (kind, alike) in enumerate(missing.items(), 1):
        try:
            profile = replace(
                profile, costs={**profile.costs, kind: cost_of(alike, threads, scale, steps, providers)}
            )
        except ModelError:
            continue
        yield profile, len(missing) - at


def noise_of(found: Sequence[Piece], profile: DeviceProfile, most: int = 12) -> float:
    """How far a second measurement is from the first: the median over some kinds, at their largest widths."""
    kinds = [alike[0] for kind, alike in by_kind(found).items() if kind in profile.costs and alike[0].roles]
    threads, providers = profile.machine.threads, profile.machine.providers
    scale = profile.reference / reference(threads, providers) if profile.reference else 1.0
    apart = []
    for piece in kinds[:: max(1, len(kinds) // most)]:
        cost = profile.costs[piece.kind]
        widths = [axis[-1] for axis in cost.axes]
        before, again = cost.seconds[-1], scale * seconds_of(piece, widths, threads, providers)
        apart.append(abs(again - before) / max(again, before, 1e-9))
    return float(np.median(apart)) if apart else 0.0
