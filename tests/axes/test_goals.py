"""What a loss compares in place of an output is found in the graph."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.axes.goals import Goal, find_goals
from graphprune.axes.outputs import judged
from graphprune.ir.normalise import normalise
from graphprune.ops import record_of
from tests.proof.building import model

HEADER = "(float[n,6] x) => ({outputs}) {{\n"
LOGITS = "h = MatMul(x, w)\n"
FOUND = {
    "logits": ("float[n,4] h", "", [Goal("h", "h", "classes")]),
    "softmax": ("float[n,4] y", "y = Softmax(h)", [Goal("y", "h", "classes")]),
    "log softmax": ("float[n,4] y", "y = LogSoftmax(h)", [Goal("y", "h", "classes")]),
    "softmax written out": (
        "float[n,4] y",
        "e = Exp(h)\nt = ReduceSum<keepdims = 1>(e, last)\ny = Div(e, t)",
        [Goal("y", "h", "classes")],
    ),
    "argmax": ("int64[n,1] y", "y = ArgMax<axis = 1>(h)", [Goal("y", "h", "classes")]),
    "argmax of softmax": (
        "int64[n,1] y",
        "p = Softmax(h)\ny = ArgMax<axis = 1>(p)",
        [Goal("y", "h", "classes")],
    ),
    "sigmoid": ("float[n,4] y", "y = Sigmoid(h)", [Goal("y", "h", "scores")]),
    "moved sigmoid": ("float[4,n] y", "s = Sigmoid(h)\ny = Transpose(s)", [Goal("y", "h", "scores")]),
    "values": ("float[n,4] y", "y = Tanh(h)", [Goal("y", "y", "values")]),
    "scores beside values": (
        "float[n,8] y",
        "s = Sigmoid(h)\nt = Tanh(h)\ny = Concat<axis = 1>(s, t)",
        [Goal("y", "h", "scores"), Goal("y", "t", "values")],
    ),
    "label and its probabilities": (
        "float[n,4] p, int64[n,1] y",
        "p = Softmax(h)\ny = ArgMax<axis = 1>(p)",
        [Goal("p", "h", "classes")],
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_goals_are_what_stands_before_the_last_squashing(name: str) -> None:
    outputs, body, expected = FOUND[name]
    axes = {"last": np.array([1])} if "last" in body else {}
    net = model(HEADER.format(outputs=outputs) + LOGITS + body + "\n}", 21, w=(6, 4), **axes)
    sizes = normalise(net, record_of)
    assert list(find_goals(net, judged(net, sizes))) == expected


def test_an_output_that_no_gradient_reaches_has_no_goal() -> None:
    net = model("(int64[n] x) => (int64[n] y) {\ny = Add(x, x)\n}", 21)
    assert find_goals(net, judged(net, normalise(net, record_of))) == ()
