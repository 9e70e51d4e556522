"""A case in a form that travels: files as bytes, once for all candidates, and what a worker makes of it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from graphprune.errors import OutputError
from graphprune.ir.names import quote
from graphprune.ir.save import save
from graphprune.tuning.case import Case
from graphprune.tuning.evaluate import Evaluator, Place
from graphprune.tuning.here import Making, later, making
from graphprune.tuning.trial import Asked, Trial

if TYPE_CHECKING:
    from graphprune.tuning.study import Study

Files = Mapping[str, bytes]
MODEL = "model"
"""The folder of the model, and of what lies beside it."""


@dataclass(frozen=True)
class Sent:
    """What workers need.

    Attributes:
        files: by their place below a folder: the model, samples, the profile, labels.
        model: place of the model.
        name: of files of candidates.
        making: what candidates are made and judged by.
        key: a hash of all of it.
    """

    files: Files
    model: str
    name: str
    making: Making
    key: str


@dataclass(frozen=True)
class Made:
    """What a worker made: the trial, its latency not predicted yet, and its files by name."""

    trial: Trial
    files: Files = field(default_factory=dict)


def sent(study: Study) -> Sent:
    """A case as it travels."""
    case, place = study.case, study.place
    with TemporaryDirectory(prefix="graphprune") as made:
        folder = Path(made)
        model = _copied(case, folder)
        for what in ("repair", "few", "selection"):
            shutil.copytree(place.samples(what), folder / "samples" / what)
        shutil.copyfile(place.profile, folder / place.profile.name)
        found = making(study)
        if case.settings.labels is not None:
            labels = Path(case.settings.labels)
            shutil.copyfile(labels, folder / f"labels{labels.suffix}")
            found = found.labelled(f"labels{labels.suffix}")
        files = {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
    digest = hashlib.sha256(repr(found).encode())
    for name, content in files.items():
        digest.update(name.encode() + hashlib.sha256(content).digest())
    return Sent(files, model, place.name, found, digest.hexdigest())


def _copied(case: Case, folder: Path) -> str:
    """The model's files under their own names, as its bytes say where they come from."""
    source, home = case.source, folder / MODEL
    home.mkdir()
    if source.path is None:
        save(source.model, home / "model.onnx", None)
        return f"{MODEL}/model.onnx"
    for path in (source.path, *source.external_files):
        target = home / path.relative_to(source.path.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return f"{MODEL}/{source.path.name}"


@lru_cache(maxsize=1)
def _unpacked(key: str) -> TemporaryDirectory[str]:
    """A folder of a worker for one case."""
    return TemporaryDirectory(prefix="graphprune")


_EVALUATORS: dict[str, Evaluator] = {}
"""Of a worker: the one of the case that it works on."""


def _evaluator(given: Sent) -> Evaluator:
    if given.key not in _EVALUATORS:
        _EVALUATORS.clear()
        folder = Path(_unpacked(given.key).name)
        for name, content in given.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        found, labels = given.making, given.making.settings.labels
        if labels is not None:
            found = found.labelled(str(folder / labels))
        _EVALUATORS[given.key] = found.evaluator(folder / given.model, Place(folder, given.name))
    return _EVALUATORS[given.key]


def make(given: Sent, item: tuple[int, Asked]) -> Made:
    """One candidate, made by a worker."""
    number, asked = item
    evaluator = _evaluator(given)
    found = evaluator.trial(number, asked, later)
    home = evaluator.maker.place.candidate(number).parent
    files = {path.name: path.read_bytes() for path in sorted(home.iterdir())} if found.made else {}
    evaluator.maker.place.drop(number)
    return Made(found, files)


def unpack(made: Made, place: Place) -> None:
    """Puts the files of a candidate into a study.

    Raises:
        OutputError: a name leads elsewhere.
    """
    home = place.candidate(made.trial.number).parent
    for name, content in made.files.items():
        if Path(name).name != name:
            raise OutputError(f"a worker made a file called {quote(name)}", "trust no such worker")
        home.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(content)
