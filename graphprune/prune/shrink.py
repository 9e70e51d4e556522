"""How much second moments of few rows are damped: more columns than rows say can be made up for by chance."""

from __future__ import annotations

LEAST = 0.01
"""Share of the mean diagonal that is added however many rows there are."""
MOST = 0.5
"""Share of the identity in the mix beyond which nothing would be left of the data."""


def damping(rows: float, columns: int, trace: float, squares: float) -> float:
    """The share of the mean diagonal to add to second moments S about the mean, before they are inverted.

    The mix (1 - r) S + r tr(S)/p I that is nearest to the truth on average has, for Gaussian rows,
    r = ((1 - 2/p) tr S^2 + (tr S)^2) / ((n + 1 - 2/p) (tr S^2 - (tr S)^2 / p)): oracle approximating
    shrinkage (Chen, Wiesel, Eldar and Hero, 2010).

    Args:
        rows: n.
        columns: p, those that vary.
        trace: tr S.
        squares: tr S^2.
    """
    if columns < 2:
        return LEAST  # nothing could make up for it
    some = 1 - 2 / columns
    spread = (rows + some) * (squares - trace**2 / columns)
    wanted = some * squares + trace**2
    share = min(wanted / spread, MOST) if wanted < MOST * spread else MOST
    return max(LEAST, share / (1 - share))
