"""`graphprune calibrate`, from a pool to a compile that reads what was chosen."""

from __future__ import annotations

import json

import numpy as np
import pytest

import graphprune
from graphprune.errors import DataError


@pytest.fixture
def pool(folder):
    """Sixty pictures of three kinds, and one number that is none in another file."""
    rng = np.random.default_rng(0)
    kinds = rng.standard_normal((3, 3, 8, 8))[rng.integers(0, 3, 60)]
    images = (kinds + 0.4 * rng.standard_normal(kinds.shape)).astype(np.float32)
    np.savez(folder / "pool.npz", image=images)
    images[3, 0, 0, 0] = np.nan
    np.savez(folder / "nan.npz", image=images)
    np.savez(folder / "narrow.npz", image=images[:, :, :, :5])
    (folder / "text.npz").write_bytes(b"no archive")
    return folder


def test_random_samples_are_rows_of_the_pool(run, pool):
    outcome = run("calibrate", "model.onnx", "pool.npz", "-o", "c.npz", "--samples", "7")
    assert outcome.code == 0 and "wrote c.npz" in outcome.err
    with np.load(pool / "c.npz") as chosen, np.load(pool / "pool.npz") as whole:
        assert chosen.files == ["image"] and chosen["image"].shape == (7, 3, 8, 8)
        rows = {row.tobytes() for row in whole["image"]}
        assert all(row.tobytes() in rows for row in chosen["image"])


@pytest.mark.parametrize("mode", ["representative", "herding", "donod", "eu", "dbp"])
def test_a_choice_is_compared_with_ten_draws(run, pool, mode):
    outcome = run(
        "calibrate", "model.onnx", "pool.npz", "-o", "c.npz", "--samples", "12", "--select", mode,
        "--format", "json",
    )  # fmt: skip
    assert outcome.code == 0, outcome
    told = json.loads(outcome.out)
    assert told["samples"] == 12 == len(set(told["numbers"])) and told["files"] == ["c.npz"]
    assert len(told["moments"]["draws"]) == 10 and told["moments"]["error"] > 0
    assert "random draws" in told["moments"]["verdict"]
    with np.load(pool / "c.npz") as chosen, np.load(pool / "pool.npz") as whole:
        assert np.array_equal(chosen["image"], whole["image"][told["numbers"]])


def test_the_samples_are_what_a_compile_reads(run, pool):
    run("calibrate", "model.onnx", "pool.npz", "-o", "c.npz", "--samples", "9")
    passes = "prune(ratio=0.3, criterion=bn-scale, repair=none)"
    given = ("--calibration", "c.npz", "-o", "small.onnx", "--no-bench")
    outcome = run("compile", "model.onnx", "--passes", passes, *given)
    assert outcome.code == 0, outcome


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nan.npz",), "error: 'nan.npz': 'image' holds NaN"),
        (("narrow.npz",), "error: 'narrow.npz': 'image' has shape (60, 3, 8, 5)"),
        (("text.npz",), "error: cannot read 'text.npz'"),
        (("none",), "error: cannot read 'none': No such file"),
        (("model.onnx",), "error: 'model.onnx' is not a sample file"),
        (("pool.npz", "--window", "4"), "error: the input 'image' does not take token ids"),
        (("pool.npz", "--select", "rand"), "error: invalid value for '--select'"),
        (("pool.npz", "--samples", "0"), "error: --samples must be at least 1"),
        (("pool.npz", "--size", "0x3"), "error: --size '0x3'"),
        (("pool.npz", "--mean", "1,x"), "error: --mean '1,x'"),
        (("pool.npz", "--std", "0"), "error: std must be positive"),
    ],
)
def test_one_line_and_exit_2(run, pool, arguments, message):
    outcome = run("calibrate", "model.onnx", *arguments, "-o", "c.npz")
    assert outcome.code == 2 and outcome.err.startswith(message), outcome
    assert len(outcome.err.strip().splitlines()) <= 2 and "Traceback" not in outcome.err
    assert not (pool / "c.npz").exists()


def test_nothing_is_overwritten_unasked(run, pool):
    before = (pool / "pool.npz").read_bytes()
    assert "is an input" in run("calibrate", "model.onnx", "pool.npz", "-o", "pool.npz", "--force").err
    assert "no .npz" in run("calibrate", "model.onnx", "pool.npz", "-o", "c.onnx").err
    run("calibrate", "model.onnx", "pool.npz", "-o", "c.npz")
    assert "exists" in run("calibrate", "model.onnx", "pool.npz", "-o", "c.npz").err
    assert run("calibrate", "model.onnx", "pool.npz", "-o", "c.npz", "--force").code == 0
    assert (pool / "pool.npz").read_bytes() == before


def test_an_iterable_of_arrays_calibrates(pool):
    with np.load(pool / "pool.npz") as archive:
        images = archive["image"]
    pipeline = "prune(ratio=0.3, criterion=bn-scale, repair=none)"

    def kept(calibration):
        result = graphprune.compile(pool / "model.onnx", pipeline, calibration=calibration)
        return {group.id: group.kept for step in result.report.passes for group in step.groups}

    assert kept({"image": part} for part in np.split(images, 4)) == kept({"image": images})
    with pytest.raises(DataError, match="empty"):
        kept(iter(()))
    assert kept([images]) == kept(images) == kept({"image": images})
    with pytest.raises(DataError, match="has shape"):
        kept([{"image": images[:, :2]}])


def test_python_gives_the_samples_themselves(pool):
    chosen = graphprune.calibrate(pool / "model.onnx", pool / "pool.npz", samples=5, select="easy")
    assert chosen.arrays["image"].shape == (5, 3, 8, 8) and chosen.judgement is not None
    result = graphprune.compile(
        pool / "model.onnx", "prune(ratio=0.3, criterion=bn-scale, repair=none)", calibration=chosen.arrays
    )
    assert result.report.passes[0].proof.ok
