"""A search on a cluster is the search on one machine, also where workers die."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphprune.errors import ArgumentError
from graphprune.tuning import engine
from graphprune.tuning.sent import make, sent
from graphprune.tuning.trial import QUICK, Asked

from .conftest import Make


def test_a_worker_makes_what_this_process_makes(search: Make) -> None:
    """Without a cluster: what is sent is enough to make the same bytes."""
    local = search(3, "local.onnx", keep_all=True)
    trials = list(local)
    parcel = sent(local.study)
    for trial in trials[1:]:
        made = make(parcel, (trial.number, trial.asked))
        assert made.trial.loss == trial.loss
        assert made.files["local.onnx"] == local.study.place.candidate(trial.number).read_bytes()
    failed = make(parcel, (9, Asked("experts", 0.5, QUICK)))
    assert failed.trial.why
    assert failed.files == {}


def test_without_ray_the_line_that_installs_it_is_said(search: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ArgumentError, match="needs Ray") as known:
        search(1, engine="ray").finish()
    assert "pip install" in known.value.hint


def test_an_address_is_of_a_cluster() -> None:
    with pytest.raises(ArgumentError, match="--address is of a Ray cluster"):
        engine.engine("local", "10.0.0.1:6379", lambda done, total, what: None)


@pytest.fixture
def cluster() -> Iterator[str]:
    """Two nodes on this machine."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    root = Path(__file__).parents[2]
    os.environ["PYTHONPATH"] = f"{root}{os.pathsep}{root / 'passes'}"
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    made.add_node(num_cpus=1)
    yield made.address
    made.shutdown()


@pytest.mark.full
def test_a_worker_that_is_killed_loses_nothing(search: Make, cluster: str) -> None:
    search(1, "zero.onnx").finish()
    alone = [trial.asked for trial in search(6, "alone.onnx", batch=4, profile="zero.tune/profile.json")]
    victims: list[int] = []
    killer = threading.Thread(target=kill_a_worker, args=(victims,))
    killer.start()
    made = search(6, "many.onnx", batch=4, engine="ray", address=cluster, profile="zero.tune/profile.json")
    trials = list(made)
    killer.join()
    assert victims
    assert [trial.asked for trial in trials] == alone
    assert all(trial.made for trial in trials)


def kill_a_worker(victims: list[int]) -> None:
    """The first process that makes a candidate."""
    end = time.monotonic() + 120
    while time.monotonic() < end and not victims:
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if words.startswith(b"ray::make"):
                victims.append(int(folder.name))
                os.kill(victims[0], signal.SIGKILL)
                return
        time.sleep(0.02)
