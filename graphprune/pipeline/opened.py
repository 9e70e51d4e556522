"""A model to look at, with what `--fix`, `--shape` and `--inputs` say about its inputs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from graphprune.ir.defaults import Defaults, Held, held, make_constant
from graphprune.ir.fixed import fix_inputs
from graphprune.ir.graphs import all_nodes
from graphprune.ir.load import Source, load
from graphprune.ir.nodes import operator_of
from graphprune.ir.normalise import normalise
from graphprune.ir.scales import fit_scales
from graphprune.ir.shapes import Sizes
from graphprune.ops import record_of
from graphprune.pipeline.samples import Given, with_shapes
from graphprune.pipeline.settings import Looking


@dataclass(frozen=True)
class Opened:
    """A normalised model.

    Attributes:
        source: where it came from.
        model: in normal form.
        sizes: of its values.
        settings: with the shapes of the given inputs.
        operators: what was in the file, by name.
        ir_version: that the file declares.
        defaults: what became of initializers that were inputs.
        fitted: nodes whose scales name the axis that they fit now.
    """

    source: Source
    model: ir.Model
    sizes: Sizes
    settings: Looking
    operators: Counter[str]
    ir_version: int
    defaults: Defaults
    fitted: tuple[str, ...]


def open_model(model: object, settings: Looking, inputs: Given = None, *, lift: bool = False) -> Opened:
    """Loads and normalises a model; what was given in memory stays as it is.

    Raises:
        ModelError: the model is malformed or unsafe.
        ArgumentError: `--fix` or `--shape` does not fit it.
        DataError: the inputs do not fit it.
    """
    source = load(model, settings.limits, lift=lift)
    own = source.model if source.path else source.model.clone()
    operators = Counter(operator_of(node) for node in all_nodes(own.graph))
    version, defaults, fitted = own.ir_version or 0, make_constant(own), fit_scales(own)
    fix_inputs(own, settings.fix)
    settings = with_shapes(settings, inputs, own, held(own))
    sizes = normalise(own, record_of, settings.shape)
    _require_fits(own, settings)
    return Opened(source, own, sizes, settings, operators, version, defaults, fitted)


@dataclass(frozen=True)
class Ready:
    """A model to run.

    Attributes:
        model: as it is, but for fixed inputs and open sizes that its weights fix.
        constants: those inputs, and weights that were inputs.
        file_bytes: of its file and the weights beside it; None where it came from memory.
        path: of the file; None where what is run is not what is in it.
    """

    model: ir.Model
    constants: Held
    file_bytes: int | None
    path: Path | None = None


def load_to_run(model: object, settings: Looking) -> Ready:
    """Loads and checks a model, to be run as it is.

    Raises:
        ModelError: the model is malformed or unsafe.
        ArgumentError: `--fix` does not fit it.
    """
    source = load(model, settings.limits)
    changed = any(value.name in settings.fix for value in source.model.graph.inputs)
    own, constants = _to_run(source, settings)
    return Ready(own, constants, source.bytes if source.path else None, None if changed else source.path)


def _to_run(source: Source, settings: Looking) -> tuple[ir.Model, Held]:
    own, given = source.model, {value.name for value in source.model.graph.inputs}
    wanted = {name: content for name, content in settings.fix.items() if name in given}
    if not (wanted or _is_open(own)):
        return own, held(own)
    own = own if source.path else own.clone()
    fix_inputs(own, wanted)
    constants = held(own)
    if _is_open(own):
        _close(own)
    return own, constants


def _require_fits(model: ir.Model, settings: Looking) -> None:
    """A shape that names no input, or contradicts one, is a mistake also where nothing is run."""
    if not settings.shape:
        return
    from graphprune.runtime.dimensions import Sizes as Guess
    from graphprune.runtime.dimensions import require_fits, resolve

    require_fits(model, settings.shape)
    if all(value.shape is not None for value in model.graph.inputs):
        resolve(model, settings.shape, Guess())


def _is_open(model: ir.Model) -> bool:
    """Whether an input leaves more open than how many samples there are."""
    shapes = [value.shape for value in model.graph.inputs if value.shape is not None]
    return any(not isinstance(dim, int) for shape in shapes for dim in list(shape)[1:])


def _close(model: ir.Model) -> None:
    look = model.clone()
    normalise(look, record_of)
    found = {value.name: value.shape for value in look.graph.inputs}
    for value in model.graph.inputs:
        if value.name in found:
            value.shape = found[value.name]
