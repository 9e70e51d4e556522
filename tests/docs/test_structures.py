"""docs/structures.md speaks about every argument of its passes, and their text forms are valid."""

from __future__ import annotations

import dataclasses
import re

import pytest

from graphprune.pipeline import registry
from graphprune.pipeline.grammar import dashed
from graphprune.pipeline.passes import Pass
from graphprune_passes.depth import Depth
from graphprune_passes.experts import Experts
from graphprune_passes.pagcp import Pagcp

from .pages import ROOT, blocks

PAGE = (ROOT / "docs/structures.md").read_text("utf-8")


@pytest.mark.parametrize("kind", [Depth, Experts, Pagcp])
def test_every_argument_is_explained(kind: type[Pass]) -> None:
    text = re.sub(r"^```.*?^```$", "", PAGE, flags=re.MULTILINE | re.DOTALL)
    words = {
        word for code in re.findall(r"`([^`]+)`", text) for word in re.findall(r"[a-z][a-z0-9_-]*", code)
    }
    assert {dashed(item.name) for item in dataclasses.fields(kind)} <= words


def test_every_pipeline_on_the_page_reads() -> None:
    found = re.findall(r'--passes "([^"]+)"', "".join(blocks(PAGE, "sh")))
    assert len(found) == 3
    for text in found:
        assert registry.text(registry.read(text)) == text
