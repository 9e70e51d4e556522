"""Give finished files their names: all or none, never over an input, and nothing left behind."""

from __future__ import annotations

import errno
import filecmp
import os
import secrets
import stat
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NoReturn

from graphprune.errors import OutputError
from graphprune.ir import journal
from graphprune.ir.journal import Identity
from graphprune.ir.names import quote
from graphprune.ir.paths import is_folder
from graphprune.ir.signals import interruptible, uninterrupted

COMPANION = len(".0123456789abcdef.data.new.0123456789abcdef")
"""How much longer than a model's name those beside it may be for a moment."""

Staged = tuple[Path | None, Path]
"""A finished file and the name it gets; None: whatever has this name goes."""


def refuse_unsafe(finals: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Check names before anything is written under them.

    Raises:
        OutputError: a name leads to an input or to something that is no regular file, has no folder, or is
            too long.
    """
    taken = {identity(path) for path in inputs} - {None}
    for final in finals:
        if not is_folder(final.parent):
            raise OutputError(f"there is no folder {quote(str(final.parent))}", "create it first")
        _require_short(final)
        if identity(final) in taken:
            raise OutputError(f"{quote(str(final))} is an input of this model", "choose another output name")
        # A link in place of a sidecar would be replaced; one in place of the model was resolved.
        if final.exists() and not stat.S_ISREG(final.stat().st_mode):
            raise OutputError(f"{quote(str(final))} exists and is not a regular file")


def _require_short(final: Path) -> None:
    """There must be room for the names that a file and its companions have for a moment."""
    try:
        limit = os.pathconf(final.parent, "PC_NAME_MAX")
    except OSError:
        return  # a system that does not tell
    excess = len(os.fsencode(final.name)) + COMPANION - limit
    if excess > 0:
        raise OutputError(f"the name {quote(final.name)} is {excess} bytes too long", "choose a shorter one")


def identity(path: Path) -> Identity | None:
    """What file a name leads to; None if to none."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


@contextmanager
def temporaries(finals: Iterable[Path]) -> Iterator[tuple[Path, ...]]:
    """Names beside the final ones that nobody else has, removed on the way out whatever happens."""
    token = secrets.token_hex(journal.TOKEN_BYTES)  # a process id would be another container's, too
    names = tuple(final.with_name(f"{final.name}.tmp.{token}") for final in finals)
    with interruptible():
        try:
            yield names
        finally:
            with uninterrupted():
                for name in names:
                    with suppress(OSError):  # what went wrong before is what there is to say
                        name.unlink(missing_ok=True)


@contextmanager
def create(path: Path) -> Iterator[BinaryIO]:
    """A new file that is on disk when the block ends; nothing that waits under its name is followed."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o666), "wb", buffering=2**20) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def publish(
    model: tuple[Path, Path],
    beside: Sequence[Staged] = (),
    *,
    overwrite: bool,
    inputs: Collection[Identity] = (),
) -> None:
    """Give a model and what belongs to it their names; the model's is the last, and with it the set is there.

    Whatever call fails, all old files are whole and under their names again. A process that is killed leaves
    the old set or the new one, part of it perhaps under names of `journal`, which the next call settles.

    Args:
        model: the finished file and its name.
        beside: the same for the files that belong to it; weights are called after their content.
        overwrite: replace what is there; otherwise a file that exists by now stops this.
        inputs: files that are never removed, whatever belonged to the old model.

    Raises:
        OSError: a call failed; nothing changed.
        OutputError: a name is taken, or the way back failed as well; it says where the old files are.
    """
    finals = [final for _, final in (model, *beside)]
    with journal.locked(final.parent for final in finals), uninterrupted():
        journal.recover(model[1], finals, inputs)
        _Publishing(model, beside, overwrite).run(inputs)


def settle(model: Path, beside: Sequence[Path], inputs: Iterable[Path]) -> None:
    """Restore or remove what a killed process left of these files.

    Raises:
        OutputError: it cannot be done.
    """
    taken = {found for path in inputs if (found := identity(path)) is not None}
    try:
        with journal.locked(final.parent for final in (model, *beside)):
            journal.recover(model, beside, taken)
    except OSError as error:
        raise unwritable(model, error) from None


class _Publishing:
    """One set of files on its way to its names."""

    def __init__(self, model: tuple[Path, Path], beside: Sequence[Staged], overwrite: bool) -> None:
        self.token = secrets.token_hex(journal.TOKEN_BYTES)
        self.model = model[1]
        self.beside = tuple(final for _, final in beside)
        self.sources = {final: source for source, final in (model, *beside)}
        self.overwrite = overwrite
        self.staged = False
        self.claimed: list[Path] = []
        self.asides: list[Path] = []

    def run(self, inputs: Collection[Identity]) -> None:
        """All names, or none and the way back."""
        try:
            self._stage()
            if self.overwrite:
                self._set_aside(self.model)
            for final in self.beside:
                self._place(final)
            self._flush()
            self._name(self.model)
            self._flush()
        except BaseException as error:
            self._back(error)
            raise
        with suppress(OSError):  # the set is there; what is left over goes with the next one
            journal.sweep(self.model, self.beside, self.token, inputs)

    def _stage(self) -> None:
        """Every file takes its name of the journal, the model first, and the mode of what it replaces."""
        for final in (self.model, *self.beside):
            source = self.sources[final]
            if source is None:
                continue
            if self.overwrite:
                self._keep_mode(source, final)
            source.replace(journal.new_name(final, self.token))
            self.staged = True

    def _keep_mode(self, source: Path, final: Path) -> None:
        """Weights beside a private model are private, though no file had their name."""
        old = journal.status(final) or (journal.status(self.model) if journal.is_sidecar(final) else None)
        found = journal.status(source)
        if old is None or found is None or not stat.S_ISREG(old.st_mode):
            return
        if stat.S_IMODE(found.st_mode) != stat.S_IMODE(old.st_mode) & 0o777:
            source.chmod(stat.S_IMODE(old.st_mode) & 0o777)

    def _place(self, final: Path) -> None:
        """Name a file, or remove one that has no successor."""
        if self.sources[final] is not None and self._is_there(final):
            return
        if self.overwrite:
            self._set_aside(final)
        if self.sources[final] is not None:
            self._name(final)
        elif self.overwrite:
            final.unlink(missing_ok=True)
        elif journal.status(final) is not None:
            _taken(final)

    def _is_there(self, final: Path) -> bool:
        """Whether weights with this content, and so of this name, lie here already."""
        if not journal.is_sidecar(final):
            return False
        there = journal.status(final)
        new = journal.new_name(final, self.token)
        return there is not None and stat.S_ISREG(there.st_mode) and filecmp.cmp(new, final, shallow=False)

    def _set_aside(self, final: Path) -> None:
        """Give what is there a second name; where the system has no links, another one."""
        there = journal.status(final)
        if there is None:
            return
        if stat.S_ISDIR(there.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(final))
        old = journal.old_name(final, self.token)
        try:
            os.link(final, old, follow_symlinks=False)
        except OSError as error:
            if error.errno not in journal.NO_LINKS:
                raise
            final.rename(old)
        self.asides.append(old)

    def _name(self, final: Path) -> None:
        """Over what was set aside; otherwise only where nothing is."""
        new = journal.new_name(final, self.token)
        if journal.status(journal.old_name(final, self.token)) is not None:
            new.replace(final)
            return
        try:
            os.link(new, final)
        except FileExistsError:
            _taken(final)
        except OSError as error:
            if error.errno not in journal.NO_LINKS:
                raise
            self._claim(new, final)
            return
        if journal.is_sidecar(final):
            self._say_added(final)
            new.unlink()

    def _claim(self, new: Path, final: Path) -> None:
        """An empty file takes the name, as only that fails where one exists; the real one goes over it."""
        try:
            os.close(os.open(final, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            _taken(final)
        self.claimed.append(final)
        self._say_added(final)
        new.replace(final)

    def _say_added(self, final: Path) -> None:
        journal.add_name(final, self.token).touch(0o600, exist_ok=False)

    def _flush(self) -> None:
        for folder in dict.fromkeys(final.parent for final in (self.model, *self.beside)):
            _flush_folder(folder)

    def _back(self, error: BaseException) -> None:
        """All as it was, or a message that says where the old files are."""
        try:
            for final in self.claimed:  # the journal cannot tell these from others' files
                new = journal.new_name(final, self.token)
                if journal.status(new) is None:
                    final.replace(new)
                else:
                    final.unlink()
            if self.staged:
                journal.back(self.model, self.beside, self.token)
        except OSError as second:
            where = journal.where(self.asides)
            reason = f"{_reason(error)}; then the way back failed: {_reason(second)}"
            hint = f"the old files are whole: {where}" if where else "the old files are under their own names"
            raise OutputError(f"cannot write {quote(str(self.model))}: {reason}", hint) from error


def _taken(final: Path) -> NoReturn:
    raise OutputError(f"the output {quote(str(final))} exists by now", "--force replaces it")


def write_file(path: Path, data: bytes, inputs: Iterable[Path] = (), *, overwrite: bool = True) -> None:
    """Write one small file in whole or not at all.

    Raises:
        OutputError: it would overwrite an input, exists and may not be replaced, or cannot be written.
    """
    try:
        refuse_unsafe([path], inputs)
        with temporaries([path]) as (temporary,):
            with create(temporary) as file:
                file.write(data)
            publish((temporary, path), overwrite=overwrite)
    except OSError as error:
        raise unwritable(path, error) from None


def unwritable(path: Path, error: OSError) -> OutputError:
    """The operating system's reason in one line."""
    return OutputError(f"cannot write {quote(str(path))}: {_reason(error)}", "no output was changed")


def _reason(error: BaseException) -> str:
    return ((error.strerror if isinstance(error, OSError) else None) or str(error)).lower()


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
