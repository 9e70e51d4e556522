"""`graphprune`: the group of commands, and the one place where errors become lines and exit codes."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from graphprune import __version__
from graphprune.cli.output import UnshownError, abandon_stdout
from graphprune.errors import GraphpruneError, PluginError, did_you_mean
from graphprune.ir.names import quote
from graphprune.run import SELDOM

COMMANDS = {
    "compile": "Run a pipeline of passes over a model, prove the result and save it.",
    "tune": "Search for the fastest model at a bound loss, and save it.",
    "sweep": "Compile models by several recipes and seeds, into one table.",
    "lower": "Rewrite a model into an equal one that ONNX Runtime runs faster.",
    "init": "Write a commented graphprune.toml for a model.",
    "calibrate": "Choose calibration samples from a pool, and compare the choice with random draws.",
    "inspect": "Show size, operators, groups, and what is pinned and why.",
    "explain": "Say why slots are coupled, why a group is pinned, or what a pass does.",
    "validate": "Compare two models on the same inputs.",
    "check": "Judge a smaller model by thresholds: a gate for continuous integration.",
    "bench": "Measure parameters, MACs, bytes and interleaved latency.",
    "profile": "Measure what the nodes of models cost on this machine, as functions of their widths.",
    "bench-kit": "Write a folder that measures models where graphprune does not run.",
    "passes": "List the installed passes, or describe one.",
}
_WIDTH = 100
_BUG = (
    "this is a bug in graphprune; `graphprune --debug ...` and `compile --reproducer DIR` help to report it"
)


Handler = Callable[[int, FrameType | None], object] | int | None


class Interrupted(BaseException):
    """SIGINT or SIGTERM: unwinds the stack, so that temporary files go away."""


class _EndError(Exception):
    """An EOFError, which click would take for Ctrl-D at a prompt; no command asks anything."""

    def __init__(self, cause: EOFError) -> None:
        super().__init__(cause)
        self.cause = cause


class _Commands(click.Group):
    """Commands that are imported only when they run; their one-line help is the table above."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"graphprune.cli.{cmd_name.replace('-', '_')}").command
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except EOFError as error:
            raise _EndError(error) from error

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            raise GraphpruneError(
                f"no command named '{_printable(args[0])}'", did_you_mean(args[0], COMMANDS)
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=_Commands,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "terminal_width": _WIDTH,
        "max_content_width": _WIDTH,
    },
    epilog="Exit codes: 0 done; 1 ran, but a check failed or a promise could not be kept; "
    "2 usage, input or internal error.",
)
@click.version_option(__version__, "-V", "--version", message="graphprune %(version)s")
@click.option(
    "--debug", is_flag=True, help="Show the traceback of an internal error (or set GRAPHPRUNE_DEBUG=1)."
)
def cli(debug: bool) -> None:
    """Make ONNX models smaller and faster by removing structure, and prove every cut."""
    if not debug:
        # Warnings of libraries are for developers; users get errors and the lines of a report.
        warnings.simplefilter("ignore")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    if arguments is not None:
        return _main(list(arguments))
    gc.set_threshold(*SELDOM)
    code = _main(sys.argv[1:])
    gc.freeze()  # the system takes all memory at once; Python would look for circles once more (a tenth)
    session = sys.modules.get("graphprune.runtime.session")
    if session is not None and session.abandoned.is_set():
        # A single operator still runs in its thread: leave without tearing down what it uses.
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, AttributeError):
                stream.flush()
        os._exit(code)
    return code


def _main(arguments: list[str]) -> int:
    previous = _catch_signals()
    try:
        if not arguments:
            cli.main(["--help"], prog_name="graphprune", standalone_mode=False)
            return 2
        result = cli.main(arguments, prog_name="graphprune", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except UnshownError as error:
        return 2 if error.left else _say(error.message, error.hint)
    except PluginError as error:  # its author wants to know where
        _trace(error, arguments)
        return _say(error.message, error.hint)
    except GraphpruneError as error:
        return _say(error.message, error.hint, error.exit_code)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.UsageError as error:
        return _usage(error)
    except click.ClickException as error:
        return _say(error.format_message())
    except (Interrupted, KeyboardInterrupt, click.Abort):
        return _say("interrupted; no file was left unfinished")
    except _EndError as error:
        return _internal(error.cause, arguments)
    except SystemExit as end:
        # click wants to exit: completion was printed, or the reader of the pipe left while help was.
        abandon_stdout()
        return 0 if end.code == 0 else 2
    except OSError as error:  # the system's, not the model's: a full disk, a name too long
        abandon_stdout()
        return _say(_of_the_system(error))
    except MemoryError:
        return _say("out of memory", "a smaller --shape or a machine with more memory may do")
    except Exception as error:  # every other exception is ours: one line, and how to report it
        return _internal(error, arguments)
    finally:
        _restore(previous)


def _catch_signals() -> dict[int, Handler]:
    """Turn SIGTERM and SIGINT into an exception; only the main thread may."""

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise Interrupted

    previous: dict[int, Handler] = {}
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            previous[number] = signal.signal(number, interrupt)
        except ValueError:
            return {}
    return previous


def _restore(previous: dict[int, Handler]) -> None:
    for number, handler in previous.items():
        signal.signal(number, handler)


def _say(message: str, hint: str = "", code: int = 2) -> int:
    """`error:` and `hint:` lines on stderr."""
    with suppress(OSError):  # where stderr is full the exit code has to do
        click.echo(f"error: {_printable(message)}", err=True)
        if hint:
            click.echo(f"hint: {_printable(hint)}", err=True)
    return code


def _of_the_system(error: OSError) -> str:
    reason = (error.strerror or str(error)).lower()
    return f"{quote(os.fsdecode(error.filename))}: {reason}" if error.filename else reason


def _usage(error: click.UsageError) -> int:
    hint = ""
    if isinstance(error, click.NoSuchOption):
        known = _option_names(error.ctx)
        close = did_you_mean(error.option_name, known)
        message = f"no option named '{error.option_name}'"
        hint = close if close.startswith("did you mean") else ""
    else:
        message = error.format_message().rstrip(".")
        message = message[:1].lower() + message[1:]
    if not hint and error.ctx:
        hint = f"see '{error.ctx.command_path} --help'"
    return _say(message, hint)


def _option_names(ctx: click.Context | None) -> list[str]:
    if ctx is None:
        return []
    return [name for item in ctx.command.get_params(ctx) for name in item.opts if name.startswith("--")]


def _internal(error: Exception, arguments: list[str]) -> int:
    _trace(error, arguments)
    place = _place(error)
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return _say(f"internal error: {reason}{place}", _BUG)


def _trace(error: Exception, arguments: list[str]) -> None:
    """The traceback on stderr, where it was asked for."""
    if "--debug" in arguments or os.environ.get("GRAPHPRUNE_DEBUG", "") not in ("", "0"):
        import traceback

        traceback.print_exception(error)


def _place(error: Exception) -> str:
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    return f" (in {Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""


def _printable(text: str) -> str:
    """Text without control characters, but with the line breaks of a caret message."""
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape", "replace").decode() for c in text
    )
