"""Samples that say little: every method works with what there is, or says in one line what is wrong."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import graphprune
from graphprune.errors import GraphpruneError
from tests.axes.claims import sketch

Array = np.ndarray
Feed = dict[str, Array]

NET = """(float[n,2,4,4] x, float[n,3] c) => (float[n,3] y) {
    a = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)\n b = Relu(a)
    d = Conv <group = 2, pads = [1, 1, 1, 1]> (b, w2)\n e = Relu(d)
    f = Flatten(e)\n g = MatMul(c, wc)\n h = Concat <axis = 1> (f, g)
    i = Gemm(h, w3, b3)\n k = Relu(i)\n y = MatMul(k, w4) }"""
WEIGHTS = {
    "w1": (8, 2, 3, 3), "b1": (8,), "w2": (8, 4, 3, 3), "wc": (3, 8), "w3": (136, 12), "b3": (12,),
    "w4": (12, 3),
}  # fmt: skip


def model() -> object:
    draw = np.random.default_rng(0)
    weights = {n: (draw.standard_normal(s) * 0.4).astype(np.float32) for n, s in WEIGHTS.items()}
    return sketch(NET, **weights).model


def samples(count: int, change: Callable[[Feed], Feed] = lambda feed: feed) -> Feed:
    draw = np.random.default_rng(1)
    shapes = {"x": (count, 2, 4, 4), "c": (count, 3)}
    return change({name: draw.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()})


def each(change: Callable[[Array], Array]) -> Callable[[Feed], Feed]:
    return lambda feed: {name: np.asarray(change(array), np.float32) for name, array in feed.items()}


def one_pixel(value: float) -> Callable[[Feed], Feed]:
    def put(feed: Feed) -> Feed:
        feed["x"][5, 1, 2, 2] = value
        return feed

    return put


VARIES = {
    "two samples": samples(2),
    "offset 100": samples(32, each(lambda a: a + 100)),
    "offset 1e5": samples(32, each(lambda a: a + 1e5)),
    "a conditioning input that never varies": samples(64, lambda feed: {**feed, "c": np.ones((64, 3), "f")}),
    "tiny": samples(32, each(lambda a: a * 1e-30)),
}
NEVER = {
    "one sample": samples(1),
    "constant": samples(16, each(np.ones_like)),
    "zeros": samples(16, each(np.zeros_like)),
}
HUGE = {
    "one 1e30": samples(16, one_pixel(1e30)),
    "all 1e30": samples(16, each(lambda a: a * 1e30)),
    "one Inf": samples(16, one_pixel(np.inf)),
    "one NaN": samples(16, one_pixel(np.nan)),
}
METHODS = (
    "obspa(ratio=0.4)",
    "obspa(ratio=0.4, driver=oneshot, repair=refit+match)",
    "prune(ratio=0.4, criterion=thinet, repair=bias+match)",
    "prune(ratio=0.4, criterion=hrank)",
    "flap(ratio=0.4)",
    "sparsegpt",
    "sparsegpt(damping=0)",
    "wanda(repair=refit)",
)
ALL = pytest.mark.parametrize("method", METHODS)


def compiled(method: str, data: Feed) -> tuple[bool, str]:
    """Whether all weights are numbers, and everything that was said about the pass."""
    result = graphprune.compile(model(), method, calibration=data)
    arrays = [np.asarray(t) for t in map(_array, result.proto().graph.initializer)]
    return all(np.isfinite(a).all() for a in arrays), "\n".join(result.report.passes[0].warnings)


def _array(tensor: object) -> Array:
    from onnx import numpy_helper

    return numpy_helper.to_array(tensor)  # type: ignore[arg-type]


@ALL
@pytest.mark.parametrize("data", VARIES)
def test_few_far_tiny_and_partly_constant_samples_do(method: str, data: str) -> None:
    finite, _ = compiled(method, VARIES[data])
    assert finite


@pytest.mark.parametrize("method", ["obspa(ratio=0.4)", "flap(ratio=0.4)", "prune(ratio=0.4)"])
@pytest.mark.parametrize("data", NEVER)
def test_where_nothing_varies_a_line_says_so(method: str, data: str) -> None:
    finite, said = compiled(method, NEVER[data])
    assert finite
    assert "varies on the calibration data" in said


@pytest.mark.parametrize("method", ["sparsegpt", "wanda(repair=refit)"])
def test_masks_of_zero_inputs_are_those_of_the_weights_and_say_so(method: str) -> None:
    finite, said = compiled(method, NEVER["zeros"])
    assert finite
    assert "'w1'" in said and "zero on the calibration data" in said


@ALL
@pytest.mark.parametrize("data", HUGE)
def test_huge_numbers_are_worked_with_or_named_in_one_line(method: str, data: str) -> None:
    try:
        finite, _ = compiled(method, HUGE[data])
    except GraphpruneError as error:
        assert "\n" not in error.message.split("\n  ")[0]
    else:
        assert finite
