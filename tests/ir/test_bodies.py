"""Bodies of Loop and Scan: their shapes are known where no run changes them, and their work is counted."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

import graphprune
from graphprune.ir.load import load
from graphprune.ir.normalise import normalise
from graphprune.ops import record_of
from graphprune.pipeline.inspection import inspect
from graphprune.pipeline.settings import Settings


def _weights(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: (rng.standard_normal(shape) * 0.4).astype(np.float32) for name, shape in shapes.items()}


def _model(text: str, arrays: dict[str, np.ndarray]) -> onnx.ModelProto:
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]>\ng {text}')
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    return proto


def _cell(again: str = "more = Identity(go)", trips: int = 10) -> onnx.ModelProto:
    """A recurrent cell of 6 units over 4 inputs, between a layer of 8 and one of 5 hidden units."""
    numbers = {"n": np.array(trips), "yes": np.array(True), "h0": np.zeros((1, 6), np.float32)}
    weights = _weights(a=(3, 8), b=(8, 4), w=(4, 6), r=(6, 6), c=(6, 5), d=(5, 2))
    return _model(
        f"""(float[10,1,3] x) => (float[o,p] y) {{
            p = MatMul(x, a) q = Relu(p) z = MatMul(q, b)
            last, all = Loop (n, yes, h0) <body = body (int64 i, bool go, float[k,l] h)
                => (bool more, float[k,l] s, float[k,l] t) {{
                e = Gather(z, i) u = MatMul(e, w) v = MatMul(h, r) k = Add(u, v) s = Tanh(k) t = Identity(s)
                {again} }}>
            f = MatMul(last, c) g = Relu(f) y = MatMul(g, d)
        }}""",
        numbers | weights,
    )


INSIDE = 4 * 6 + 6 * 6
OUTSIDE = 10 * (3 * 8 + 8 * 4) + 6 * 5 + 5 * 2


def test_a_cell_is_counted_as_often_as_it_runs() -> None:
    assert inspect(_cell(), Settings()).size.macs == OUTSIDE + 10 * INSIDE
    assert inspect(_cell(trips=3), Settings()).size.macs == OUTSIDE + 3 * INSIDE


def test_a_loop_that_data_end_is_of_unknown_work() -> None:
    ends = "m = ReduceMax <keepdims = 0> (s) zero = Sub(m, m) more = Less(m, zero)"
    assert inspect(_cell(ends), Settings()).size.macs is None


def test_a_body_that_takes_one_of_two_ways_is_of_unknown_work() -> None:
    """Even where both cost the same; one that multiplies nothing costs nothing, however often it runs."""
    text = """(float[5,4] x, bool c) => (float[5,4] y) {{
        last = Loop (n, yes, x) <body = body (int64 i, bool go, float[5,4] h) => (bool more, float[5,4] s) {{
            s = If (c) <then_branch = t () => (float[5,4] p) {{ p = {one} }},
                else_branch = e () => (float[5,4] q) {{ q = {two} }}>
            more = Identity(go) }}>
        y = MatMul(last, w) }}"""
    numbers = {"n": np.array(3), "yes": np.array(True), **_weights(w=(4, 4))}
    ways = text.format(one="MatMul(h, w)", two="MatMul(h, w)"), text.format(one="Neg(h)", two="Abs(h)")
    counts = [inspect(_model(each, numbers), Settings()).size.macs for each in ways]
    assert counts == [None, 5 * 4 * 4]


def test_widths_before_and_behind_a_loop_are_cut() -> None:
    assert [group.id for group in graphprune.find_groups(_cell()) if not group.pin] == ["a:1", "c:1"]
    report = graphprune.compile(_cell(), "prune(ratio=0.5, align=1)").report
    assert report.passes[0].proof.ok
    assert report.after.params < report.before.params


def test_a_state_that_grows_is_of_open_length() -> None:
    proto = _model(
        """(float[1,4] x) => (float[o,p] y) {
            out = Loop (n, yes, x) <body = body (int64 i, bool go, float[k,4] h) => (bool more, float[l,4] s)
                { s = Concat <axis = 0> (h, x) more = Identity(go) }>
            y = MatMul(out, w)
        }""",
        {"n": np.array(3), "yes": np.array(True), **_weights(w=(4, 2))},
    )
    model = load(proto).model
    sizes = normalise(model, record_of)
    rows, width = sizes.shapes[model.graph.node(0).outputs[0]] or ()
    assert rows[0] != rows[1]  # not the one row that it starts with
    assert width == (4, 4)


def test_a_scan_runs_once_per_element_and_collects_what_it_makes() -> None:
    proto = _model(
        """(float[7,2,4] x, float[2,6] h0) => (float[a,b] last, float[c,d,e] y) {
            last, all = Scan <num_scan_inputs = 1, body = body (float[i,j] h, float[k,l] e)
                => (float[m,n] s, float[o,p] t) {
                u = MatMul(e, w) v = MatMul(h, r) k = Add(u, v) s = Tanh(k) t = Identity(s) }> (h0, x)
            y = MatMul(all, c)
        }""",
        _weights(w=(4, 6), r=(6, 6), c=(6, 3)),
    )
    sizes = normalise(load(proto).model, record_of)
    shape = next(found for value, found in sizes.shapes.items() if value.name == "all")
    assert shape == ((7, 7), (2, 2), (6, 6))
    assert inspect(proto, Settings()).size.macs == 7 * 2 * INSIDE + 7 * 2 * 6 * 3
