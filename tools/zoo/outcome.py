"""What an export gave, and when it counts as wrong."""

from __future__ import annotations

from dataclasses import dataclass

TOLERANCE = 1e-3


class ExportMismatchError(Exception):
    """The exported file does not compute what the module computes."""


@dataclass(frozen=True)
class Export:
    """What one export gave.

    Attributes:
        error: largest difference from torch over the largest output.
        spread: largest difference between two items of the batch, likewise; 0 means a constant output.
        megabytes: size of the file with its sidecar.
        seconds: CPU seconds to build, export and check.
    """

    error: float
    spread: float
    megabytes: float
    seconds: float
