"""The bars that the methods have to clear, judged from the results."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from tools.real_models.workload import Workload

from .methods import RATIOS
from .results import CONTROL, DENSE, Key, Row, Store

Bar = tuple[str, str, str]
POINTS = 0.02  # what obspa may lose at the mildest ratio
STRUCTURAL = ("l2+refit", "obs, oneshot", "obspa", "flap")


def _verdict(bar: str, judged: int, failures: list[str], remark: str = "") -> Bar:
    details = [*failures, remark] if remark else failures
    return bar, f"{judged - len(failures)} of {judged}", "; ".join(details)


def general_bars(workloads: Sequence[Workload], store: Store) -> Iterator[Bar]:
    """For models that are no language models."""
    rows = {key: row for key, row in store.rows().items() if not row.error}
    names = [each.name for each in workloads]
    yield _half(names, rows)
    yield _two_points(names, rows)
    yield from (_beats_random(method, names, rows) for method in STRUCTURAL)


def _half(names: Sequence[str], rows: dict[Key, Row]) -> Bar:
    judged, failures = 0, []
    for name in names:
        for ratio in RATIOS:
            ours, theirs = rows.get((name, "obspa", ratio)), rows.get((name, "l2, size of obspa", ratio))
            if ours is None or theirs is None:
                continue
            judged += 1
            lost, allowed = ours.dense - ours.metric, (theirs.dense - theirs.metric) / 2
            if lost > max(allowed, 0) and lost > 0:
                failures.append(f"{name} at {ratio:g}: {lost:.3f}, l2 {2 * allowed:.3f}")
    return _verdict("obspa loses at most half of what l2 loses at the same parameters", judged, failures)


def _two_points(names: Sequence[str], rows: dict[Key, Row]) -> Bar:
    found = [row for name in names if (row := rows.get((name, "obspa", RATIOS[0]))) is not None]
    failures = [
        f"{row.workload}: {row.dense - row.metric:.3f}" for row in found if row.dense - row.metric > POINTS
    ]
    return _verdict("obspa loses at most 2 points at 0.2", len(found), failures)


def _beats_random(method: str, names: Sequence[str], rows: dict[Key, Row]) -> Bar:
    judged, failures, moot = 0, list[str](), list[str]()
    for name in names:
        ours, control = rows.get((name, method, RATIOS[0])), rows.get((name, CONTROL, RATIOS[0]))
        if ours is None or control is None:
            continue
        change, lost = ours.against_random, control.against_dense
        if change is None or lost is None:
            continue
        if -lost.mean <= 2 * lost.standard_error:
            moot.append(name)  # nobody can beat what loses nothing
            continue
        judged += 1
        if change.mean < 2 * change.standard_error:
            failures.append(f"{name}: {change.mean:+.3f} ± {change.standard_error:.3f}")
    remark = f"not judged, as random loses nothing there: {', '.join(moot)}" if moot else ""
    return _verdict(f"{method} beats random at 0.2 by two standard errors", judged, failures, remark)


# (bar, methods in order of perplexity: the first has to be the highest)
ORDERS = (
    ("50 %: magnitude > wanda ≥ sparsegpt+refit", ("magnitude 50 %", "wanda 50 %", "sparsegpt+refit 50 %")),
    ("2:4: magnitude > wanda ≥ sparsegpt+refit", ("magnitude 2:4", "wanda 2:4", "sparsegpt+refit 2:4")),
    ("20 %: flap below wanda-sp", ("wanda-sp", "flap")),
    ("20 %: cfsp below wanda-sp", ("wanda-sp", "cfsp")),
    ("20 %: centred refit below flap's bias alone", ("flap", "flap, centred refit")),
    *((f"20 %: {name} below random", ("random", name)) for name in ("wanda-sp", "flap", "cfsp", "l2")),
)


def language_bars(workload: Workload, store: Store) -> Iterator[Bar]:
    """For perplexity, less being better."""
    rows = {row.method: row for row in store.of(workload.name) if not row.error and row.method != DENSE}
    for bar, order in ORDERS:
        if all(name in rows for name in order):
            values = [rows[name].metric for name in order]
            told = " > ".join(f"{value:.2f}" for value in values)
            met = all(one >= two for one, two in itertools.pairwise(values))
            yield bar, "yes" if met else "no", told
