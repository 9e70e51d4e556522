"""When a rule pays: measured per instruction set and version of ONNX Runtime, in a table that ships.

`tools/lower_table` measures the examples of the rules and writes it. Nothing is timed where a model is
lowered: the same file comes out everywhere.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphprune.runtime.device import Machine

TARGETS = ("portable", "native")
NOT_SLOWER = 0.97
"""Times as fast that a rule has to be wherever it was measured, to be portable: the rest is noise."""
FASTER = 1.03
"""Times as fast that it has to be where it is used, or somewhere, to be used at all."""
INSTRUCTIONS = (("avx512f", "avx512"), ("avx2", "avx2"), ("asimd", "neon"))
FILE = "table.json"


@dataclass(frozen=True)
class Cell:
    """What a rule did to its example: times as fast, and nanoseconds less per element of the result.

    What a node costs whatever it does is not among the latter.
    """

    speedup: float
    saved_ns: float


@dataclass(frozen=True)
class Table:
    """Cells by place, an instruction set and a version of ONNX Runtime as `avx512/1.32`, then by rule.

    Attributes:
        cells: what was measured.
        node_ns: by place, nanoseconds that a node costs whatever it does.
        opsets: by place, the latest opset that its ONNX Runtime reads.
        hash: of the text.
    """

    cells: Mapping[str, Mapping[str, Cell]]
    hash: str
    node_ns: Mapping[str, float] = field(default_factory=dict)
    opsets: Mapping[str, int] = field(default_factory=dict)

    def rules(self, target: str, place: str) -> frozenset[str]:
        """Names of the rules that pay at all places, for the target `portable`, else at this one as well."""
        names = {name for cells in self.cells.values() for name in cells}
        own = self.cells.get(self.nearest(place), {})
        found = {name for name in names if self._portable(name)}
        if target != "portable":
            found |= {name for name, cell in own.items() if cell.speedup >= FASTER}
            found -= {name for name, cell in own.items() if cell.speedup < NOT_SLOWER}
        return frozenset(found)

    def reads(self, target: str, place: str) -> int:
        """The latest opset that a target reads: for `portable` that of all places, else of this one.

        0 where the instruction set was never measured.
        """
        if target == "portable":
            return min(self.opsets.values(), default=0)
        return self.opsets.get(self.nearest(place), 0)

    def _portable(self, name: str) -> bool:
        found = [cells[name].speedup for cells in self.cells.values() if name in cells]
        everywhere = len(found) == len(self.cells)
        return everywhere and min(found) >= NOT_SLOWER and max(found) >= FASTER

    def nearest(self, place: str) -> str:
        """The place that serves for one: its instruction set at the last version that is not newer, or the
        first.

        Empty where the instruction set was never measured.
        """
        kind, _, version = place.partition("/")
        known = sorted((each for each in self.cells if each.split("/")[0] == kind), key=_version)
        older = [each for each in known if _version(each) <= _version(f"{kind}/{version}")]
        return (older[-1:] or known[:1] or [""])[0]

    def saved(self, rule: str, elements: int, fewer: int, place: str) -> float:
        """Milliseconds that a use is foreseen to save: per element of its result, and per node that goes.

        Nothing where the rule was not measured.
        """
        nearest = self.nearest(place) or max(self.cells, key=_version)
        cell = self.cells.get(nearest, {}).get(rule)
        if cell is None:
            return 0.0
        return max(0.0, cell.saved_ns * elements + self.node_ns.get(nearest, 0.0) * fewer) * 1e-6


def _version(place: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", place.partition("/")[2])))


@cache
def table() -> Table:
    """The table that ships."""
    return parse(resources.files("graphprune.lowering").joinpath(FILE).read_text(encoding="utf-8"))


def parse(text: str) -> Table:
    """A table from its text."""
    content = json.loads(text)
    cells = {
        place: {rule: Cell(float(speedup), float(saved)) for rule, (speedup, saved) in rules.items()}
        for place, rules in content["cells"].items()
    }
    nodes = {place: float(cost) for place, cost in content.get("node_ns", {}).items()}
    opsets = {place: int(opset) for place, opset in content.get("opsets", {}).items()}
    return Table(cells, hashlib.sha256(text.encode()).hexdigest()[:16], nodes, opsets)


def names() -> tuple[str, ...]:
    """What a target may be called: portable, native, and every place with and without its version."""
    kinds = dict.fromkeys(place.partition("/")[0] for place in table().cells)
    return (*TARGETS, *kinds, *table().cells)


def place_of(target: str) -> str:
    """The place that a target stands for; without a version that of the ONNX Runtime that is installed.

    Raises:
        DataError: it is a file, and no device profile.
    """
    from graphprune.runtime.device import DeviceProfile

    if target in TARGETS:
        return here()
    if target.endswith(".json"):
        return place_at(DeviceProfile.load(Path(target)).machine)
    return target if "/" in target else f"{target}/{here().partition('/')[2]}"


@cache
def here() -> str:
    """This machine's place: its instruction set and the version of its ONNX Runtime."""
    from graphprune.runtime.device import this_machine

    return place_at(this_machine())


def place_at(machine: Machine) -> str:
    """The place of a machine."""
    other = next(iter(machine.features), "unknown")
    kind = next((name for flag, name in INSTRUCTIONS if flag in machine.features), other)
    return f"{kind}/{'.'.join(machine.runtime.split('.')[:2])}"
