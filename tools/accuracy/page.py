"""Writes docs/accuracy.md and docs/accuracy.svg from the results, and says which bars are met."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator

from tools.real_models.registry import WORKLOADS, workload_named
from tools.real_models.workload import Difference, Kind, Workload

from .bars import general_bars, language_bars
from .methods import METHODS, Method, methods
from .plot import Line, Panel, draw
from .results import DENSE, Row, Store
from .run import text
from .state import ROOT

POINT = 0.01
OLDER = "†"
PAGE, PLOT = ROOT / "docs" / "accuracy.md", ROOT / "docs" / "accuracy.svg"
HEADINGS = {
    Kind.GROUND_TRUTH: "Real data with ground truth",
    Kind.SYNTHETIC: "Synthetic input whose ground truth is known",
    Kind.AGREEMENT: "Agreement with the dense model (1.0 by construction, not accuracy)",
}
INTRODUCTION = """# Accuracy

Trained models, pruned without any training, proved, scored on the task that they were trained for, and timed
in ONNX Runtime (one thread, interleaved). Every method gets the same calibration data: 512 unlabelled inputs
(64 pages, 64 windows of 256 tokens) that share nothing with the items that are scored.

Made by `python -m tools.accuracy run` and `python -m tools.accuracy page` from docs/accuracy.jsonl, which
keeps a line per row. Differences are paired: over the same items, ± one standard error. `ratio` is the share
of the Units that goes, of the whole model, so methods end at different sizes; of *obspa, MACs* it is the
share of the multiply-adds; *l2, size of obspa* is cut to the parameters that obspa left. For the language
model, flap's ratio is the share of the parameters of heads and neurons; random, l2, wanda-sp and cfsp are cut
to the parameters that flap left. `random` draws Units without repair, `+refit` repairs by least squares on
the calibration data. Times are medians; speed-ups stand with the interval of their measurement.

Each model names the last commit that changed the code that its rows were measured with; rows marked † are of
an earlier state. Rows of *0a3bb11 or before* have no intervals, and are from before an eighth of the inputs
was held back from repair, layers that are applied twice shared their slots, and steps became finer near a
budget. Up to *ed67113* the loss that obs and obspa foresee was damped alike however few rows there were, so
wide layers were emptied first: on 448 of the 512 inputs, obspa at 0.2 left deepcut at .805 instead of .890.
"""


def write(store: Store) -> None:
    """Everything measured so far."""
    rows = store.rows()
    measured = [each for each in WORKLOADS if any(row.workload == each.name for row in rows.values())]
    small = [each for each in measured if not each.large]
    truth = [each for each in small if each.kind is not Kind.AGREEMENT]
    rest = [each for each in small if each.kind is Kind.AGREEMENT]
    lines = [INTRODUCTION, *_legend(), *_bars("Bars", general_bars(truth, store))]
    lines += _bars("The same for models judged by agreement with themselves", general_bars(rest, store))
    lines += _within(small, store)
    lines += ["![metric against latency](accuracy.svg)", "", PLOT_NOTE, ""]
    for kind, heading in HEADINGS.items():
        lines += list(_section(heading, [each for each in small if each.kind is kind], store))
    for workload in (each for each in measured if each.large):
        lines += list(_language(workload, store))
    PAGE.write_text("\n".join(lines))
    PLOT.write_text(_plot(small, store))


PLOT_NOTE = (
    "Metric (up) against latency as a share of the dense model's (across), ratios 0.2, 0.35 and 0.5 along "
    "each line; the circle is the dense model."
)


WITHIN_NOTE = """## Fastest within a point

The fastest row of each model that loses at most one point, of all methods below. Chosen by the items that are
scored, so a little flattering.

| model | method | ratio | passes | dense | metric | params | speed-up |
|---|---|---|---|---|---|---|---|"""


LEGEND_NOTE = """## What the methods are

A method is a name for pipeline text. This compiles a model as a row was made, with the text as PASSES:

    graphprune compile model.onnx --passes "PASSES" --calibration samples.npz -o small.onnx

RATIO is the ratio of the row, KEPT is 1 - RATIO, and PARAMS the share of parameters that obspa (of a language
model: flap) left at that ratio. The command at the right makes the row itself, with its score and times;
MODEL is one of the headings below.

