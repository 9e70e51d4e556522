"""How models ran, in a line: the sizes that they leave open, the execution providers, what noise may hide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from graphprune.ir.names import escape

CPU = "CPUExecutionProvider"


def assumed(sizes: Mapping[str, int]) -> str:
    """E.g. `n = 1; h, w = 224 (assumed; --shape)`; empty where nothing was."""
    return f"{_listed(sizes)} (assumed; --shape)" if sizes else ""


def ran_on(providers: Sequence[str]) -> str:
    """E.g. `, on OpenVINOExecutionProvider`; empty where the CPU alone ran."""
    return "" if tuple(providers) in ((), (CPU,)) else f", on {', '.join(map(escape, providers))}"


def margin(verdict: str, low: float, high: float) -> str:
    """Why an interval beside 1 is no difference all the same; empty where it says one, or holds 1."""
    from graphprune.runtime.latency import LEVEL, MARGIN

    beside = low > 1 or high < 1
    return f", and equal models differ by up to {MARGIN:.0%}" if verdict == LEVEL and beside else ""


def _listed(sizes: Mapping[str, int]) -> str:
    parts = groupby(sizes.items(), key=lambda item: item[1])
    return "; ".join(f"{', '.join(escape(name) for name, _ in names)} = {size}" for size, names in parts)
