"""Second names of the files that are being put in place, and what they say after a process was killed.

While a set gets its names, `NAME.new.TOKEN` is the file that comes and `NAME.old.TOKEN` the one that was
there. An empty `NAME.add.TOKEN` says that nothing was, where a second link cannot: beside weights, which
readers refuse with several links, and where the system has none. The model's `.new.` is made before any other
of them; its rename (or link) to the model's name is the commit. So a set whose model still waits under
`.new.` goes back; any other stays and loses what it replaced.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from graphprune.ir.names import quote

Identity = tuple[int, int]

TOKEN_BYTES = 8
SIDECAR_DIGITS = 16
NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EXDEV, errno.ENOSYS, errno.EMLINK})
_NO_LOCKS = frozenset(
    {errno.ENOLCK, errno.EBADF, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
)
_ENTRY = re.compile(rf"(?P<name>.+)\.(?:new|old|add)\.(?P<token>[0-9a-f]{{{2 * TOKEN_BYTES}}})", re.DOTALL)
_SIDECAR = re.compile(rf"(?P<model>.+)\.[0-9a-f]{{{SIDECAR_DIGITS}}}\.data", re.DOTALL)


def new_name(final: Path, token: str) -> Path:
    """Where a finished file waits for its name."""
    return final.with_name(f"{final.name}.new.{token}")


def old_name(final: Path, token: str) -> Path:
    """Where the file that was there can be found until the new one is in place."""
    return final.with_name(f"{final.name}.old.{token}")


def add_name(final: Path, token: str) -> Path:
    """What says that a name was free."""
    return final.with_name(f"{final.name}.add.{token}")


def sidecar_name(model: Path, digest: str) -> Path:
    """Weights beside a model are called after their content, so no other model's can have their name."""
    return model.with_name(f"{model.name}.{digest[:SIDECAR_DIGITS]}.data")


def is_sidecar(path: Path, model: Path | None = None) -> bool:
    """Whether a name is one that `sidecar_name` gives, of this model if one is given."""
    found = _SIDECAR.fullmatch(path.name)
    return found is not None and (
        model is None or (found["model"], path.parent) == (model.name, model.parent)
    )


def status(path: Path) -> os.stat_result | None:
    """What lies under a name, links not followed; None if nothing does. Other failures are not an answer."""
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def same_file(first: Path, second: Path) -> bool:
    """Whether two names lead to one file that exists."""
    one, other = status(first), status(second)
    return one is not None and other is not None and os.path.samestat(one, other)


@contextmanager
def locked(folders: Iterable[Path]) -> Iterator[None]:
    """Keep other processes and threads from putting files in place here, where the system has locks."""
    held: dict[Identity, int] = {}
    try:
        for folder in folders:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            found = os.fstat(descriptor)
            if held.setdefault((found.st_dev, found.st_ino), descriptor) != descriptor:
                os.close(descriptor)
        for _, descriptor in sorted(held.items()):  # one order for all, or two could wait for each other
            _lock(descriptor)
        yield
    finally:
        for descriptor in held.values():
            os.close(descriptor)


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def recover(model: Path, finals: Iterable[Path], inputs: Collection[Identity]) -> None:
    """Finish what a killed process left of sets that hold one of these files: back, or away with the old.

    To be called under `locked`.

    Raises:
        OSError: a call failed; the next recovery goes on from there.
    """
    wanted = {model, *finals}
    entries: dict[str, set[Path]] = {}
    ours = set()
    for folder in dict.fromkeys(final.parent for final in wanted):
        for path in folder.iterdir():
            if found := _ENTRY.fullmatch(path.name):
                final = folder / found["name"]
                entries.setdefault(found["token"], set()).add(final)
                if final in wanted or is_sidecar(final, model):
                    ours.add(found["token"])
    for token in sorted(ours):
        others = sorted(entries[token] - {model})
        if committed(model, token):
            sweep(model, others, token, inputs)
        else:
            back(model, others, token)


def committed(model: Path, token: str) -> bool:
    """Whether the model of a set has its name."""
    waiting = new_name(model, token)
    return status(waiting) is None or same_file(waiting, model)


def back(model: Path, others: Iterable[Path], token: str) -> None:
    """Give every old file its name again and remove the new ones; the model is the last to go back.

    Raises:
        OSError: at the first call that fails; what was set aside stays where it is.
    """
    waiting = new_name(model, token)
    if status(waiting) is None:
        model.replace(waiting)  # taken back before anything else: from here on nothing is committed
    elif same_file(waiting, model):
        model.unlink()
    for final in (*others, model):
        new, old, add = (name(final, token) for name in (new_name, old_name, add_name))
        if same_file(new, final) or status(add) is not None:
            final.unlink(missing_ok=True)
        if same_file(old, final):
            old.unlink()  # renaming one name of a file to another of its names does nothing
        elif status(old) is not None:
            old.replace(final)
        for path in (add, new):
            path.unlink(missing_ok=True)


def sweep(model: Path, others: Iterable[Path], token: str, inputs: Collection[Identity]) -> None:
    """Remove what a committed set replaced, weights that only the old model named among it.

    Raises:
        OSError: at the first call that fails.
    """
    for path in _superseded(model, old_name(model, token), inputs):
        path.unlink(missing_ok=True)
    for final in (*others, model):
        for name in (new_name, add_name, old_name):
            name(final, token).unlink(missing_ok=True)


def _superseded(model: Path, old: Path, inputs: Collection[Identity]) -> list[Path]:
    if status(old) is None:
        return []
    sidecars = [path for path in model.parent.iterdir() if is_sidecar(path, model)]
    return [path for path in sidecars if _unused(path, model, old) and not _is_input(path, inputs)]


def _unused(sidecar: Path, model: Path, old: Path) -> bool:
    return _mentions(old, sidecar.name) and not _mentions(model, sidecar.name)


def _is_input(path: Path, inputs: Collection[Identity]) -> bool:
    found = status(path)
    return found is None or (found.st_dev, found.st_ino) in inputs


def _mentions(model: Path, name: str) -> bool:
    """Whether a model's bytes hold a name: protobuf stores text as it is."""
    with model.open("rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or not found.st_size:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(os.fsencode(name)) >= 0


def where(asides: Iterable[Path]) -> str:
    """The set-aside names that still lead to something, for people; one that cannot be looked at may."""
    names = []
    for path in asides:
        try:
            there = status(path) is not None
        except OSError:
            there = True
        if there:
            names.append(quote(str(path)))
    return ", ".join(names)
