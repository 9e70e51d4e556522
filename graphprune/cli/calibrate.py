"""`graphprune calibrate`: choose calibration samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack

import click

from graphprune.cli import options
from graphprune.cli.output import Show
from graphprune.errors import ArgumentError
from graphprune.pipeline.settings import Choosing

if TYPE_CHECKING:
    from graphprune.sampling.images import Preparation

MODES = ("random", "representative", "easy", "hard", "dbp", "herding", "donod", "eu")
TOKENS = ("uint16", "int16", "uint32", "int32", "int64")


class _Given(TypedDict):
    """What the command line gave."""

    output: str
    samples: int
    select: str
    size: tuple[int, int] | None
    resize: int | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    layout: Literal["auto", "nchw", "nhwc"]
    order: Literal["rgb", "bgr"]
    window: int | None
    token_type: str


def _size(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """Height and width from 224x224, or one number for both."""
    if value is None:
        return None
    parts = value.lower().split("x")
    if len(parts) > 2 or not all(
        part.isdecimal() and len(part) < 6 and 0 < int(part) < 2**15 for part in parts
    ):
        raise ArgumentError(f"--size '{value}' is not HEIGHTxWIDTH", "for instance 224x224")
    return int(parts[0]), int(parts[-1])


def _numbers(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """One or three numbers."""
    if value is None:
        return None
    try:
        found = tuple(float(part) for part in value.split(","))
    except ValueError:
        found = ()
    if not found or any(number != number or abs(number) == float("inf") for number in found):
        raise ArgumentError(
            f"{param.opts[0]} '{value}' is no list of numbers", "for instance 0.485,0.456,0.406"
        )
    return found


@click.command("calibrate")
@click.argument("model", type=options.path)
@click.argument("pool", type=options.path)
@click.option(
    "-o", "--output", type=options.path, metavar="FILE.npz", required=True, help="Where the samples go."
)
@click.option(
    "--samples",
    default=512,
    callback=options.at_least(1),
    metavar="N",
    help="How many to choose.",
    show_default=True,
)
@click.option(
    "--select", type=click.Choice(MODES), default="random", show_default=True, help="How to choose them."
)
@click.option(
    "--size",
    callback=_size,
    metavar="HxW",
    help="Pictures: size of the input, where the model leaves it open.",
)
@click.option(
    "--resize",
    type=int,
    callback=options.at_least(1),
    metavar="N",
    help="Pictures: shorter side before the centre is cropped.  [default: as small as covers the size]",
)
@click.option("--mean", callback=_numbers, metavar="X,X,X", help="Pictures: subtracted, of values in 0..1.")
@click.option("--std", callback=_numbers, metavar="X,X,X", help="Pictures: then divided by.")
@click.option(
    "--layout",
    type=click.Choice(["auto", "nchw", "nhwc"]),
    default="auto",
    show_default=True,
    help="Pictures: where the channels are.",
)
@click.option(
    "--order",
    type=click.Choice(["rgb", "bgr"]),
    default="rgb",
    show_default=True,
    help="Pictures: order of channels.",
)
@click.option(
    "--window",
    type=int,
    callback=options.at_least(2),
    metavar="N",
    help="POOL is a file of token ids: cut it into windows of N.",
)
@click.option(
    "--token-type",
    type=click.Choice(TOKENS),
    default="uint16",
    show_default=True,
    help="Integers in a .bin of token ids.",
)
@options.of(Choosing)
@options.printing("Print nothing but errors.")
def command(
    model: str, pool: str, chosen: options.Chosen[Choosing], show: Show, **given: Unpack[_Given]
) -> None:
    """Choose calibration samples for MODEL from POOL and write them for --calibration.

    POOL is an .npz, an .npy or a folder of them, a folder of pictures, or with --window a file of token
    ids. Every choice but a random one is compared with ten random draws.
    """
    from graphprune.cli.output import after
    from graphprune.report.chosen import tables
    from graphprune.sampling.calibrate import Wish, run

    wish = Wish(given["samples"], given["select"], _preparation(given), given["window"], given["token_type"])
    with show.progress() as progress:
        settings = chosen.settings(progress=progress)
        found = run(model, Path(pool), Path(given["output"]), wish, settings)
    with after(found.files):
        show.result(found, tables, found.to_json())
    if show.form != "json":
        show.files(found.files)


def _preparation(given: _Given) -> Preparation | None:
    """How pictures become inputs; None where nothing was said about pictures."""
    from graphprune.sampling.images import Preparation

    default = Preparation()
    wanted = Preparation(
        given["size"],
        given["resize"],
        given["mean"] or default.mean,
        given["std"] or default.std,
        given["layout"],
        given["order"],
    )
    return None if wanted == default else wanted
