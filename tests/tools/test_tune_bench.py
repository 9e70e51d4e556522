"""The bench of tune keeps a row per search, and says of every bar what missed it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from graphprune.runtime.session import open_session
from tools.tune_bench.page import BEGIN, END, bars, write
from tools.tune_bench.results import Row, Store
from tools.tune_bench.shift import shifted


def row(workload: str, change: float, speedup: float, seed: int = 0, **more: object) -> Row:
    told = {"change": change, "speedup": speedup, "low": speedup, "high": speedup, "before_ms": 1.0, **more}
    return Row(workload, 3.0, seed, "G", **told)  # type: ignore[arg-type]


def test_rows_are_kept_by_machine_model_minutes_and_seed(tmp_path: Path) -> None:
    store = Store(tmp_path / "tune.jsonl")
    store.add(row("one", -0.5, 1.0))
    store.add(row("one", -0.001, 2.5))
    store.add(row("one", -0.001, 2.0, seed=1))
    store.add(row("one", -0.001, 1.5, place="avx2/1.32"))
    assert [each.speedup for each in store.rows().values()] == [2.5, 2.0, 1.5]


def test_bars_name_what_missed_them() -> None:
    rows = [row("good", 0.0, 3.0), row("bad", -0.02, 0.5), row("good", 0.0, 2.0, seed=1)]
    told = {bar: (met, but) for bar, met, but in bars(rows)}
    assert told["at most one point lost (agreement: two, or what a shift costs)"] == ("1 of 2", "bad -0.020")
    assert told["2x or more"] == ("1 of 2", "bad 0.50x")
    assert told["never 5 % slower or more at batch 1"] == ("1 of 2", "bad 0.50x")
    assert told["a second seed within a tenth"] == ("0 of 1", "good 2.00x and 3.00x")


def test_the_page_says_what_was_not_run(tmp_path: Path) -> None:
    page, store = tmp_path / "tune.md", Store(tmp_path / "tune.jsonl")
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    store.add(row("digits-cnn", 0.0, 3.0, place="avx512/1.32"))
    store.add(row("magika", 0.0, 2.0, place="avx2/1.32"))
    write(store, page)
    text = page.read_text()
    assert text.index("### avx2/1.32") < text.index("### avx512/1.32")
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "Not run at 3 minutes:" in text and "magika" in text


def test_a_shifted_model_sees_its_input_moved_by_one(tmp_path: Path) -> None:
    model = ir.from_onnx_text(
        '<ir_version: 10, opset_import: ["" : 21]>\ng (float[n,4] x) => (float[n,4] y) { y = Relu(x) }'
    )
    ir.save(model, tmp_path / "model.onnx")
    assert shifted(tmp_path / "model.onnx", tmp_path / "moved.onnx")
    found = open_session(tmp_path / "moved.onnx").run({"x": np.array([[1, 2, 3, 4]], np.float32)})
    assert found["y"].tolist() == [[2, 3, 4, 1]]
