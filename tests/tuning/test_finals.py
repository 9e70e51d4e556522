"""What becomes the result where the candidates that are wanted most lose too much on the report part."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import cast

import pytest

from graphprune.tuning.finals import SLOWER, UNWANTED, Terms, decided
from graphprune.tuning.goal import Figures, parse
from graphprune.tuning.trial import MILDER, WANTED, Asked, History, Loss, Trial
from graphprune.tuning.tuned import Final

DENSE = Figures(1.0, 1000, 1000, 4000)


def final(number: int, verdict: str = "faster") -> Final:
    return Final(number, 1.0, 0.5, 2.0, 1.9, 2.1, verdict)


def ended(
    losses: Mapping[int, float], wanted: list[int], milder: list[int], slow: frozenset[int] = frozenset()
) -> tuple[dict[int, str], int]:
    """Why each that was timed is not the result, and the result; models are their numbers."""

    def judge(model: int, rest: object) -> Loss:
        return Loss(losses[model], 0.0, 1.0, 0.0, "y")

    def timer(number: int, model: int, most: float) -> Final:
        return final(number, "slower" if number in slow else "faster")

    parts = SimpleNamespace(report=lambda: "rest")
    terms = Terms(
        0.01,
        cast("object", lambda number: number),  # type: ignore[arg-type]
        SimpleNamespace(final=timer),  # type: ignore[arg-type]
        SimpleNamespace(loss=judge),  # type: ignore[arg-type]
        parts,  # type: ignore[arg-type]
        slower=False,
    )
    told, chosen = decided([final(n, "slower" if n in slow else "faster") for n in wanted], milder, terms)
    return {each.number: each.why for each in told}, chosen


def test_the_first_that_keeps_to_the_bound_is_the_result() -> None:
    why, chosen = ended({0: 0.0, 1: 0.02, 2: 0.005, 3: 0.0}, [1, 2, 3], [])
    assert chosen == 2
    assert why == {1: "on the report part it loses 0.020", 2: "", 3: UNWANTED, 0: UNWANTED}


def test_where_none_does_a_milder_one_is() -> None:
    why, chosen = ended({0: 0.0, 1: 0.02, 4: 0.015, 5: 0.008, 6: 0.0}, [1], [4, 5, 6])
    assert chosen == 5
    assert why == {1: "on the report part it loses 0.020", 5: "", 0: UNWANTED}


def test_a_milder_one_that_is_slower_is_not() -> None:
    _, chosen = ended({0: 0.0, 1: 0.02, 5: 0.0, 6: 0.0}, [1], [5, 6], frozenset({5}))
    assert chosen == 6


def test_at_last_the_lowered_model_is_or_the_file_as_given() -> None:
    assert ended({0: 0.0, 1: 0.02, 5: 0.02}, [1], [5])[1] == 0
    why, chosen = ended({0: 0.0, 1: 0.02}, [1], [], frozenset({0}))
    assert chosen == -1
    assert why[0] == SLOWER


@pytest.mark.parametrize("extra", [0, 1, 20])
def test_those_to_fall_back_on_lose_ever_less_and_no_model_is_there_twice(extra: int) -> None:
    history = History(parse("latency"), 0.01, DENSE)
    lost = [0.0, 0.009, 0.009, 0.008, 0.005, 0.007, 0.0045, *(0.004 / (1 + at) for at in range(extra))]
    for at, value in enumerate(lost):
        cost = Figures(0.1 + 0.01 * max(1, at if at != 2 else 1), 100, 100, 400)
        asked = Asked("dense" if at == 0 else "obspa", 0.1 * at)
        history = history.told(Trial(at, asked, "", cost, Loss(value, value, value, 0.0, "y")))
    numbers = [each.number for each in history.last]
    assert numbers[:WANTED] == [1, 3, 4]
    assert numbers[WANTED:] == [6, *range(7, 7 + extra)][:MILDER]
