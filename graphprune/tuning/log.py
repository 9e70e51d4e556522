"""The study on disk: a line per told candidate, whole or not there, so that a killed search goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from graphprune.document import Document
from graphprune.errors import ArgumentError, OutputError
from graphprune.ir.names import quote
from graphprune.ir.publish import unwritable
from graphprune.tuning.trial import Trial, trial

NAME = "trials.jsonl"
FORMAT = 1


@dataclass(frozen=True)
class Log:
    """Trials in a file.

    Attributes:
        folder: of the study.
        about: what the study is of; another one is refused.
    """

    folder: Path
    about: Mapping[str, str]

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / NAME

    def start(self) -> None:
        """A new file.

        Raises:
            OutputError: it cannot be written.
        """
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(self.path, error) from None
        self._append({"format": FORMAT, "of": dict(self.about)})

    def add(self, found: Trial) -> None:
        """One more line, on disk when this returns.

        Raises:
            OutputError: it cannot be written.
        """
        self._append(found.to_json())

    def read(self) -> tuple[Trial, ...]:
        """What was told; a last line that was cut off is dropped.

        Raises:
            ArgumentError: it is of another model, data or goal, or damaged.
        """
        lines = self._lines()
        if not lines:
            return ()
        head = Document(lines[0], quote(str(self.path)))
        if head.one("format", int) != FORMAT:
            raise head.wrong(f"is no study of format {FORMAT}", "start a new one: leave --resume out")
        told = head.part("of").content
        other = [name for name, said in self.about.items() if told.get(name) != said]
        if other:
            raise ArgumentError(
                f"the study in {quote(str(self.folder))} has another {' and '.join(other)}",
                "give what it was started with, or start a new one: --force without --resume",
            )
        return tuple(trial(Document(line, quote(str(self.path)))) for line in lines[1:])

    def _lines(self) -> list[dict[str, object]]:
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise OutputError(
                f"there is no study in {quote(str(self.folder))} to go on with: {error.strerror}",
                "leave --resume out",
            ) from None
        whole = data.rfind(b"\n") + 1
        if whole < len(data):  # cut off by a kill
            with self.path.open("r+b") as file:
                file.truncate(whole)
        found = []
        for number, line in enumerate(data[:whole].splitlines(), 1):
            content = None
            with suppress(ValueError, RecursionError):
                content = json.loads(line)
            if not isinstance(content, dict):
                raise ArgumentError(f"line {number} of {quote(str(self.path))} is damaged")
            found.append(content)
        return found

    def _append(self, content: object) -> None:
        try:
            with self.path.open("ab") as file:
                file.write(json.dumps(content).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise unwritable(self.path, error) from None
