"""Open what a path names only if it is a plain file of a reasonable size."""

from __future__ import annotations

import errno
import mmap
import os
import stat
from pathlib import Path

from graphprune.errors import ModelError
from graphprune.ir.limits import Limits
from graphprune.ir.names import quote
from graphprune.ir.nearby import nearby
from graphprune.ir.preflight.foreign import folder_error, refuse_foreign

_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"PK\x03\x04", "a zip archive (unpack it first)"),
    (0, b"\x1f\x8b", "gzip data (unpack it first)"),
    (0, b"\x7fELF", "an ELF binary"),
    (4, b"ORTM", "an ORT-format model (convert from the ONNX file it was made of)"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"version https://git-lfs", "a Git LFS pointer (run git lfs pull)"),
    (0, b"<?xml", "an XML file"),
    (0, b"<!DOCTYPE", "an HTML page"),
)
_REASONS = {
    errno.ENOENT: "there is no such file",
    errno.ELOOP: "its symbolic links form a loop",
    errno.EACCES: "permission denied",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ENXIO: "it is not a regular file",
}


def map_model(path: Path, limits: Limits) -> mmap.mmap:
    """Map a model file into memory, read-only.

    Raises:
        ModelError: the path is no regular file, or the file is empty, too big, or plainly something else.
    """
    descriptor = _open(path)
    try:
        size = _require_regular(os.fstat(descriptor), path).st_size
        if size == 0:
            raise ModelError(f"{quote(str(path))} is empty")
        if size > limits.max_bytes:
            raise ModelError(f"{quote(str(path))} has {size} bytes, more than {limits.max_bytes}")
        data = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise refused(path, error) from None
    finally:
        os.close(descriptor)
    refuse_other_formats(data[:64], path)
    return data


def refused(path: Path | str, error: OSError) -> ModelError:
    """The operating system's reason in one line."""
    reason = _REASONS.get(error.errno or 0, (error.strerror or "it cannot be opened").lower())
    return ModelError(f"cannot read {quote(str(path))}: {reason}", nearby(path))


def refuse_other_formats(head: bytes, path: Path) -> None:
    """Name the usual wrong files, instead of reporting a protobuf detail.

    Raises:
        ModelError: the first bytes are those of another format.
    """
    refuse_foreign(head, path)
    for offset, magic, what in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            raise ModelError(f"{quote(str(path))} is {what}, not an ONNX model")
    text = head.lstrip()
    if text[:1] in (b"<", b"{") and text.isascii():
        raise ModelError(f"{quote(str(path))} is text, not a binary ONNX model")


def _open(path: Path) -> int:
    try:
        # Looked at first, because opening a device can have effects; checked again once it is open.
        _require_regular(path.stat(), path)
        # Without O_NONBLOCK, opening a FIFO waits for a writer.
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError):
            raise ModelError(f"cannot read {quote(str(path))}: not a path") from None
        raise refused(path, error) from None


def _require_regular(status: os.stat_result, path: Path) -> os.stat_result:
    if stat.S_ISDIR(status.st_mode):
        raise folder_error(path)
    if not stat.S_ISREG(status.st_mode):
        raise ModelError(f"{quote(str(path))} is not a regular file")
    return status
