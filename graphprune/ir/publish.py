"""Give finished files their names: all or none, never over an input, and nothing left behind."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from graphprune.errors import OutputError
from graphprune.ir.names import quote
from graphprune.ir.signals import interruptible, uninterrupted

Staged = tuple[Path | None, Path]
"""A finished file and the name it gets; None: whatever has this name goes."""


def refuse_unsafe(finals: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Check names before anything is written under them.

    Raises:
        OutputError: a name leads to an input or to something that is no regular file, or has no folder.
    """
    taken = {identity(path) for path in inputs} - {None}
    for final in finals:
        if not final.parent.is_dir():
            raise OutputError(f"there is no folder {quote(str(final.parent))}", "create it first")
        if identity(final) in taken:
            raise OutputError(f"{quote(str(final))} is an input of this model", "choose another output name")
        # A link in place of a sidecar would be replaced; one in place of the model was resolved.
        if final.exists() and not stat.S_ISREG(final.stat().st_mode):
            raise OutputError(f"{quote(str(final))} exists and is not a regular file")


def identity(path: Path) -> tuple[int, int] | None:
    """What file a name leads to; None if to none."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


@contextmanager
def temporaries(finals: Iterable[Path]) -> Iterator[tuple[Path, ...]]:
    """Names beside the final ones, removed on the way out whatever happens, signals included."""
    names = tuple(final.with_name(f"{final.name}.tmp.{os.getpid()}") for final in finals)
    with interruptible():
        try:
            yield names
        finally:
            with uninterrupted():
                for name in names:
                    name.unlink(missing_ok=True)


@contextmanager
def create(path: Path) -> Iterator[BinaryIO]:
    """A new file that is on disk when the block ends; a link that waits under its name is not followed."""
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o666), "wb", buffering=2**20) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def publish(model: tuple[Path, Path], beside: Sequence[Staged] = ()) -> None:
    """Rename the model and what belongs to it.

    A process may be killed between two renames. So an old model goes before anything beside it changes,
    and the new one comes last: whoever finds a model finds the files that belong to it.
    """
    temporary, final = model
    with uninterrupted():
        if beside:
            final.unlink(missing_ok=True)
        for source, name in beside:
            if source is None:
                name.unlink(missing_ok=True)
            else:
                source.replace(name)
        temporary.replace(final)
    _flush_folder(final.parent)


def write_file(path: Path, data: bytes, inputs: Iterable[Path] = ()) -> None:
    """Write one small file in whole or not at all.

    Raises:
        OutputError: it would overwrite an input, or cannot be written.
    """
    try:
        refuse_unsafe([path], inputs)
        with temporaries([path]) as (temporary,):
            with create(temporary) as file:
                file.write(data)
            publish((temporary, path))
    except OSError as error:
        raise unwritable(path, error) from None


def unwritable(path: Path, error: OSError) -> OutputError:
    """The operating system's reason in one line."""
    reason = (error.strerror or str(error)).lower()
    return OutputError(f"cannot write {quote(str(path))}: {reason}", "nothing was left behind")


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
