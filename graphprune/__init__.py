"""graphprune makes ONNX models smaller by removing structure, and proves that it did only that.

Look at a model, compile it, judge the result:

    import graphprune
    from graphprune.passes import Prune

    print(graphprune.inspect("model.onnx"))                         # size, groups, and what is pinned
    result = graphprune.compile("model.onnx", Prune(ratio=0.5), calibration="samples.npz")
    result.save("small.onnx")
    graphprune.check("model.onnx", result, "samples.npz", max_drop=0.02)

`graphprune.cut` removes units that you pick, `graphprune.list_passes` says what there is to run, and every
mistake is a `GraphpruneError` with a hint. `import graphprune` alone loads nothing heavy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphprune import passes
    from graphprune.api import (
        bench,
        calibrate,
        check,
        compile,
        cut,
        lower,
        tune,
        validate,
    )
    from graphprune.errors import GraphpruneError
    from graphprune.look import explain, find_groups, inspect, list_passes
    from graphprune.pipeline.report import Report
    from graphprune.pipeline.result import Result
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
    "cut",
    "explain",
    "find_groups",
    "inspect",
    "list_passes",
    "lower",
    "passes",
    "tune",
    "validate",
]

_HOMES = {
    **dict.fromkeys(("explain", "find_groups", "inspect", "list_passes"), "graphprune.look"),
    "GraphpruneError": "graphprune.errors",
    "Plan": "graphprune.prune.plan",
    "Report": "graphprune.pipeline.report",
    "Result": "graphprune.pipeline.result",
}


def __getattr__(name: str) -> object:
    """Load a public name on first use, so that importing graphprune costs nothing."""
    if name not in __all__:
        raise AttributeError(f"module 'graphprune' has no attribute '{name}'")
    if name == "passes":
        return importlib.import_module("graphprune.passes")
    return getattr(importlib.import_module(_HOMES.get(name, "graphprune.api")), name)


def __dir__() -> list[str]:
    return sorted(__all__)
