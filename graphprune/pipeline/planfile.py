"""plan.json: the decisions of a compile, to be read, compared, and repeated on another checkpoint.

Keys: `format`, `version`, `pipeline` (text), `fixed` (inputs that became constants), `structure` and
`weights` (hashes of the normalised source model), `passes` (one entry per pass: `pass` text, `plan`, null
where the pass made none, and `forced`: why its budget is left far behind), `lowering` (the target, the hash
of the table and the rules that lowered the result, null where it was not lowered), `latency` (hash of the
device profile and factor that a latency budget was solved by, null where there was none) and `versions`.
Tensors that a plan replaces, masks or adds lie in a safetensors file beside, keyed `<number of the
pass>/replaced/<name>`, `.../masks/<name>` or `.../biases/<name>`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np

from graphprune.document import Document
from graphprune.errors import ArgumentError, PluginError, PromiseError
from graphprune.ir.fixed import Fixed, as_lists
from graphprune.ir.names import quote
from graphprune.ir.nearby import nearby
from graphprune.ir.paths import exists
from graphprune.lowering.lower import Rules
from graphprune.pipeline import fingerprint, registry
from graphprune.pipeline.amounts import MEASURES
from graphprune.pipeline.option import Contents
from graphprune.pipeline.passes import Context, Pass, Subject
from graphprune.pipeline.report import Json, installed_versions, plain
from graphprune.shown import Shown

if TYPE_CHECKING:
    import onnx_ir as ir

    from graphprune.axes import Options
    from graphprune.pipeline.ratios import Ratio
    from graphprune.prune.plan import Plan

FORMAT = "graphprune-plan"
VERSION = 1
_LIMIT = 2**28
_OWN = "it fits checkpoints of its own graph: same operators, names, shapes and attributes"


@dataclass(frozen=True)
class Entry:
    """One pass of a plan file: its text, and its decision if it made one."""

    text: str
    plan: Plan | None
    forced: str = ""


@dataclass(frozen=True)
class Solved:
    """What latency budgets were solved by: a device profile, and by which measurements are apart from it."""

    profile: str
    factor: float


@dataclass(frozen=True)
class PlanFile(Shown):
    """The decisions of a compile."""

    pipeline: str
    structure: str
    weights: str
    entries: tuple[Entry, ...]
    versions: Mapping[str, str]
    fixed: Mapping[str, object] = field(default_factory=dict)
    lowering: Rules | None = None
    latency: Solved | None = None

    def to_json(self) -> dict[str, Json]:
        """The content of plan.json."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "pipeline": self.pipeline,
            "fixed": cast(Json, dict(self.fixed)),
            "structure": self.structure,
            "weights": self.weights,
            "passes": [_entry_json(entry) for entry in self.entries],
            "lowering": None if self.lowering is None else plain(self.lowering),
            "latency": None if self.latency is None else plain(self.latency),
            "versions": dict(self.versions),
        }

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        """Replaced tensors, masks and biases of every pass, by key of the safetensors file."""
        return {
            f"{at}/{name}": np.asarray(array)
            for at, entry in enumerate(self.entries)
            if entry.plan is not None
            for name, array in entry.plan.tensors.items()
        }

    def require_inputs(self, model: ir.Model) -> None:
        """Refuse a model without an input that the plan fixes.

        Raises:
            PromiseError: the message names the input.
        """
        missing = self.fixed.keys() - {value.name for value in model.graph.inputs}
        if missing:
            why = f"it fixes the input {quote(min(missing))}, which this model does not have"
            raise PromiseError(f"the plan was made for another graph: {why}", _OWN)

    def replay(self, model: ir.Model) -> tuple[Pass, ...]:
        """Passes that repeat these decisions on a model of the same structure.

        Raises:
            PromiseError: the model has another structure, or other weights where the plan changes some.
        """
        if fingerprint.structure(model) != self.structure:
            raise PromiseError("the plan was made for another graph", _OWN)
        if self.tensors and fingerprint.weights(model) != self.weights:
            raise PromiseError(
                "the plan changes weights, and was made for other weights", "run the pipeline again"
            )
        return tuple(_replayed(entry) for entry in self.entries)


@dataclass(frozen=True)
class Replay(Pass):
    """A pass that decides what an earlier one decided, and is held to the same budget.

    Args:
        text: of the earlier pass.
        plan: what it decided.
        item: the earlier pass; None where no such pass is installed.
        forced: why its budget is left far behind.
    """

    name: ClassVar[str] = "replay"

    text: str = ""
    plan: Plan | None = field(default=None, compare=False)
    item: Pass | None = None
    forced: str = ""

    def options(self) -> Options:
        """The options of the pass that made the plan."""
        assert self.plan is not None
        return self.plan.options

    def decide(self, subject: Subject, context: Context) -> Plan:
        """The stored plan, if every group it cuts and every sublayer it removes is there."""
        from graphprune.prune.fits import require_fit

        assert self.plan is not None
        widths = {group.id: group.size for group in subject.analysis.prunable}
        for name in self.plan.cuts:
            width = self.plan.widths.get(name, widths.get(name, 0))
            if widths.get(name) != width:
                found = f"has width {widths[name]}" if name in widths else "is not there or is pinned"
                which = f" of width {width}," if width else ""
                raise PromiseError(f"the plan cuts group {quote(name)}{which or ','} which {found}")
        require_fit(subject.analysis, self.plan)
        self._require_sublayers(subject)
        if self.item is None and any(f"{budget}=" in self.text for budget in (*MEASURES, "ratio")):
            context.warn(f"budgets of {self.text} are not judged: no such pass is installed here")
        if self.forced:
            context.forced(self.forced)
        return replace(self.plan, widths={name: widths[name] for name in self.plan.cuts})

    def ratio_taken(self, subject: Subject, plan: Plan, context: Context) -> Ratio | None:
        """As the earlier pass counts."""
        return None if self.item is None else self.item.ratio_taken(subject, plan, context)

    def _require_sublayers(self, subject: Subject) -> None:
        from graphprune.axes.sublayers import find_sublayers

        assert self.plan is not None
        if not self.plan.bypassed:
            return
        known = find_sublayers(subject.analysis)
        names = {item.name for item in known.found}
        for name in self.plan.bypassed:
            if name not in names:
                why = known.reasons.get(name, "there is none")
                raise PromiseError(f"the plan removes sublayer {quote(name)}, which cannot go: {why}")

    def __str__(self) -> str:
        return self.text


