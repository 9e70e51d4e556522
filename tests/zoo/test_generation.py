"""A decoder pruned with its cache writes the same tokens as its masked dense twin."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from graphprune.axes import Options, analyse
from graphprune.ir.normalise import normalise
from graphprune.labels.algebra import is_fixed
from graphprune.ops import record_of
from graphprune.proof.reference import build_reference
from graphprune.proof.survivors import Survivors
from graphprune.prune.rewrite import rewrite
from graphprune.runtime.session import open_session
from tests.ops.exotic_graphs import plans
from tools.zoo.entries import entries
from tools.zoo.export import export

pytestmark = [pytest.mark.zoo, pytest.mark.filterwarnings("ignore")]

PROMPT = (5, 81, 7, 200, 33)
TOKENS = 12
FAMILIES = ("llama", "gpt2", "qwen3", "gpt_neox", "opt")


@pytest.fixture(scope="module", params=FAMILIES)
def dense(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ir.Model:
    """A small random decoder exported for one new token behind a cache."""
    path: Path = tmp_path_factory.mktemp("generation") / f"{request.param}.onnx"
    (entry,) = entries(f"hf_cache_{request.param}")
    export(entry, path)
    return ir.load(path)


def write(model: ir.Model) -> tuple[list[int], list[np.ndarray]]:
    """Feeds the prompt token by token through an empty cache, then what the model says, greedily."""
    session = open_session(model)
    pasts = [value for value in model.graph.inputs if (value.name or "").startswith("past_")]
    cache = {value.name or "": _empty(value) for value in pasts}
    nows = [value.name or "" for value in model.graph.outputs[1:]]
    spoken, seen, logits = list(PROMPT), 0, []
    while len(spoken) < len(PROMPT) + TOKENS:
        feeds = {"input_ids": np.array([[spoken[seen]]]), **cache}
        if any(value.name == "attention_mask" for value in model.graph.inputs):
            feeds["attention_mask"] = np.ones((1, seen + 1), np.int64)
        results = session.run(feeds)
        cache = dict(zip(cache, (results[name] for name in nows), strict=True))
        seen += 1
        if seen == len(spoken):
            last = results[model.graph.outputs[0].name or ""][0, -1]
            spoken.append(int(last.argmax()))
            logits.append(last)
    return spoken[len(PROMPT) :], logits


def _empty(value: ir.Value) -> np.ndarray:
    shape = [1 if axis == 0 else 0 if axis == 2 else dim for axis, dim in enumerate(value.shape or ())]
    assert all(isinstance(dim, int) for dim in shape), f"{value.name} has no fixed heads: {value.shape}"
    return np.zeros([int(dim) for dim in shape if isinstance(dim, int)], np.float32)


def test_the_pruned_decoder_says_what_its_masked_twin_says(dense: ir.Model) -> None:
    """Heads, key groups, head dims in rotary pairs, hidden and feed-forward widths: all cut at once."""
    model = dense.clone()
    analysis = analyse(model, Options("slice", True), normalise(model, record_of))
    free = {value.name for value, labels in analysis.values.items() if not all(map(is_fixed, labels))}
    assert {value.name for value in model.graph.inputs if (value.name or "").startswith("past_")} <= free
    plan = next(iter(plans(analysis, 0.5)))
    twin = build_reference(model, Survivors(analysis, plan)).model
    tokens, logits = write(rewrite(model, analysis, plan))
    expected, twins = write(twin)
    assert tokens == expected
    for one, two in zip(logits, twins, strict=True):
        assert np.abs(one - two).max() <= 1e-4 * np.abs(two).max()
    assert write(model)[0] != expected, "the cut changed nothing that a reader could notice"
