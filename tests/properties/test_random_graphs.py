"""Random graphs with a known answer (tools.fuzz): a short sweep for every run, a longer one for `-m zoo`."""

from __future__ import annotations

import time

import pytest

from tools.fuzz.check import Failure, examine
from tools.fuzz.generate import IMAGE_BLOCKS, TOKEN_BLOCKS, generate

BLOCKS = tuple(dict.fromkeys(block.__name__ for block in (*IMAGE_BLOCKS, *TOKEN_BLOCKS)))
SEEDS = range(30)
LONG_S = 120.0


def lines(failures: list[Failure]) -> list[str]:
    return [f"{failure.kind} {failure.graph.label}: {failure.detail}" for failure in failures]


@pytest.mark.parametrize("block", BLOCKS)
def test_every_block_alone(block: str) -> None:
    assert lines(examine(1, (block,))) == []


@pytest.mark.parametrize("first", [SEEDS[i : i + 10][0] for i in range(0, len(SEEDS), 10)])
def test_random_chains(first: int) -> None:
    assert [line for seed in range(first, first + 10) for line in lines(examine(seed))] == []


def test_a_seed_gives_the_same_graph() -> None:
    one, two = (generate(17) for _ in range(2))
    assert one.label == two.label and one.expected == two.expected
    assert [n.op_type for n in one.model.graph] == [n.op_type for n in two.model.graph]


@pytest.mark.zoo
@pytest.mark.slow
def test_two_minutes_of_random_chains() -> None:
    start, seed, failures = time.process_time(), 10_000, []
    while time.process_time() - start < LONG_S:
        failures += lines(examine(seed))
        seed += 1
    assert failures == []
    assert seed - 10_000 > 50, "too slow to mean anything"
