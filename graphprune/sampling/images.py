"""Pictures in a folder as a pool: resized, cropped, scaled and normalised as the model was trained with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import onnx_ir as ir

from graphprune.errors import ArgumentError, DataError
from graphprune.ir.paths import is_folder
from graphprune.runtime.data import PICTURES, require_regular
from graphprune.runtime.dimensions import data_inputs
from graphprune.sampling.pool import Arrays, Pool

if TYPE_CHECKING:
    from PIL.Image import Image

PIXEL_CAP = 2**27  # a picture that claims more is refused before it is decoded


@dataclass(frozen=True)
class Preparation:
    """From a picture to what the model reads.

    Attributes:
        size: (height, width) of the input; None takes them from the model.
        resize: length of the shorter side before the centre is cropped; None just covers the size.
        mean, std: per channel or one for all, of values in 0..1.
        layout: where the channels are; auto looks for 1 or 3 in the shape of the input.
        order: of the channels.
    """

    size: tuple[int, int] | None = None
    resize: int | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: Literal["auto", "nchw", "nhwc"] = "auto"
    order: Literal["rgb", "bgr"] = "rgb"

    def __post_init__(self) -> None:
        if any(not 0 < value < float("inf") for value in self.std):
            raise ArgumentError(f"std must be positive, got {self.std}")


@dataclass(frozen=True)
class Frame:
    """The input that the pictures go into."""

    name: str
    size: tuple[int, int]
    channels: int
    last: bool
    dtype: np.dtype[np.generic]


def is_image_folder(path: Path) -> bool:
    """Whether a folder holds pictures and no arrays."""
    return is_folder(path) and bool(_files(path)) and not any(path.glob("*.np[yz]"))


def image_pool(path: Path, model: ir.Model, preparation: Preparation) -> Pool:
    """Every picture below a folder, in order of name; each is read when it is asked for.

    Raises:
        DataError: Pillow is missing, there are no pictures, or one cannot be read.
        ArgumentError: the model's input leaves open what `preparation` does not say.
    """
    if find_spec("PIL") is None:
        raise DataError("pictures need Pillow", 'pip install "graphprune[images]"')
    files = _files(path)
    if not files:
        raise DataError(f"{str(path)!r} holds no pictures", f"known: {', '.join(sorted(PICTURES))}")
    frame = find_frame(model, preparation)

    def take(numbers: Sequence[int]) -> Arrays:
        return {frame.name: np.stack([read(files[number], frame, preparation) for number in numbers])}

    return Pool(len(files), take, "pictures")


def find_frame(model: ir.Model, given: Preparation) -> Frame:
    """The model's one picture input.

    Raises:
        ArgumentError: there is none, or its size is open.
    """
    inputs = data_inputs(model)
    if len(inputs) != 1 or inputs[0].shape is None or len(inputs[0].shape) != 4:
        raise ArgumentError("pictures need a model with one input of four axes", "give an .npz instead")
    value = inputs[0]
    dims = [dim if isinstance(dim, int) and dim > 0 else None for dim in value.shape or ()]
    last = given.layout == "nhwc" or (given.layout == "auto" and dims[3] in (1, 3) and dims[1] not in (1, 3))
    channels, (height, width) = (dims[3], dims[1:3]) if last else (dims[1], dims[2:4])
    size = given.size or ((height, width) if height and width else None)
    if size is None:
        raise ArgumentError(f"the size of {value.name!r} is open", "say it: --size 224x224")
    if channels not in (None, 1, 3):
        raise ArgumentError(f"{value.name!r} has {channels} channels, pictures have 1 or 3")
    if any(len(values) not in (1, channels or 3) for values in (given.mean, given.std)):
        raise ArgumentError(f"mean and std need one value, or {channels or 3}: one per channel")
    dtype = np.dtype((value.dtype or ir.DataType.FLOAT).numpy())
    if dtype.kind in "iu" and (any(given.mean) or set(given.std) != {1.0}):
        raise ArgumentError(f"{value.name!r} holds {dtype}: mean and std have no place", "leave them out")
    return Frame(value.name or "", (size[0], size[1]), channels or 3, last, dtype)


def read(path: Path, frame: Frame, given: Preparation) -> np.ndarray:
    """One picture as the model reads it, without a batch axis.

    Raises:
        DataError: it cannot be read, or is too large.
    """
    from PIL import Image, UnidentifiedImageError

    require_regular(path)
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > PIXEL_CAP:
                raise DataError(f"{str(path)!r} has {picture.width} x {picture.height} pixels, too many")
            fitted = fit(picture.convert("RGB" if frame.channels == 3 else "L"), frame.size, given.resize)
    except (OSError, ValueError, SyntaxError, EOFError, UnidentifiedImageError) as error:
        raise DataError(f"cannot read the picture {str(path)!r}: {_first_line(error)}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{str(path)!r} is too large: {_first_line(error)}") from error
    pixels = np.asarray(fitted).reshape(*frame.size, frame.channels)
    pixels = pixels[:, :, ::-1] if given.order == "bgr" else pixels
    if frame.dtype.kind not in "iu":
        pixels = ((pixels / 255.0 - given.mean) / given.std).astype(frame.dtype)
    moved = pixels if frame.last else pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(moved, dtype=frame.dtype)


def fit(picture: Image, size: tuple[int, int], resize: int | None) -> Image:
    """Scale so that the shorter side is `resize` (or the size is just covered), then crop the centre."""
    from PIL.Image import Resampling

    height, width = size
    shorter = min(picture.width, picture.height)
    scale = max(height / picture.height, width / picture.width)
    scale = max(scale, resize / shorter) if resize else scale
    scaled = (max(width, round(picture.width * scale)), max(height, round(picture.height * scale)))
    large = picture.resize(scaled, Resampling.BILINEAR)
    left, top = (scaled[0] - width) // 2, (scaled[1] - height) // 2
    return large.crop((left, top, left + width, top + height))


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.suffix.lower() in PICTURES)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
