"""Where external weights may lie: in plain files beside or below the model, and nowhere else."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from graphprune.errors import ModelError
from graphprune.ir.limits import Limits
from graphprune.ir.names import quote
from graphprune.ir.preflight.files import refused

_NUMBER = re.compile(r"[0-9]{1,19}")
_DRIVE = re.compile(r"[A-Za-z]:")
_MAX_LOCATION = 4096
_LINKS_HINT = "copy the weight files next to the model, or allow external links for trusted files"
# Everything else (checksum, framework extras, attacks on attribute setters) is ignored and never stored.
_KEYS = frozenset({"location", "offset", "length"})


@dataclass
class WeightFiles:
    """The external files of one model, each opened and checked once.

    Args:
        base: the folder of the model file; None where there is no file and hence no external data.
        limits: link policy and total size.
        aliases: location -> path, for checking a result before it gets its final name.
    """

    base: Path | None
    limits: Limits
    aliases: dict[str, Path] = field(default_factory=dict)
    sizes: dict[Path, int] = field(default_factory=dict)
    _paths: dict[str, Path] = field(default_factory=dict)

    def check(self, tensor: onnx.TensorProto, nbytes: int) -> tuple[Path, int]:
        """The file and offset of an external tensor of `nbytes` bytes.

        Raises:
            ModelError: the location leaves the folder or is no plain file, or the range is not in the file.
        """
        name = quote(str(tensor.name))
        entries = _entries(tensor, name)
        path = self._path(entries.get("location"), name)
        offset = _number(entries.get("offset", "0"), "offset", name)
        length = _number(entries.get("length", str(nbytes)), "length", name)
        if length != nbytes:
            raise ModelError(f"external tensor {name} says length {length}, its shape needs {nbytes} bytes")
        if offset + length > self.sizes[path]:
            raise ModelError(
                f"external tensor {name} ends at byte {offset + length}, its file at {self.sizes[path]}",
                "the weight file may be truncated or belong to another model",
            )
        return path, offset

    def _path(self, location: str | None, name: str) -> Path:
        if self.base is None:
            raise ModelError(f"tensor {name} is external, but its model has no folder", "load the file")
        if not location:
            raise ModelError(f"external tensor {name} has no location")
        if location not in self._paths:
            path = self.aliases.get(location)
            status = path.stat() if path else self._open(self.base, location, name)
            path = path or Path(os.path.normpath(self.base / location))
            self.sizes[path] = status.st_size
            if sum(self.sizes.values()) > self.limits.max_bytes:
                raise ModelError(f"the external weights exceed {self.limits.max_bytes} bytes")
            self._paths[location] = path
        return self._paths[location]

    def _open(self, base: Path, location: str, name: str) -> os.stat_result:
        parts = _contained(location, name)
        try:
            if self.limits.allow_external_links:
                status = base.joinpath(*parts).stat()
            else:
                status = _walk(base, parts, name)
        except OSError as error:
            raise refused(location, error) from None
        if not stat.S_ISREG(status.st_mode):
            raise ModelError(f"external data {quote(location)} of tensor {name} is not a regular file")
        if status.st_nlink > 1 and not self.limits.allow_external_links:
            raise ModelError(f"external data {quote(location)} has several hard links", _LINKS_HINT)
        return status


def _entries(tensor: onnx.TensorProto, name: str) -> dict[str, str]:
    entries: dict[str, str] = {}
    for entry in tensor.external_data:
        if entry.key not in _KEYS:
            continue
        if entry.key in entries:
            raise ModelError(f"external tensor {name} gives its {entry.key} twice")
        if not isinstance(entry.value, str):
            raise ModelError(f"external tensor {name} has a {entry.key} that is not UTF-8")
        entries[entry.key] = entry.value
    return entries


def _number(text: str, key: str, name: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise ModelError(f"external tensor {name} has {key} {quote(text)}, not a number")
    return int(text)


def _contained(location: str, name: str) -> list[str]:
    """The path components of a location that stays inside the model's folder."""
    where = f"external data location {quote(location)} of tensor {name}"
    if len(location) > _MAX_LOCATION or any(ord(char) < 32 for char in location):
        raise ModelError(f"{where} is not a file name")
    parts = [part for part in location.split("/") if part not in ("", ".")]
    outside = location.startswith("/") or "\\" in location or _DRIVE.match(location) or ".." in parts
    if outside or not parts or "_ORT_MEM_ADDR_" in parts:
        raise ModelError(f"{where} is not inside the model's folder")
    return parts


def _walk(base: Path, parts: list[str], name: str) -> os.stat_result:
    """Status of the file, reached without following a link in any component."""
    *folders, last = parts
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    current = os.open(base, flags)
    try:
        for folder in folders:
            below = os.open(folder, flags | os.O_NOFOLLOW, dir_fd=current)
            os.close(current)
            current = below
        status = os.stat(last, dir_fd=current, follow_symlinks=False)
    except NotADirectoryError:
        raise ModelError(f"external data of tensor {name} is reached through a link", _LINKS_HINT) from None
    finally:
        os.close(current)
    if stat.S_ISLNK(status.st_mode):
        raise ModelError(f"external data {quote('/'.join(parts))} is a symbolic link", _LINKS_HINT)
    return status
