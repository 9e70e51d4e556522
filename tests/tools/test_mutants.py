"""The mutation run: what it changes, what it leaves alone, and that a seed always draws the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.mutants import draw as drawing
from tools.mutants.operators import Mutant, differs, mutants
from tools.mutants.page import Outcome, score
from tools.mutants.run import Verdict

SOURCE = b'''"""A text with 1 + 1."""
import numpy as np
Ids = dict[str, 7]

def kept(size: int, share: float) -> int:
    """Rounded up: 1 < 2."""
    if size < 0 or not share:
        raise ValueError(f"{size + 1} < 0")
    assert size >= 0
    least = max(1, int(np.ceil(size * share)))
    return least // 2 + 3
'''


def now(source: bytes = SOURCE) -> set[tuple[str, str]]:
    return {(mutant.was, mutant.now) for mutant in mutants("a.py", source) if differs(mutant, source)}


def test_every_kind_of_mistake_is_made() -> None:
    assert {
        ("size < 0", "(size <= 0)"),
        ("size < 0 or not share", "(size < 0 and (not share))"),
        ("not share", "(share)"),
        ("size * share", "(size + share)"),
        ("np.ceil(size * share)", "(np.floor(size * share))"),
        ("max(1, int(np.ceil(size * share)))", "(int(np.ceil(size * share)))"),
        ("least // 2", "(-(-(least) // (2)))"),
        ("3", "2"),
        ("least // 2 + 3", "(least // 2)"),
        ("size < 0 or not share", "False"),
    } <= now()


def test_texts_types_messages_and_assertions_are_left_alone() -> None:
    lines = SOURCE.decode().splitlines()
    touched = {lines[mutant.line - 1].strip() for mutant in mutants("a.py", SOURCE)}
    assert touched == {
        "if size < 0 or not share:",
        "least = max(1, int(np.ceil(size * share)))",
        "return least // 2 + 3",
    }


def test_a_mutant_is_one_edit_and_knows_its_function() -> None:
    for mutant in mutants("a.py", SOURCE):
        assert mutant.function == "kept"
        assert mutant.applied(SOURCE) == SOURCE[: mutant.start] + mutant.now.encode() + SOURCE[mutant.end :]
        assert SOURCE[mutant.start : mutant.end].decode() == mutant.was


def test_a_seed_draws_the_same_anywhere() -> None:
    root = Path(__file__).parents[2]
    one, two, other = (drawing.draw(root, ["counts"], 0.5, seed) for seed in ("ab", "ab", "cd"))
    assert one == two != other and len(one) == 14 and len({mutant.id for mutant in one}) == 14
    assert {drawing.area_of(mutant) for mutant in one} == {"counts"}
    assert any("/ops/" in mutant.path and "_macs" in mutant.function for mutant in one)


def test_an_area_is_of_files_or_of_functions_in_them() -> None:
    def at(path: str, function: str) -> Mutant:
        return Mutant(path, 7, 7, 0, 1, function, "comparison", "<", ">")

    for path, function, inside in (
        ("ops/linear.py", "conv_macs", True),
        ("ops/linear.py", "conv_macs.count", True),
        ("ops/linear.py", "conv", False),
        ("axes/linear.py", "conv_macs", False),
    ):
        assert drawing.is_in(at(path, function), "ops/*:*_macs*") == inside
    assert drawing.is_in(at("ops/linear.py", ""), "ops/*")


def test_the_most_specific_test_of_every_file_comes_first() -> None:
    def test(name: str, cpu: float, *calls: str) -> drawing.Test:
        return drawing.Test(name, cpu, cpu, frozenset(calls))

    mutant = Mutant("a.py", 7, 7, 0, 1, "kept", "comparison", "<", ">")
    here, there = "a.py:kept", "b.py:other"
    tests = [
        test("wide.py::whole", 1, here, there, "c.py:more"),
        test("near.py::second", 1, here, there),
        test("near.py::first", 1, here),
        test("far.py::not", 1, there),
        test("long.py::dear", 90, here),
    ]
    assert [each.name for each in drawing.tests_of(mutant, tests)] == [
        "near.py::first",
        "wide.py::whole",
        "near.py::second",
    ]


def test_files_share_the_time_and_not_the_number_of_tests() -> None:
    mutant = Mutant("a.py", 7, 7, 0, 1, "kept", "comparison", "<", ">")
    calls = frozenset({"a.py:kept"})
    quick = [drawing.Test(f"quick.py::{number}", 0.1, 0.1, calls) for number in range(9)]
    slow = [drawing.Test(f"slow.py::{number}", 1.0, 1.0, calls) for number in range(9)]
    chosen = drawing.tests_of(mutant, [*slow, *quick], most=3.0)
    assert {test.name for test in chosen} >= {test.name for test in quick}
    assert sum(test.file == "slow.py" for test in chosen) == 2


def test_what_is_excused_does_not_count() -> None:
    mutant = Mutant("a.py", 7, 7, 0, 1, "kept", "comparison", "<", ">")
    made = [("killed", ""), ("timeout", ""), ("survived", ""), ("survived", "the same")]
    found = [Outcome(mutant, Verdict("x", how, "", 1, 1.0), excuse) for how, excuse in made]
    assert score(found) == (2, 3, 1)


def test_a_commit_that_is_not_there_is_told_in_a_line() -> None:
    with pytest.raises(SystemExit, match="no commit named 'nosuch'"):
        drawing.commit_of(Path(__file__).parent, "nosuch")
