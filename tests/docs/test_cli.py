"""docs/cli.md says what the commands say, and its exit codes are those that there are."""

from __future__ import annotations

import re

from graphprune.cli.main import COMMANDS
from tools.cli_reference import PAGE, render


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run: python -m tools.cli_reference"


def test_every_command_has_its_usage_and_its_help_option() -> None:
    page = render()
    assert re.findall(r"^## graphprune (\S+)$", page, re.MULTILINE) == list(COMMANDS)
    assert page.count("| `-h`, `--help` | Show this message and exit. |") == len(COMMANDS) + 1
