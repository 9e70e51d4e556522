"""Numbers for people: 1.23 M, 45.6 KB, 0.50x."""

from __future__ import annotations

TINY = 1e-300
_STEPS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "K"))


def short(value: float | None, unit: str = "") -> str:
    """Three significant digits with a decimal prefix, e.g. 11.7 M."""
    if value is None:
        return "unknown"
    for step, prefix in _STEPS:
        if abs(value) >= 0.9995 * step:
            return f"{_three(value / step)} {prefix}{unit}"
    number = str(int(value)) if value == int(value) else _three(value)
    return f"{number} {unit}".rstrip()


def _three(value: float) -> str:
    digits = 0 if abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2
    return f"{value:.{digits}f}"


def share(part: float | None, whole: float | None) -> str:
    """What is left, in percent."""
    if part is None or not whole:
        return ""
    return f"{100 * part / whole:.1f} %"


def milliseconds(value: float) -> str:
    """Milliseconds with three digits."""
    return f"{value:.3g} ms" if value < 1000 else f"{value:.0f} ms"


def score(value: float | None) -> str:
    """A saliency or an error; what is next to the smallest number that there is stands for zero."""
    if value is None:
        return ""
    return "0" if abs(value) < TINY else f"{value:.3g}"
