"""The same bytes whatever a machine has: cores, jobs, threads of ONNX Runtime and of BLAS."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import graphprune
from graphprune.errors import ModelError
from graphprune.run import Run
from graphprune.runtime import session
from graphprune.runtime.jobs import one_blas_thread
from tests.safety.test_values import endless

DIGITS = Path("models/digits_cnn")
SETTINGS = ((1, 1, 1), (2, 3, 2))  # threads of BLAS before the compile, jobs, threads of ONNX Runtime


def batches(samples: int, size: int) -> list[dict[str, np.ndarray]]:
    images = np.load(DIGITS / "calibration.npz")["image"][:samples]
    return [{"image": images[start : start + size]} for start in range(0, samples, size)]


def blas() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.mark.parametrize("passes", ["obspa(macs=0.5)", "sparsegpt"])
def test_a_compile_writes_the_same_bytes(passes: str, tmp_path: Path) -> None:
    """Three jobs over five batches: the last ones come alone."""
    written = []
    for before, count, threads in SETTINGS:
        out = tmp_path / f"{count}.onnx"
        with threadpool_limits(before, "blas"):
            graphprune.compile(
                DIGITS / "model.onnx",
                passes,
                out,
                calibration=batches(20, 4),
                jobs=count,
                threads=threads,
            )
            assert blas() == {before}, "a library leaves the process as it was"
        written.append((out.read_bytes(), out.with_suffix(".plan.json").read_bytes()))
    assert written[0] == written[1]


def test_a_calibration_set_is_the_same(tmp_path: Path) -> None:
    chosen = []
    for before, count, _ in SETTINGS:
        out = tmp_path / f"{count}.npz"
        with threadpool_limits(before, "blas"):
            graphprune.calibrate(
                DIGITS / "model.onnx", batches(60, 60), out, samples=20, select="representative", jobs=count
            )
        chosen.append(out.read_bytes())
    assert chosen[0] == chosen[1]


def test_our_own_work_has_one_thread_of_blas() -> None:
    """What makes the sums the same, and 60 CPU seconds 13."""
    with threadpool_limits(2, "blas"):
        with one_blas_thread():
            assert blas() == {1}
        assert blas() == {2}


def test_runs_side_by_side_come_back_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three at most at a time, and never one that nobody waits for."""
    running: list[int] = []
    opened = session.open_session(DIGITS / "model.onnx")
    start = session._Run.__init__

    def counted(self: session._Run, call: object) -> None:
        running.append(1)
        start(self, call)  # type: ignore[arg-type]

    monkeypatch.setattr(session._Run, "__init__", counted)
    feeds = batches(14, 2)
    alone = [opened.run(feed) for feed in feeds]
    running.clear()
    found = []
    for number, outputs in enumerate(opened.run_each(feeds, Run(jobs=3))):
        assert len(running) == min(len(feeds), number + 3)
        found.append(outputs)
    assert all(np.array_equal(a[n], b[n]) for a, b in zip(alone, found, strict=True) for n in a)


def test_a_run_that_does_not_end_stops_those_beside_it() -> None:
    samples = [{"x": np.ones((2, 8), np.float32)}] * 4
    with pytest.raises(ModelError, match="still running"):
        graphprune.compile(endless(), "prune(criterion=bn-scale)", calibration=samples, timeout=0.5, jobs=3)
    assert not session.abandoned.is_set()
