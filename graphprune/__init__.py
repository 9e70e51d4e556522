"""graphprune makes ONNX models smaller by removing structure, and proves that it did only that."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphprune.api import bench, calibrate, check, compile, find_groups, validate
    from graphprune.errors import GraphpruneError
    from graphprune.pipeline.compile import Result
    from graphprune.pipeline.report import Report
    from graphprune.prune.plan import Plan

__version__ = "0.1.0"
__all__ = [
    "GraphpruneError",
    "Plan",
    "Report",
    "Result",
    "__version__",
    "bench",
    "calibrate",
    "check",
    "compile",
    "find_groups",
    "validate",
]

_HOMES = {
    "GraphpruneError": "graphprune.errors",
    "Plan": "graphprune.prune.plan",
    "Report": "graphprune.pipeline.report",
    "Result": "graphprune.pipeline.compile",
    "bench": "graphprune.api",
    "calibrate": "graphprune.api",
    "check": "graphprune.api",
    "compile": "graphprune.api",
    "find_groups": "graphprune.api",
    "validate": "graphprune.api",
}


def __getattr__(name: str) -> object:
    """Load a public name on first use, so that importing graphprune costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'graphprune' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
