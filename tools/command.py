"""What the command lines under tools/ share."""

from __future__ import annotations

import sys
from collections.abc import Callable

from graphprune.errors import GraphpruneError


def ended(body: Callable[[], None]) -> int:
    """Exit status of a command; what went wrong is told in a line, as graphprune tells it."""
    try:
        body()
    except GraphpruneError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return error.exit_code
    return 0
