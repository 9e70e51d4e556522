"""The decision, as a value: which Units stay, which weights are replaced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from graphprune.errors import ArgumentError
from graphprune.ir.arrays import Array
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
        try:
            return _read(document, dict(tensors or {}))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArgumentError(
                f"the plan cannot be read: {error!r}", "was it written by this version?"
            ) from None


def _whole(array: Array) -> Array:
    """Numbers of four bits and fewer in whole bytes, which every format of files knows."""
    name = array.dtype.name
    if name in ("int4", "int2"):
        return array.astype(np.int8)
    return array.astype(np.uint8) if name in ("uint4", "uint2") else array


def _read(document: Mapping[str, object], tensors: dict[str, Array]) -> Plan:
    groups = document["groups"]
    options = document["options"]
    if not isinstance(groups, Mapping) or not isinstance(options, Mapping):
        raise TypeError("groups and options must be objects")
    cuts = {str(name): tuple(sorted(int(u) for u in entry["kept"])) for name, entry in groups.items()}
    widths = {str(name): int(entry["width"]) for name, entry in groups.items()}
    for name, kept in cuts.items():
        if not kept or kept[0] < 0 or kept[-1] >= widths[name] or len(set(kept)) != len(kept):
            raise ValueError(f"group {name} keeps units that it does not have")
    named = {kind: document.get(kind, []) for kind in ("replaced", "masks", "biases")}
    bypassed = document.get("bypassed", [])
    lists = {kind: names for kind, names in named.items() if isinstance(names, list)}
    if not isinstance(bypassed, list) or lists.keys() != named.keys():
        raise TypeError("replaced, masks, biases and bypassed must be lists")
    return Plan(
        options=Options(**options),
        cuts=cuts,
        widths=widths,
        scores={
            str(name): tuple(float(s) for s in entry.get("scores", ())) for name, entry in groups.items()
        },
        bypassed=tuple(str(name) for name in bypassed),
        **{kind: {name: tensors[f"{kind}/{name}"] for name in names} for kind, names in lists.items()},
    )
