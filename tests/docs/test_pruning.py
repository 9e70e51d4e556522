"""docs/pruning.md and docs/plan.md speak about everything that can be chosen."""

from __future__ import annotations

import dataclasses
import re

import pytest

from graphprune.axes import Options
from graphprune.pipeline.grammar import dashed
from graphprune_passes.prune import Prune

from .pages import ROOT


def spoken_of(page: str) -> set[str]:
    """Words at the start of inline code, `ratio=0.3` and `ratio` alike."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return {match for code in re.findall(r"`([^`]+)`", text) for match in re.findall(r"[a-z][a-z_-]*", code)}


@pytest.mark.parametrize("name", [dashed(item.name) for item in dataclasses.fields(Prune)])
def test_every_argument_is_explained(name: str) -> None:
    assert name in spoken_of("docs/pruning.md")


@pytest.mark.parametrize("name", [item.name for item in dataclasses.fields(Options)])
def test_every_option_of_a_plan_is_named(name: str) -> None:
    assert name in spoken_of("docs/plan.md")
