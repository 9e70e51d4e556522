"""What a session costs before it is fast: the time to load it, and its peak memory.

Each is measured in a process that does nothing else: what another session left in the allocator, or a library
that is already warm, would be in every figure after the first. The process hands back one line of JSON. It
does without what reads models, unless its model needs that, since importing it takes far longer than loading.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from graphprune.errors import GraphpruneError, ModelError
from graphprune.ir.names import quote
from graphprune.runtime.opening import LONGEST_SECONDS, session_options, utf8
from graphprune.runtime.providers import providers

RUNS = 3
"""Processes per model, in turn; the least time counts: whatever else the machine does only adds to it."""
START_SECONDS = 120.0
"""For a process to start, beside what a run of a model may take."""
_STATUS, _FORGET_PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Loaded:
    """A model file to load, with what it is run on once.

    Attributes:
        path: of the file.
        feeds: its inputs.
        threads: of ONNX Runtime.
        providers: that run it.
        timeout: seconds that the run may take.
    """

    path: Path
    feeds: Mapping[str, np.ndarray]
    threads: int
    providers: tuple[str, ...]
    timeout: float


@dataclass(frozen=True)
class Cost:
    """Seconds from a file to a session, and bytes of memory that it took at most to load and to run once.

    Memory is what became resident in the process, weights mapped from the file included; None where the
    system does not tell.
    """

    load_s: float
    peak_bytes: int | None


def costs(models: Sequence[Loaded]) -> tuple[Cost, ...]:
    """Measure every model in processes of its own.

    Raises:
        ModelError: a process failed.
    """
    rounds = [[_measured(model) for model in models] for _ in range(RUNS)]
    return tuple(
        Cost(min(each.load_s for each in found), max(each.peak_bytes or 0 for each in found) or None)
        for found in zip(*rounds, strict=True)
    )


def _measured(model: Loaded) -> Cost:
    command = [sys.executable, "-P", "-m", __name__]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(
            command,
            input=pickle.dumps(model),
            capture_output=True,
            env=environment,
            timeout=START_SECONDS + min(model.timeout, LONGEST_SECONDS),
            check=False,
        )
        told = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError) as error:
        reason = str(error) if isinstance(error, OSError | subprocess.TimeoutExpired) else "it ended early"
        raise ModelError(f"a process that loads {quote(str(model.path))} alone failed: {reason}") from error
    if "error" in told:
        raise ModelError(f"in a process of its own {quote(str(model.path))} failed: {told['error']}")
    return Cost(told["load_s"], told["peak_bytes"])


def _child(model: Loaded) -> dict[str, float | int | str | None]:
    """Load and run a model, as a process that was started for it."""
    providers(model.providers)  # a plug-in is registered once, for however many sessions
    with suppress(Exception):  # whatever it is, the other way handles it, or says it in a line
        return _taken(partial(_file, model))
    from graphprune.runtime.session import open_session

    def whole() -> Callable[[], object]:
        session = open_session(model.path, threads=model.threads, providers=model.providers)
        return partial(session.run, model.feeds, model.timeout)

    try:
        return _taken(whole)
    except GraphpruneError as error:
        return {"error": error.message}


def _file(model: Loaded) -> Callable[[], object]:
    """A session as `open_session` opens one of a file, without what reads models."""
    name = utf8(model.path)
    assert name is not None
    session = providers(model.providers).opened(name, session_options(model.threads))
    return partial(session.run, None, model.feeds)


def _taken(opened: Callable[[], Callable[[], object]]) -> dict[str, float | int | str | None]:
    """Seconds until there is a session, and memory until it ran."""
    with suppress(OSError):
        _FORGET_PEAK.write_text("5")
    before, start = _resident("VmRSS"), time.perf_counter()
    run = opened()
    seconds = time.perf_counter() - start
    run()
    peak = _resident("VmHWM")
    return {"load_s": seconds, "peak_bytes": None if peak is None or before is None else peak - before}


def _resident(what: str) -> int | None:
    """Bytes that this process holds (VmRSS) or held at most (VmHWM); None where there is no /proc."""
    try:
        found = re.search(rf"{what}:\s+(\d+) kB", _STATUS.read_text())
    except OSError:
        return _by_resource()
    return int(found[1]) * 1024 if found else None


def _by_resource() -> int | None:
    """The most that this process held; all there is on macOS, where it is in bytes."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    print(json.dumps(_child(pickle.load(sys.stdin.buffer))))
