"""Weights that lie in no file, written to one, so that a runtime maps them instead of holding a copy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

import numpy as np

from graphprune.ir.arrays import Array
from graphprune.ir.mapped import Span

_PAGE = 4096
_NAME = "weights"


class SpillError(OSError):
    """The folder for temporary files takes no more, or is none."""


@dataclass(frozen=True)
class Spill:
    """A file that is there until what it holds has been mapped."""

    file: BinaryIO
    path: Path

    def put(self, array: Array) -> Span:
        """Write one array, from a page on; where it lies.

        Raises:
            SpillError: there is no room.
        """
        try:
            start = self.file.seek(-(-self.file.tell() // _PAGE) * _PAGE)
            self.file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
            self.file.flush()
        except OSError as error:
            raise SpillError(*error.args) from error
        return Span(self.path, start, array.nbytes)


@contextmanager
def spill() -> Iterator[Spill]:
    """A file in the folder for temporary files, gone at the end of the block.

    Raises:
        SpillError: there is no such folder.
    """
    with ExitStack() as stack:
        try:
            folder = TemporaryDirectory(prefix="graphprune-", ignore_cleanup_errors=True)
            path = Path(stack.enter_context(folder)).resolve() / _NAME
            file = stack.enter_context(path.open("wb"))
        except OSError as error:
            raise SpillError(*error.args) from error
        yield Spill(file, path)
