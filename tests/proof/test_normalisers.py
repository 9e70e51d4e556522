"""Normalisers over kept slots: the formulas on these alone, in the type of what they stand for."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.ir.graft import Graft
from graphprune.proof.normalisers import CannotNormaliseError, over_kept
from graphprune.runtime.session import open_session

from .building import model

KEPT = np.array([True, True, False, True])


def test_a_mean_in_half_precision_over_kept_slots_is_of_half_precision() -> None:
    graph = model("(float16[n,4] x) => (float16[n,1] y) { m = ReduceMean <axes = [1]> (x)\n y = Relu(m) }")
    mean, relu = graph.graph
    mean.outputs[0].dtype = ir.DataType.FLOAT16
    over_kept(Graft(graph, "kept"), mean, KEPT)
    (read,) = relu.inputs
    assert read is not None and read.dtype == ir.DataType.FLOAT16


def test_a_norm_of_a_value_whose_type_is_not_known_is_of_single_precision() -> None:
    graph = model(
        "(float[n,4] x) => (float[n,4] y) { a = Relu(x)\n y = LayerNormalization(a, scale) }", scale=(4,)
    )
    relu, norm = graph.graph
    relu.outputs[0].type = None
    over_kept(Graft(graph, "kept"), norm, KEPT)
    types = {node.attributes["to"].as_int() for node in graph.graph if node.op_type == "Cast"}
    assert types == {ir.DataType.FLOAT.value}


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_a_norm_is_computed_in_single_precision_and_given_in_its_own(kind: type[np.floating]) -> None:
    """And every value is of the type that it is said to be: ONNX Runtime refuses others."""
    name = {np.float16: "float16", np.float32: "float"}[kind]
    graph = model(
        f"({name}[3,4] x) => ({name}[3,4] y) {{ y = LayerNormalization(x, g, b) }}",
        g=SCALE.astype(kind),
        b=SHIFT.astype(kind),
    )
    (norm,) = graph.graph
    over_kept(Graft(graph, "kept"), norm, KEPT)
    x = np.where(KEPT, X, 100).astype(kind)
    found = open_session(graph, optimise=False).run({"x": x})["y"]
    mean, inverse = moments(x, 1e-5)
    assert found.dtype == kind
    wanted = (x - mean) * inverse * SCALE + SHIFT
    np.testing.assert_allclose(
        found[:, KEPT], wanted[:, KEPT], rtol=5e-3 if kind is np.float16 else 1e-4, atol=1e-3
    )


X, SKIP = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
SCALE, SHIFT, BIAS = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)


def moments(x: np.ndarray, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and inverse deviation over the kept slots."""
    kept = x[..., KEPT].astype(np.float64)
    return kept.mean(axis=-1, keepdims=True), 1 / np.sqrt(kept.var(axis=-1, keepdims=True) + epsilon)


def over(body: str, **weights: object) -> dict[str, np.ndarray]:
    """What a graph of one normaliser gives once it looks at the kept slots alone; the others hold junk."""
    graph = model(f"(float[3,4] x, float[3,4] skip) => {body}", **weights)
    (norm,) = graph.graph
    over_kept(Graft(graph, "kept"), norm, KEPT)
    feeds = {"x": np.where(KEPT, X, 1e3).astype(np.float32), "skip": SKIP}
    return dict(open_session(graph, optimise=False).run({v.name: feeds[v.name] for v in graph.graph.inputs}))


