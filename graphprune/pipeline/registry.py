"""Passes by name, from the entry points of the group `graphprune.passes`, ours like anybody's."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from graphprune.doors import OURS, Door, miscalled, package
from graphprune.errors import ArgumentError, did_you_mean
from graphprune.pipeline.grammar import Span, Stage, dashed, parse
from graphprune.pipeline.passes import Pass, arguments, from_stage

if TYPE_CHECKING:
    from graphprune.axes import Analysis
    from graphprune.prune.plan import Plan

DOOR = Door("graphprune.passes", "pass")


def names() -> tuple[str, ...]:
    """Names of the installed passes, sorted; loads none of them."""
    return tuple(DOOR.entries())


def load(name: str) -> type[Pass]:
    """The pass class behind a name.

    Raises:
        ArgumentError: no such pass.
        PluginError: the package that provides it does not load, or does not provide a pass.
    """
    return _load(name, Span(name, 0, len(name)))


def _load(name: str, span: Span) -> type[Pass]:
    known = names()
    if dashed(name) not in known:
        hint = (
            did_you_mean(name, known) or "no passes are installed: is graphprune itself installed with pip?"
        )
        raise span.error(f"no pass named '{name}'", hint)
    kind, origin = DOOR.load(dashed(name))
    if not (isinstance(kind, type) and issubclass(kind, Pass)):
        raise origin.fault("is not a subclass of graphprune.plugin.Pass")
    fault = _fault(kind) or (f"calls itself '{kind.name}'" if dashed(kind.name) != dashed(name) else "")
    if fault:
        raise origin.fault(fault)
    return kind


def _fault(kind: type[Pass]) -> str:
    """What stops a class from being a pass, or nothing."""
    if not isinstance(getattr(kind, "name", None), str):
        return "has no name"
    if not dataclasses.is_dataclass(kind) or "__dataclass_fields__" not in vars(kind):
        return "is not a frozen dataclass"
    if (kind.decide is Pass.decide) == (kind.transform is Pass.transform):
        return "must implement exactly one of decide and transform"
    wrong = _miscalled(kind)
    if wrong:
        return wrong
    try:
        arguments(kind)
    except Exception as error:  # whatever a name in an annotation or a default leads to
        return f"has arguments that cannot be read: {error}"
    return ""


def _miscalled(kind: type[Pass]) -> str:
    """A method that cannot be called as it is, or nothing."""
    for ours in (Pass.decide, Pass.transform, Pass.options, Pass.ratio_taken):
        name, needed = ours.__name__, inspect.signature(ours).parameters
        if wrong := miscalled(name, getattr(kind, name), *needed):
            return wrong
    return ""


def blamed(item: Pass | type[Pass]) -> AbstractContextManager[None]:
    """Makes errors in the code of somebody else's pass errors that name it; ours stay bugs of graphprune."""
    kind = item if isinstance(item, type) else type(item)
    theirs = _theirs(kind)
    return DOOR.holder(kind).blamed(only=theirs) if theirs else nullcontext()


def fault_hint(item: Pass) -> str:
    """What to do where a pass left a wrong model: whose fault that is."""
    store = "--reproducer DIR stores what is needed to report it"
    if not _theirs(type(item)):
        return f"this is a bug in the pass: {store}"
    origin = DOOR.holder(type(item))
    return "; ".join(filter(None, (f"this is a bug in the {origin.what}, not in graphprune", origin.hint)))


def _theirs(kind: type[Pass]) -> frozenset[str]:
    """The packages other than ours that a pass is made of."""
    return frozenset(package(each.__module__) for each in kind.__mro__) - {*OURS, "builtins"}


