"""What data-pruning papers say about a sample, from the last layer of a forward pass alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphprune.ir.arrays import Floats, Ids


@dataclass(frozen=True)
class Scores:
    """Per sample, [samples] each.

    With h the input of the last layer, z = W h + b its logits, p = softmax(z) and delta = p - onehot(y), the
    gradient of the loss by W is G = delta h^T, averaged over the tokens of a window. y is the next token, or
    the most likely class where there are no labels.

    Attributes:
        loss: -log p_y, averaged over tokens.
        entropy: of p, averaged over tokens.
        el2n: norm of delta, averaged over tokens (Paul et al. 2021).
        gradient: Frobenius norm of G.
        along: inner product of W and G.
    """

    loss: Floats
    entropy: Floats
    el2n: Floats
    gradient: Floats
    along: Floats


def of_classes(hidden: Floats, product: Floats, bias: Floats | float) -> Scores:
    """Scores of a classifier: h [n, d], W h [n, classes] without the bias."""
    chance, loss, entropy = _softmax(product + bias, None)
    delta = chance
    delta[np.arange(len(delta)), (product + bias).argmax(1)] -= 1
    el2n = np.linalg.norm(delta, axis=1)
    gradient = el2n * np.linalg.norm(hidden, axis=1)
    return Scores(loss, entropy, el2n, gradient, (delta * product).sum(1))


def of_tokens(hidden: Floats, product: Floats, bias: Floats | float, following: Ids) -> Scores:
    """Scores of one window: h [t, d], W h [t, vocabulary], the token that follows each [t]."""
    delta, loss, entropy = _softmax(product + bias, following)
    delta[np.arange(len(delta)), following] -= 1
    # |G|^2 needs no G: it is the sum over pairs of tokens of (delta_s . delta_t)(h_s . h_t), over t^2.
    squared = ((delta @ delta.T).astype(np.float64) * (hidden @ hidden.T)).sum()
    tokens = len(delta)
    return Scores(
        np.array([loss.mean()]),
        np.array([entropy.mean()]),
        np.array([np.linalg.norm(delta, axis=1).mean()]),
        np.array([np.sqrt(max(squared, 0.0)) / tokens]),
        np.array([np.einsum("tv,tv->", delta, product) / tokens]),
    )


def _softmax(logits: Floats, right: Ids | None) -> tuple[Floats, Floats, Floats]:
    """p, the loss of the right (or most likely) answer, and the entropy."""
    shifted = logits - logits.max(1, keepdims=True)
    chance = np.exp(shifted)
    total = chance.sum(1, keepdims=True)
    chance /= total
    entropy = np.log(total[:, 0]) - (chance * shifted).sum(1)
    answer = shifted.argmax(1) if right is None else right
    return chance, np.log(total[:, 0]) - shifted[np.arange(len(shifted)), answer], entropy


def norms(scores: Scores, weight_norm: float, rate: float | None = None) -> tuple[Floats, Floats]:
    """How one step of gradient descent changes |W| (DON), and how long it is (NOD) (DONOD, in closed form).

    Args:
        scores: of the samples.
        weight_norm: Frobenius norm of W.
        rate: of the step; None makes a median step one hundredth of W.
    """
    if rate is None:
        rate = 0.01 * weight_norm / max(float(np.median(scores.gradient)), np.finfo(float).tiny)
    squared = weight_norm**2 - 2 * rate * scores.along + (rate * scores.gradient) ** 2
    return np.sqrt(np.maximum(squared, 0)) - weight_norm, rate * scores.gradient


def topsis(columns: Floats) -> Floats:
    """Closeness to the ideal point of rows [n, criteria], less of every criterion being better.

    Hwang and Yoon 1981: columns over their norm, equal weights, d- / (d+ + d-).
    """
    length = np.linalg.norm(columns, axis=0)
    scaled = columns / np.where(length > 0, length, 1) / columns.shape[1]
    to_best = np.linalg.norm(scaled - scaled.min(0), axis=1)
    to_worst = np.linalg.norm(scaled - scaled.max(0), axis=1)
    both = to_best + to_worst
    return np.asarray(np.where(both > 0, to_worst / np.where(both > 0, both, 1), 1.0))


def plane(loss: Floats, entropy: Floats) -> Floats:
    """How far a sample lies inside the kept quadrants of the loss-entropy plane (Q-Tuning), less is deeper.

    Kept are high loss with low entropy and low loss with high entropy. Thresholds are quantiles a and 1 - a
    of both axes; the result is the smallest a at which a sample is inside, so that the n smallest are what
    a bisection on a would keep.
    """
    x, y = _ranks(loss), _ranks(entropy)
    return np.minimum(np.maximum(1 - x, y), np.maximum(x, 1 - y))


def _ranks(values: Floats) -> Floats:
    """Positions in sorted order as shares in 0..1."""
    order = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return order / max(len(values) - 1, 1)
