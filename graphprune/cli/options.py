"""Options that several commands share, each written once."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import click

from graphprune.errors import ArgumentError, did_you_mean
from graphprune.ir.names import escape, quote

if TYPE_CHECKING:
    from graphprune.axes import Options
    from graphprune.axes.outputs import UserKind
    from graphprune.labels.options import LayerNorm

F = TypeVar("F", bound=Callable[..., object])

path = click.Path(path_type=str)


def _shapes(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, tuple[int, ...]]:
    return dict(_shape(value) for value in values)


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, equals, dims = text.rpartition("=")
    try:
        shape = tuple(int(dim) for dim in dims.lower().split("x")) if dims else ()
    except ValueError:
        shape = (-1,)
    if not equals or not name or any(dim < 0 for dim in shape):
        raise ArgumentError(
            f"--shape '{text}' is not name=1x3x224x224", "an empty list of dims is a scalar: name="
        )
    return name, shape


def _contents(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, object]:
    return dict(_content(value) for value in values)


def _content(text: str) -> tuple[str, object]:
    """A number, true or false, or lists of them as JSON writes them."""
    name, equals, written = text.rpartition("=")
    try:
        content = json.loads(written)
    except (ValueError, RecursionError):
        content = None
    if not equals or not name or not isinstance(content, bool | int | float | list):
        raise ArgumentError(f"--fix '{text}' is not name=16000, name=true or name=[1,2]")
    return name, content


KINDS: tuple[UserKind, ...] = ("classes", "scores", "values")
"""How an output of the model may be judged."""


@dataclass(frozen=True)
class Outputs:
    """What `--output` said: where the result goes, and how outputs of the model are judged."""

    file: str | None
    kinds: Mapping[str, UserKind]


def outputs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> Outputs:
    """A callback that tells FILE from NAME=KIND; of a name the last counts, of files there is one."""
    kinds: dict[str, UserKind] = {}
    files = []
    for value in values:
        name, _, kind = value.rpartition("=")
        found = next((each for each in KINDS if name and kind == each), None)
        if found is not None:
            kinds[name] = found
        elif name and kind.isalpha():  # a file has a suffix
            hint = did_you_mean(kind, KINDS) or f"kinds are {', '.join(KINDS)}"
            raise ArgumentError(f"--output '{escape(value)}' names no kind of output", hint)
        else:
            files.append(value)
    if len(files) > 1:
        raise ArgumentError(
            f"there are {len(files)} outputs: {', '.join(map(quote, files))}", "give one -o FILE"
        )
    return Outputs(next(iter(files), None), kinds)


def at_least(bound: int) -> Callable[[click.Context, click.Parameter, int | None], int | None]:
    """A callback that refuses smaller numbers."""

    def check(ctx: click.Context, param: click.Parameter, value: int | None) -> int | None:
        if value is not None and value < bound:
            raise ArgumentError(f"{param.opts[0]} must be at least {bound}, got {value}")
        return value

    return check


def positive(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    """A callback that refuses zero, negative numbers, NaN and infinity."""
    if value is not None and not 0 < value < math.inf:
        raise ArgumentError(f"{param.opts[0]} must be a positive number, got {value}")
    return value


def _bytes(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Bytes from 500MB, 2GiB or a plain number."""
    if value is None:
        return None
    units = {"kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2**10, "mib": 2**20, "gib": 2**30, "b": 1}
    text = value.strip().lower()
    unit = next((unit for unit in units if text.endswith(unit)), "")
    try:
        number = float(text.removesuffix(unit)) * units.get(unit, 1)
    except ValueError:
        number = -1.0
    if not 0 < number < 2**63:
        raise ArgumentError(
            f"--max-bytes '{value}' is not a size", "write bytes, or a number with a unit: 500MB, 2GiB"
        )
    return int(number)


def share(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    """A callback that refuses what is not in [0, 1]."""
    if value is not None and not 0 <= value <= 1:
        raise ArgumentError(f"{param.opts[0]} must be in [0, 1], got {value}")
    return value


def output_format() -> Callable[[F], F]:
    """Text for people or JSON for programs."""
    choice = click.Choice(["text", "json"])
    return click.option("--format", "form", type=choice, default="text", help="How results are printed.")


def shapes() -> Callable[[F], F]:
    """Concrete shapes for graph inputs."""
    text = "Concrete shape of a graph input, e.g. image=1x3x224x224; repeat for several."
    return click.option("--shape", "shapes", multiple=True, callback=_shapes, metavar="NAME=DIMS", help=text)


def fix() -> Callable[[F], F]:
    """Inputs that become constants."""
    text = "Make an input a constant, e.g. sr=16000, and take the branches it decides; repeat for several."
    return click.option("--fix", multiple=True, callback=_contents, metavar="NAME=VALUE", help=text)


def inputs(what: str) -> Callable[[F], F]:
    """A file or folder of inputs."""
    text = f"Inputs to {what}: an .npz, an .npy or a folder of them."
    return click.option("--inputs", type=path, metavar="DATA", help=text)


def statistics() -> Callable[[F], F]:
    """Where measures on calibration data are kept."""
    text = "Keep what is measured on --calibration here, and use what an earlier compile measured."
    return click.option("--statistics", type=path, metavar="FILE", help=text)


def seed() -> Callable[[F], F]:
    """Of everything random."""
    return click.option(
        "--seed",
        default=0,
        callback=at_least(0),
        metavar="N",
        help="Seed of everything random.",
        show_default=True,
    )


def threads() -> Callable[[F], F]:
    """Threads of ONNX Runtime."""
    text = "Threads of ONNX Runtime."
    return click.option(
        "--threads", default=1, callback=at_least(1), metavar="N", help=text, show_default=True
    )


def jobs() -> Callable[[F], F]:
    """How much our own work takes of the machine; the result is the same for any number."""
    text = "Batches of calibration data that run side by side.  [default: the number of cores]"
    return click.option("--jobs", type=int, callback=at_least(1), metavar="N", help=text)


def timeout() -> Callable[[F], F]:
    """How long a model may run before it is given up."""
    text = "Seconds that the first runs of the model may take."
    return click.option(
        "--timeout",
        type=float,
        callback=positive,
        metavar="SECONDS",
        default=120.0,
        show_default=True,
        help=text,
    )


def analysis() -> Callable[[F], F]:
    """What the analysis may assume, as for a pass that prunes."""

    def decorate(function: F) -> F:
        inexact = "Also show cuts that change what a normalisation computes."
        function = click.option("--allow-inexact", is_flag=True, help=inexact)(function)
        text = "Widths under LayerNorm."
        choice = click.Choice(["refuse", "expand", "slice"])
        return click.option("--layernorm", type=choice, default="refuse", show_default=True, help=text)(
            function
        )

    return decorate


def analysis_options(layernorm: LayerNorm, allow_inexact: bool) -> Options:
    """The same as a value."""
    from graphprune.axes import Options

    return Options(layernorm=layernorm, allow_inexact=allow_inexact)


def limits() -> Callable[[F], F]:
    """What a model file may be."""

    def decorate(function: F) -> F:
        links = "Accept external data behind symbolic or hard links (for caches you trust)."
        size = "Refuse model files larger than this, e.g. 500MB."
        function = click.option("--allow-external-links", is_flag=True, help=links)(function)
        return click.option("--max-bytes", callback=_bytes, metavar="SIZE", help=size)(function)

    return decorate