def settled(item: Pass, plan: object, analysis: Analysis) -> Plan:
    """What a pass decided, in plain numbers and with all widths where the pass is somebody else's.

    Raises:
        PluginError: that is no Plan of this model; the error names the pass.
    """
    from graphprune.axes import Options
    from graphprune.prune.fits import misfit
    from graphprune.prune.plan import Plan

    if not _theirs(type(item)):
        assert isinstance(plan, Plan)
        return plan
    origin = DOOR.holder(type(item))
    if not isinstance(plan, Plan):
        raise origin.fault(f"decides {type(plan).__name__}, not a Plan")
    if not isinstance(plan.options, Options):
        given = type(plan.options).__name__
        raise origin.fault(
            f"decides a Plan of options {given}: write Plan(subject.options, cuts) or Plan(cuts=cuts)"
        )
    with origin.blamed("decides a plan that cannot be read"):
        found = replace(
            plan,
            cuts={name: _indices(name, kept) for name, kept in plan.cuts.items()},
            widths={**{g.id: g.size for g in analysis.groups if g.id in plan.cuts}, **plan.widths},
            scores={name: tuple(map(float, each)) for name, each in plan.scores.items()},
        )
        wrong = misfit(analysis, found)
        pinned = [g for g in analysis.groups if g.pin and len(found.cuts.get(g.id, range(g.size))) < g.size]
    if wrong:
        raise origin.fault(f"decides a plan that does not fit: {wrong}")
    if pinned:
        raise origin.fault(f"cuts group '{pinned[0].id}', which is pinned")
    return found


def _indices(name: str, kept: Sequence[int]) -> tuple[int, ...]:
    """Kept Units, ascending; a mask or floats would be read as other Units than were meant."""
    import numpy as np

    found = np.asarray(kept)
    if found.size and found.dtype.kind not in "iu":
        raise TypeError(f"kept units of group '{name}' are of type {found.dtype}: give indices")
    return tuple(sorted(int(unit) for unit in kept))


def require_model(item: Pass, model: object) -> None:
    """Refuse what somebody else's pass made where it is no model.

    Raises:
        PluginError: it is not; the error names the pass.
    """
    import onnx_ir as ir

    if not isinstance(model, ir.Model) and _theirs(type(item)):
        raise DOOR.holder(type(item)).fault(f"makes {type(model).__name__}, not an onnx_ir.Model")


def read(text: str) -> tuple[Pass, ...]:
    """The passes of a pipeline text.

    Raises:
        ArgumentError: bad syntax, an unknown pass or argument, or a bad value.
    """
    return tuple(_pass(stage) for stage in parse(text))


def code_in(text: str) -> str:
    """The first argument of a pipeline text that names code to run; empty where none does."""
    try:
        stages = parse(text)
    except ArgumentError:
        return ""  # told where the pipeline is read
    for stage in stages:
        given = {dashed(argument.name) for argument in stage.arguments}
        kind = _load(stage.name, stage.span) if given and stage.name in names() else None
        for each in dataclasses.fields(kind) if kind is not None else ():
            if each.metadata.get("code") and dashed(each.name) in given:
                return f"{dashed(each.name)} of {stage.name}"
    return ""


def _pass(stage: Stage) -> Pass:
    kind = _load(stage.name, stage.span)
    with blamed(kind):
        return from_stage(kind, stage)


def text(passes: Iterable[Pass]) -> str:
    """Pipeline text that reads back to the same passes."""
    return ", ".join(str(item) for item in passes)


def resolve(passes: str | Pass | Iterable[Pass | str]) -> tuple[Pass, ...]:
    """Passes from what the Python API accepts: pipeline text, a pass, or a list of either.

    Raises:
        ArgumentError: it is something else, or no pipeline text.
        PluginError: a pass is not made as one has to be.
    """
    if isinstance(passes, str):
        return read(passes)
    if isinstance(passes, Mapping):  # its keys alone would run, without what they are given
        raise _no_pass(passes)
    if isinstance(passes, Pass | type) or not isinstance(passes, Iterable):
        passes = (passes,)
    result: list[Pass] = []
    for item in passes:
        if isinstance(item, str):
            result.extend(read(item))
        elif isinstance(item, Pass):
            result.append(_sound(item))
        else:
            raise _no_pass(item)
    return tuple(result)


def _no_pass(item: object) -> ArgumentError:
    if isinstance(item, type) and issubclass(item, Pass):
        return ArgumentError(f"passes hold the class {item.__name__}", f"make one: {item.__name__}()")
    message = f"passes hold {type(item).__name__}, which is neither a pass nor pipeline text"
    return ArgumentError(message, 'for instance graphprune.passes.Prune(ratio=0.5), or "prune(ratio=0.5)"')


def _sound(item: Pass) -> Pass:
    """A pass that was made in Python, once its class is seen to be one."""
    kind = type(item)
    fault = _fault(kind) if _theirs(kind) else ""
    if fault:
        raise DOOR.holder(kind).fault(fault)
    return item
