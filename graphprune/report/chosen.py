"""The result of `calibrate` as a table."""

from __future__ import annotations

import statistics

from graphprune.ir.names import count
from graphprune.report.table import Table
from graphprune.sampling.calibrate import Chosen


def tables(chosen: Chosen) -> tuple[Table, ...]:
    """What was chosen, and how it compares with random draws."""
    rows = [
        ("pool", f"{chosen.pool} {chosen.what}"),
        ("chosen", f"{len(chosen.numbers)}, {chosen.select}"),
        *(("note", note) for note in chosen.notes),
    ]
    judged = chosen.judgement
    if judged is not None:
        mean, spread = statistics.mean(judged.draws), statistics.stdev(judged.draws)
        rows += [
            ("error of second moments", f"{judged.error:.4f}"),
            (f"{len(judged.draws)} random draws", f"{mean:.4f}, standard deviation {spread:.4f}"),
            ("verdict", f"{judged.verdict} ({count(len(judged.layers), 'layer')})"),
        ]
    return (Table("", ("", ""), tuple(rows)),)
