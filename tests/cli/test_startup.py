"""The command line answers at once: nothing heavy is imported before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

HEAVY = ("onnx", "onnx_ir", "onnxruntime", "numpy", "scipy", "networkx", "rich", "torch", "google.protobuf")
CODE = """
import sys
from graphprune.cli.main import main
code = main({arguments!r})
print(sorted(name for name in {heavy!r} if name in sys.modules), file=sys.stderr)
sys.exit(code)
"""


def loaded(*arguments: str) -> str:
    code = CODE.format(arguments=list(arguments), heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout
    return done.stderr.strip()


@pytest.mark.parametrize(
    "command",
    [
        (),
        ("compile",),
        ("inspect",),
        ("explain",),
        ("validate",),
        ("check",),
        ("bench",),
        ("passes",),
        ("init",),
        ("tune",),
        ("sweep",),
    ],
)
def test_help_imports_nothing_heavy(command: tuple[str, ...]) -> None:
    assert loaded(*command, "--help") == "[]"


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = f"import sys, graphprune; print([n for n in {HEAVY!r} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_inspect_imports_no_library_that_this_model_does_not_need() -> None:
    shown = loaded("inspect", "models/digits_cnn/model.onnx")
    assert not {"networkx", "scipy", "torch", "onnxruntime"} & set(ast.literal_eval(shown))
