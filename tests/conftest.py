"""What all tests share: times that are taken no longer than they say something, and minutes per folder."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator

import pytest

from graphprune.runtime import loading
from graphprune.runtime.latency import measure


@pytest.fixture(autouse=True)
def brief_times(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands measure half a second, and load once; tests of the measurement itself are marked `timed`."""
    if "timed" not in request.keywords:
        monkeypatch.setattr(loading, "RUNS", 1)
        brief = {"min_seconds": 0.0, "max_seconds": 0.5, "sample_seconds": 0.001}
        monkeypatch.setattr(measure, "__kwdefaults__", {**(measure.__kwdefaults__ or {}), **brief})


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a compile keeps for later ones is not the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def pytest_sessionstart() -> None:
    """Nothing of what is collected goes away, so nothing of it is looked at for circles of objects."""
    gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Where the time went, by folder; on several processes it adds up to more than the clock says."""
    spent: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                spent["/".join(report.nodeid.partition("::")[0].split("/")[:2])] += report.duration
    if spent.total() >= 30:
        parts = (f"{part} {seconds / 60:.1f}" for part, seconds in spent.most_common())
        terminalreporter.write_line(f"minutes: {spent.total() / 60:.1f}; {', '.join(parts)}")
