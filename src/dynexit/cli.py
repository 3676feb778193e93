"""The command: every sub-command parses, calls one function and prints.

Exit codes: 0 for success, 2 for a user's mistake (one line, no traceback), 130 when stopped by the
user, 1 for a defect of ours.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from dynexit.commands.bench import bench
from dynexit.commands.calibrate import calibrate
from dynexit.commands.chat import chat
from dynexit.commands.demo import demo
from dynexit.commands.eval import evaluate
from dynexit.commands.finetune import finetune
from dynexit.commands.generate import generate
from dynexit.commands.info import info
from dynexit.commands.lm_eval import PASSED_ON, lm_eval
from dynexit.commands.quantize import quantize
from dynexit.commands.serve import serve
from dynexit.commands.sweep import sweep
from dynexit.commands.train_exits import train_exits
from dynexit.errors import UserError

STOPPED = 130


class Commands(TyperGroup):
    """The group of commands, which turns whatever escapes one into a line and an exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Parse and run. ``--debug`` may stand anywhere before a ``--``."""
        given = list(sys.argv[1:] if args is None else args)
        options = given[: given.index("--")] if "--" in given else given
        debug = "--debug" in options
        kept = [word for word in options if word != "--debug"] + given[len(options) :]
        code = self._run(kept, debug, prog_name or "dynexit", complete_var, extra)
        sys.exit(code)

    def _run(
        self, args: list[str], debug: bool, name: str, complete: str | None, extra: dict[str, Any]
    ) -> int:
        try:
            result = super().main(args, name, complete, standalone_mode=False, **extra)
        except Exception as error:
            if debug:
                traceback.print_exc()
            message, code = _told(error)
            print(message, file=sys.stderr)
            return code
        return result if isinstance(result, int) else 0

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except BrokenPipeError:  # the reader of our output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit from None
        except KeyboardInterrupt:
            print(
                "\ndynexit: stopped; files already at their place are whole. "
                "Run the same command to do it again",
                file=sys.stderr,
            )
            raise typer.Exit(STOPPED) from None


def _told(error: Exception) -> tuple[str, int]:
    """The line for an error, and the exit code."""
    if isinstance(error, UserError):
        return f"dynexit: {_one_line(str(error))}", 2
    if isinstance(error, typer.Abort):
        return "dynexit: stopped", STOPPED
    if isinstance(error, typer.TyperException):  # what it could not parse
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "dynexit"
        reason = _one_line(error.format_message()).rstrip(".")
        return f"dynexit: {reason}; see {path} --help", 2
    kind = type(error).__name__
    return (
        f"dynexit: a defect of dynexit, please report it ({kind}: {_one_line(str(error))}); "
        "--debug shows the traceback",
        1,
    )


def _one_line(text: str) -> str:
    return " ".join(text.encode("utf-8", "backslashreplace").decode("utf-8").split())


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"dynexit {version('dynexit')}")
        raise typer.Exit


app = typer.Typer(
    name="dynexit",
    cls=Commands,
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def dynexit(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error (any command takes it).")
    ] = False,
) -> None:
    """Early exits that save time for Mamba and transformer language models.

    MODEL is a directory with a Hugging Face checkpoint, a hub id, or one of the two small models
    that come with the package: reference:mistral and reference:mamba2.

    Begin with: `dynexit demo`
    """
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


app.command("demo")(demo)
app.command("info")(info)
app.command("generate")(generate)
app.command("chat")(chat)
app.command("train-exits")(train_exits)
app.command()(finetune)
app.command("eval")(evaluate)
app.command("sweep")(sweep)
app.command("calibrate")(calibrate)
app.command("quantize")(quantize)
app.command("bench")(bench)
app.command("serve")(serve)
app.command("lm-eval", context_settings=PASSED_ON)(lm_eval)


def main() -> None:
    """Entry point of the ``dynexit`` command."""
    app(prog_name="dynexit")
