"""Mask passes end to end: exact counts, patterns along the reduction axis, what they leave alone and say."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

import graphprune
from graphprune.errors import ArgumentError, GraphpruneError, PromiseError
from graphprune.pipeline.result import Result
from graphprune.runtime.session import open_session
from tests.axes.claims import weight
from tests.proof.building import model

from .mask_graphs import BODY, CONV_SHAPES, compiled, conv_net, decoder, images, tokens, zeros

CALIBRATED = ("wanda", "sparsegpt", "nowag", "wanda(repair=refit)", "sparsegpt(repair=refit)")
EVERY = (
    *CALIBRATED,
    "magnitude",
    "magnitude(budget=uniform)",
    "magnitude(repair=refit)",
    "wanda(budget=owl)",
)


def with_argument(text: str, argument: str) -> str:
    return f"{text[:-1]}, {argument})" if text.endswith(")") else f"{text}({argument})"


@pytest.mark.parametrize("driver", ["sequential", "oneshot"])
@pytest.mark.parametrize("text", EVERY)
def test_half_of_a_decoder_goes_and_is_proved(text: str, driver: str) -> None:
    dense = decoder()
    result = compiled(dense, with_argument(text, f"driver={driver}"), tokens())
    gone = sum(int((weight(result.model, name) == 0).sum()) for name in BODY)
    total = sum(weight(dense, name).size for name in BODY)
    # OWL's ratios are rounded per layer.
    assert gone == total // 2 if "owl" not in text else total // 2 - len(BODY) <= gone <= total // 2
    for name in ("table", "head"):
        np.testing.assert_array_equal(weight(result.model, name), weight(dense, name))


@pytest.mark.parametrize("text", EVERY)
def test_convolutions_are_masked_and_proved(text: str) -> None:
    result = compiled(conv_net(), with_argument(text, "ratio=0.4"), images())
    assert zeros(result, "fc") == 0
    shares = [zeros(result, name) for name in ("stem", "main", "depth", "point", "up")]
    assert all(0 < share < 0.75 for share in shares)
    if "owl" not in text and not text.startswith(("magnitude", "nowag")):
        np.testing.assert_allclose(shares[1], 0.4, atol=1e-3)


@pytest.mark.parametrize("text", ["wanda", "sparsegpt", "nowag", "magnitude", "sparsegpt(repair=refit)"])
def test_two_of_four_runs_along_the_inputs(text: str) -> None:
    result = compiled(decoder(), with_argument(text, "pattern=2:4"), tokens())
    for name in BODY:  # [in, out]: groups of four rows
        groups = weight(result.model, name).T.reshape(-1, 4)
        np.testing.assert_array_equal((groups != 0).sum(axis=1), 2)
    able = {node.weight for node in sparse(result) if node.eligible}
    assert able == set(BODY)


@pytest.mark.parametrize("text", ["wanda", "sparsegpt", "magnitude"])
def test_two_of_four_in_a_convolution_runs_along_the_input_channels(text: str) -> None:
    result = compiled(conv_net(), with_argument(text, "pattern=2:4"), images())
    for name in ("main", "point"):
        array = weight(result.model, name)
        groups = array.reshape(array.shape[0], -1, 4, *array.shape[2:])
        np.testing.assert_array_equal((groups != 0).sum(axis=2), 2)
    up = weight(result.model, "up").reshape(4, 4, -1)  # ConvTranspose: [in, out, ...]
    np.testing.assert_array_equal((up != 0).sum(axis=1), 2)
    assert zeros(result, "stem") == 0 and zeros(result, "depth") == 0
    said = "\n".join(result.report.warnings)
    assert "3 input channels are no multiple of 4" in said and "1 input channels" in said
    why = {node.weight: node.why for node in sparse(result)}
    assert why["main"] == why["point"] == ""
    assert "ConvTranspose" in why["up"] and "3 input channels" in why["stem"] and "more than 2" in why["fc"]


def sparse(result: Result) -> tuple[object, ...]:
    found = result.report.passes[-1].zeros
    assert found is not None
    return found.sparse_nodes


def test_one_of_four() -> None:
    result = compiled(decoder(), "magnitude(pattern=1:4)")
    assert {zeros(result, name) for name in BODY} == {0.75}


def test_wanda_counts_per_output_and_magnitude_over_the_layer() -> None:
    wanda = weight(compiled(decoder(), "wanda(ratio=0.3)", tokens()).model, "up")
    assert {int((column == 0).sum()) for column in wanda.T} == {4, 5}  # 0.3 of 16 is 4.8
    assert int((wanda == 0).sum()) == int(16 * 24 * 0.3)
    flat = weight(compiled(decoder(), "magnitude(ratio=0.3, budget=uniform)").model, "up")
    assert int((flat == 0).sum()) == int(16 * 24 * 0.3)
    dense = np.abs(weight(decoder(), "up"))
    assert dense[flat == 0].max() <= dense[flat != 0].min()


def test_global_magnitude_ranks_all_layers_and_keeps_a_floor() -> None:
    small = np.random.default_rng(0).standard_normal((16, 16)).astype(np.float32) * 1e-3
    dense = decoder(wq=small)
    plain = compiled(dense, "magnitude(ratio=0.4, min-keep=0)")
    assert zeros(plain, "wq") == 1.0
    floor = compiled(dense, "magnitude(ratio=0.4, min-keep=0.25)")
    assert zeros(floor, "wq") == 0.75
    counts = [sum(int((weight(r.model, n) == 0).sum()) for n in BODY) for r in (plain, floor)]
    total = sum(weight(dense, name).size for name in BODY)
    assert counts == [int(total * 0.4)] * 2


def test_a_floor_that_forbids_the_ratio_is_an_error_or_a_warning() -> None:
    text = "magnitude(ratio=0.9, min-keep=0.5)"
    with pytest.raises(PromiseError, match=r"ratio=0\.9 cannot be met"):
        graphprune.compile(decoder(), text)
    result = graphprune.compile(decoder(), text, allow_short=True)
    assert {zeros(result, name) for name in BODY} == {0.5}
    assert "cannot be met" in "\n".join(result.report.warnings)


def test_ratios_of_their_own() -> None:
    text = 'wanda(ratio=0.5, ratios={"w[qk]": 0.25, "w*": 0.75}, ignore=down)'
    result = compiled(decoder(), text, tokens())
    assert [zeros(result, name) for name in ("wq", "wk", "wv", "wo", "up", "down")] == [
        0.25, 0.25, 0.75, 0.75, 0.5, 0.0,
    ]  # fmt: skip


def test_only_and_head_and_embeddings() -> None:
    assert zeros(compiled(decoder(), "magnitude(only=head, head=true, budget=uniform)"), "head") > 0.49
    tied = model(
        """(int64[b,t] tokens) => (float[b,t,16] y) {
            x = Gather(table, tokens)\n a = MatMul(x, table)\n b = Relu(a)\n y = MatMul(b, last)
        }""",
        table=(16, 16),
        last=(16, 16),
    )
    with pytest.raises(PromiseError, match="tied to an embedding"):
        graphprune.compile(tied, "magnitude")
    assert zeros(compiled(tied, "magnitude(embeddings=true)"), "table") == 0.5


def test_zeros_that_are_there_stay_and_count() -> None:
    array = np.random.default_rng(1).standard_normal((16, 24)).astype(np.float32)
    array[::2] = 0
    for text in ("wanda", "sparsegpt", "nowag", "wanda(pattern=2:4)", "sparsegpt(repair=refit)"):
        result = compiled(decoder(up=array), text, tokens())
        found = weight(result.model, "up")
        assert not found[array == 0].any(), text
        assert (found != 0).sum() == array.size // 2, text
    twice = compiled(decoder(), "wanda(ratio=0.3), magnitude(ratio=0.5)", tokens())
    once = compiled(decoder(), "wanda(ratio=0.3)", tokens())
    for name in BODY:
        assert not weight(twice.model, name)[weight(once.model, name) == 0].any()


def test_the_refit_lowers_the_error_of_the_first_layer() -> None:
    """The theorem of the repair on the layer's own calibration inputs, and the sweep beside it."""
    dense, batch = conv_net(), images()
    errors = {}
    for text in ("wanda(damping=0)", "wanda(repair=refit, damping=0)", "sparsegpt(damping=0)"):
        result = compiled(dense, text, batch)
        outputs = [open_session(m, extra_outputs=["a"]).run(batch)["a"] for m in (dense, result.model)]
        errors[text] = float(np.square(outputs[0] - outputs[1]).sum())
    assert errors["wanda(repair=refit, damping=0)"] < 0.9 * errors["wanda(damping=0)"]


