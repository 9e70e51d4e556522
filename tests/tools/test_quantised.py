"""The table of quantised files: what its rows say, how weights are coded, what a run leaves standing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from tools.quantised import Row, coded_weights, merged

ROOT = Path(__file__).parents[2]


def test_a_row_that_drops_too_far_beyond_its_twin_is_marked() -> None:
    assert str(Row("m", "dynamic", 0.9, 0.85, 0.5, 0.02)) == (
        "| m | dynamic | 0.9000 | 0.8500 | 5.0 | 50.0 % | +2.0 |"
    )
    assert "+4.0, missed" in str(Row("m", "static", 0.9, 0.85, 0.5, 0.04))


def test_rows_of_other_models_stay(tmp_path: Path) -> None:
    page = tmp_path / "table"
    page.write_text("head\n| model |\n|---|---:|\n| a | float |\n| b | old |\n")
    assert merged(page, ["| b | new |"]) == ["| a | float |", "| b | new |"]
    assert merged(tmp_path / "none", ["| b | new |"]) == ["| b | new |"]


def test_weights_are_coded_per_output_and_give_nearly_the_same(tmp_path: Path) -> None:
    dense = ROOT / "models/digits_cnn/model.onnx"
    coded = coded_weights(dense, tmp_path / "coded.onnx")
    kinds = [tensor.data_type for tensor in onnx.load(coded).graph.initializer]
    assert onnx.TensorProto.INT8 in kinds
    sessions = [ort.InferenceSession(str(path)) for path in (dense, coded)]
    (entry,) = sessions[0].get_inputs()
    shape = [d if isinstance(d, int) else 8 for d in entry.shape]
    feed = {entry.name: np.random.default_rng(0).random(shape, np.float32)}
    one, two = (session.run(None, feed)[0] for session in sessions)
    assert 0 < np.abs(one - two).max() < 0.05 * np.abs(one).max()
