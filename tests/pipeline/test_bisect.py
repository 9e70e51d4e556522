"""The smallest failing set of groups, whatever made it fail."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from graphprune.pipeline.bisect import smallest_failing

ALL = tuple(f"g{at}" for at in range(12))


@given(st.sets(st.sampled_from(ALL), min_size=1))
def test_a_set_that_only_fails_together_is_found(guilty: set[str]) -> None:
    found = smallest_failing(ALL, lambda groups: guilty <= set(groups), probes=10_000)
    assert set(found) == guilty


@given(st.sets(st.sampled_from(ALL), min_size=1))
def test_any_one_of_several_faults_is_enough(guilty: set[str]) -> None:
    found = smallest_failing(ALL, lambda groups: bool(guilty & set(groups)))
    assert len(found) == 1 and set(found) <= guilty


def test_probes_are_bounded_and_the_result_still_fails() -> None:
    calls: list[tuple[str, ...]] = []
    guilty = {"g1", "g6", "g11"}

    def fails(groups: tuple[str, ...]) -> bool:
        calls.append(groups)
        return guilty <= set(groups)

    found = smallest_failing(ALL, fails, probes=5)
    assert len(calls) <= 5 and guilty <= set(found)
