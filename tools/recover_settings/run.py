"""Trains cuts of models under one setting after the other, and says what each won back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx_ir as ir

import graphprune
from graphprune.autograd.training.begin import begin
from graphprune.autograd.training.lesson import Lesson
from graphprune.autograd.training.pace import find_pace
from graphprune.autograd.training.progress import Checkpoint
from graphprune.autograd.training.setting import Asked, Pace
from graphprune.autograd.training.train import threads, train
from graphprune.axes.goals import find_goals
from graphprune.axes.outputs import Judged, judged
from graphprune.ir.normalise import normalise
from graphprune.ops import record_of
from graphprune.pipeline.recovering import with_weights
from graphprune.run import Run
from graphprune.runtime.data import batches, layout
from graphprune.runtime.drop import Tally
from graphprune.runtime.session import open_session
from tools.accuracy.run import calibration_file, headline
from tools.real_models.workload import Workload

from .results import Row, read
from .settings import Setting

TRAINED, CHOSEN, MORE = 256, 384, 320
"""Where the samples to train on and those to choose by end; where the former end if there are more."""
LEFT = (0.5, 0.4, 0.3, 0.22, 0.16, 0.11, 0.07)
"""Shares of the multiply-adds that are tried, until a cut loses `LOST`."""
LOST = 0.03
Feeds = Sequence[dict[str, np.ndarray]]


@dataclass(frozen=True)
class Bench:
    """A model, its cut, and samples in three parts.

    Args:
        workload: the model and its task.
        cache: a folder for cuts.
        seconds: of CPU that the usual setting trains, which says how many samples every setting trains.
    """

    workload: Workload
    cache: Path
    seconds: float

    @cached_property
    def dense(self) -> ir.Model:
        """The model as given, normalised."""
        model = ir.load(self.workload.fetch(self.cache))
        normalise(model, record_of)
        return model

    @cached_property
    def feeds(self) -> Feeds:
        """All samples, in an order of their own."""
        found = [*batches(self._arrays, self.dense, 1)]
        order = np.random.default_rng(0).permutation(len(found))
        return [found[at] for at in order]

    @cached_property
    def _arrays(self) -> dict[str, np.ndarray]:
        with np.load(calibration_file(self.workload, self.cache)) as file:
            return dict(file)

    @cached_property
    def outputs(self) -> tuple[Judged, ...]:
        """How they are judged."""
        return judged(self.dense)

    @cached_property
    def cut(self) -> tuple[float, ir.Model]:
        """The mildest cut that loses enough, repaired on the samples that train."""
        held = sorted(self._folder.glob(f"{self.workload.name}-0*.onnx"))
        if held:
            return float(held[0].stem.rpartition("-")[2]), self._read(held[0])
        samples = self.feeds[:TRAINED]
        given = {name: np.concatenate([feed[name] for feed in samples]) for name in samples[0]}
        for left in LEFT:
            model = graphprune.compile(
                self.workload.fetch(self.cache),
                f"obspa(macs={left}, allocate=local)",
                calibration=given,
                fix=self.workload.fixed,
                allow_short=True,
                bench=False,
                lower=False,
                timeout=1200,
            ).model
            if self.drop(model, self.feeds[TRAINED:CHOSEN]) > LOST or left == LEFT[-1]:
                break
        path = self._folder / f"{self.workload.name}-{left}.onnx"
        ir.save(model, path)
        return left, self._read(path)

    @property
    def _folder(self) -> Path:
        folder = self.cache / "recover-settings"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _read(self, path: Path) -> ir.Model:
        model = ir.load(path)
        normalise(model, record_of)
        return model

    def drop(self, model: ir.Model, feeds: Feeds) -> float:
        """Of the worst output."""
        dense, small = open_session(self.dense), open_session(model)
        tallies = [Tally(each) for each in self.outputs]
        for feed in feeds:
            answers = [session.run(feed, None) for session in (dense, small)]
            for tally in tallies:
                tally.add(*(answer[tally.judged.name] for answer in answers))
        found = [tally.drop().drop for tally in tallies]
        return max(each.value for each in found if each is not None)

    def metric(self, model: ir.Model) -> float:
        """Of the task."""
        path = self._folder / f".{self.workload.name}.onnx"
        ir.save(model, path)
        return headline(self.workload.evaluate(path, None))

    def lesson(self, setting: Setting, seed: int) -> Lesson:
        """The cut, ready to be trained."""
        small = self.cut[1]
        held = layout(self._arrays, self.dense)
        last = MORE if setting.more else TRAINED
        return begin(
            dense=self.dense,
            model=small,
            goals=find_goals(small, self.outputs),
            samples=self.feeds[:last],
            selection=self.feeds[last:CHOSEN],
            axes={} if held.stacked else dict(held.axes),
            narrow=dict,
            rank=0,
            run=Run(seed=seed),
            matches=setting.matches,
        )

    @cached_property
    def pace(self) -> Pace:
        """Batch and rate of the range test, and so many steps as the time has room for; found once."""
        path = self._folder / f"{self.workload.name}.json"
        if not path.exists():
            lesson = self.lesson(Setting(), 0)
            with threads(1):
                found = find_pace(lesson, Asked(60, steps=1), lambda: 0.0)
                optimiser = lesson.optimiser(0.0)
                start, count = time.process_time(), 12
                for number in range(count):
                    lesson.step(optimiser, found.batch, 1000 + number)
                each = (time.process_time() - start) / count
            path.write_text(json.dumps([found.batch, found.rate, each]))
        batch, rate, each = json.loads(path.read_text())
        return Pace(max(24, int(self.seconds / each)), batch, rate)

    @cached_property
    def before(self) -> tuple[float, float, float, float]:
        """Drops of the cut on both parts, the metric of the dense model and of the cut."""
        path = self._folder / f"{self.workload.name}-before.json"
        if not path.exists():
            model = self.cut[1]
            drops = [self.drop(model, part) for part in (self.feeds[TRAINED:CHOSEN], self.feeds[CHOSEN:])]
            path.write_text(json.dumps([*drops, self.metric(self.dense), self.metric(model)]))
        chosen, unseen, dense, cut = json.loads(path.read_text())
        return chosen, unseen, dense, cut

    def row(self, name: str, setting: Setting, seed: int) -> Row:
        """What a training came to."""
        start, pace = time.process_time(), self.pace
        lesson = self.lesson(setting, seed)
        begun = time.process_time() - start
        asked = Asked(0.0, pace.steps, pace.batch, pace.rate * setting.rate)
        with setting.held(lesson):
            found = train(lesson, asked, Run(seed=seed, jobs=1), Checkpoint())
        seconds = time.process_time() - start - begun
        model = with_weights(self.cut[1], found.weights)
        chosen, unseen, dense, cut = self.before
        after = [self.drop(model, part) for part in (self.feeds[TRAINED:CHOSEN], self.feeds[CHOSEN:])]
        losses = found.curve[0].selection, min(point.selection for point in found.curve)
        return Row(
            self.workload.name,
            self.cut[0],
            name,
            seed,
            pace.steps,
            pace.batch,
            asked.rate or 0.0,
            seconds,
            begun,
            losses,
            (chosen, after[0]),
            (unseen, after[1]),
            (dense, cut, self.metric(model)),
        )


def run(
    benches: Sequence[Bench], settings: dict[str, Setting], seeds: Sequence[int], path: Path
) -> Iterator[Row]:
    """Rows that are missing, one model after the other for each setting; each is kept at once."""
    for seed in seeds:
        for name, setting in settings.items():
            for bench in benches:
                if (bench.workload.name, name, seed) in {(r.net, r.setting, r.seed) for r in read(path)}:
                    continue
                row = bench.row(name, setting, seed)
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(row)) + "\n")
                yield row
