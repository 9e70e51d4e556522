"""The comparison of settings keeps a row per training, and takes means beside the usual setting."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from graphprune.errors import DataError
from tools.recover_settings.__main__ import carry_out, parser
from tools.recover_settings.results import Row, read
from tools.recover_settings.table import table


def row(net: str, setting: str, loss: float, metric: float, seed: int = 0) -> Row:
    lost = (0.4, loss)
    return Row(net, 0.5, setting, seed, 100, 8, 1e-3, 1.0, 0.1, lost, lost, lost, (0.9, 0.8, metric))


def test_a_setting_is_compared_where_the_usual_one_ran() -> None:
    rows = [row("one", "usual", 0.2, 0.85), row("two", "usual", 0.1, 0.9), row("one", "plain", 0.1, 0.87)]
    rows.append(row("two", "plain", 0.4, 0.1, seed=1))  # the usual setting has no such seed
    _, _, usual, plain = table(rows).splitlines()
    assert usual.split(" | ") == ["| usual", "2", "2", "0.38", "0.38", "0.38", "+0.00 |"]
    assert plain.split(" | ") == ["| plain", "1", "1", "0.25", "0.25", "0.25", "+2.00 |"]


def test_rows_are_read_as_they_were_kept(tmp_path: Path) -> None:
    path, rows = tmp_path / "rows.jsonl", [row("one", "usual", 0.2, 0.85), row("one", "plain", 0.1, 0.8)]
    path.write_text("".join(json.dumps(asdict(each)) + "\n" for each in rows), encoding="utf-8")
    assert read(path) == rows and read(tmp_path / "none.jsonl") == []


def test_a_table_of_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there are no rows"):
        carry_out(parser().parse_args(["--results", str(tmp_path / "none.jsonl"), "table"]))
