"""Builds the wheel, installs it on its own, and writes into docs/install.md what that takes.

`python -m tools.install_size`; needs a package index.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path

from graphprune.report import numbers

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "install.md"
MARKS = ("<!-- size: python -m tools.install_size -->", "<!-- /size -->")
_LISTED = """
import importlib.metadata as m, json
sizes = {}
for each in m.distributions():
    files = [each.locate_file(f) for f in each.files or () if "__pycache__" not in str(f)]
    sizes[each.metadata["Name"]] = (each.version, sum(f.stat().st_size for f in files if f.is_file()))
print(json.dumps(sizes))
"""
Sizes = dict[str, tuple[str, int]]


def built(folder: Path) -> Path:
    """The wheel of this checkout."""
    command = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder))
    subprocess.run((*command, str(ROOT)), check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def installed(wheel: Path, folder: Path) -> Sizes:
    """Version and bytes of every package that the wheel brings, without compiled bytecode."""
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    subprocess.run((python, "-m", "pip", "install", "--quiet", "--no-compile", str(wheel)), check=True)
    listed = subprocess.run((python, "-c", _LISTED), check=True, capture_output=True, text=True)
    found: Sizes = json.loads(listed.stdout)
    return {name: size for name, size in found.items() if name not in ("pip", "setuptools")}


def table(wheel: int, sizes: Sizes) -> Iterator[str]:
    """Lines of the page: the largest packages, and the sum."""
    order = sorted(sizes.items(), key=lambda item: -item[1][1])
    total = sum(size for _, size in sizes.values())
    where = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    yield (
        f"The wheel is {numbers.short(wheel, 'B')}. Installed with all it needs: "
        f"**{numbers.short(total, 'B')}** in {len(sizes)} packages ({where}, without compiled bytecode)."
    )
    yield from ("", "| package | version | on disk |", "|---|---|---|")
    shown = [item for item in order if item[1][1] >= total / 100 or item[0] == "graphprune"]
    yield from (f"| {name} | {version} | {numbers.short(size, 'B')} |" for name, (version, size) in shown)
    rest = total - sum(size for _, (_, size) in shown)
    yield f"| {len(sizes) - len(shown)} others | | {numbers.short(rest, 'B')} |"


def main() -> None:
    """Measure, then write."""
    with tempfile.TemporaryDirectory() as folder:
        wheel = built(Path(folder, "wheel"))
        lines = tuple(table(wheel.stat().st_size, installed(wheel, Path(folder, "venv"))))
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    PAGE.write_text(before + "\n".join((MARKS[0], *lines, MARKS[1])) + after, encoding="utf-8")


if __name__ == "__main__":
    main()
