"""Where a written model comes from: entries of its own metadata, read back by `inspect`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

    from graphprune.ir.load import Source
    from graphprune.pipeline.planfile import PlanFile

PREFIX = "graphprune."
"""Of every key that is ours; other metadata stay as they are."""
_BLOCK = 2**18


@dataclass(frozen=True)
class Origin:
    """What made a model.

    Attributes:
        version: of graphprune.
        source: "sha256:" and the hash of the file it was made of, and of weights beside it; of a model from
            memory "weights:" and the hash that plan.json has.
        pipeline: the passes as text.
    """

    version: str
    source: str
    pipeline: str


def state(model: ir.Model, origin: Origin | None) -> None:
    """Write where a model comes from into its metadata; what an earlier compile said goes in any case."""
    for key in [key for key in model.metadata_props if key.startswith(PREFIX)]:
        del model.metadata_props[key]
    if origin is not None:
        model.metadata_props.update({f"{PREFIX}{name}": text for name, text in vars(origin).items()})


def of(source: Source, plan: PlanFile) -> Origin:
    """The origin of what is made of a source by a plan."""
    return Origin(plan.versions["graphprune"], _hash(source) or f"weights:{plan.weights}", plan.pipeline)


def stated(metadata: Mapping[str, str]) -> Origin | None:
    """What a model says about itself; None where graphprune did not write it."""
    names = tuple(Origin.__dataclass_fields__)
    if not any(f"{PREFIX}{name}" in metadata for name in names):
        return None
    return Origin(*(metadata.get(f"{PREFIX}{name}", "") for name in names))


def _hash(source: Source) -> str:
    """Of the model file, and then of weights beside it by name; nothing where there is no file."""
    if source.path is None:
        return ""
    digest = hashlib.sha256()
    files = [source.path, *sorted(source.external_files)]
    if source.data is not None:  # no copy, and the pages are there: the weights were read
        digest.update(source.data)
        del files[0]
    for path in files:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    return f"sha256:{digest.hexdigest()}"
