"""What a session is opened with. No model is read here: a process that only loads one starts at once."""

from __future__ import annotations

import os
from pathlib import Path

from graphprune.runtime.silent import ort

FATAL = 4  # ONNX Runtime's own lines on stderr would repeat what the exception says
OPTIMISED = "optimised.onnx"
LONGEST_SECONDS = 1e6
"""No system waits for any time; twelve days are as good as ever."""


def session_options(
    threads: int,
    optimise: bool = True,
    deterministic: bool = True,
    flush_denormals: bool = False,
    trace: Path | None = None,
) -> ort.SessionOptions:
    """Options of a session, as `session.open_session` explains them."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = FATAL
    options.use_deterministic_compute = deterministic
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
    if flush_denormals:
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
    if trace is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(trace / "trace")
        options.optimized_model_filepath = str(trace / OPTIMISED)
        key = "session.optimized_model_external_initializers_"
        options.add_session_config_entry(f"{key}file_name", "weights.bin")
    return options


def utf8(path: Path) -> str | None:
    """A name as ONNX Runtime wants it, whatever the locale made of it; None where its bytes are not UTF-8."""
    try:
        return os.fsencode(path).decode()
    except UnicodeError:
        return None
