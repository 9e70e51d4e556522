"""A small language model of bytes, made here without torch: `python -m tools.tiny_language FOLDER`.

Random features of the last six bytes (a causal convolution) and a readout that is trained by softmax
regression on the pages of docs/. It writes `language.onnx`, and the text it was trained on as `corpus.bin`,
token ids in uint16. `score` is its metric, on text that it has not seen.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray

PAGES = sorted((Path(__file__).resolve().parent.parent / "docs").glob("*.md"))
BYTES, WIDTH, HIDDEN, CONTEXT, WINDOW = 128, 32, 256, 6, 64
STEPS, BATCH, RATE, LONGEST = 800, 2048, 0.02, 200_000
GRAPH = f"""(int64[batch,sequence] tokens) => (float[batch,sequence,{BYTES}] logits) {{
    embedded = Gather(embedding, tokens)
    channels = Transpose<perm = [0,2,1]>(embedded)
    mixed = Conv<pads = [{CONTEXT - 1},0]>(channels, mixing, mixing_bias)
    active = Relu(mixed)
    rows = Transpose<perm = [0,2,1]>(active)
    scores = MatMul(rows, readout)
    logits = Add(scores, readout_bias)
}}"""
Floats = NDArray[np.float32]


def text(held_out: bool) -> NDArray[np.int64]:
    """The pages as bytes: every fifth is held out."""
    pages = [page for at, page in enumerate(PAGES) if (at % 5 == 0) == held_out]
    data = b"".join(page.read_bytes() for page in pages)[:LONGEST]
    found: NDArray[np.int64] = np.frombuffer(data, np.uint8).astype(np.int64)
    return found[found < BYTES]


def features(tokens: NDArray[np.int64], weights: dict[str, Floats]) -> Floats:
    """What the readout reads at each position [positions, HIDDEN]."""
    padded = np.concatenate([np.zeros((CONTEXT - 1, WIDTH), np.float32), weights["embedding"][tokens]])
    rows = np.lib.stride_tricks.sliding_window_view(padded, CONTEXT, axis=0).reshape(len(tokens), -1)
    return np.maximum(rows @ weights["mixing"].reshape(HIDDEN, -1).T + weights["mixing_bias"], 0)


def trained(seed: int = 0) -> dict[str, Floats]:
    """All weights: random up to the readout, which Adam trains."""
    rng = np.random.default_rng(seed)
    shapes = {"embedding": (BYTES, WIDTH), "mixing": (HIDDEN, WIDTH, CONTEXT), "mixing_bias": (HIDDEN,)}
    weights = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    recency = np.float32(0.4) ** np.arange(CONTEXT)[::-1]  # bytes that are near say more
    weights["mixing"] *= (recency / np.sqrt(WIDTH)).astype(np.float32)
    tokens = text(held_out=False)
    given, wanted = features(tokens[:-1], weights), tokens[1:]
    one = np.ones((len(given), 1), np.float32)
    readout = _regressed(np.concatenate([given, one], 1), wanted, rng)
    return {**weights, "readout": readout[:-1], "readout_bias": readout[-1]}


def _regressed(given: Floats, wanted: NDArray[np.int64], rng: np.random.Generator) -> Floats:
    """Softmax regression by Adam."""
    found, mean, square = (np.zeros((given.shape[1], BYTES), np.float32) for _ in range(3))
    for step in range(1, STEPS + 1):
        at = rng.integers(0, len(given), BATCH)
        slope = softmax(given[at] @ found)
        slope[np.arange(BATCH), wanted[at]] -= 1
        gradient = given[at].T @ slope / BATCH
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.99 * square + 0.01 * gradient**2
        rate = RATE * (1 - step / (STEPS + 1))
        found = found - rate * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.99**step)) + 1e-8)
    return np.asarray(found, np.float32)


def softmax(scores: Floats) -> Floats:
    """Probabilities along the last axis."""
    raised = np.exp(scores - scores.max(-1, keepdims=True))
    return np.asarray(raised / raised.sum(-1, keepdims=True), np.float32)


def score(model: str | Path) -> Floats:
    """Minus the bits per byte of each held-out window; higher is better."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    tokens = text(held_out=True)
    windows = tokens[: len(tokens) // WINDOW * WINDOW].reshape(-1, WINDOW)[:200]
    chances = softmax(session.run(None, {"tokens": windows})[0])[:, :-1]
    right = np.take_along_axis(chances, windows[:, 1:, None], -1)[..., 0]
    return np.asarray(np.log2(np.maximum(right, 1e-9)).mean(1), np.float32)


def main(folder: Path) -> None:
    """Train, and write the model and its corpus."""
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # the text names weights that come beside it
    folder.mkdir(parents=True, exist_ok=True)
    weights = [ir.tensor(each, name=name) for name, each in trained().items()]
    model = ir.from_onnx_text(
        f'<ir_version: 10, opset_import: ["" : 21]>\nlanguage {GRAPH}', initializers=weights
    )
    ir.save(model, folder / "language.onnx")
    text(held_out=False).astype(np.uint16).tofile(folder / "corpus.bin")
    print(f"{-score(folder / 'language.onnx').mean():.2f} bits per byte on held-out pages")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
