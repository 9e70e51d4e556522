"""Which mutants are run: a sample whose seed is the commit, and which tests can notice each."""

from __future__ import annotations

import json
import random
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import accumulate, islice
from pathlib import Path

from tools.mutants.operators import Mutant, differs, mutants

AREAS: dict[str, tuple[tuple[str, ...], int]] = {
    "counts": (
        (
            "graphprune/axes/cost.py",
            "graphprune/axes/kept.py",
            "graphprune/ops/counting.py",
            "graphprune/ops/*:*_macs*",
            "graphprune/ops/linear.py:_letters",
            "graphprune/ops/linear.py:_once",
        ),
        28,
    ),
    "prune": (("graphprune/prune/*", "graphprune/experts/keep.py", "graphprune/experts/merging.py"), 60),
    "proof": (("graphprune/proof/*",), 32),
}
"""Files of each area (behind a colon: functions, where not all are meant), and how many are drawn."""
CPU_S = 20.0
"""Tests worth this much are run against a mutant; those that are left over are the least specific."""


@dataclass(frozen=True)
class Test:
    """A test that passes at the commit.

    Attributes:
        name: node id.
        cpu, wall: seconds.
        calls: `path:function` of all of the package that it calls.
    """

    name: str
    cpu: float
    wall: float
    calls: frozenset[str]

    @property
    def file(self) -> str:
        """Where it stands."""
        return self.name.partition("::")[0]


def git(root: Path, *arguments: str) -> bytes:
    """Output of a git command."""
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True).stdout


def commit_of(root: Path, name: str) -> str:
    """The full hash of a commit.

    Raises:
        SystemExit: there is none of this name.
    """
    try:
        return git(root, "rev-parse", f"{name}^{{commit}}").decode().strip()
    except subprocess.CalledProcessError:
        raise SystemExit(f"error: no commit named '{name}'") from None


def draw(root: Path, areas: Iterable[str] = AREAS, share: float = 1.0, seed: str = "0") -> list[Mutant]:
    """The sample of a tree: the same for a seed, whatever the machine.

    Args:
        root: a checkout.
        areas: names in AREAS.
        share: of the usual number of mutants.
        seed: a hexadecimal number, by custom the hash of the commit.
    """
    found: list[Mutant] = []
    for area in areas:
        patterns, count = AREAS[area]
        paths = sorted(str(path.relative_to(root)) for path in (root / "graphprune").rglob("*.py"))
        own = [path for path in paths if any(fnmatch(path, p.partition(":")[0]) for p in patterns)]
        files = {path: (root / path).read_bytes() for path in own}
        made = (mutant for path, source in files.items() for mutant in mutants(path, source))
        every = [mutant for mutant in made if any(is_in(mutant, pattern) for pattern in patterns)]
        random.Random(int(seed, 16)).shuffle(every)
        able = (mutant for mutant in every if differs(mutant, files[mutant.path]))
        found += sorted(islice(able, round(count * share)))
    return found


def area_of(mutant: Mutant) -> str:
    """The area that a mutant was drawn from."""
    return next(a for a, (patterns, _) in AREAS.items() if any(is_in(mutant, p) for p in patterns))


def is_in(mutant: Mutant, pattern: str) -> bool:
    """Whether a mutant is of these files, and of these functions where the pattern names some."""
    path, _, function = pattern.partition(":")
    return fnmatch(mutant.path, path) and fnmatch(mutant.function, function or "*")


def read_tests(reach: Path) -> list[Test]:
    """What `tools.mutants.reach` wrote."""
    rows = [json.loads(line) for line in reach.read_text().splitlines()]
    return [Test(row["test"], row["cpu"], row["wall"], frozenset(row["calls"])) for row in rows]


def tests_of(mutant: Mutant, tests: Iterable[Test], most: float = CPU_S) -> list[Test]:
    """Tests that call the mutated function (or any of the module), the likely killers first.

    The most specific tests of every file come first, and all files get the same time: a test that calls
    little says more about it than one that compiles a model, and files differ in what they look at.
    """
    place = f"{mutant.path}:{mutant.function}"
    able = [test for test in tests if any(reaches(call, place) for call in test.calls)]
    files: Mapping[str, list[Test]] = defaultdict(list)
    for test in sorted(able, key=lambda test: (len(test.calls) * max(test.cpu, 0.1), test.name)):
        files[test.file].append(test)
    turns = [
        (before, len(test.calls), test.name, test)
        for of in files.values()
        for before, test in zip(accumulate((test.cpu for test in of), initial=0.0), of, strict=False)
    ]
    ordered = [test for *_, test in sorted(turns, key=lambda each: each[:3])]
    chosen, spent = [], 0.0
    for test in ordered:
        if spent + test.cpu <= most:
            chosen.append(test)
            spent += test.cpu
    return chosen


def reaches(call: str, place: str) -> bool:
    """Whether a call is of this function, or of one around or in it; at the level of a module, of any."""
    return call == place or call.startswith(place if place.endswith(":") else f"{place}.")