def _replayed(entry: Entry) -> Pass:
    if entry.plan is None:
        (item,) = registry.read(entry.text)
        return item
    return Replay(entry.text, entry.plan, _installed(entry.text), entry.forced)


def _installed(text: str) -> Pass | None:
    """The pass of this text, which may be of somebody else's package."""
    try:
        (item,) = registry.read(text)
    except (ArgumentError, PluginError):
        return None
    return item


def given(plan: object) -> PlanFile | Replay | None:
    """What Python gave as a plan: a plan file, or a Plan, which becomes the pass that carries it out.

    Raises:
        ArgumentError: it is something else.
    """
    from graphprune.prune.plan import Plan

    if plan is None or isinstance(plan, PlanFile):
        return plan
    if isinstance(plan, Plan):
        return Replay("plan", plan)
    raise ArgumentError(f"plan must be a path, a PlanFile or a Plan, got {type(plan).__name__}")


def made(
    source: ir.Model,
    entries: tuple[Entry, ...],
    pipeline: str,
    fixed: Fixed,
    lowering: Rules | None = None,
    latency: Solved | None = None,
) -> PlanFile:
    """The plan file of a compile of a normalised model."""
    structure, weights = fingerprint.structure(source), fingerprint.weights(source)
    versions = installed_versions()
    return PlanFile(pipeline, structure, weights, entries, versions, as_lists(fixed), lowering, latency)


def _entry_json(entry: Entry) -> Json:
    plan = plain(entry.plan.to_json()) if entry.plan is not None else None
    return {"pass": entry.text, "plan": plan, "forced": entry.forced}


def read(path: Path) -> PlanFile:
    """A plan file and, where it has one, the safetensors file beside it.

    Raises:
        ArgumentError: the file is unreadable or is not a plan.
    """
    try:
        if path.stat().st_size > _LIMIT:
            raise ArgumentError(f"plan '{path}' is larger than 256 MiB: that is not a plan")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArgumentError(f"cannot read plan '{path}': {error.strerror}", nearby(path)) from None
    except (ValueError, RecursionError):
        raise ArgumentError(
            f"'{path}' is not JSON", "a plan is written beside the output of a compile"
        ) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ArgumentError(
            f"'{path}' is not a plan of graphprune", "give the .plan.json beside a compiled model"
        )
    document = Document(content, f"plan {quote(str(path))}")
    if content.get("version") != VERSION:
        raise document.wrong(f"is not of version {VERSION}, which this graphprune reads")
    return _parse(document, _tensors(path.with_suffix(".safetensors")))


def _tensors(path: Path) -> dict[str, np.ndarray]:
    if not exists(path):
        return {}
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ArgumentError(f"cannot read '{path}': {error}") from None


def _parse(document: Document, tensors: Mapping[str, np.ndarray]) -> PlanFile:
    versions = document.part("versions") if "versions" in document.content else Document({}, "")
    fixed = document.part("fixed").content if "fixed" in document.content else {}
    return PlanFile(
        pipeline=document.one("pipeline", str),
        structure=document.one("structure", str),
        weights=document.one("weights", str),
        entries=tuple(_entry(item, at, tensors) for at, item in enumerate(document.parts("passes"))),
        versions={name: versions.one(name, str) for name in versions.content},
        fixed=Contents().value(f"'fixed' in {document.where}", fixed),
        lowering=_lowering(document),
        latency=_latency(document),
    )


def _latency(document: Document) -> Solved | None:
    if document.content.get("latency") is None:
        return None
    stored = document.part("latency")
    return Solved(stored.one("profile", str), stored.one("factor", float))


def _lowering(document: Document) -> Rules | None:
    if document.content.get("lowering") is None:
        return None
    stored = document.part("lowering")
    rules = stored.many("rules", str, needed=True)
    return Rules(stored.one("target", str), stored.one("table", str), rules, stored.one("opset", int, 0))


def _entry(item: Document, at: int, tensors: Mapping[str, np.ndarray]) -> Entry:
    from graphprune.prune.plan import Plan

    text = item.one("pass", str)
    if item.content.get("plan", item) is None:
        return Entry(text, None)
    prefix = f"{at}/"
    mine = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    plan = item.part("plan")
    return Entry(text, Plan.read(plan, mine), item.one("forced", str, ""))
