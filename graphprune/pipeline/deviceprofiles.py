"""The device profile of a compile: a file that is given, or what this machine was measured to cost so far.

What is measured goes to the user's cache and is not measured again, so that a second compile is quick and
decides the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from graphprune.errors import ArgumentError, DataError, OutputError, did_you_mean
from graphprune.ir.names import quote

if TYPE_CHECKING:
    from graphprune.pipeline.settings import Settings
    from graphprune.runtime.device import Cost, DeviceProfile, Machine
    from graphprune.runtime.pieces import Piece

BUILTIN = "builtin"
"""Stands for the profile that ships whose machine is nearest to this one."""


def device_profile(needed: Sequence[Piece], threads: int, settings: Settings) -> tuple[DeviceProfile, bool]:
    """What nodes cost, and whether that is of this machine.

    Raises:
        DataError: the file that is given is no profile.
        ArgumentError: it was measured with another number of threads.
    """
    from graphprune.runtime.device import this_machine

    given = given_name(settings)
    if given is None:
        return own_profile(needed, threads, settings), True
    found = given_profile(given, threads)
    return found, given == BUILTIN or found.machine == this_machine(threads)


def given_profile(given: str, threads: int) -> DeviceProfile:
    """The profile that is given: a file, the name of one that ships, or the nearest of these.

    Raises:
        DataError: the file is none.
        ArgumentError: it was measured with another number of threads.
    """
    found = _named(given)
    if found.machine.threads != threads:
        fault = f"{quote(given)} was measured with --threads {found.machine.threads}, not {threads}"
        raise ArgumentError(fault, f"give --threads {found.machine.threads}, or another profile")
    return found


def _named(given: str) -> DeviceProfile:
    from graphprune.runtime import builtin
    from graphprune.runtime.device import DeviceProfile, this_machine

    if given == BUILTIN:
        return builtin.nearest(this_machine())
    if given in builtin.names() and not Path(given).exists():
        return builtin.shipped(given)
    path = Path(given)
    if not path.suffix and not path.exists():
        raise ArgumentError(
            f"no device profile is named {quote(given)}, and there is no such file",
            did_you_mean(given, [BUILTIN, *builtin.names()]),
        )
    return DeviceProfile.load(path)


def step_of(settings: Settings) -> int | None:
    """Channels by which a convolution has to be narrower to be cheaper, by the profile that is given.

    Raises:
        DataError: the file is no profile.
    """
    given = given_name(settings)
    return None if given is None else _named(given).step or None


def given_name(settings: Settings) -> str | None:
    """What is given: a profile of its own, or a file as the target of lowering."""
    target = os.fsdecode(settings.target)
    given = settings.device_profile or (target if target.endswith(".json") else None)
    return None if given is None else os.fsdecode(given)


def remarks(settings: Settings) -> tuple[str, ...]:
    """What there is to say of the profile that is given."""
    from graphprune.runtime import builtin
    from graphprune.runtime.device import this_machine

    said = builtin.remark(this_machine()) if given_name(settings) == BUILTIN else ""
    return (said,) if said else ()


def own_profile(needed: Sequence[Piece], threads: int, settings: Settings) -> DeviceProfile:
    """What nodes cost on this machine, those that no earlier compile met measured now."""
    from graphprune.runtime.device import FEW, DeviceProfile, measured, this_machine

    machine = this_machine(threads)
    path = _place(machine)
    profile, before = _covering(needed, _cached(path, machine) or DeviceProfile(machine))
    wanted = (*needed, *_wide(needed, before))
    known, start, quiet = len(profile.costs), time.monotonic(), profile.overhead
    for longer, left in measured(wanted, profile, FEW):
        profile = replace(
            _joined(longer, before),
            overhead=quiet or longer.overhead,
            minutes=profile.minutes + (time.monotonic() - start) / 60,
        )
        start, done = time.monotonic(), len(profile.costs) - known
        settings.progress(done, done + left, "measure what nodes cost here")
        with suppress(OSError, OutputError):  # without a cache it is measured again
            path.parent.mkdir(parents=True, exist_ok=True)
            profile.save(path)
    kinds = {piece.kind for piece in needed}
    return replace(profile, costs={kind: cost for kind, cost in profile.costs.items() if kind in kinds})


def _covering(needed: Sequence[Piece], profile: DeviceProfile) -> tuple[DeviceProfile, Mapping[str, Cost]]:
    """A profile without kinds that are wider or far narrower here than they were measured, and those."""
    costs = profile.costs
    apart = {each.kind for each in needed if each.kind in costs and not costs[each.kind].covers(each.widths)}
    left = {kind: cost for kind, cost in costs.items() if kind not in apart}
    return replace(profile, costs=left), {kind: costs[kind] for kind in sorted(apart)}


def _wide(needed: Sequence[Piece], before: Mapping[str, Cost]) -> Iterator[Piece]:
    """Pieces as wide and as narrow as their kinds were before, which stay covered."""
    for kind, cost in before.items():
        if cost.step:
            piece = next(each for each in needed if each.kind == kind)
            for widths in zip(*((axis[-1], min(2 * axis[0], axis[-1])) for axis in cost.axes), strict=True):
                yield replace(piece, widths=widths)


def _joined(profile: DeviceProfile, before: Mapping[str, Cost]) -> DeviceProfile:
    """With what was measured before of kinds whose cost is one of elements."""
    costs = {
        kind: cost if kind not in before or cost.step else cost.joined(before[kind])
        for kind, cost in profile.costs.items()
    }
    return replace(profile, costs=costs)


def _cached(path: Path, machine: Machine) -> DeviceProfile | None:
    """What is there already; a file that is none is written anew."""
    from graphprune.runtime.device import DeviceProfile

    try:
        found = DeviceProfile.load(path)
    except DataError:
        return None
    return found if found.machine == machine else None


def _place(machine: Machine) -> Path:
    """Where profiles of a machine are kept; another machine may share the folder."""
    told = hashlib.sha256(json.dumps(asdict(machine), sort_keys=True).encode()).hexdigest()[:16]
    return cache_folder() / "profiles" / f"{told}.json"


def cache_folder() -> Path:
    """The folder for what can be made again, by the custom of the system."""
    if sys.platform == "win32":
        root = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        root = os.environ.get("XDG_CACHE_HOME") or Path.home() / "Library" / "Caches"
    else:
        root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "graphprune"
