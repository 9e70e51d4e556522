"""`python -m tools.report_picture`: docs/report.png, the report of the README's repair in Chromium."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from graphprune.cli.main import main as graphprune

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "report.png"
DIGITS = "models/digits_cnn"
COMMAND = (
    f"compile {DIGITS}/model.onnx --passes obspa(ratio=0.5) --calibration {DIGITS}/calibration.npz "
    "-o half.onnx --report half.html"
).split()
SIZE = {"width": 1200, "height": 1900}
COLOURS = 64


def main() -> None:
    """Compile, open the page, and keep its upper part."""
    with TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("models").symlink_to(ROOT / "models")
        if graphprune(COMMAND):
            sys.exit("the compile failed")
        shoot(Path("half.html").resolve(), Path("half.png"))
        small(Path("half.png"), PICTURE)


def shoot(page: Path, picture: Path) -> None:
    """The upper part of a page as a picture."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=arguments)
        shown = browser.new_page(viewport=SIZE)  # type: ignore[arg-type]
        shown.goto(page.as_uri())
        shown.screenshot(path=picture)
        browser.close()


def small(picture: Path, target: Path) -> None:
    """The same in few colours, which is all that a page has."""
    from PIL import Image

    with Image.open(picture) as image:
        image.convert("RGB").quantize(COLOURS).save(target, optimize=True)


if __name__ == "__main__":
    main()
