"""A pytest plugin: which functions of graphprune a test calls, and how much CPU time it takes.

`python -m pytest -p tools.mutants.reach --reach FILE` appends one JSON line per test that passed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Generator
from pathlib import Path
from types import CodeType, FrameType

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = f"{ROOT / 'graphprune'}{os.sep}"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the lines go."""
    parser.addoption("--reach", type=Path, required=True)


def cpu() -> float:
    """Of this process and of the children that ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


class Reach:
    """The functions that were called since `start`."""

    def __init__(self) -> None:
        self.seen: set[CodeType] = set()

    def start(self) -> None:
        """Forgets what was called before."""
        self.seen = set()
        sys.settrace(self.trace)

    def trace(self, frame: FrameType, event: str, _: object) -> None:
        """Notes a call; no lines are traced, which would be slow."""
        self.seen.add(frame.f_code)

    def stop(self) -> list[str]:
        """`path:function` of those of the package."""
        sys.settrace(None)
        ours = [code for code in self.seen if code.co_filename.startswith(PACKAGE)]
        return sorted({f"{Path(code.co_filename).relative_to(ROOT)}:{name_of(code)}" for code in ours})


def name_of(code: CodeType) -> str:
    """Qualified name of a function as it stands in the source; of a comprehension, what it stands in."""
    return ".".join(name for name in code.co_qualname.split(".") if not name.startswith("<"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """One test with its set-up."""
    reach, before, start = Reach(), cpu(), time.perf_counter()
    failed = item.session.testsfailed
    reach.start()
    try:
        result = yield
    finally:
        calls = reach.stop()
    if item.session.testsfailed == failed:
        spent = {"cpu": round(cpu() - before, 3), "wall": round(time.perf_counter() - start, 3)}
        line = json.dumps({"test": item.nodeid, **spent, "calls": calls}) + "\n"
        with item.config.getoption("--reach").open("ab", buffering=0) as file:  # at once: others write, too
            file.write(line.encode())
    return result