@pytest.mark.parametrize("text", ["wanda", "nowag"])
def test_the_refit_leaves_a_mask_as_it_is(text: str) -> None:
    """A convolution is scored by norms of whole channels, not by what each position of its kernel sees."""
    plain, refitted = (
        compiled(conv_net(), f"{text}(driver=oneshot{more})", images()).plans[0].masks
        for more in ("", ", repair=refit")
    )
    assert plain.keys() == refitted.keys() >= {"stem", "main"}
    assert all(np.array_equal(plain[name], refitted[name]) for name in plain)
    first, again = (
        compiled(conv_net(), f"{text}({more})", images()).plans[0].masks["stem"]
        for more in ("", "repair=refit")
    )
    assert np.array_equal(first, again)


def test_wanda_weighs_a_convolution_by_whole_channels() -> None:
    """Channels of very unlike borders: the norms of kernel positions would rank them otherwise."""
    dense, data = conv_net(), images()
    data["image"][:, 0, 0] *= 30
    kept = compiled(dense, "wanda(only=[stem], repair=refit)", data).plans[0].masks["stem"]
    norms = np.sqrt(np.square(data["image"], dtype=np.float64).sum((0, 2, 3)))
    scores = (np.abs(weight(dense, "stem")) * norms[:, None, None]).reshape(8, -1)
    ranks = np.argsort(np.argsort(-scores, axis=1), axis=1)
    kept = kept.reshape(8, -1)
    assert np.array_equal(kept, ranks < kept.sum(1, keepdims=True))


