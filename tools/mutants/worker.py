"""Runs tests in forks of one warm process: what a test imports from elsewhere is imported once.

`python -m tools.mutants.worker`, in the tree whose tests are run: reads a JSON line with `tests` and `limit`
(seconds), writes one with `code` (null: it did not end) and `out`.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import tempfile
import time

import pytest

WARM = (
    "numpy", "scipy.linalg", "scipy.optimize", "scipy.cluster.hierarchy", "scipy.special", "onnx", "onnx_ir",
    "onnxruntime", "hypothesis", "networkx", "rich.console", "click",
)  # fmt: skip
OPTIONS = ("-q", "-x", "--no-header", "-p", "no:cacheprovider", "--tb=no")
PAUSE_S = 0.02


def main() -> None:
    """Never imports the package that is tested."""
    for name in WARM:
        importlib.import_module(name)
    for line in sys.stdin:
        task = json.loads(line)
        with tempfile.TemporaryFile() as out:
            code = run(task["tests"], task["limit"], out.fileno())
            out.seek(0)
            print(json.dumps({"code": code, "out": out.read().decode(errors="replace")}), flush=True)


def run(tests: list[str], limit: float, out: int) -> int | None:
    """The exit status of pytest in a fork."""
    child = os.fork()
    if child == 0:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        code = 3
        try:
            code = int(pytest.main([*OPTIONS, *tests]))
            sys.stdout.flush()
        finally:
            os._exit(code)
    end = time.monotonic() + limit
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(PAUSE_S)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


if __name__ == "__main__":
    main()
