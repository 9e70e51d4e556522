"""A file in the making, and the SHA-256 of what it holds so far."""

from __future__ import annotations

import hashlib
from typing import BinaryIO


class Digested:
    """Writes to a file and to a hash, so that nobody has to read the file for it.

    Args:
        file: empty, and written to by nobody else.

    Attributes:
        size: bytes written.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._digest = file, hashlib.sha256()
        self.size = 0

    def write(self, data: bytes | memoryview) -> int:
        """Appends bytes."""
        self._digest.update(data)
        written = self._file.write(data)
        self.size += written
        return written

    @property
    def digest(self) -> str:
        """In hexadecimal digits."""
        return self._digest.hexdigest()