| method | passes | row |
|---|---|---|"""


def _legend() -> list[str]:
    """Every method as it is typed, so that names in tables are commands."""
    lines = []
    for method in METHODS:
        name = method.name if method.suite == "general" else f"{method.name} (language model)"
        made = (
            f"python -m tools.accuracy run --only MODEL --methods {shlex.quote(method.name)} --ratios RATIO"
        )
        lines.append(f"| {name} | `{_text(method)}` | `{made}` |")
    return [LEGEND_NOTE, *lines, ""]


def _text(method: Method) -> str:
    """The pipeline of a method, with words in place of what a row says."""
    return method.pipeline.replace("{kept:g}", "KEPT").format(ratio="RATIO", params="PARAMS")


def _within(workloads: list[Workload], store: Store) -> list[str]:
    lines = []
    for workload in workloads:
        able = [row for row in store.of(workload.name) if not row.error and row.method != DENSE]
        able = [row for row in able if row.dense - row.metric <= POINT and row.verdict == "faster"]
        if able:
            best = max(able, key=lambda row: row.speedup)
            figures = f"{best.dense:.3f} | {best.metric:.3f} | {best.params:.3f} | {_speed(best)}"
            lines.append(
                f"| {workload.name} | {best.method} | {best.ratio:g} | `{_typed(best, store)}` | {figures} |"
            )
    return [WITHIN_NOTE, *lines, ""] if lines else []


def _typed(row: Row, store: Store) -> str:
    """The pipeline text of a row; old rows do not hold it."""
    method = next(each for each in METHODS if (each.name, each.suite) == (row.method, "general"))
    return row.pipeline or text(method, row.ratio, workload_named(row.workload), store.rows()) or ""


def _bars(heading: str, found: Iterable[tuple[str, str, str]]) -> Iterator[str]:
    lines = [f"| {bar} | {verdict} | {detail} |" for bar, verdict, detail in found]
    if lines:
        yield from (f"## {heading}", "", "| bar | met | where not |", "|---|---|---|", *lines, "")


def _section(heading: str, workloads: list[Workload], store: Store) -> Iterator[str]:
    if not workloads:
        return
    yield from (f"## {heading}", "")
    for workload in workloads:
        yield from _table(workload, store, "metric", lambda row: f"{row.metric:.3f}")


def _table(workload: Workload, store: Store, name: str, shown: Callable[[Row], str]) -> Iterator[str]:
    rows = store.rows()
    dense = rows.get((workload.name, DENSE, 0.0))
    mine = [row for row in rows.values() if row.workload == workload.name and row.method != DENSE]
    if dense is None or not mine:
        return
    order = {
        method.name: at for at, method in enumerate(methods("language" if workload.large else "general"))
    }
    mine = [row for row in mine if row.method in order]
    yield from (f"### {workload.name}", "")
    yield f"{workload.metric}; dense {dense.metric:.3f}. {workload.about}. {_states(dense, mine)}"
    yield ""
    yield f"| ratio | method | {name} | against dense | against random | params | MACs | ms | speed-up |"
    yield "|---" * 9 + "|"
    for row in sorted(mine, key=lambda row: (row.ratio, order[row.method])):
        yield _line(row, dense, shown)
    yield ""


def _states(dense: Row, rows: list[Row]) -> str:
    """The state that the model was last measured at, and those of rows that were not measured again."""
    older = sorted({row.commit for row in rows} - {dense.commit})
    mine = f"Measured at {dense.commit}" if any(row.commit == dense.commit for row in rows) else ""
    rest = f"rows marked {OLDER} at {', '.join(older)}" if older else ""
    return "; ".join(part for part in (mine, rest) if part) + "."


def _line(row: Row, dense: Row, shown: Callable[[Row], str]) -> str:
    method = row.method if row.commit == dense.commit else f"{row.method} {OLDER}"
    if row.error:
        return f"| {row.ratio:g} | {method} | {row.error} | | | | | | |"
    differences = f"{_difference(row.against_dense)} | {_difference(row.against_random)}"
    size, times = f"{row.params:.3f} | {row.macs:.3f}", f"{row.after_ms:.3g} of {row.before_ms:.3g}"
    return (
        f"| {row.ratio:g} | {method} | {shown(row)} | {differences} | {size} | {times} | {_interval(row)} |"
    )


def _interval(row: Row) -> str:
    return f"{_speed(row)} ({row.low:.2f} to {row.high:.2f})" if row.high else _speed(row)


def _speed(row: Row) -> str:
    """What was measured, unless it is inside the noise."""
    return f"{row.speedup:.2f}x" if row.verdict in ("faster", "slower") else "none"


def _difference(change: Difference | None) -> str:
    return f"{change.mean:+.3f} ± {change.standard_error:.3f}" if change else ""


def _language(workload: Workload, store: Store) -> Iterator[str]:
    yield from ("## Language model", "")
    yield "Differences are of the mean log likelihood per token, in nats: more is better."
    yield ""
    yield from _bars("Bars for the language model", language_bars(workload, store))
    yield from _table(workload, store, "perplexity", lambda row: f"{row.metric:.2f}")


def _plot(workloads: list[Workload], store: Store) -> str:
    names = [method.name for method in methods("general") if not method.same_size_as]
    rows = store.rows()
    panels = []
    for workload in workloads:
        dense = rows.get((workload.name, DENSE, 0.0))
        mine = [row for row in rows.values() if row.workload == workload.name and not row.error and row.ratio]
        if dense is None or not mine:
            continue
        lines = []
        for name in names:
            points = sorted((row.ratio, 1 / row.speedup, row.metric) for row in mine if row.method == name)
            lines.append(Line(name, tuple((x, y) for _, x, y in points)))
        label = {Kind.GROUND_TRUTH: "", Kind.SYNTHETIC: " (synthetic)", Kind.AGREEMENT: " (agreement)"}
        panels.append(Panel(workload.name + label[workload.kind], dense.metric, tuple(lines)))
    return draw(panels, names)
