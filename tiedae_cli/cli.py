"""The Typer app, and the one place where an error becomes a message and an exit code."""

import os
import sys
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tiedae_cli import __version__
from tiedae_cli.commands import decode as decode_command
from tiedae_cli.commands import encode as encode_command
from tiedae_cli.commands import eval as eval_command
from tiedae_cli.commands import reconstruct as reconstruct_command
from tiedae_cli.commands import score as score_command
from tiedae_cli.commands import train as train_command
from tiedae_cli.errors import TiedaeError

CLOSED_PIPE = 141  # 128 + SIGPIPE: what every Unix tool returns when its reader has gone
INTERRUPTED = 130  # 128 + SIGINT


class ErrorsToExitCodes(TyperGroup):
    """The command group that turns whatever a subcommand raises into a message on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the subcommand."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except (TiedaeError, BrokenPipeError, KeyboardInterrupt, MemoryError, RuntimeError, OSError) as error:
            if isinstance(error, (typer.Exit, typer.Abort)):
                raise
            code = _exit_code(error, ctx.meta.get("tiedae.debug", False))
            raise typer.Exit(code) from None


def _exit_code(error: BaseException, debug: bool) -> int:
    """Print what a person needs to know about an error; return the exit code."""
    if debug:
        traceback.print_exception(error)
    if isinstance(error, BrokenPipeError):
        # Nobody reads stdout any more; Python's own flush at exit must not complain about it either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, TiedaeError):
        print(f"error: {error}" if not _is_interruption(error) else str(error), file=sys.stderr)  # noqa: T201
        return error.exit_code
    if _is_out_of_memory(error):
        print("error: out of memory: a smaller training.batch_size or model.hidden_sizes needs less", file=sys.stderr)  # noqa: T201
        return 1
    raise error


def _is_interruption(error: TiedaeError) -> bool:
    return error.exit_code > 2


def _is_out_of_memory(error: BaseException) -> bool:
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"tiedae {__version__}")
        raise typer.Exit


app = typer.Typer(
    name="tiedae",
    cls=ErrorsToExitCodes,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Autoencoders with tied weights from a YAML file: train, evaluate, reconstruct, beside PCA.

    Without a config it trains on handwritten digits that the package carries: tiedae train && tiedae reconstruct --n 2
    """


app.command("train")(train_command.train)
app.command("eval")(eval_command.evaluate)
app.command("reconstruct")(reconstruct_command.reconstruct)
app.command("encode")(encode_command.encode)
app.command("decode")(decode_command.decode)
app.command("score")(score_command.score)


def run() -> None:
    """Run the command line of this process."""
    app()
