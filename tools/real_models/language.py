"""Perplexity of a language model on windows of prose, code, legal and dictionary text."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .session import open_session
from .smollm2 import WINDOW, export, tokens
from .texts import KINDS, documents
from .workload import Arrays, Evaluation, Kind, ModelSource, Workload

WINDOWS_EACH = 8
BATCH = 2  # windows at a time: the logits of one are 50 MB


@cache
def windows(kind: str, count: int, second: bool) -> NDArray[np.int64]:
    """Token windows [count,256] spread over the documents of one half."""
    needed, pieces = 4 * count * WINDOW, []
    for text in documents(kind, second):
        pieces.append(tokens(text[: 40 * WINDOW]))
        needed -= len(pieces[-1])
        if needed <= 0:
            break
    whole = np.concatenate(pieces)
    whole = whole[: len(whole) // WINDOW * WINDOW].reshape(-1, WINDOW)
    chosen = np.random.default_rng(2001 + second).permutation(len(whole))[:count]
    return whole[np.sort(chosen)]


def losses(logits: NDArray[np.float32], ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean negative log likelihood of the next token, in nats, for each window."""
    scores = logits[:, :-1]
    highest = scores.max(-1, keepdims=True)
    total = np.log(np.exp(scores - highest).sum(-1, dtype=np.float64)) + highest[..., 0]
    right = np.take_along_axis(scores, ids[:, 1:, None], axis=-1)[..., 0]
    return np.asarray((total - right).mean(-1), dtype=np.float64)


def evaluate(model: ModelSource, limit: int | None = None) -> Evaluation:
    """Perplexity by kind of text; items are the negative losses of the windows, so that more is better."""
    count = WINDOWS_EACH if limit is None else max(limit // len(KINDS), 1)
    ids = np.concatenate([windows(kind, count, second=False) for kind in KINDS])
    session = open_session(model)
    parts = []
    for at in range(0, len(ids), BATCH):
        feed = ids[at : at + BATCH]
        logits = session.run(None, {"input_ids": feed, "attention_mask": np.ones_like(feed)})[0]
        parts.append(losses(logits, feed))
    items = np.concatenate(parts)
    metrics = {"perplexity": float(np.exp(items.mean()))}
    for number, kind in enumerate(KINDS):
        metrics[kind] = float(np.exp(items[number * count : (number + 1) * count].mean()))
    return Evaluation(metrics, -items)


def calibration(count: int) -> Arrays:
    """An eighth as many windows of the other half, each kind as often [n/8,256]."""
    each = max(count // 8 // len(KINDS), 1)
    ids = np.concatenate([windows(kind, each, second=True) for kind in KINDS])
    ids = ids[np.random.default_rng(2003).permutation(len(ids))]
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def fetch(cache_dir: Path) -> Path:
    """Export once; the weights lie beside the model under the name that it gives them."""
    target = cache_dir / "smollm2" / "smollm2.onnx"
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_dir) as folder:
            export(Path(folder) / target.name)
            for written in sorted(Path(folder).iterdir(), reverse=True):  # the model last
                written.replace(target.parent / written.name)
    return target


WORKLOADS = (
    Workload(
        name="smollm2",
        kind=Kind.GROUND_TRUTH,
        metric="perplexity of 32 windows of 256 tokens: prose, code, legal, dictionary (lower is better)",
        expected=None,
        about="SmolLM2-135M-Instruct from GGUF Q4_1, transformers through torch.export: GQA, GLU, tied head",
        fetch=fetch,
        evaluate=evaluate,
        calibration=calibration,
        large=True,
    ),
)
