"""Pipeline text and passes: what prints reads back, and errors point at the place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphprune.errors import ArgumentError
from graphprune.pipeline.grammar import parse
from graphprune.pipeline.passes import Pass, arguments, from_stage, print_pass


@dataclass(frozen=True)
class Sample(Pass):
    """A pass with an argument of every type."""

    name: ClassVar[str] = "sample_pass"

    ratio: float = field(default=0.3, metadata={"help": "share removed"})
    criterion: Literal["l1", "l2", "bn-scale"] = "l2"
    align: Literal["auto"] | int = "auto"
    ignore: tuple[str, ...] = ()
    ratios: Mapping[str, float] = field(default_factory=dict)
    params: float | None = None
    label: str = "x"
    strict: bool = False
    min_keep: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.ratio < 1:
            raise ArgumentError(f"ratio must be in [0, 1), got {self.ratio}")


def read(text: str) -> Pass:
    (stage,) = parse(text)
    return from_stage(Sample, stage)


def failure(text: str) -> ArgumentError:
    with pytest.raises(ArgumentError) as caught:
        for stage in parse(text):
            from_stage(Sample, stage)
    return caught.value


anything = st.text(st.characters(exclude_categories=["Cs"]))
samples = st.builds(
    Sample,
    ratio=st.floats(0, 1, exclude_max=True),
    criterion=st.sampled_from(["l1", "l2", "bn-scale"]),
    align=st.just("auto") | st.integers(),
    ignore=st.lists(anything).map(tuple),
    ratios=st.dictionaries(anything, st.floats(allow_nan=False)),
    params=st.none() | st.floats(allow_nan=False),
    label=anything | st.sampled_from(["true", "none", "1", "1e5", "2:4", "inf", "", " ", '"']),
    strict=st.booleans(),
    min_keep=st.integers(),
)


@given(samples)
def test_what_prints_reads_back(item: Sample) -> None:
    assert read(print_pass(item)) == item


@given(anything)
def test_any_text_is_read_or_refused_with_a_message(text: str) -> None:
    try:
        parse(text)
    except ArgumentError as error:
        assert "^" in error.message


@given(st.lists(samples, max_size=3))
def test_pipelines_read_back(items: list[Sample]) -> None:
    text = ", ".join(map(print_pass, items))
    assert [from_stage(Sample, stage) for stage in parse(text)] == items


def test_only_what_differs_is_printed() -> None:
    assert str(Sample()) == "sample-pass"
    assert str(Sample(min_keep=4, ratio=0.5)) == "sample-pass(ratio=0.5, min-keep=4)"


def test_dash_and_underscore_are_one() -> None:
    assert read("sample_pass(min_keep=4, criterion=bn_scale)") == read(
        "sample-pass(min-keep=4,criterion=bn-scale)"
    )


@pytest.mark.parametrize("text", ["", " ", "\n"])
def test_empty_pipeline(text: str) -> None:
    assert parse(text) == ()


def test_words_are_what_the_type_says() -> None:
    assert read("sample(label=2:4)") == Sample(label="2:4")
    assert read("sample(label=0.5, ratio=0.5)") == Sample(label="0.5", ratio=0.5)
    assert read("sample(ignore=conv1.*)") == Sample(ignore=("conv1.*",))
    assert read('sample(ratios={layer1.*: 0.2, "a:0": 1})') == Sample(ratios={"layer1.*": 0.2, "a:0": 1.0})


CARETS = {
    "sample(ratoi=0.5)": ("pass 'sample' has no argument 'ratoi'", 7, 5, "did you mean 'ratio'?"),
    "sample(ratio=abc)": ("ratio: expected a number", 13, 3, ""),
    "sample(ratio=nan)": ("ratio: expected a number", 13, 3, ""),
    "sample(ratio=1.5)": ("ratio must be in [0, 1), got 1.5", 13, 3, ""),
    "sample(criterion=bn-scael)": (
        "criterion: 'bn-scael' is not one of l1, l2, bn-scale",
        17,
        8,
        "did you mean 'bn-scale'?",
    ),
    "sample(align=autp)": ("align: expected auto or a whole number", 13, 4, "did you mean 'auto'?"),
    "sample(min-keep=1.5)": ("min-keep: expected a whole number", 16, 3, ""),
    "sample(ratio 0.5)": ("expected '=' after 'ratio'", 13, 1, "arguments are written name=value"),
    "sample(ratio=0.5": ("expected ',' or ')' after an argument", 16, 1, ""),
    "sample(ratio=1, ratio=2)": ("argument 'ratio' is given twice", 16, 5, ""),
    "sample(ratios={a 1})": ("expected ':' after the key", 17, 1, "pairs are written key: value"),
    "sample(ratios={a: 1, a: 2})": ("ratios: this key is given twice", 21, 1, ""),
    "sample(ignore=[a,,b])": ("expected a value", 17, 1, ""),
    'sample(label="a)': ("bad string: unterminated string starting at", 13, 1, ""),
    "sample(ratio=0.5) sample": ("expected ',' or the end of the pipeline", 18, 1, ""),
    "Sample": ("expected the name of a pass", 0, 1, "names are lower-case letters, digits, '-' and '_'"),
    "sample(ratios=5)": ("ratios: expected a mapping {a word or a string: a number}", 14, 1, ""),
    "sample(strict=yes)": ("strict: expected true or false", 14, 3, ""),
    'sample(ratio="0.5")': ("ratio: expected a number", 13, 5, ""),
}


@pytest.mark.parametrize("text", CARETS)
def test_errors_point_at_the_place(text: str) -> None:
    message, column, width, hint = CARETS[text]
    error = failure(text)
    assert error.message == f"{message}\n  {text}\n  {' ' * column}{'^' * width}"
    assert error.hint == hint


def test_long_text_is_cut_around_the_caret() -> None:
    error = failure("sample(ignore=[" + "abc," * 100 + "=])")
    shown, marks = error.message.splitlines()[1:]
    assert shown.startswith("  ...") and len(shown) < 120
    assert shown[marks.index("^")] == "="


def test_deep_nesting_is_refused() -> None:
    assert "50 deep" in failure("sample(ignore=" + "[" * 1000 + ")").message


def test_help_of_arguments() -> None:
    first, *_, last = arguments(Sample)
    assert (first.name, first.default, first.type, first.help) == (
        "ratio",
        "0.3",
        "a number",
        "share removed",
    )
    assert (last.name, last.default) == ("min-keep", "1")