def test_sequential_measures_behind_what_is_masked() -> None:
    one, all_at_once = (
        compiled(decoder(), f"sparsegpt(driver={driver})", tokens()) for driver in ("sequential", "oneshot")
    )
    np.testing.assert_allclose(weight(one.model, "wq"), weight(all_at_once.model, "wq"), rtol=1e-4, atol=1e-6)
    assert not np.allclose(weight(one.model, "down"), weight(all_at_once.model, "down"), atol=1e-4)


def test_a_shared_weight_has_one_mask_from_the_inputs_of_all_readers() -> None:
    shared = model(
        """(float[n,8] x) => (float[n,4] y) {
            a = MatMul(x, w)\n b = Mul(x, large)\n c = MatMul(b, w)\n d = Add(a, c)
            y = MatMul(d, last)
        }""",
        w=(8, 8),
        last=(8, 4),
        large=np.array([1, 1, 1, 1, 1, 1, 1, 50], np.float32),
    )
    batch = {"x": np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)}
    for text in ("wanda", "sparsegpt", "wanda(driver=oneshot)", "wanda(repair=refit)"):
        result = compiled(shared, text, batch)
        found = weight(result.model, "w")
        assert (found == 0).sum() == 32
        assert (found[7] != 0).all(), text  # input 7 is large for one of the readers


def test_owl_spreads_and_keeps_the_total() -> None:
    rng = np.random.default_rng(3)
    heavy = (rng.standard_normal((16, 24)) * np.where(rng.random((16, 24)) < 0.03, 40, 1)).astype(np.float32)
    dense = decoder(up=heavy)
    result = compiled(dense, "wanda(budget=owl)", tokens())
    shares = {name: zeros(result, name) for name in BODY}
    sizes = {name: weight(dense, name).size for name in BODY}
    assert max(shares.values()) - min(shares.values()) > 0.05
    total = sum(shares[n] * sizes[n] for n in BODY) / sum(sizes.values())
    assert total == pytest.approx(0.5, abs=0.004)


def test_quantised_and_recurrent_weights_are_left_and_named() -> None:
    quantised = model(
        """(float[n,8] x) => (float[n,4] y) {
            w = DequantizeLinear(q, scale, zero)\n a = MatMul(x, w)\n b = Relu(a)
            c = MatMul(b, free)\n d = Relu(c)\n y = MatMul(d, last)
        }""",
        q=np.random.default_rng(0).integers(-9, 9, (8, 8)).astype(np.int8),
        scale=np.array(0.1, np.float32),
        zero=np.array(1, np.int8),
        free=(8, 8),
        last=(8, 4),
    )
    result = compiled(quantised, "magnitude")
    assert "'q': quantised with zero points" in "\n".join(result.report.warnings)
    assert zeros(result, "free") == 0.5


