"""How far two runs of a model agree, output by output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import onnx_ir as ir

TOLERANCE = 1e-4
# A result cannot agree more closely than a few steps of its own number format.
STEPS = 4
Difference = Literal["", "numbers", "answers", "not finite", "form"]
"""What differs, from nothing to everything: numbers beyond the tolerance, but no answer; an argmax, a whole
number or a string; numbers that are none; the output itself, its shape or its type."""


@dataclass(frozen=True)
class OutputAgreement:
    """One output of two runs, `a` the reference.

    Attributes:
        name: of the output.
        ok: whether they agree within `tolerance`; integers, booleans and strings exactly.
        proves: whether agreement means anything: a non-finite or constant output proves nothing.
        note: why not ok, or why nothing is proven; empty otherwise.
        max_abs: the largest |a - b| over elements where both are finite.
        relative: `max_abs` divided by the largest finite |a|.
        cosine: of the flattened finite elements; 1 when both are zero.
        top1: share of equal argmax over the last axis; None unless floats with two or more classes.
        shape_a: of the reference.
        shape_b: of the other.
        tolerance: the bound on `relative` that was applied.
        difference: what kind of difference there is where it is not ok.
    """

    name: str
    ok: bool
    proves: bool
    note: str
    max_abs: float
    relative: float
    cosine: float
    top1: float | None
    shape_a: tuple[int, ...]
    shape_b: tuple[int, ...]
    tolerance: float
    difference: Difference = ""


@dataclass(frozen=True)
class Agreement:
    """All outputs of two runs, and the execution providers that ran, if anybody said which."""

    outputs: tuple[OutputAgreement, ...]
    providers: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Every output of either run exists in both and agrees."""
        return bool(self.outputs) and all(output.ok for output in self.outputs)

    @property
    def proves(self) -> bool:
        """At least one output carries information, so that `ok` is evidence."""
        return any(output.proves for output in self.outputs)

    @property
    def worst(self) -> OutputAgreement | None:
        """The output that agrees least: a failed one if any, then the largest relative difference."""
        return max(self.outputs, key=lambda output: (not output.ok, output.relative), default=None)


def agreement(
    a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray], tolerance: float = TOLERANCE
) -> Agreement:
    """Compare the outputs of a reference with those of another model on the same inputs.

    Floats agree when max|a - b| <= tolerance * max|a|; half-precision outputs get at least four
    steps of their format. NaN equals nothing, not even NaN; an infinity equals itself.
    """
    names = [*a, *(name for name in b if name not in a)]
    return Agreement(tuple(_output(name, a.get(name), b.get(name), tolerance) for name in names))


def merge(runs: Iterable[Agreement]) -> Agreement:
    """Several runs as one: each output at its worst; it proves something if any run does.

    Cosine is then that of the worst run, not a mean; top1 the least, and the difference the gravest.
    """
    worst: dict[str, OutputAgreement] = {}
    found: dict[str, list[OutputAgreement]] = {}
    proving: set[str] = set()
    for run in runs:
        for output in run.outputs:
            found.setdefault(output.name, []).append(output)
            old = worst.get(output.name)
            if old is None or (not output.ok, output.relative) > (not old.ok, old.relative):
                worst[output.name] = output
            if output.proves:
                proving.add(output.name)
    merged = (_gravest(output, found[name]) for name, output in worst.items())
    return Agreement(tuple(_with_proof(output, output.name in proving) for output in merged))


def _gravest(worst: OutputAgreement, runs: Sequence[OutputAgreement]) -> OutputAgreement:
    kinds = get_args(Difference)
    tops = [run.top1 for run in runs if run.top1 is not None]
    difference = max((run.difference for run in runs), key=kinds.index)
    return replace(worst, top1=min(tops, default=None), difference=difference)


def _with_proof(output: OutputAgreement, proves: bool) -> OutputAgreement:
    note = "" if proves and output.ok else output.note
    return replace(output, proves=proves, note=note)


def _output(name: str, a: np.ndarray | None, b: np.ndarray | None, tolerance: float) -> OutputAgreement:
    if a is None or b is None:
        shape = a.shape if a is not None else b.shape if b is not None else ()
        which = "the reference" if a is None else "the other model"
        return _refused(name, shape, shape, f"{which} has no such output", tolerance)
    if a.shape != b.shape:
        return _refused(name, a.shape, b.shape, f"shape {a.shape} became {b.shape}", tolerance)
    if a.dtype != b.dtype:
        return _refused(name, a.shape, b.shape, f"type {a.dtype} became {b.dtype}", tolerance)
    return _floats(name, a, b, tolerance) if _step(a.dtype) else _exact(name, a, b)


