"""Recurrent operators: the hidden width shrinks in every weight, state and consumer at once."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ops.exotic_graphs import Case, analysed, floats, holds, reasons, scales, signed

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
HIDDEN, INNER = 6, 5


def recurrent(op: str, directions: int, attributes: dict[str, object] | None = None) -> Case:
    gates, width = GATES[op], directions * HIDDEN
    inputs, outputs = ["xi", "W", "R", "B", "", "h0"], ["Y", "Yh"]
    weights: dict[str, object] = {
        "wi": (3, INNER),
        "W": (directions, gates * HIDDEN, INNER),
        "R": (directions, gates * HIDDEN, HIDDEN),
        "B": (directions, 2 * gates * HIDDEN),
        "h0": (directions, 2, HIDDEN),
        "wo": (width, 4),
        "to": np.array([7, 2, width]),
    }
    if op == "LSTM":
        weights |= {"c0": (directions, 2, HIDDEN), "P": (directions, 3 * HIDDEN)}
        inputs, outputs = [*inputs, "c0", "P"], [*outputs, "Yc"]
    direction = "bidirectional" if directions == 2 else "forward"
    nodes = [
        ("MatMul", ["x", "wi"], ["xi"], {}),
        (op, inputs, outputs, {"hidden_size": HIDDEN, "direction": direction, **(attributes or {})}),
        ("Transpose", ["Y"], ["turned"], {"perm": [0, 2, 1, 3]}),
        ("Reshape", ["turned", "to"], ["flat"], {}),
        ("MatMul", ["flat", "wo"], ["y"], {}),
        ("ReduceSumSquare", ["Yh"], ["z"], {"keepdims": 0}),
    ]
    name = f"{op}-{direction}-{'-'.join(attributes or {})}"
    return Case(name, {"x": floats(7, 2, 3)}, weights, nodes, ["y", "z"], [INNER, HIDDEN])  # type: ignore[arg-type]


CASES = [recurrent(op, directions) for op in GATES for directions in (1, 2)]
CASES += [
    recurrent("GRU", 1, {"linear_before_reset": 1}),
    recurrent("LSTM", 1, {"input_forget": 1, "clip": 0.5}),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_hidden_units_and_inputs_go_exactly(case: Case) -> None:
    holds(case)


def test_sequence_and_batch_stay() -> None:
    case = recurrent("LSTM", 1)
    sequence = Case(
        "tokens",
        {"x": floats(2, 3)},
        {**case.weights, "wt": (7, 2, 3)},
        [("Add", ["wt", "x"], ["long"], {}), ("MatMul", ["long", "wi"], ["xi"], {}), *case.nodes[1:]],
        case.outputs,
        [INNER, HIDDEN],
    )
    assert "LSTM runs along it" in reasons(analysed(sequence))
    holds(sequence)


def test_a_quantised_lstm_keeps_its_hidden_width() -> None:
    nodes = [
        ("MatMul", ["x", "wi"], ["xi"], {}),
        (
            "com.microsoft:DynamicQuantizeLSTM",
            ["xi", "W", "R", "", "", "", "", "", "s", "z", "s", "z"],
            ["y"],
            {"hidden_size": 4},
        ),
    ]
    weights = {
        "wi": (7, 6),
        "W": signed(1, 6, 16),
        "R": signed(1, 4, 16),
        "s": scales(1),
        "z": np.zeros(1, np.int8),
    }
    holds(Case("dynamic", {"x": floats(5, 2, 7)}, weights, nodes, ["y"], [6]))
