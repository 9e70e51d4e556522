"""A criterion of which lower scores stay: Units that hardly vary next to their mean go."""

import numpy as np

from graphprune.plugin import Criterion, Evidence, Output, by_output, outputs


def dull(output: Output, evidence: Evidence) -> np.ndarray:
    """Of every channel of a result that carries the Group: its mean over its spread."""
    vector = evidence.statistics.vector(output.name)
    return np.abs(vector.mean) / np.sqrt(vector.variance + 1e-12)


DULL = Criterion(by_output(dull), "|mean| over spread", needs=outputs, normaliser="none", higher=False)
