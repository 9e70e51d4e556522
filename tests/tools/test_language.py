"""Perplexity, the order of rotary projections, and halves of the texts that share nothing."""

from __future__ import annotations

import numpy as np
import pytest

from tools.real_models import texts
from tools.real_models.language import losses
from tools.real_models.smollm2 import unpermuted


def test_losses_are_those_of_the_next_token():
    logits = np.random.default_rng(0).standard_normal((2, 4, 5)).astype(np.float32)
    ids = np.array([[1, 2, 3, 4], [0, 0, 1, 4]])
    chance = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = [np.mean([-np.log(chance[row, at, ids[row, at + 1]]) for at in range(3)]) for row in range(2)]
    assert losses(logits, ids) == pytest.approx(expected, rel=1e-5)


def test_rows_of_a_rotary_projection_go_back():
    # llama.cpp stores the halves (i, i + d/2) of a head next to each other.
    heads, size = 2, 6
    original = np.arange(heads * size, dtype=np.float32)[:, None]
    stored = original.reshape(heads, 2, size // 2, 1).swapaxes(1, 2).reshape(-1, 1)
    assert (unpermuted(stored, heads) == original).all()


def test_halves_share_no_document():
    code = texts.documents("code", second=False), texts.documents("code", second=True)
    assert len(code[0]) > 50 < len(code[1])
    assert not set(code[0]) & set(code[1])
    assert not set(texts.FIRST_LICENCES) & set(texts.SECOND_LICENCES)
