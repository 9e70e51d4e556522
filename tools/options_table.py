"""Writes docs/options.md from the settings: `python -m tools.options_table`."""

from __future__ import annotations

import importlib
from pathlib import Path

import click

from graphprune.cli.main import COMMANDS
from graphprune.pipeline.option import Option, options
from graphprune.pipeline.settings import Settings

PAGE = Path(__file__).resolve().parent.parent / "docs" / "options.md"
INTRO = """# Options

<!-- generated: python -m tools.options_table -->

One set: the command line, the functions of the same name in Python (`find_groups` takes what `explain` does)
and the `[options]` of a [recipe](recipes.md) take the same values, checked alike. The command line wins over
a recipe, a recipe over `graphprune.toml`; mappings are joined name by name. *file*: whether both may set the
option, or only a recipe that was *named*.

| command line | Python | file | default | taken by | what |
|---|---|---|---|---|---|
"""
PROVIDERS = """
## Execution providers

`--providers openvino,cpu` runs what is timed and compared on other hardware: `bench`, `validate`, `check`,
and the latency and agreement of a compile. Proof, statistics and repair stay on the CPU, so the file that
is written is the same. Names are short (`openvino`, `cuda`) or full (`OpenVINOExecutionProvider`), in the
order in which ONNX Runtime offers them a node; without `cpu` a model that needs it for some operators is
refused, never run on it in silence. The report and the JSON name the providers that ran.

What can be named is what is installed: a build of ONNX Runtime (`onnxruntime-gpu`, `onnxruntime-openvino`)
in place of `onnxruntime`, or a plug-in beside it (`onnxruntime-ep-openvino`: any installed package named
`onnxruntime-ep-...`), which is registered when it is asked for and runs on its first device. `--threads`
holds for OpenVINO's CPU device, too. Where anything but the CPU provider runs the clock is wall time, so
keep the machine quiet.
"""
OUTRO = """
[cli.md](cli.md) has every command with all its options, [recipes.md](recipes.md) what files may hold.
"""


def render() -> str:
    """The page."""
    rows = "".join(map(_row, options(Settings)))
    return INTRO + rows + PROVIDERS + OUTRO


def _row(item: Option) -> str:
    flag = f"`{_shown(item)}`" if item.flag else "`--output NAME=KIND`" if item.name == "outputs" else ""
    file = "both" if item.found else "named"
    taken = ", ".join(name for name in COMMANDS if _takes(name, item))
    cells = (flag, f"`{item.name}`", file if item.recipe else "", item.default, taken, _cell(item.help))
    return f"| {' | '.join(cells)} |\n"


def _shown(item: Option) -> str:
    assert item.accepts is not None
    return f"{item.flag} {item.accepts.metavar}".strip()


def _loaded(name: str) -> click.Command:
    command = importlib.import_module(f"graphprune.cli.{name.replace('-', '_')}").command
    assert isinstance(command, click.Command)
    return command


def _takes(name: str, item: Option) -> bool:
    """Whether a command has this option, and not another one of its name."""
    if (name, item.name) == ("compile", "outputs"):
        return True
    shown = (item.name, item.command_help)
    return any((each.name, getattr(each, "help", "")) == shown for each in _loaded(name).params)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
