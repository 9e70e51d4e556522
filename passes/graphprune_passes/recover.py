"""Recover: train what is left of a model towards what the dense model says, on unlabelled samples."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar

from graphprune.errors import ArgumentError
from graphprune.pipeline.durations import Durations, seconds
from graphprune.pipeline.passes import Context, Pass, Subject, Turn, argument
from graphprune.prune.plan import Plan


@dataclass(frozen=True)
class Recover(Pass):
    """Trains the weights that are left, without labels: what the dense model says to the samples is the aim.

    The result is never worse than what went in: where an output would be on samples that the training did not
    see, nothing is changed. A training by `time` says how many steps it took, and `steps` repeats it.
    """

    name: ClassVar[str] = "recover"
    turn: ClassVar[Turn | None] = "recover"
    learns: ClassVar[bool] = True

    time: float | Annotated[str, Durations()] = argument("3m", "how long to train: seconds, or 90s, 3m, 1h")
    steps: int | None = argument(None, "steps of the optimiser in place of a time")
    batch: int | None = argument(None, "samples of a step (default: found by a short test)")
    rate: float | None = argument(None, "largest learning rate (default: found by a short test)")
    rank: int = argument(0, "change large matrices by a product of this rank only; 0: all their weights")

    flip: bool = argument(
        False, "also mirror pictures left to right, where that makes pictures that may come"
    )
    mix: bool = argument(True, "train on mixtures of two samples, where samples may be mixed")
    match: bool = argument(False, "also compare the results of layers that lost inputs and kept their width")
    labels: str | None = argument(
        None, "file with the class of each calibration sample, which is then learned beside the dense model"
    )
    loss: str | None = field(
        default=None,
        metadata={"help": "a loss of your own, as module:function of both models' outputs", "code": True},
    )

    def __post_init__(self) -> None:
        seconds("time", self.time)
        for name, value in (("steps", self.steps), ("batch", self.batch)):
            if value is not None and value < 1:
                raise ArgumentError(f"{name} must be at least 1, got {value}")
        if self.rate is not None and not 0 < self.rate < 1:
            raise ArgumentError(f"rate must be in (0, 1), got {self.rate}")
        if self.rank < 0:
            raise ArgumentError(f"rank must be at least 0, got {self.rank}")

    @property
    def needs_torch(self) -> str:
        """The training."""
        return self.name

    def decide(self, subject: Subject, context: Context) -> Plan:
        """Train, and keep what is no worse on samples that the training did not see."""
        from graphprune.pipeline.recovering import Recovering, recovered

        context.require_calibration("recover")
        asked = Recovering(
            text=str(self),
            seconds=seconds("time", self.time),
            steps=self.steps,
            batch=self.batch,
            rate=self.rate,
            rank=self.rank,
            labels=self.labels,
            loss=self.loss,
            flip=self.flip,
            match=self.match,
            mix=self.mix,
        )
        plan, report = recovered(asked, subject, context)
        context.recovered(report)
        context.settle(replace(self, steps=report.steps, batch=report.batch, rate=report.rate))
        return plan
