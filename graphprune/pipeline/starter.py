"""A first graphprune.toml for a model: what it takes, a mild pipeline, thresholds, and what to say next."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from graphprune.ir.fixed import as_lists
from graphprune.ir.names import escape
from graphprune.pipeline.inspection import Inspection, Port, inspect
from graphprune.pipeline.recipe import key, value
from graphprune.pipeline.settings import Files, Looking

_PINS = 3
_PIPELINE = """\
# A mild start: a fifth of the units goes. Measure, then go on. macs=0.8 or params=0.8 instead keep 80 % of
# the multiply-adds or parameters. `graphprune passes` lists the passes; docs/pruning.md says which for what.
pipeline = "{name}(ratio=0.2)"
"""
_SAMPLES = """\
# Samples: an .npz with one array per input, an .npy, or a folder of them; `graphprune calibrate` makes one of
# pictures or tokens. obspa repairs with them what prune leaves as it is.
"""
_FIXED = """\
# Inputs that become constants, with the branches that they decide. Scalars that nobody fixes are random where
# nobody gives samples: fix those that mean something (a rate, a frequency, a mode) at what they are in use.
[options.fix]
"""
_THRESHOLDS = """\
# What `graphprune check` asks of the result, and `graphprune compile` where it has the same option.
[thresholds]
max-bytes = 1.0  # of the dense file
{sign}max-drop = 0.02  # accuracy against the dense model, on the samples above
# min-speedup = 1.1
"""


def start(model: str, output: Path, settings: Looking, files: Files) -> str:
    """The text of the file.

    Args:
        model: path of the model.
        output: where the text will lie; paths in it are relative to that.
        settings: what is known of the inputs.
        files: calibration and inputs, where there are some.

    Raises:
        GraphpruneError: the model does not load, or the inputs do not fit it.
    """
    samples = files.inputs or files.calibration
    found = inspect(model, settings, None, None if samples is None else Path(samples))
    return "\n".join(
        (
            _head(found),
            _pipeline(found, files),
            _options(files, output),
            *_inputs(found, settings),
            _asked(files),
        )
    )


def _head(found: Inspection) -> str:
    name = escape(Path(found.source).name)
    free = sum(not group.pin for group in found.groups)
    return (
        f"# graphprune {name}: every key is in docs/recipes.md. Flags win over this file.\n#\n"
        f"#   graphprune compile {name} -o small.onnx   runs the pipeline\n"
        f"#   graphprune check {name} small.onnx        judges the result by the thresholds\n#\n"
        f"# {found.size.params} parameters; {free} of {len(found.groups)} groups may shrink.\n"
    )


def _pipeline(found: Inspection, files: Files) -> str:
    """One that runs; where nothing may shrink, what pins it."""
    text = _PIPELINE.format(name="prune" if files.calibration is None else "obspa")
    if any(not group.pin for group in found.groups):
        return text
    pins = "".join(f"#   {escape(each.id)}: {escape(each.pin)}\n" for each in found.groups[:_PINS])
    return f"# Nothing in this model can be pruned; `graphprune inspect` says why:\n{pins}" + text.replace(
        "pipeline =", "# pipeline ="
    )


def _options(files: Files, output: Path) -> str:
    names = {"calibration": "samples.npz", "inputs": "test.npz"}
    told = {"calibration": "for criteria and repair; some are held back", "inputs": "to judge the result by"}
    lines = []
    for name, example in names.items():
        given: str | None = getattr(files, name)
        path = example if given is None else _beside(given, output)
        lines.append(f"{'# ' if given is None else ''}{name} = {value(path)}  # {told[name]}\n")
    return f"[options]\n{_SAMPLES}{''.join(lines)}"


def _beside(path: str, output: Path) -> str:
    return path if Path(path).is_absolute() else os.path.relpath(path, output.parent)


def _inputs(found: Inspection, settings: Looking) -> Iterator[str]:
    """What the model takes: shapes and constants that were given, and those that could be."""
    ports = "".join(f"#   {escape(port.name)}: {_shown(port)}\n" for port in found.inputs)
    shapes = {port.name: _concrete(port, found.size.assumed) for port in found.inputs if _is_open(port)}
    yield f"# Inputs of the model:\n{ports}"
    if shapes or settings.shape:
        head = "# Sizes that are open, as they are assumed where nobody says more.\n[options.shape]\n"
        yield head + _lines({**shapes, **settings.shape}, settings.shape)
    scalars = {port.name: 0.0 if "float" in port.type else 0 for port in found.inputs if port.shape == ()}
    if scalars or settings.fix:
        head = _FIXED
        yield head + _lines({**scalars, **as_lists(settings.fix)}, settings.fix)


def _lines(content: Mapping[str, object], given: Mapping[str, object]) -> str:
    return "".join(
        f"{'' if name in given else '# '}{key(name)} = {value(each)}\n" for name, each in content.items()
    )


def _shown(port: Port) -> str:
    shape = "of unknown rank" if port.shape is None else json.dumps(port.shape)
    return f"{port.type} {shape}"


def _is_open(port: Port) -> bool:
    return port.shape is not None and any(isinstance(dim, str) for dim in port.shape)


def _concrete(port: Port, assumed: Mapping[str, int]) -> tuple[int, ...]:
    """The shape at the sizes that are assumed; 1 where nothing says."""
    assert port.shape is not None
    return tuple(
        dim if isinstance(dim, int) else assumed.get(dim, assumed.get(f"{port.name}[{axis}]", 1))
        for axis, dim in enumerate(port.shape)
    )


def _asked(files: Files) -> str:
    """Thresholds; those that need samples only where there are some."""
    return _THRESHOLDS.format(sign="# " if files.inputs is None else "")