@pytest.mark.parametrize(("written", "epsilon"), [("", 1e-5), ("<epsilon = 0.3>", 0.3)])
def test_a_layer_norm_of_kept_slots_and_its_statistics(written: str, epsilon: float) -> None:
    found = over(
        f"(float[3,4] y, float[3,1] m, float[3,1] d) {{ y, m, d = LayerNormalization {written} (x, g, b) }}",
        g=SCALE,
        b=SHIFT,
    )
    mean, inverse = moments(X, epsilon)
    wanted = {"y": ((X - mean) * inverse * SCALE + SHIFT)[:, KEPT], "m": mean, "d": inverse}
    for name, array in wanted.items():
        mine = found[name][:, KEPT] if name == "y" else found[name]
        np.testing.assert_allclose(mine, array, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("biased", [True, False])
def test_a_norm_of_a_sum_of_kept_slots_and_the_sum(biased: bool) -> None:
    found = over(
        f"(float[3,4] y, float[3,4] s) {{ y, , , s = com.microsoft.SkipLayerNormalization <epsilon = 0.2> "
        f"(x, skip, g, b{', more' if biased else ''}) }}",
        g=SCALE,
        b=SHIFT,
        **({"more": BIAS} if biased else {}),
    )
    total = X + SKIP + (BIAS if biased else 0)
    mean, inverse = moments(total, 0.2)
    np.testing.assert_allclose(found["s"][:, KEPT], total[:, KEPT], rtol=1e-5, atol=1e-5)
    wanted = ((total - mean) * inverse * SCALE + SHIFT)[:, KEPT]
    np.testing.assert_allclose(found["y"][:, KEPT], wanted, rtol=1e-4, atol=1e-5)


def test_a_mean_of_masked_slots_is_that_of_the_kept_ones() -> None:
    graph = model("(float[3,4] x) => (float[3,1] y) { y = ReduceMean <axes = [1]> (x) }")
    (mean,) = graph.graph
    over_kept(Graft(graph, "kept"), mean, KEPT)
    (found,) = open_session(graph).run({"x": np.where(KEPT, X, 0).astype(np.float32)}).values()
    np.testing.assert_allclose(found, X[:, KEPT].mean(axis=1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("written", ["", "<epsilon = 0.3>"])
@pytest.mark.parametrize("outputs", ["y", "y, mask", "y, mask, total"])
def test_a_norm_of_embeddings_is_of_their_sum_over_kept_slots(written: str, outputs: str) -> None:
    draw = np.random.default_rng(2)
    tables = {
        name: draw.standard_normal((rows, 4)).astype(np.float32)
        for name, rows in (("w", 7), ("p", 3), ("s", 2))
    }
    results = ", ".join(
        f"{'int32[2]' if name == 'mask' else 'float[2,3,4]'} {name}" for name in outputs.split(", ")
    )
    graph = model(
        f"""(int32[2,3] ids, int32[2,3] kinds) => ({results}) {{
        {outputs} = com.microsoft.EmbedLayerNormalization {written} (ids, kinds, w, p, s, g, b) }}""",
        **tables,
        g=SCALE,
        b=SHIFT,
    )
    ids, kinds = draw.integers(0, 7, (2, 3)).astype(np.int32), np.array([[0, 1, 1], [1, 0, 0]], np.int32)
    total = tables["w"][ids] + tables["p"][None] + tables["s"][kinds]
    (norm,) = graph.graph
    over_kept(Graft(graph, "kept"), norm, KEPT)
    found = open_session(graph, optimise=False).run({"ids": ids, "kinds": kinds})
    mean, inverse = moments(total, 0.3 if written else 1e-12)
    wanted = (total - mean) * inverse * SCALE + SHIFT
    np.testing.assert_allclose(found["y"][..., KEPT], wanted[..., KEPT], rtol=1e-4, atol=1e-5)
    if "total" in outputs:
        np.testing.assert_allclose(found["total"], total, rtol=1e-5, atol=1e-6)


def test_a_norm_that_has_no_form_over_kept_slots_is_named() -> None:
    graph = model("(float[3,4] x) => (float[3,4] y) { [squash] y = Softmax(x) }")
    (node,) = graph.graph
    with pytest.raises(CannotNormaliseError, match="Softmax 'squash' has no reference over kept slots"):
        over_kept(Graft(graph, "kept"), node, KEPT)
