"""All workloads by name."""

from __future__ import annotations

from graphprune.errors import ArgumentError, did_you_mean

from . import crepe, digits_cnn, file_types, language, mnist, ppocr, silero, sklearn_digits, thai
from .workload import Workload

FAMILIES = (digits_cnn, mnist, sklearn_digits, file_types, crepe, ppocr, silero, thai, language)
WORKLOADS: tuple[Workload, ...] = tuple(workload for family in FAMILIES for workload in family.WORKLOADS)


def workload_named(name: str) -> Workload:
    """The workload called `name`.

    Raises:
        ArgumentError: there is none; the hint names the closest.
    """
    for workload in WORKLOADS:
        if workload.name == name:
            return workload
    raise ArgumentError(f"no workload named '{name}'", did_you_mean(name, [each.name for each in WORKLOADS]))
