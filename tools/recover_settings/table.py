"""The comparison as a table: a row per setting, its means over models."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from .results import Row


def table(rows: Sequence[Row]) -> str:
    """What is left of each cut's loss and drop, and points of the metric against the usual setting.

    Only models and seeds that the usual setting has, too, are compared; without it there are no rows.
    """
    usual = {(row.net, row.seed): row for row in rows if row.setting == "usual"}
    lines = [
        "| setting | nets | trainings | loss left | drop left, chosen by | drop left, unseen"
        " | metric, points beside usual |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row.setting for row in rows):
        mine = [row for row in rows if row.setting == name and (row.net, row.seed) in usual]
        if not mine:
            continue
        beside = [100 * (row.metric[2] - usual[row.net, row.seed].metric[2]) for row in mine]
        shares = [fmean(map(share, mine)) for share in (_loss, _chosen, _unseen)]
        cells = [name, f"{len({row.net for row in mine})}", f"{len(mine)}"]
        cells += [*(f"{each:.2f}" for each in shares), f"{fmean(beside):+.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def each(rows: Sequence[Row]) -> str:
    """A row per training."""
    lines = [
        "| net, MACs left | setting | seed | loss | drop, chosen by | drop, unseen | dense, cut, trained |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: (row.net, row.seed)):
        pairs = [f"{one:.4f} to {two:.4f}" for one, two in (row.loss, row.chosen, row.unseen)]
        metric = ", ".join(f"{value:.3f}" for value in row.metric)
        cells = [f"{row.net}, {row.macs:g}", row.setting, str(row.seed), *pairs, metric]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _left(pair: tuple[float, float]) -> float:
    return pair[1] / pair[0] if pair[0] > 0 else 1.0


def _loss(row: Row) -> float:
    return _left(row.loss)


def _chosen(row: Row) -> float:
    return _left(row.chosen)


def _unseen(row: Row) -> float:
    return _left(row.unseen)
