"""Text drawn with pillow: the words, lines and pages that the OCR workloads read."""

from __future__ import annotations

import importlib
import random
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from graphprune.errors import DataError

FONT_FOLDERS = ("/usr/share/fonts/truetype/dejavu", "/usr/share/fonts/truetype/liberation")
MIN_WORDS = 500
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Box:
    """Axis-aligned rectangle in pixels, right and bottom exclusive."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """Intersection over union with another box."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        if width <= 0 or height <= 0:
            return 0.0
        return width * height / (self.area + other.area - width * height)

    @property
    def area(self) -> float:
        return (self.right - self.left) * (self.bottom - self.top)


@dataclass(frozen=True)
class Page:
    """A rendered page and the box of each line."""

    pixels: Pixels
    lines: tuple[Box, ...]


@cache
def fonts() -> tuple[Path, ...]:
    """Every usable font file, in a fixed order.

    Raises:
        DataError: neither font package is installed.
    """
    found = [path for folder in FONT_FOLDERS for path in sorted(Path(folder).glob("*.ttf"))]
    plain = tuple(path for path in found if "MathTeX" not in path.name)
    if not plain:
        raise DataError(
            "no DejaVu or Liberation fonts found", "apt-get install fonts-dejavu fonts-liberation"
        )
    return plain


@cache
def words() -> tuple[str, ...]:
    """English words of the Python language reference that ships with the interpreter, each once."""
    topics = importlib.import_module("pydoc_data.topics").topics
    text = " ".join(topics[name] for name in sorted(topics))
    found = tuple(sorted(set(re.findall(r"\b[A-Za-z]{3,10}\b", text))))
    if len(found) < MIN_WORDS:
        raise DataError("pydoc_data.topics holds too little text", "use a complete Python installation")
    return found


def word_half(second: bool) -> tuple[str, ...]:
    """One of two disjoint halves of the words: evaluation reads the first, calibration the second."""
    return words()[int(second) :: 2]


def pick_font(chance: random.Random, low: int, high: int) -> ImageFont.FreeTypeFont:
    """A random face in a random size."""
    return ImageFont.truetype(str(chance.choice(fonts())), chance.randint(low, high))


def pick_colours(chance: random.Random) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Dark ink and light paper."""
    ink = (chance.randint(0, 90), chance.randint(0, 90), chance.randint(0, 90))
    paper = (chance.randint(190, 255), chance.randint(190, 255), chance.randint(190, 255))
    return ink, paper


def add_noise(image: Image.Image, chance: random.Random, strength: float) -> Pixels:
    """Gaussian noise, as a sensor would add it."""
    generator = np.random.default_rng(chance.getrandbits(63))
    noisy = np.asarray(image, dtype=np.float32) + generator.normal(
        0, strength, (image.height, image.width, 1)
    )
    return np.clip(noisy, 0, 255).astype(np.uint8)


def draw_line(text: str, chance: random.Random, blur: float) -> Pixels:
    """One line of small, noisy text, blurred by up to `blur` pixels and cropped with a margin, [H,W,3]."""
    font, (ink, paper) = pick_font(chance, 11, 30), pick_colours(chance)
    left, top, right, bottom = font.getbbox(text)
    margin = chance.randint(2, 6)
    size = (int(right - left) + 2 * margin, int(bottom - top) + 2 * margin)
    image = Image.new("RGB", size, paper)
    ImageDraw.Draw(image).text((margin - left, margin - top), text, fill=ink, font=font)
    soft = image.filter(ImageFilter.GaussianBlur(chance.uniform(0, blur)))
    return add_noise(soft, chance, chance.uniform(0, 24))


def draw_page(
    chance: random.Random, vocabulary: tuple[str, ...], width: int = 480, height: int = 640
) -> Page:
    """Lines of running text in one face each, from top to bottom, with the box of each line.

    A box spans the ink sideways and ascender to descender upright, whichever letters the line holds.
    """
    ink, paper = pick_colours(chance)
    image = Image.new("RGB", (width, height), paper)
    canvas = ImageDraw.Draw(image)
    boxes: list[Box] = []
    top = chance.randint(12, 40)
    while True:
        font = pick_font(chance, 13, 30)
        text = " ".join(chance.choices(vocabulary, k=chance.randint(1, 6)))
        x = chance.randint(12, 80)
        while canvas.textlength(text, font) > width - x - 12 and " " in text:
            text = text.rsplit(" ", 1)[0]
        left, _, right, _ = canvas.textbbox((x, top), text, font)
        bottom = top + sum(font.getmetrics())
        if bottom > height - 12:
            break
        if right < width - 8:
            canvas.text((x, top), text, fill=ink, font=font)
            boxes.append(Box(left, top, right, bottom))
        top = bottom + chance.randint(4, 24)
    return Page(add_noise(image, chance, chance.uniform(0, 40)), tuple(boxes))


def fit_height(pixels: Pixels, height: int, width: int) -> NDArray[np.float32]:
    """Scale to `height`, squeeze or pad with zeros to `width`, and map 0..255 to -1..1, [3,height,width]."""
    wide = min(width, max(1, round(pixels.shape[1] * height / pixels.shape[0])))
    scaled = Image.fromarray(pixels).resize((wide, height), Image.Resampling.BILINEAR)
    canvas = np.zeros((3, height, width), dtype=np.float32)
    canvas[:, :, :wide] = normalised(np.asarray(scaled))
    return canvas


def normalised(pixels: Pixels) -> NDArray[np.float32]:
    """[H,W,3] bytes to [3,H,W] in -1..1, as the PP-OCR models were trained."""
    return np.ascontiguousarray((pixels.astype(np.float32) / 127.5 - 1.0).transpose(2, 0, 1))
