"""An output that may be a logit is judged both ways, unless the user said what it is."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.axes.outputs import UserKind
from graphprune.ir.arrays import Arrays
from graphprune.pipeline.settings import Tuning
from graphprune.tuning.case import Case, Job
from graphprune.tuning.judge import DropJudge

TEXT = """<ir_version: 10, opset_import: ["" : 21]>
g (float[n,6] x) => (float[n] y) {
    a = MatMul(x, w)
    s = Add(a, b)
    y = Squeeze(s, axis)
}"""


def case(bias: float, outputs: Mapping[str, UserKind] | None = None, columns: int = 1) -> Case:
    """A model of one number per sample, around a bias."""
    text = (
        TEXT if columns == 1 else TEXT.replace("[n] y", "[n,2] y").replace("Squeeze(s, axis)", "Identity(s)")
    )
    weights: Arrays = {
        "w": 4 * np.random.default_rng(0).standard_normal((6, columns)).astype(np.float32),
        "b": np.full(1, bias, np.float32),
        "axis": np.ones(1, np.int64),
    }
    tensors = [
        ir.tensor(array, name=name) for name, array in weights.items() if name != "axis" or columns == 1
    ]
    model = ir.from_onnx_text(text, initializers=tensors)
    samples = {"x": np.random.default_rng(1).standard_normal((64, 6)).astype(np.float32)}
    return Case(Job(model, samples), Tuning(outputs=outputs or {}))


def test_one_number_of_both_signs_is_judged_as_values_and_as_scores() -> None:
    found = case(0.0)
    assert tuple(found.judged) == ("y as values", "y as scores")
    assert found.kinds == {"y": "scores"}
    judge = found.judge
    assert isinstance(judge, DropJudge)
    drops = judge.drops(found.model, found.parts.selection)
    assert [(each.kind, each.drop and each.drop.value) for each in drops] == [
        ("values", 0.0),
        ("scores", 0.0),
    ]


@pytest.mark.parametrize(
    "found",
    [case(20.0), case(-20.0), case(0.0, {"y": "values"})],
    ids=["positive", "negative", "the user said"],
)
def test_one_of_one_sign_is_a_quantity_and_the_user_knows_best(found: Case) -> None:
    assert tuple(found.judged) == ("y as values",)
    assert found.kinds == {}


def test_what_is_said_to_be_scores_and_is_a_sum_is_read_as_logits() -> None:
    found = case(0.0, {"y": "scores"})
    assert tuple(found.judged) == ("y as scores",)
    judge = found.judge
    assert isinstance(judge, DropJudge)
    assert judge.outputs[0].scale == "logits"


def columns(
    w: np.ndarray, bias: tuple[float, ...] = (0.0, 0.0), last: str = "Identity(s)", places: int = 0
) -> Case:
    """A model of two columns per sample, or at so many places of each."""
    inner = (places,) if places else ()
    text = TEXT.replace("[n] y", "[n,2] y").replace("Squeeze(s, axis)", last)
    text = text.replace("[n,", "".join(f"{size}," for size in ("[n", *inner)))
    weights = {"w": w.astype(np.float32), "b": np.asarray(bias, np.float32)}
    tensors = [ir.tensor(array, name=name) for name, array in weights.items()]
    samples = {"x": np.random.default_rng(1).standard_normal((64, *inner, 6)).astype(np.float32)}
    return Case(Job(ir.from_onnx_text(text, initializers=tensors), samples), Tuning())


APART = np.random.default_rng(0).standard_normal((6, 1)) * [1.0, -1.0]
TOGETHER = np.random.default_rng(0).standard_normal((6, 1)) * [1.0, 1.5]


@pytest.mark.parametrize(
    "found",
    [columns(APART), columns(TOGETHER, last="Softmax(s)"), columns(TOGETHER, places=3)],
    ids=["driven apart", "a distribution", "at many places"],
)
def test_columns_that_are_driven_apart_or_add_up_to_one_are_classes(found: Case) -> None:
    assert tuple(found.judged) == ("y as classes",)
    assert found.kinds == {}


@pytest.mark.parametrize(
    "found",
    [columns(TOGETHER), columns(APART, (30.0, 0.0)), columns(APART, (30.0, 0.0), "Softmax(s)")],
    ids=["move together", "one answer", "one answer of a distribution"],
)
def test_columns_that_may_be_quantities_or_give_one_answer_are_judged_as_values_too(found: Case) -> None:
    assert tuple(found.judged) == ("y as classes", "y as values")
    assert found.kinds == {"y": "values"}


def test_a_model_that_gives_the_one_answer_and_nothing_else_loses() -> None:
    found, constant = columns(APART, (30.0, 0.0)), columns(0 * APART, (30.0, 0.0))
    judge = found.judge
    assert isinstance(judge, DropJudge)
    assert judge.estimate(constant.model, found.parts.selection).value > 0.5


def test_what_the_user_says_of_columns_counts_alone() -> None:
    found = case(0.0, {"y": "classes"}, columns=2)
    assert tuple(found.judged) == ("y as classes",)


def test_a_changed_sign_counts_where_the_error_is_small() -> None:
    found = case(0.0)
    other = case(0.16)
    judge = found.judge
    assert isinstance(judge, DropJudge)
    values, scores = judge.drops(other.model, found.parts.selection)
    assert values.drop is not None
    assert scores.drop is not None
    assert values.drop.value < 0.01 < scores.drop.value
    assert judge.loss(other.model, found.parts.selection).value == scores.drop.value
