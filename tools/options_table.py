"""Writes docs/options.md from the settings and the commands: `python -m tools.options_table`."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import click

from graphprune.cli.main import COMMANDS
from graphprune.pipeline.option import Option, options
from graphprune.pipeline.settings import Settings

PAGE = Path(__file__).resolve().parent.parent / "docs" / "options.md"
INTRO = """# Options

<!-- generated: python -m tools.options_table -->

## Everywhere

One set: the command line, the functions of the same name in Python (`find_groups` takes what `explain` does)
and the `[options]` of a recipe take the same values, checked alike. The command line wins over a recipe, and
where both give a mapping, name by name.

| command line | Python | recipe | default | taken by | what |
|---|---|---|---|---|---|
"""
RECIPE = """
## A recipe

`graphprune compile model.onnx -o small.onnx --recipe recipe.toml` runs a pipeline from a file, which needs no
quoting:

```toml
pipeline = ["canonicalize", "prune(ratio=0.5, criterion=l1)"]

[options]
seed = 1
max_drop = 0.02

[options.shape]
image = [1, 3, 224, 224]

[options.fix]
sampling_rate = 16000

[options.outputs]
logits = "classes"
```

`pipeline` is one text or a list of stages.
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
COMPLETION = """
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
    rows = "".join(map(_row, options(Settings)))
    return (
        INTRO
        + rows
        + PROVIDERS
        + RECIPE
        + COMPLETION
        + "\n## Of one command\n"
        + "".join(map(_command, COMMANDS))
    )


def _row(item: Option) -> str:
    flag = f"`{_shown(item)}`" if item.flag else "`--output NAME=KIND`" if item.name == "outputs" else ""
    recipe = f"`{item.name}`" if item.recipe else ""
    taken = ", ".join(name for name in COMMANDS if _takes(name, item))
    cells = (flag, f"`{item.name}`", recipe, item.default, taken, _cell(item.help))
    return f"| {' | '.join(cells)} |\n"


def _shown(item: Option) -> str:
    assert item.accepts is not None
    return f"{item.flag} {item.accepts.metavar}".strip()


def _loaded(name: str) -> click.Command:
    command = importlib.import_module(f"graphprune.cli.{name}").command
    assert isinstance(command, click.Command)
    return command


def _takes(name: str, item: Option) -> bool:
    """Whether a command has this option, and not another one of its name."""
    if (name, item.name) == ("compile", "outputs"):
        return True
    shown = (item.name, item.command_help)
    return any((each.name, getattr(each, "help", "")) == shown for each in _loaded(name).params)


def _command(name: str) -> str:
    command = _loaded(name)
    rows = "".join(_own(command))
    usage = " ".join(["graphprune", name, *_arguments(command)])
    return f"\n### `{usage}`\n\n{COMMANDS[name]}\n\n| option | what |\n|---|---|\n{rows}"


def _own(command: click.Command) -> Iterator[str]:
    """Options that stand in no class of settings."""
    shared = {each.name: each.command_help for each in options(Settings)}
    for item in command.params:
        if isinstance(item, click.Option) and shared.get(item.name or "") != item.help:
            names = ", ".join(f"`{each}`" for each in (*item.opts, *item.secondary_opts))
            default = f" [default: {item.default}]" if item.show_default else ""
            yield f"| {names}{_value(item)} | {_cell(item.help or '')}{_cell(default)} |\n"


def _value(item: click.Option) -> str:
    if item.is_flag:
        return ""
    if isinstance(item.type, click.Choice):
        return f" {_cell(' | '.join(item.type.choices))}"
    return f" {item.metavar or ''}"


def _arguments(command: click.Command) -> Iterator[str]:
    context = click.Context(command)
    return (each.make_metavar(context) for each in command.params if isinstance(each, click.Argument))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
