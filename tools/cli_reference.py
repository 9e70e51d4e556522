"""Writes docs/cli.md from the commands: `python -m tools.cli_reference`."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from graphprune.cli.main import COMMANDS, cli

_TOP = click.Context(cli, **cli.context_settings)
PAGE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
INTRO = """# Command line

<!-- generated: python -m tools.cli_reference -->

Results go to stdout, everything else to stderr: progress, names of written files, `error:` and `hint:` lines
([what they mean](errors.md)). `--format json` is [documented](json.md). Options that several commands share
have one table with their names in Python and in files ([options](options.md)).
"""
OUTRO = """
## Exit codes

| code | meaning |
|---|---|
| 0 | done; what was asked for is written |
| 1 | ran, but a check failed or a promise could not be kept: a proof, a budget, a threshold, nothing to cut |
| 2 | usage, input, a limit, a time limit, or an internal error |

## Environment

| variable | what |
|---|---|
| `GRAPHPRUNE_DEBUG=1` | as `--debug` |
| `_GRAPHPRUNE_COMPLETE` | see below |

## Completion

Commands, options and files complete in bash (4.4 or later), zsh and fish, after one line in its own file:

```sh
eval "$(_GRAPHPRUNE_COMPLETE=bash_source graphprune)"   # ~/.bashrc
eval "$(_GRAPHPRUNE_COMPLETE=zsh_source graphprune)"    # ~/.zshrc
_GRAPHPRUNE_COMPLETE=fish_source graphprune | source    # ~/.config/fish/config.fish
```
"""


def render() -> str:
    """The page."""
    lines = [INTRO, "## graphprune", "", cli.help or "", "", *_options(cli)]
    for name in COMMANDS:
        lines += ["", f"## graphprune {name}", "", *_command(name)]
    return "\n".join(lines) + "\n" + OUTRO


def _command(name: str) -> Iterator[str]:
    command = importlib.import_module(f"graphprune.cli.{name.replace('-', '_')}").command
    assert isinstance(command, click.Command)
    context = click.Context(command, _TOP)
    arguments = [each.make_metavar(context) for each in command.params if isinstance(each, click.Argument)]
    yield from ("```text", " ".join(["graphprune", name, "[OPTIONS]", *arguments]), "```", "")
    yield from _described(command)
    yield from _options(command)


def _described(command: click.Command) -> Iterator[str]:
    """The help of a command; what it prints as it stands is a block."""
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        text = paragraph.removeprefix("\b\n")
        yield from (text, "") if text == paragraph else ("```text", text, "```", "")


def _options(command: click.Command) -> Iterator[str]:
    yield from ("| option | what |", "|---|---|")
    for each in command.get_params(click.Context(command, _TOP)):
        if isinstance(each, click.Option):
            yield f"| {_names(each)}{_value(each)} | {_told(each)} |"


def _names(item: click.Option) -> str:
    return ", ".join(f"`{each}`" for each in (*item.opts, *item.secondary_opts))


def _value(item: click.Option) -> str:
    if item.is_flag or item.count:
        return ""
    if isinstance(item.type, click.Choice):
        return " " + " \\| ".join(item.type.choices)
    return f" {item.metavar or ''}".rstrip()


def _told(item: click.Option) -> str:
    default = f"  [default: {item.default}]" if item.show_default and not item.is_flag else ""
    return f"{item.help or ''}{default}".replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
