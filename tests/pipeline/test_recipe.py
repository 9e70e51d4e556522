"""Recipes read back, and say what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphprune.errors import ArgumentError
from graphprune.pipeline.recipe import Recipe, parse, read, write

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
    "pipeline = 3": "has no pipeline",
    'pipelin = "prune"': "unknown key 'pipelin'",
    'pipeline = ""\noptions = 3': "is not a table",
    'pipeline = ""\n[options]\nsede = 1': "unknown option 'sede'",
    'pipeline = ""\n[options]\nseed = true': "'seed' of 'recipe' must be a whole number, got true",
    'pipeline = ""\n[options]\nbench = 1': "'bench' of 'recipe' must be true or false, got 1",
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