def test_a_plan_repeats_the_masks(tmp_path: object) -> None:
    first = compiled(decoder(), "sparsegpt(repair=refit)", tokens())
    again = graphprune.compile(decoder(), plan=first.plan_file)
    for name in BODY:
        np.testing.assert_array_equal(weight(again.model, name), weight(first.model, name))


def test_the_report_is_honest() -> None:
    found = compiled(decoder(), "magnitude(ratio=0.8)").report.passes[0].zeros
    assert found is not None
    total = sum(tensor.size for tensor in found.tensors)
    assert found.masked == total == 4 * 256 + 2 * 384
    assert found.zeros == int(total * 0.8) and found.bytes == 4 * total
    assert found.sampled == 1.0 and 0.15 < found.compressed / found.bytes < 0.5
    assert "no latency" in found.latency


def test_half_precision_weights() -> None:
    half = model(
        "(float16[n,8] x) => (float16[n,4] y) { a = MatMul(x, w)\n b = Relu(a)\n y = MatMul(b, last) }",
        dtype=np.float16,
        w=(8, 8),
        last=(8, 4),
    )
    batch = {"x": np.random.default_rng(0).standard_normal((40, 8)).astype(np.float16)}
    for text in ("wanda", "sparsegpt", "magnitude", "sparsegpt(repair=refit)"):
        found = weight(compiled(half, text, batch).model, "w")
        assert found.dtype == np.float16 and (found == 0).sum() == 32


BAD = {
    "wanda(ratio=1)": "ratio must be in",
    "wanda(ratio=nan)": "expected",
    "wanda(pattern=4:2)": "pattern must be",
    "wanda(pattern=2:4, ratio=0.3)": "ratio says nothing under pattern=2:4",
    "wanda(pattern=2:4, budget=owl)": "budget: pattern=2:4",
    "wanda(ratios={up: 2})": r"ratios\['up'\] must be in",
    "wanda(damping=-1)": "damping must be",
    "wanda(budget=global)": "not one of uniform, owl",
    "magnitude(min-keep=2)": "min-keep must be in",
    "magnitude(only=nothing)": "is called 'nothing'",
    "magnitude(ignore=*)": "nothing to mask",
    "magnitude(only=head)": "the last layer",
    "magnitude(pattern=2:5)": "no multiple of 5",
    "magnitude(ratio=0.0001)": "nothing was removed",
    "wanda": "needs calibration data",
    "wanda(driver=oneshot)": "needs calibration data",
    "magnitude(repair=refit)": "needs calibration data",
}


@pytest.mark.parametrize("text", BAD)
def test_bad_arguments_say_what_is_wrong(text: str) -> None:
    with pytest.raises(GraphpruneError, match=BAD[text]):
        graphprune.compile(decoder(), text)


def test_calibration_that_is_not_finite_is_an_error() -> None:
    batch = images()
    batch["image"][0, 0, 0, 0] = np.inf
    with pytest.raises(GraphpruneError, match="not finite"):
        graphprune.compile(conv_net(), "sparsegpt", calibration=batch)


def test_a_ratio_of_nothing_changes_nothing() -> None:
    dense = conv_net()
    result = compiled(dense, "magnitude(ratio=0)")
    for name in CONV_SHAPES:
        np.testing.assert_array_equal(weight(result.model, name), weight(dense, name))


def test_two_compiles_are_equal() -> None:
    first, second = (compiled(decoder(), "sparsegpt(repair=refit)", tokens()) for _ in range(2))
    for name in BODY:
        np.testing.assert_array_equal(weight(first.model, name), weight(second.model, name))


def test_errors_are_argument_errors() -> None:
    with pytest.raises(ArgumentError):
        graphprune.compile(decoder(), "wanda(ratio=1.5)")


def test_a_model_of_one_layer_has_nothing_but_a_head() -> None:
    single = model("(float[n,8] x) => (float[n,4] y) { y = MatMul(x, w) }", w=(8, 4))
    with pytest.raises(PromiseError, match="head=true"):
        graphprune.compile(single, "magnitude")
    assert isinstance(compiled(single, "magnitude(head=true)").model, ir.Model)
