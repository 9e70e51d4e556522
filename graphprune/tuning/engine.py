"""Where work is done: in this process, or by the workers of a Ray cluster; results come in their order."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from graphprune.errors import ArgumentError

if TYPE_CHECKING:
    from graphprune.run import Progress

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")
INSTALL = 'pip install "graphprune[ray]"'
LOOK = 0.2
"""Seconds between two looks at whether the answer is due."""
RETRIES = 5
"""How often a piece of work is done again where its worker died."""


class Engine(Protocol):
    """Does pieces of work that share something large."""

    def map(self, work: Callable[[S, T], R], shared: S, items: Sequence[T]) -> Iterator[R]:
        """What comes of each item, in their order.

        Args:
            work: a function of a module.
            shared: what all of it needs; sent once.
            items: one per piece.
        """
        ...

    def close(self) -> None:
        """Gives back what it held."""
        ...


class Local:
    """Does all work here, a piece when its result is asked for."""

    def map(self, work: Callable[[S, T], R], shared: S, items: Sequence[T]) -> Iterator[R]:
        """One after the other."""
        return (work(shared, item) for item in items)

    def close(self) -> None:
        """There is nothing to give back."""


class Cluster:
    """Hands pieces to the workers of a Ray cluster, which are trusted; what a dead one had is done again.

    Args:
        address: of the cluster; empty starts one on this machine.
        progress: told while workers work; what it raises ends that.

    Raises:
        ArgumentError: Ray is not installed, or there is no cluster at the address.
    """

    def __init__(self, address: str, progress: Progress) -> None:
        if importlib.util.find_spec("ray") is None:
            raise ArgumentError("--engine ray needs Ray, which is not installed", INSTALL)
        import ray

        self._progress = progress
        self._mine = not ray.is_initialized()
        self._sent: tuple[object, object] | None = None
        if self._mine:
            try:
                ray.init(address or None, log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, ValueError, RuntimeError) as error:
                reason = str(error).splitlines()[0]
                raise ArgumentError(f"no Ray cluster at '{address}': {reason}", "ray start --head") from None

    def map(self, work: Callable[[S, T], R], shared: S, items: Sequence[T]) -> Iterator[R]:
        """All at once; results as they are due."""
        import ray

        if self._sent is None or self._sent[0] is not shared:
            self._sent = shared, ray.put(shared)
        task: Any = ray.remote(work).options(max_retries=RETRIES)  # which is typed by the arguments of work
        references = [task.remote(self._sent[1], item) for item in items]
        try:
            for number, reference in enumerate(references):
                while not ray.wait([reference], timeout=LOOK)[0]:
                    self._progress(number, len(items), "workers")
                yield ray.get(reference)
        finally:
            for reference in references:
                ray.cancel(reference, force=False)

    def close(self) -> None:
        """Leaves a cluster that it joined."""
        import ray

        if self._mine:
            ray.shutdown()


def engine(name: str, address: str, progress: Progress) -> Engine:
    """An engine by its name.

    Raises:
        ArgumentError: Ray is not installed, or there is no cluster at the address.
    """
    if name != "ray" and address:
        raise ArgumentError("--address is of a Ray cluster", "say --engine ray")
    return Cluster(address, progress) if name == "ray" else Local()
