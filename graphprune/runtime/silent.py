"""ONNX Runtime without telemetry, for which 1.32 keeps a database in the user's cache and more."""

from __future__ import annotations

import os

_SWITCH = "ORT_DISABLE_TELEMETRY"


def _switch_off() -> None:
    """Import ONNX Runtime while the switch is set: it looks at it only then. A user's own stays."""
    given = os.environ.get(_SWITCH)
    os.environ.setdefault(_SWITCH, "1")
    try:
        import onnxruntime
    finally:
        if given is None:
            del os.environ[_SWITCH]
    if given is None:
        onnxruntime.disable_telemetry_events()  # all that is left to do where somebody imported it before


_switch_off()

import onnxruntime as ort  # noqa: E402

__all__ = ["ort"]
