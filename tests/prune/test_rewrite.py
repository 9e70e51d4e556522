"""The one place that cuts: in memory, from a file, in blocks, and for tensors that several nodes read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphprune
from graphprune.axes import Options
from graphprune.prune.plan import Plan
from graphprune.prune.rewrite import Cut, rewrite
from graphprune.runtime.session import open_session
from tests.axes.claims import cut, proves, sketch
from tests.ops.exotic_graphs import plans

from .widths import Array, grouped


def picked(array: Array, masks: list[Array | None], blocks: int) -> Array:
    """What is left, element by element: row i of block q reads column j where mask[q * width + j] says so."""
    rows = range(len(array)) if masks[0] is None else np.flatnonzero(masks[0]).tolist()
    height, width = len(array) // blocks, array.shape[1]
    kept = []
    for row in rows:
        block = row // height
        columns = [j for j in range(width) if masks[1] is None or masks[1][block * width + j]]
        kept.append(array[row][columns])
    taken = np.array(kept)
    return taken if masks[2] is None else taken[:, :, masks[2]]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([1, 2, 3]), st.integers(1, 3), st.integers(1, 4), st.integers(0, 7), st.integers(0, 99)
)
def test_a_cut_has_the_shape_that_is_foretold_and_the_elements_that_stay(
    blocks: int, height: int, width: int, cut: int, seed: int
) -> None:
    """Which holds a file's tensor back until it is written, with only its shape known."""
    draw = np.random.default_rng(seed)
    dense = draw.standard_normal((blocks * height, width, 3)).astype(np.float32)

    def mask(size: int, parts: int) -> Array:
        """As many in every part, at least one."""
        count = draw.integers(1, size // parts + 1)
        one = np.arange(size // parts) < count
        return np.concatenate([draw.permutation(one) for _ in range(parts)])

    masks = [
        mask(blocks * height, blocks) if cut & 1 else None,
        mask(blocks * width, blocks) if cut & 2 else None,
        mask(3, 1) if cut & 4 else None,
    ]
    if blocks > 1:
        masks[2] = None  # only rows and columns have blocks
    made = Cut(tuple(masks), blocks)
    np.testing.assert_array_equal(made.apply(dense), picked(dense, masks, blocks))
    assert made.shape(dense.shape) == made.apply(dense).shape


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_weights_in_a_file_are_cut_like_those_in_memory(groups: int, tmp_path: Path) -> None:
    source, small = tmp_path / "dense.onnx", tmp_path / "small.onnx"
    model = grouped(groups)
    ir.save(model, source, external_data="dense.data", size_threshold_bytes=0)
    result = graphprune.compile(source, "prune(ratio=0.5, align=1)", output=small)
    inside = graphprune.compile(model, "prune(ratio=0.5, align=1)")
    assert result.plans[0].cuts == inside.plans[0].cuts
    written = ir.load(small)
    for name, value in inside.model.graph.initializers.items():
        found = written.graph.initializers[name].const_value
        assert value.const_value is not None and found is not None
        np.testing.assert_array_equal(found.numpy(), value.const_value.numpy())
    assert open_session(written).run({"x": np.ones((1, 3, 6, 6), np.float32)})


def test_readers_with_the_same_cut_share_a_tensor_and_others_get_their_own() -> None:
    """Two widths of one size read one bias: it is cloned once, beside a third reader that keeps it whole."""
    body = """(float[n,4] x) => (float[n,3] y, float[n,6] z) { a = MatMul(x, u)\n b = Add(a, s)\n c = Relu(b)
        d = MatMul(c, v)\n e = Add(d, s)\n f = Relu(e)\n y = MatMul(f, w)
        g = MatMul(x, t)\n z = Add(g, s) }"""
    analysis = sketch(body, u=(4, 6), s=np.arange(6, dtype=np.float32), v=(6, 6), w=(6, 3), t=(4, 6))
    model = graphprune.compile(analysis.model, "prune(ratio=0.5, scope=local, align=1)").model
    read = [node.inputs[1] for node in model.graph if node.op_type == "Add"]
    sizes = sorted(value.const_value.size for value in read)  # type: ignore[union-attr]
    assert sizes == [3, 3, 6] and len({value.name for value in read if value is not None}) == 3


def test_the_first_reader_by_name_keeps_the_tensor_and_the_others_get_clones() -> None:
    """Whatever the order of the graph, so that a model that is sorted anew is cut to the same names."""
    analysis = sketch(
        """(float[n,4] x) => (float[n,3] y, float[n,3] z) {
        [b] h = MatMul(x, w)\n [c] i = Relu(h)\n [d] y = MatMul(i, v)
        [a] j = MatMul(x, w)\n [e] k = Tanh(j)\n [f] z = MatMul(k, u) }""",
        Options(share="split"),
        w=(4, 6),
        v=(6, 3),
        u=(6, 3),
    )
    one, two = (g.id for g in analysis.prunable)
    plan = Plan(analysis.options, {one: (0, 1, 2, 3), two: (2, 3, 4)}, {one: 6, two: 6})
    nodes = {node.name: node for node in rewrite(analysis.model, analysis, plan).graph}
    assert nodes["a"].inputs[1].name == "w"  # type: ignore[union-attr]
    assert nodes["b"].inputs[1].name != "w"  # type: ignore[union-attr]


def test_a_slice_of_two_axes_keeps_the_bounds_of_the_one_that_is_whole() -> None:
    analysis = sketch(
        """(float[n,5,4] x) => (float[n,2,3] y) { a = MatMul(x, u)\n b = Slice(a, from, to, axes)
        c = Relu(b)\n y = MatMul(c, v) }""",
        **{
            "u": (4, 8),
            "v": (6, 3),
            "from": np.array([1, 0]),
            "to": np.array([3, 6]),
            "axes": np.array([1, 2]),
        },
    )
    model = cut(analysis, u=(0, 2, 4))
    (node,) = (node for node in model.graph if node.op_type == "Slice")
    starts, ends = (node.inputs[at].const_value.numpy().tolist() for at in (1, 2))  # type: ignore[union-attr]
    assert (starts, ends) == ([1, 0], [3, 3])


@pytest.mark.parametrize(
    ("given", "width"),
    [
        ({"from": [0, 1, 0], "to": [9, 3, 6]}, 6),
        ({"from": [2], "to": [8], "axes": [-1]}, 6),
        ({"from": [2, 1], "to": [8, 3], "axes": [2, 1]}, 6),
        ({"from": [1, 0], "to": [3, 8], "axes": [1, -1], "by": [1, 2]}, 4),
        ({"from": [0, 4], "to": [8, 0], "axes": [2, 1], "by": [3, -1]}, 3),
        ({"from": [-1], "to": [-9], "axes": [2], "by": [-1]}, 8),
    ],
    ids=["no axes", "from the end", "two axes", "every other", "every third", "backwards"],
)
def test_a_slice_of_a_cut_axis_takes_what_is_left_and_leaves_other_axes_alone(
    given: dict[str, list[int]], width: int
) -> None:
    names = ", ".join(["from", "to", *(name for name in ("axes", "by") if name in given)])
    analysis = sketch(
        f"""(float[2,5,4] x) => (float[2,m,3] y) {{ a = MatMul(x, u)\n b = Slice(a, {names})\n c = Relu(b)
        y = MatMul(c, v) }}""",
        u=(4, 8),
        v=(width, 3),
        **{name: np.array(numbers) for name, numbers in given.items()},
    )
    proves(analysis)
    others = [at for at, axis in enumerate(given.get("axes", [0, 1, 2])) if axis not in (2, -1)]
    for plan in plans(analysis):
        (node,) = (node for node in rewrite(analysis.model, analysis, plan).graph if node.op_type == "Slice")
        for value, name in zip(node.inputs[1:], ("from", "to", "axes", "by"), strict=False):
            found = value.const_value.numpy().tolist()  # type: ignore[union-attr]
            assert [found[at] for at in others] == [given[name][at] for at in others]


@pytest.mark.parametrize("opset", [11, 12, 13, 18])
@pytest.mark.parametrize("sizes", [[6, 6], [4, 8], None], ids=str)
def test_sizes_and_axes_stand_where_the_opset_wants_them(opset: int, sizes: list[int] | None) -> None:
    """Attributes before opset 13, inputs since."""
    given, more, numbers = "", "", {"axes": np.array([1])} if opset >= 13 else {}
    if sizes is not None and opset >= 13:
        more, numbers = ", sizes", numbers | {"sizes": np.array(sizes)}
    elif sizes is not None:
        given = f", split = {sizes}"
    elif opset >= 18:
        given = ", num_outputs = 2"
    squeeze = "Squeeze(m, axes)" if opset >= 13 else "Squeeze <axes = [1]> (m)"
    left, right = sizes or [6, 6]
    analysis = sketch(
        f"""(float[2,1,4] x) => (float[2,3] y) {{ m = MatMul(x, u)\n s = {squeeze}
        a, b = Split <axis = 1{given}> (s{more})\n c = MatMul(a, v)\n d = MatMul(b, w)\n y = Add(c, d) }}""",
        opset=opset,
        u=(4, 12),
        v=(left, 3),
        w=(right, 3),
        **numbers,
    )
    proves(analysis)


def misaligned(array: Array) -> Array:
    """The same numbers one byte further on, as a tensor in a mapped file may lie."""
    room = np.zeros(array.nbytes + 1, np.uint8)
    room[1:] = np.frombuffer(array.tobytes(), np.uint8)
    return room[1:].view(array.dtype).reshape(array.shape)


@pytest.mark.parametrize("way", [np.array, misaligned, np.asfortranarray, lambda a: misaligned(a.T.copy()).T])
@pytest.mark.parametrize("shape", [(4, 6), (4, 0)])
def test_rows_are_those_of_the_array_however_it_lies_in_memory(way: object, shape: tuple[int, int]) -> None:
    dense = np.arange(shape[0] * shape[1], dtype=np.float32).reshape(shape)
    given, rows = way(dense), np.array([True, False, True, True])  # type: ignore[operator]
    for columns in (None, np.arange(shape[1]) % 2 == 0):
        found = Cut((rows, columns)).apply(given)
        np.testing.assert_array_equal(found, dense[rows] if columns is None else dense[rows][:, columns])
        assert found.flags.aligned and found.flags.c_contiguous
