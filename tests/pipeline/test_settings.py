"""One option, three ways to give it: command line, Python and recipe take the same and say the same."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import graphprune
from graphprune.axes.outputs import UserKind
from graphprune.cli.options import Chosen
from graphprune.errors import ArgumentError
from graphprune.pipeline import recipe
from graphprune.pipeline.calls import called_as
from graphprune.pipeline.option import KINDS, options
from graphprune.pipeline.settings import Checking, Choosing, Comparing, Looking, Settings, Timing

FUNCTIONS = {
    graphprune.compile: Settings,
    graphprune.calibrate: Choosing,
    graphprune.find_groups: Looking,
    graphprune.validate: Comparing,
    graphprune.check: Checking,
    graphprune.bench: Timing,
}


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda each: each.__name__)
def test_a_function_names_its_options_in_signature_and_docstring(function: Callable[..., object]) -> None:
    parameters, text = inspect.signature(function).parameters, function.__doc__ or ""
    for each in options(FUNCTIONS[function]):
        assert parameters[each.name].kind is inspect.Parameter.KEYWORD_ONLY
        assert f"    {each.name}: {each.help[0].lower()}" in text
    assert next(iter(parameters)) in ("model", "reference", "models")
    assert (
        text.index("Args:")
        < text.index("timeout" if "timeout" in parameters else "fix")
        < text.index("Raises:")
    )


def test_defaults_of_a_signature_are_values() -> None:
    parameters = inspect.signature(graphprune.compile).parameters
    assert parameters["shape"].default == {} and parameters["bench"].default is False


def test_an_argument_that_is_not_there_is_named_as_python_does() -> None:
    with pytest.raises(TypeError, match=r"^find_groups\(\) got an unexpected keyword argument 'dims'"):
        graphprune.find_groups("x.onnx", dims={})  # type: ignore[call-arg]


WRONG = {
    "seed": (-1, "-1", "must be at least 0, got -1"),
    "threads": (0, "0", "must be at least 1, got 0"),
    "jobs": ("many", "many", "must be a whole number, got 'many'"),
    "max_drop": (1.5, "1.5", "must be in [0, 1], got 1.5"),
    "tolerance": (0, "0", "must be a positive number, got 0.0"),
    "timeout": (float("inf"), "inf", "must be a positive number, got inf"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_refused_alike(name: str) -> None:
    value, text, said = WRONG[name]
    item = next(each for each in options(Settings) if each.name == name)
    with pytest.raises(ArgumentError) as python:
        Settings(**{name: value})  # type: ignore[arg-type]
    assert item.accepts is not None
    with pytest.raises(ArgumentError) as line:
        item.accepts.text(item.flag, text)
    with pytest.raises(ArgumentError) as stored:
        recipe.parse(f'pipeline = ""\n[options]\n{name} = {value!r}')
    assert python.value.message == f"{name} {said}"
    assert line.value.message == f"--{name.replace('_', '-')} {said}"
    assert stored.value.message == f"option '{name}' of 'recipe' (line 3) {said}"


def test_nothing_means_the_default_only_where_it_is_one() -> None:
    settings = Settings(shape=None, fix=None, outputs=None, jobs=None)  # type: ignore[arg-type]
    assert (settings.shape, settings.fix, settings.outputs, settings.jobs) == ({}, {}, {}, None)
    with pytest.raises(ArgumentError, match="seed must be a whole number, got None"):
        Settings(seed=None)  # type: ignore[arg-type]


def test_numbers_of_numpy_are_numbers() -> None:
    settings = Settings(
        seed=np.int64(3),  # type: ignore[arg-type]
        tolerance=np.float32(0.5),  # type: ignore[arg-type]
        shape={"x": (np.int64(1), 2)},  # type: ignore[dict-item]
        fix={"sr": np.array([1, 2])},
    )
    assert settings.shape == {"x": (1, 2)} and (settings.seed, settings.tolerance) == (3, 0.5)
    assert np.array_equal(settings.fix["sr"], [1, 2])


def test_one_run_is_made_of_what_was_said() -> None:
    run = Settings(seed=3, jobs=2, timeout=5).run
    assert (run.seed, run.jobs, run.timeout) == (3, 2, 5.0)
    assert Timing(seed=3).run.jobs == 1


def test_the_recipe_of_settings_gives_the_same_settings() -> None:
    settings = Settings(
        shape={"x": (1, 2)},
        fix={"sr": np.array([1, 2])},
        outputs={"y": "values"},
        seed=4,
        strict=True,
        timeout=9,
    )
    text = recipe.write(recipe.of("prune", settings))
    assert recipe.of("prune", Settings(**recipe.parse(text).options)) == recipe.of("prune", settings)  # type: ignore[arg-type]
    assert "progress" not in text and "timeout = 9.0" in text


def test_the_command_line_wins_name_by_name() -> None:
    given = Chosen(Settings, {"seed": 3, "shape": {"x": (1,)}})
    made = given.settings({"seed": 7, "threads": 2, "shape": {"x": (5,), "y": (6,)}})
    assert (made.seed, made.threads, made.shape) == (3, 2, {"x": (1,), "y": (6,)})


@dataclass(frozen=True)
class _Asked(Looking):
    first: str
    second: int = 2


def test_a_function_of_a_value_is_called_with_its_fields() -> None:
    @called_as(_Asked)
    def ask(asked: _Asked) -> tuple[str, int, object]:
        """Ask.

        Args:
            first: what.
        """
        return asked.first, asked.second, asked.shape

    assert ask("a", shape={"x": [1]}) == ("a", 2, {"x": (1,)})  # type: ignore[dict-item]
    assert ask(first="b", second=3) == ("b", 3, {})
    with pytest.raises(TypeError, match=r"ask\(\) missing a required argument: 'first'"):
        ask()  # type: ignore[call-arg]


def test_the_kinds_of_outputs_are_those_that_the_analysis_tells() -> None:
    assert typing.get_args(UserKind) == KINDS


def test_paths_are_paths(tmp_path: Path) -> None:
    assert Settings(statistics=tmp_path).statistics == str(tmp_path)
    with pytest.raises(ArgumentError, match="reproducer must be a path, got 3"):
        Settings(reproducer=3)  # type: ignore[arg-type]
