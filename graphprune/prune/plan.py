"""The decision, as a value: which Units stay, which weights are replaced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import get_args, get_type_hints

import numpy as np

from graphprune.document import Document
from graphprune.errors import did_you_mean
from graphprune.ir.arrays import Array
from graphprune.ir.names import quote
from graphprune.labels.options import Options


@dataclass(frozen=True)
class Plan:
    """What a pass decided for one model.

    Attributes:
        options: what the analysis assumed; the plan only means something under the same options.
        cuts: kept Units per Group id, ascending; Groups that are not named stay whole.
        widths: number of Units each named Group had.
        scores: one saliency per Unit of each named Group (informational).
        replaced: new dense values of initializers, by name (repair), in dense coordinates.
        masks: boolean keep masks of initializers, by name; the shape stays.
        biases: vectors added to the results of contractions, by name of the result; dense coordinates.
        bypassed: results of residual branches that go, by name; the sum that reads one reads only the rest.

    What `replaced` and `biases` say about slots that the cuts remove is never read.
    """

    options: Options = field(default_factory=Options)
    cuts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    widths: Mapping[str, int] = field(default_factory=dict)
    scores: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    replaced: Mapping[str, Array] = field(default_factory=dict)
    masks: Mapping[str, Array] = field(default_factory=dict)
    biases: Mapping[str, Array] = field(default_factory=dict)
    bypassed: tuple[str, ...] = ()

    def __repr__(self) -> str:
        kept = sum(map(len, self.cuts.values()))
        units = sum(self.widths.get(name, len(cut)) for name, cut in self.cuts.items())
        told = [f"{units - kept} of {units} units of {len(self.cuts)} groups go"]
        parts = {"replaced": self.replaced, "masks": self.masks, "biases": self.biases}
        told += [f"{len(held)} {name}" for name, held in parts.items() if held]
        told += [f"{len(self.bypassed)} sublayers bypassed"] if self.bypassed else []
        return f"<Plan: {', '.join(told)}>"

    @property
    def empty(self) -> bool:
        """Whether nothing is removed, masked, replaced or added."""
        shrinks = any(len(kept) < self.widths[group] for group, kept in self.cuts.items())
        return not (shrinks or self.replaced or self.masks or self.biases or self.bypassed)

    def restricted(self, groups: set[str]) -> Plan:
        """The same plan, cutting only the named Groups (to bisect a failure)."""
        cuts = {group: kept for group, kept in self.cuts.items() if group in groups}
        return replace(self, cuts=cuts, widths={g: self.widths[g] for g in cuts}, scores={})

    def to_json(self) -> dict[str, object]:
        """A JSON object; replaced tensors and masks are named, their values are stored beside it."""
        return {
            "options": {
                "layernorm": self.options.layernorm,
                "allow_inexact": self.options.allow_inexact,
                "share": self.options.share,
                "io": self.options.io,
                "shuffle": self.options.shuffle,
                "dequantize": self.options.dequantize,
            },
            "groups": {
                group: {
                    "width": self.widths[group],
                    "kept": list(kept),
                    "scores": [float(f"{score:.6g}") for score in self.scores.get(group, ())],
                }
                for group, kept in sorted(self.cuts.items())
            },
            "replaced": sorted(self.replaced),
            "masks": sorted(self.masks),
            "biases": sorted(self.biases),
            "bypassed": list(self.bypassed),
        }

    @property
    def tensors(self) -> dict[str, Array]:
        """The values that the JSON object only names: "replaced/NAME", "masks/NAME", "biases/NAME"."""
        kinds = (("replaced", self.replaced), ("masks", self.masks), ("biases", self.biases))
        return {f"{kind}/{name}": _whole(array) for kind, arrays in kinds for name, array in arrays.items()}

    @staticmethod
    def from_json(document: Mapping[str, object], tensors: Mapping[str, Array] | None = None) -> Plan:
        """Reads what to_json wrote.

        Args:
            document: the JSON object.
            tensors: what `tensors` was when it was written.

        Raises:
            ArgumentError: the document is not a plan, or names tensors that are not given.
        """
        return Plan.read(Document(document, "the plan"), dict(tensors or {}))

    @staticmethod
    def read(document: Document, tensors: Mapping[str, Array]) -> Plan:
        """The same of a part of a file, which errors name.

        Raises:
            ArgumentError: as `from_json` does.
        """
        return _read(document, tensors)


def _whole(array: Array) -> Array:
    """Numbers of four bits and fewer in whole bytes, which every format of files knows."""
    name = array.dtype.name
    if name in ("int4", "int2"):
        return array.astype(np.int8)
    return array.astype(np.uint8) if name in ("uint4", "uint2") else array


def _read(document: Document, tensors: Mapping[str, Array]) -> Plan:
    groups = document.part("groups")
    entries = {str(name): groups.part(name) for name in groups.content}
    widths = {name: entry.one("width", int) for name, entry in entries.items()}
    return Plan(
        options=_options(document.part("options")),
        cuts={name: _kept(entry, widths[name]) for name, entry in entries.items()},
        widths=widths,
        scores={name: tuple(map(float, entry.many("scores", float))) for name, entry in entries.items()},
        bypassed=document.many("bypassed", str),
        replaced=_tensors(document, "replaced", tensors),
        masks=_tensors(document, "masks", tensors),
        biases=_tensors(document, "biases", tensors),
    )


def _kept(entry: Document, width: int) -> tuple[int, ...]:
    kept = tuple(sorted(entry.many("kept", int, needed=True)))
    if not kept or kept[0] < 0 or kept[-1] >= width or len(set(kept)) != len(kept):
        raise entry.wrong(f"keeps units that it does not have: its width is {width}")
    return kept


def _options(document: Document) -> Options:
    """Options, each one of the values that it may have."""
    known = {name: get_args(hint) or (False, True) for name, hint in get_type_hints(Options).items()}
    for name, value in document.content.items():
        if name not in known:
            raise document.wrong(f"has an unknown key {quote(name)}", did_you_mean(name, known))
        if value not in known[name]:
            raise document.wrong(
                f"is damaged: '{name}' is none of {', '.join(map(str, known[name])).lower()}"
            )
    return Options(**document.content)  # type: ignore[arg-type]


def _tensors(document: Document, kind: str, tensors: Mapping[str, Array]) -> dict[str, Array]:
    names = document.many(kind, str)
    missing = [name for name in names if f"{kind}/{name}" not in tensors]
    if missing:
        found = f"needs the {kind} tensor of {quote(missing[0])}, which is not beside it"
        raise document.wrong(found, "a plan that changes weights has a .safetensors of the same name")
    return {name: tensors[f"{kind}/{name}"] for name in names}
