"""Recipes read back, and say what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphprune
from graphprune.errors import ArgumentError
from graphprune.pipeline import registry
from graphprune.pipeline.option import options as options_of
from graphprune.pipeline.order import require_order
from graphprune.pipeline.recipe import Recipe, moved, parse, read, settable, write
from graphprune.pipeline.settings import Checking, Files, Looking, Settings

from .conftest import mlp

texts = st.text(st.characters(exclude_categories=["Cs"]))
options = st.fixed_dictionaries(
    {},
    optional={
        "seed": st.integers(0, 2**31),
        "tolerance": st.floats(1e-12, 1.0),
        "bench": st.booleans(),
        "shape": st.dictionaries(texts, st.lists(st.integers(0, 10**6)).map(tuple)),
    },
)


@given(st.builds(Recipe, texts, options))
def test_what_is_written_reads_back(recipe: Recipe) -> None:
    assert parse(write(recipe)) == recipe


def test_stages_may_stand_on_lines_of_their_own() -> None:
    assert (
        parse('pipeline = ["canonicalize", "prune(ratio=0.5)"]').pipeline == "canonicalize, prune(ratio=0.5)"
    )


BAD = {
    "pipeline = ": "is not TOML",
    "": "has no pipeline",
    "pipeline = 3": "the pipeline of 'recipe' (line 1) is no text",
    'pipelin = "prune"': "unknown key 'pipelin' (line 1)",
    'pipeline = ""\nseed = 1': "unknown key 'seed' (line 2)",
    'pipeline = ""\n[options]\nmax-drop = 1\nmax_drop = 1': "sets 'max_drop' twice (line 4)",
    'pipeline = ""\n[thresholds]\nmin-top = 1': "unknown threshold 'min-top' (line 3)",
    'pipeline = ""\n[options]\nprogress = 1': "unknown option 'progress' (line 3)",
    'pipeline = ""\noptions = 3': "is not a table",
    'pipeline = ""\n[options]\nsede = 1': "unknown option 'sede' (line 3)",
    'pipeline = ""\n[options]\nseed = true': "'seed' of 'recipe' (line 3) must be a whole number, got true",
    'pipeline = ""\n[options]\nbench = 1': "'bench' of 'recipe' (line 3) must be true or false, got 1",
    'pipeline = ""\n[options.shape]\nx = [1, "n"]': "shape of 'x'",
    'pipeline = ""\n[options.fix]\nx = ' + 9999 * "[" + 9999 * "]": "nested too deeply",
}


@pytest.mark.parametrize("text", BAD)
def test_bad_recipes_say_why(text: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        parse(text)
    assert BAD[text] in caught.value.message


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path, tmp_path / "nothing", tmp_path / "binary"):
        with pytest.raises(ArgumentError):
            read(path)


ASKED = """
pipeline = "prune(ratio=0.5)"

[options]
calibration = "data/x.npz"
output = "small.onnx"
statistics = "/kept/statistics"
max_bytes = "1GB"
max-drop = 0.1

[thresholds]
max-drop = 0.02
max-bytes = "4MB"
min-speedup = 1.2
strict = true
"""


def test_everything_that_a_compile_takes_can_be_stored() -> None:
    known = {each.name for kind in (Settings, Files) for each in options_of(kind) if each.accepts is not None}
    assert set(settable()) == known


def test_a_value_is_found_on_its_line_whatever_stands_before_it() -> None:
    text = 'pipeline = """\nseed = 1\n"""  # seed = 2\n[options]\nshape = {seed = [1]}\n"seed" = -1\n'
    with pytest.raises(ArgumentError, match=r"option 'seed' of 'recipe' \(line 6\) must be at least 0"):
        parse(text)
    with pytest.raises(ArgumentError, match=r"'seed' .*\(line 2\)"):
        parse('pipeline = ""\noptions.seed = [\n1,\n2]\n')


def test_a_command_takes_of_a_recipe_what_it_has_itself() -> None:
    recipe = parse(ASKED, "ci/r.toml", Path("ci"))
    compiled, checked = recipe.of(Settings), recipe.of(Checking)
    assert recipe.of(Files) == {"calibration": "ci/data/x.npz", "output": "ci/small.onnx"}
    assert compiled["statistics"] == "/kept/statistics"
    assert (compiled["max_drop"], compiled["max_bytes"], compiled["strict"]) == (0.1, 10**9, True)
    assert (checked["max_drop"], checked["max_bytes"], checked["min_speedup"]) == (0.02, 4e6, 1.2)
    assert recipe.of(Looking) == {"max_bytes": 10**9}


def test_a_recipe_that_moves_reads_the_same_files() -> None:
    recipe = parse(ASKED, "ci/r.toml", Path("ci"))
    again = parse(write(moved(recipe, Path("other/place"))), "r.toml", Path("other/place"))
    assert Path(str(again.options["calibration"])).resolve() == Path("ci/data/x.npz").resolve()
    assert again.options["statistics"] == "/kept/statistics" and again.thresholds == recipe.thresholds


OUT_OF_ORDER = {
    "prune, canonicalize": "canonicalize (normalise) cannot run after prune (structure)",
    "magnitude, prune": "prune (structure) cannot run after magnitude (masks)",
    "wanda, depth": "depth (structure) cannot run after wanda (masks)",
    "canonicalize, prune, sparsegpt, obspa": "obspa (structure) cannot run after sparsegpt (masks)",
    "recover, canonicalize": "canonicalize (normalise) cannot run after recover (recover)",
    "prune, magnitude, recover, obspa": "obspa (structure) cannot run after magnitude (masks)",
}


@pytest.mark.parametrize("text", OUT_OF_ORDER)
def test_passes_run_in_one_order(text: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        require_order(registry.read(text))
    assert OUT_OF_ORDER[text] in caught.value.message
    order, _, ordered = caught.value.hint.partition(": ")
    assert order == "the order is normalise → structure → masks → repair → recover"
    require_order(registry.read(ordered))
    assert sorted(ordered.split(", ")) == sorted(text.split(", "))


TURNS = {
    "normalise": ("canonicalize",),
    "structure": ("cut", "prune", "obspa", "flap", "minitron", "depth", "experts", "pagcp"),
    "masks": ("magnitude", "wanda", "sparsegpt", "nowag"),
    "recover": ("recover",),
}


@pytest.mark.parametrize("turn", TURNS)
def test_passes_that_ship_have_their_turn(turn: str) -> None:
    assert {registry.load(name).turn for name in TURNS[turn]} == {turn}


def test_a_compile_refuses_another_order_before_it_reads_anything() -> None:
    with pytest.raises(ArgumentError, match="cannot run after"):
        graphprune.compile("nothing.onnx", "magnitude, prune")


def test_the_report_of_a_call_in_python_holds_its_recipe(tmp_path: Path) -> None:
    ir.save(mlp(), tmp_path / "model.onnx")
    x = np.ones((4, 6), np.float32)
    result = graphprune.compile(
        tmp_path / "model.onnx", "prune(ratio=0.5, align=1)", tmp_path / "a.onnx", inputs={"x": x}
    )
    stored = parse(result.report.recipe)
    assert stored.pipeline == "prune(ratio=0.5, align=1)" and stored.options["output"] == str(
        tmp_path / "a.onnx"
    )
    assert "inputs" not in stored.options  # arrays are in no file
