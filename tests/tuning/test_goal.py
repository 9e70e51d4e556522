"""What --target may say."""

from __future__ import annotations

import pytest

from graphprune.errors import ArgumentError
from graphprune.tuning.goal import Figures, parse

DENSE = Figures(0.010, 1_000_000, 2000, 8_000_000)


def test_a_word_is_what_is_to_be_least() -> None:
    goal = parse("macs")
    assert goal.share(Figures(1.0, 250_000, 1, 1), DENSE) == 0.25
    assert not goal.missed(Figures(1.0, 250_000, 1, 1), DENSE)


def test_amounts_and_shares_are_bounds() -> None:
    goal = parse("latency=8ms, bytes=4MB")
    assert goal.missed(Figures(0.009, 1, 1, 3_000_000), DENSE) == ("latency",)
    assert goal.missed(Figures(0.008, 1, 1, 4_000_000), DENSE) == ()
    assert parse("latency=0.5").missed(Figures(0.006, 1, 1, 1), DENSE) == ("latency",)
    assert parse("params=1K").missed(Figures(1, 1, 1001, 1), DENSE) == ("params",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("speed", "nothing is counted as 'speed'"),
        ("latency=8", "latency '8' is no time"),
        ("latency=fast", "latency 'fast' is no time"),
        ("macs=lots", "macs 'lots' is no amount"),
        ("macs=0.5,bytes", "'bytes' has no amount"),
        ("macs=0.5,macs=0.4", "'macs' is there twice"),
        ("", "nothing is counted as ''"),
    ],
)
def test_what_is_no_target_says_so(text: str, said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        parse(text)
