"""Optuna, which proposes where brackets are closed, and keeps the study for its own tools."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from graphprune.tuning.propose import FAILED, LEAST, MOST, SMALL
from graphprune.tuning.trial import FULL, Asked, History, Trial
from graphprune.tuning.ways import Way

if TYPE_CHECKING:
    import optuna

INSTALL = 'pip install "graphprune[tune]"'
TRIES = 8
"""Proposals in a row that were there before after which there is nothing new."""
STARTUP = 4
DIGITS = 3


def is_installed() -> bool:
    """Whether there is an Optuna."""
    return importlib.util.find_spec("optuna") is not None


def sampled(history: History, ways: Sequence[Way], count: int, seed: int) -> list[Asked]:
    """Candidates that a tree of Parzen estimators takes for good ones (Bergstra et al., 2011).

    It is made anew for each from the seed and the history, so that a study that was stopped goes on as it
    would have gone.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = _space(ways)
    asked: list[Asked] = []
    for attempt in range(count * TRIES):
        if len(asked) == count:
            break
        draw = seed * 7919 + len(history.trials) * 101 + attempt
        sampler = optuna.samplers.TPESampler(seed=draw % 2**32, n_startup_trials=STARTUP)
        study = optuna.create_study(sampler=sampler)
        study.add_trials([_frozen(history, each, space) for each in _own(history, ways)])
        found = study.ask(space).params
        each = Asked(str(found["way"]), round(float(found["left"]), DIGITS), FULL)
        if each not in asked and not history.has(each):
            asked.append(each)
    return asked


def keep(history: History, ways: Sequence[Way], file: Path) -> None:
    """The study as Optuna's own tools read it, such as its dashboard: what is missing there is added.

    Nobody else writes it, so that a lock on it is what a kill left. Optuna would wait for that forever.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space, own = _space(ways), _own(history, ways)
    with suppress(OSError):
        file.with_name(f"{file.name}.lock").unlink()
    try:
        study = _stored(file)
        if len(study.trials) > len(own):
            raise ValueError
    except Exception:  # what is there is a copy: one that was cut off, or is of another study, is made anew
        with suppress(OSError):
            file.unlink()
        study = _stored(file)
    study.add_trials([_frozen(history, each, space) for each in own[len(study.trials) :]])


def _stored(file: Path) -> optuna.Study:
    from optuna import create_study
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = JournalStorage(JournalFileBackend(str(file)))
    return create_study(study_name="graphprune", storage=storage, load_if_exists=True)


def _space(ways: Sequence[Way]) -> dict[str, optuna.distributions.BaseDistribution]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    names = tuple(way.name for way in ways)
    return {"way": CategoricalDistribution(names), "left": FloatDistribution(LEAST, MOST, log=True)}


def _own(history: History, ways: Sequence[Way]) -> list[Trial]:
    names = {way.name for way in ways}
    return [each for each in history.trials if each.asked.level == FULL and each.asked.way in names]


def _frozen(
    history: History, trial: Trial, space: dict[str, optuna.distributions.BaseDistribution]
) -> optuna.trial.FrozenTrial:
    from optuna.trial import create_trial

    left = min(MOST, max(LEAST, trial.asked.left))
    told = {"number": trial.number, "pipeline": trial.pipeline, "why": trial.why}
    if trial.loss is not None:
        told |= {"loss": trial.loss.value, "loss_error": trial.loss.error}
    return create_trial(
        params={"way": trial.asked.way, "left": left},
        distributions=space,
        value=_value(history, trial),
        user_attrs=told,
    )


def _value(history: History, trial: Trial) -> float:
    """The cost, and beyond the bound by how much it was broken."""
    if not trial.made or trial.loss is None:
        return 1 + FAILED
    beyond = math.log(max(trial.loss.cautious, SMALL) / max(history.bound, SMALL))
    return history.share(trial) + min(max(0.0, beyond), 1 / SMALL)