def _refused(
    name: str, shape_a: tuple[int, ...], shape_b: tuple[int, ...], note: str, tolerance: float
) -> OutputAgreement:
    return OutputAgreement(
        name,
        ok=False,
        proves=False,
        note=note,
        max_abs=float("inf"),
        relative=float("inf"),
        cosine=0.0,
        top1=None,
        shape_a=shape_a,
        shape_b=shape_b,
        tolerance=tolerance,
        difference="form",
    )


def _step(dtype: np.dtype) -> float:
    """The relative step of a floating format, 0 for types that compare exactly."""
    if dtype.kind == "c":
        return float(np.finfo(dtype).eps)
    if dtype.kind in "biuOSU":
        return 0.0
    kind = ir.DataType.from_numpy(dtype)
    return float(kind.eps) if kind.is_floating_point() else 0.0


def _exact(name: str, a: np.ndarray, b: np.ndarray) -> OutputAgreement:
    wrong = int(np.count_nonzero(a != b))
    if a.dtype.kind in "biu":
        x, y = a.astype(np.float64), b.astype(np.float64)
    else:  # strings: any difference counts as one
        x, y = np.ones(a.shape), np.asarray(a == b, np.float64)
    max_abs = float(np.max(np.abs(x - y), initial=0.0))
    scale = float(np.max(np.abs(x), initial=0.0))
    silent = "constant output" if _constant(a) else ""
    return OutputAgreement(
        name,
        ok=not wrong,
        proves=not silent,
        note=f"{wrong} of {a.size} values differ" if wrong else silent,
        max_abs=max_abs,
        relative=_ratio(max_abs, scale),
        cosine=_cosine(x, y) if wrong else 1.0,
        top1=None,
        shape_a=a.shape,
        shape_b=b.shape,
        tolerance=0.0,
        difference="answers" if wrong else "",
    )


def _floats(name: str, a: np.ndarray, b: np.ndarray, tolerance: float) -> OutputAgreement:
    tolerance = max(tolerance, STEPS * _step(a.dtype))
    wide = np.complex128 if a.dtype.kind == "c" else np.float64
    x, y = a.astype(wide), b.astype(wide)
    finite = np.isfinite(x) & np.isfinite(y)
    nan = int(np.count_nonzero(np.isnan(x) | np.isnan(y)))
    unmatched = int(np.count_nonzero(~finite & (x != y))) - nan
    fx, fy = x[finite], y[finite]
    max_abs = float(np.max(np.abs(fx - fy), initial=0.0))
    relative = float("inf") if nan or unmatched else _ratio(max_abs, float(np.max(np.abs(fx), initial=0.0)))
    broken = _breakage(nan, unmatched, relative, tolerance)
    top1 = _top1(x, y)
    kind: Difference = "not finite" if nan or unmatched else "numbers" if top1 in (None, 1.0) else "answers"
    silent = _silence(fx, a.size)
    return OutputAgreement(
        name,
        ok=not broken,
        proves=not silent,
        note=broken or silent,
        max_abs=max_abs,
        relative=relative,
        cosine=_cosine(fx, fy),
        top1=top1,
        shape_a=a.shape,
        shape_b=b.shape,
        tolerance=tolerance,
        difference=kind if broken else "",
    )


def _breakage(nan: int, unmatched: int, relative: float, tolerance: float) -> str:
    if nan:
        return f"{nan} values are NaN"
    if unmatched:
        return f"{unmatched} infinite values differ"
    if relative > tolerance:
        return f"relative difference {relative:.3g} exceeds {tolerance:.3g}"
    return ""


def _silence(finite: np.ndarray, size: int) -> str:
    """Why an output would look the same however the model computed it."""
    if not finite.size:
        return "empty output" if not size else "no finite values"
    return "constant output" if _constant(finite) else ""


def _constant(a: np.ndarray) -> bool:
    # A single number may well be a result; many equal ones hardly are. Zero alone says nothing either.
    if a.size <= 1:
        return a.size == 0 or not bool(a.ravel()[0])
    return bool(np.all(a == a.ravel()[0]))


def _ratio(gap: float, scale: float) -> float:
    if gap == 0.0:
        return 0.0
    return gap / scale if scale else float("inf")


def _cosine(x: np.ndarray, y: np.ndarray) -> float:
    norms = float(np.linalg.norm(x) * np.linalg.norm(y))
    if norms == 0.0:
        return 1.0 if not np.any(x) and not np.any(y) else 0.0
    return float(np.real(np.vdot(x, y))) / norms


def _top1(x: np.ndarray, y: np.ndarray) -> float | None:
    if x.ndim == 0 or x.shape[-1] < 2 or not x.size or x.dtype.kind == "c":
        return None
    return float(np.mean(np.argmax(x, axis=-1) == np.argmax(y, axis=-1)))
