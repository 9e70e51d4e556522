"""Renders docs/coverage.md from the rows of a check."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from typing import cast

from tools.zoo.check import NOT_YET, PIPELINE, STAGES
from tools.zoo.entry import Entry
from tools.zoo.full_cut import WHOLE

Found = Mapping[str, object]
_TITLES = (
    "Model",
    "source",
    "exporter, opset",
    "result",
    "parameters",
    "in prunable groups",
    "kept",
    "full cut",
    "short of it, why, what would unblock it",
    "proof error",
    "CPU s (analyse, compile)",
    "pinned",
)
BOUND = 0.05
"""How far from a full cut counts as reached."""
_NAMED = 2


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _share(part: object, whole: object) -> str:
    return f"{part / whole:.1%}" if isinstance(part, int | float) and isinstance(whole, int) and whole else ""


def _form(value: object, form: str) -> str:
    return format(value, form) if isinstance(value, int | float) else ""


def _pins(found: Found) -> str:
    pins = cast(Mapping[str, int], found["pins"])
    ordered = sorted(pins.items(), key=lambda pin: (-pin[1], pin[0]))
    return "; ".join(f"{_plain(reason)} ({count})" for reason, count in ordered)


def short_of(found: Found) -> float:
    """Share of the parameters that stay although a full cut would remove them."""
    kept, full, parameters = (cast(int, found[name]) for name in ("kept", "full_cut", "parameters"))
    return (kept - full) / parameters


def _shortfall(found: Found) -> str:
    """The widths behind a shortfall, largest first; nothing where the full cut is reached."""
    if found["stage"] != "done" or short_of(found) <= BOUND:
        return ""
    widths = cast(Sequence[Mapping[str, object]], found["short"])
    parts = []
    for width in widths[:_NAMED]:
        where = f" at `{_plain(str(width['node']))}`" if width["node"] else ""
        unblock = f"; to unblock: {_plain(str(width['unblock']))}" if width["unblock"] else ""
        parts.append(
            f"`{_plain(str(width['group']))}` ({cast(int, width['parameters']):,} parameters): "
            f"{_plain(str(width['reason']))}{where}{unblock}"
        )
    return f"{short_of(found):.1%}: " + ". ".join(parts)


def _line(entry: Entry, found: Found | None) -> str:
    exporter = f"{entry.exporter}, {entry.opset}" if entry.opset else entry.exporter
    names = [entry.name, f"{entry.library} `{entry.model}`", exporter]
    if found is None or _is_waiting(found):
        return _row([*names, "not exported yet", *[""] * 8])
    stage = str(found["stage"])
    parameters = found["parameters"]
    seconds = (_form(found[name], ".2f") for name in ("analyse_seconds", "compile_seconds"))
    cells = (
        "proved, runs" if stage == "done" else f"{stage}: {_plain(str(found['reason']))}",
        _form(parameters, ","),
        _form(found["share"], ".1%"),
        _share(found["kept"], parameters),
        _share(found["full_cut"], parameters),
        _shortfall(found),
        _form(found["error"], ".1e"),
        ", ".join(text for text in seconds if text),
        _pins(found),
    )
    return _row([*names, *cells])


def _is_waiting(found: Found) -> bool:
    return found["stage"] == "export" and found["reason"] == NOT_YET


def _totals(rows: Sequence[Found], entries: Sequence[Entry]) -> str:
    """How far the exported models got; a failed export says nothing about graphprune."""
    waiting = sum(map(_is_waiting, rows)) + len(entries) - len(rows)
    rows = [found for found in rows if not _is_waiting(found)]
    counts = collections.Counter(str(found["stage"]) for found in rows)
    order = [*STAGES, "crash"]
    reached = [stage for stage in order if counts[stage] and stage not in ("done", "export")]
    exported = len(rows) - counts["export"]
    lost = ", ".join(f"{counts[stage]} stop at `{stage}`" for stage in reached)
    near = sum(found["stage"] == "done" and short_of(found) <= BOUND for found in rows)
    return (
        f"{exported} graphs exported ({counts['export']} exports fail, {waiting} were not tried); "
        f"{counts['done']} are pruned, proved and run"
        f"{'; ' + lost if lost else ''}. "
        f"{near} of them ({_share(near, exported)}) come within {BOUND} of a full cut."
    )


def _reasons(rows: Sequence[Found]) -> list[str]:
    """Pin reasons over all models: where the next rule pays."""
    totals: collections.Counter[str] = collections.Counter()
    models: collections.Counter[str] = collections.Counter()
    for found in rows:
        for reason, count in cast(Mapping[str, int], found["pins"]).items():
            family = reason.split("'")[0].strip()
            totals[family] += count
            models[family] += 1
    lines = ["| Why groups are pinned | groups | models |", "|---|---|---|"]
    return lines + [
        f"| {_plain(reason)} | {count} | {models[reason]} |" for reason, count in totals.most_common(25)
    ]


def _loosening(rows: Sequence[Found]) -> list[str]:
    """What holds parameters over the whole matrix: what the next rule or rewrite could win."""
    held: collections.Counter[tuple[str, str]] = collections.Counter()
    graphs: dict[tuple[str, str], set[str]] = collections.defaultdict(set)
    for found in rows:
        for width in cast(Sequence[Mapping[str, object]], found.get("short", ())):
            reason = str(width["reason"])
            key = (WHOLE if reason.startswith(WHOLE) else reason, str(width["unblock"]))
            held[key] += cast(int, width["parameters"])
            graphs[key].add(str(found["name"]))
    total = sum(cast(int, found["parameters"] or 0) for found in rows)
    lines = ["| what keeps a width whole | parameters held | share of all | graphs | what would free them |"]
    lines.append("|---|---|---|---|---|")
    return lines + [
        f"| {_plain(reason)} | {count:,} | {count / total:.2%} | {len(graphs[reason, unblock])} "
        f"| {_plain(unblock)} |"
        for (reason, unblock), count in held.most_common(15)
    ]


def _relations(related: Mapping[str, Found]) -> str:
    """Per relation: on how many graphs it holds, does not apply, or is violated, and where."""
    from tools.zoo.relations import RELATIONS

    lines = ["| relation | graphs | does not apply to | violated by |", "|---|---|---|---|"]
    for relation in RELATIONS:
        verdicts = {
            name: cast(Mapping[str, Sequence[str] | None], found["relations"]).get(relation.__name__)
            for name, found in related.items()
        }
        wrong = [f"`{name}`" for name, violations in verdicts.items() if violations]
        idle = sum(violations is None for violations in verdicts.values())
        text = _plain((relation.__doc__ or "").rstrip("."))
        lines.append(f"| {text} | {len(verdicts) - idle} | {idle} | {', '.join(wrong) or 'none'} |")
    return "\n".join(lines)


_METHOD = f"""\
The pipeline is `{PIPELINE}`.
Models of the libraries have random weights; rows of *trained* are published models. *In prunable groups* is
the share of parameters that some group which may shrink touches. *Full cut* is what cutting every width of
the network at 0.5 would keep, pinned ones too, but not those of its inputs and outputs; a product of heads
and head dims counts as one width there, so a model in which both shrink keeps less. The proof error is
relative to the largest output."""
_PAYS = """\
What a rewrite that loosens the graph could still win, over the five widths of each graph that keep most.
Channel shuffles (one Gather), grouped-query repeats, shared weights and index-typed tensors are analysed as
they are; a rewrite whose reason is not in this table has nothing to win in the matrix."""
_HEAD = """\
Generated by `python -m tools.zoo table`; do not edit. To repeat: `python -m tools.zoo export` (once in an
environment per framework; rows that lack theirs are skipped), then `check`, `relations` and `table`."""


def render(results: Mapping[str, Found], related: Mapping[str, Found], entries: Sequence[Entry]) -> str:
    """The page: totals, one row per entry in table order, the reasons for pins, and the relations."""
    rows = [results[entry.name] for entry in entries if entry.name in results]
    lines = [_row(_TITLES), "|---" * len(_TITLES) + "|"]
    lines += [_line(entry, results.get(entry.name)) for entry in entries]
    sections = (
        "# Coverage",
        _HEAD,
        _METHOD,
        _totals(rows, entries),
        "\n".join(lines),
        "## What would pay",
        _PAYS,
        "\n".join(_loosening(rows)),
        "## Why groups are pinned",
        "\n".join(_reasons(rows)),
        "## Relations",
        "The metamorphic relations on the small files, by `python -m tools.zoo relations`.",
        _relations(related),
    )
    return "\n\n".join(sections) + "\n"
