"""Device profiles that ship: data files named by what their machines can do."""

from __future__ import annotations

import gzip
import json
import zlib
from functools import cache
from importlib.resources import files

from graphprune.errors import DataError
from graphprune.runtime.device import DeviceProfile, Machine

SUFFIX = ".json.gz"


@cache
def names() -> tuple[str, ...]:
    """Of all that ship."""
    folder = files(__package__) / "profiles"
    return tuple(
        sorted(each.name.removesuffix(SUFFIX) for each in folder.iterdir() if each.name.endswith(SUFFIX))
    )


def shipped(name: str) -> DeviceProfile:
    """One of them.

    Raises:
        DataError: there is none of this name, or the installation is damaged.
    """
    if name not in names():
        raise DataError(f"no device profile '{name}' ships", f"there are {', '.join(names())}")
    try:
        content = gzip.decompress((files(__package__) / "profiles" / f"{name}{SUFFIX}").read_bytes())
        return DeviceProfile.of(json.loads(content))
    except (OSError, EOFError, zlib.error, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"the device profile '{name}' is damaged", "install graphprune again") from error


def nearest(machine: Machine) -> DeviceProfile:
    """The one whose machine has most in common with another: the architecture first, then instructions."""
    return max(map(shipped, names()), key=lambda each: _alike(each.machine, machine))


def _alike(one: Machine, other: Machine) -> tuple[bool, int]:
    mine, theirs = set(one.features[1:]), set(other.features[1:])
    return one.features[:1] == other.features[:1], -len(mine ^ theirs)


def remark(machine: Machine) -> str:
    """What there is to say of the nearest one; empty where it is of such a machine."""
    own = nearest(machine).machine
    if own.features == machine.features:
        return ""
    told = " ".join(own.features)
    return (
        f"no built-in device profile is of this machine ({' '.join(machine.features)}): that of {told} "
        "serves; `graphprune profile` measures this one"
    )
