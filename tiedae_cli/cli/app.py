"""The Typer app. Only here does an error become a message and an exit code."""

import contextlib
import difflib
import errno
import os
import re
import shutil
import sys
import textwrap
import traceback
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from tiedae_cli import __version__
from tiedae_cli.cli.commands import compare as compare_command
from tiedae_cli.cli.commands import configs as configs_command
from tiedae_cli.cli.commands import decode as decode_command
from tiedae_cli.cli.commands import encode as encode_command
from tiedae_cli.cli.commands import eval as eval_command
from tiedae_cli.cli.commands import export as export_command
from tiedae_cli.cli.commands import help as help_command
from tiedae_cli.cli.commands import inspect as inspect_command
from tiedae_cli.cli.commands import print_schema as schema_command
from tiedae_cli.cli.commands import reconstruct as reconstruct_command
from tiedae_cli.cli.commands import report as report_command
from tiedae_cli.cli.commands import runs as runs_command
from tiedae_cli.cli.commands import score as score_command
from tiedae_cli.cli.commands import train as train_command
from tiedae_cli.cli.commands import tune as tune_command
from tiedae_cli.cli.config_options import WithSettings
from tiedae_cli.cli.usage_errors import remember_words, usage_message
from tiedae_cli.errors import InputError, Interrupted, TiedaeError
from tiedae_cli.system.files_in_use import tracking_files_in_use
from tiedae_cli.system.interruption import stopping_at_once
from tiedae_cli.system.launched_processes import launched_processes
from tiedae_cli.system.portability import quoted
from tiedae_cli.system.standard_streams import LastingStream, open_closed_streams
from tiedae_cli.system.text import note_names, shortened, shown_lines

CLOSED_PIPE = 141  # 128 + SIGPIPE: what Unix tools return when their reader has gone
INTERRUPTED = 130  # 128 + SIGINT
ELSEWHERE = {  # names of commands in other tools
    **dict.fromkeys(("fit", "run", "start"), "train"),
    **dict.fromkeys(("resume", "continue", "restart"), "train --resume"),
    **dict.fromkeys(("search", "sweep", "optimize", "hpo", "grid"), "tune"),
    **dict.fromkeys(("test", "evaluate", "metrics"), "eval"),
    "predict": "reconstruct",
    **dict.fromkeys(("transform", "embed", "compress", "codes"), "encode"),
    **dict.fromkeys(("inverse_transform", "decompress"), "decode"),
    **dict.fromkeys(("detect", "anomaly", "anomalies", "outliers"), "score"),
    **dict.fromkeys(("info", "summary", "describe"), "inspect"),
    **dict.fromkeys(("convert", "onnx"), "export"),
    **dict.fromkeys(("list", "ls"), "runs"),
    **dict.fromkeys(("config", "samples", "examples", "recipes"), "configs"),
    **dict.fromkeys(("version", "about"), "--version"),
}
WRONG_PATH = (errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.EACCES, errno.EINVAL)
LONGEST_NAME = 200  # characters of a path in a message
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)  # stdout is full, lost or closed


class ErrorsToExitCodes(TyperGroup):
    """The command group that turns each error of a command into a message on stderr and an exit code."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the options before the command.

        Raises:
            InputError: an option does not exist; the message says what to type.
        """
        try:
            rest: list[str] = super().parse_args(ctx, [_with_home(word) for word in args])
        except typer.TyperException as error:
            self._refuse(ctx, error)
        except BrokenPipeError:  # while --help is printed
            _give_up_stdout()
            raise typer.Exit(CLOSED_PIPE) from None
        return rest

    @staticmethod
    def _refuse(ctx: Any, error: Any) -> NoReturn:
        """Print a usage error in one line and exit; raise Typer's own if it prints the help."""
        if type(error).__name__ == "NoArgsIsHelpError":
            raise error
        _say(f"error: {usage_message(error, ctx.meta)}")
        raise typer.Exit(2) from None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the first word names.

        Raises:
            InputError: no command has that name, or torchrun started one that runs in one process; the message says what to type.
        """
        remember_words(ctx, args)
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise InputError(_what_to_type(args, self.list_commands(ctx)))
        _refuse_several_processes(args)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            with stopping_at_once(), tracking_files_in_use():
                result = super().invoke(ctx)
                sys.stdout.flush()
                return result
        except typer.TyperException as error:
            self._refuse(ctx, error)
        except (typer.Exit, typer.Abort):
            raise
        except (Exception, KeyboardInterrupt) as error:  # a traceback is only for those who ask for it with --debug
            code = _exit_code(error, ctx.meta.get("tiedae.debug", False))
            _give_up_stdout()
            raise typer.Exit(code) from None


def _with_home(word: str) -> str:
    """Return a word with ``~`` as the home folder, also in ``--option=~/path`` and ``key=~/path``; ``./~`` is a file of that name."""
    start = re.match(r"(?:[\w.-]+=)?(?=~[\w.-]*[/\\]|~$)", word)
    return word if start is None else start.group() + os.path.expanduser(word[start.end() :])


def _what_to_type(words: list[str], known: list[str]) -> str:
    """Return the message for an unknown command, with the closest line to type."""
    name, rest = words[0], [quoted(word) for word in words[1:]]
    meant = ELSEWHERE.get(name.lower()) or next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.75)), None)
    if meant is None and (os.path.exists(name) or name.lower() in ("mnist", "digits", "fashion-mnist")):
        meant, rest = "train", [quoted(name), *rest]
    if meant is None:
        return f"{name}: no such command; expected one of {', '.join(known)}. To begin: tiedae train"
    return f"{name}: no such command; type: {' '.join(['tiedae', meant, *rest])}"


def _refuse_several_processes(words: list[str]) -> None:
    """Raise ``InputError`` if torchrun started several processes of a command other than train: each would do all of the work."""
    if not words or words[0] == "train" or words[0].startswith("-"):
        return
    count = 1
    with contextlib.suppress(InputError):  # variables of something else
        count = launched_processes()
    if count > 1:
        jobs = ["--jobs", str(count)] if words[0] == "tune" and not any(word.startswith("--jobs") for word in words) else []
        line = " ".join(map(quoted, ["tiedae", *words, *jobs]))
        raise InputError(
            f"{words[0]} runs in one process, and WORLD_SIZE={count} asks for {count} (torchrun is for train only); "
            f"type, without torchrun: {line}"
        )


def _exit_code(error: BaseException, debug: bool) -> int:
    """Print an error and return its exit code."""
    if debug:
        traceback.print_exception(error)
    if isinstance(error, BrokenPipeError):
        return CLOSED_PIPE
    if isinstance(error, Interrupted):
        _say(str(error))
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, TiedaeError):
        _say(f"error: {error}")
        return error.exit_code
    if _is_out_of_memory(error):
        _say("error: out of memory; try a smaller training.batch_size or smaller layers")
        return 1
    if isinstance(error, OSError) and error.filename is None and error.errno in UNWRITABLE:  # StorageError names its file
        _say(f"error: stdout: cannot be written: {error.strerror}")
        return 1
    if isinstance(error, OSError) and error.errno is not None:  # of a path that no module expected to fail
        name = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes)) else ""
        _say(f"error: {shortened(name, LONGEST_NAME)}{error.strerror or error}")
        return 2 if error.errno in WRONG_PATH else 1
    if isinstance(error, ImportError):  # a package that is damaged, or a library that the system refuses to load
        _say(f"error: the program cannot be loaded: {(str(error).splitlines() or [''])[0][:200]}")
        return 1
    if isinstance(error, RecursionError):
        _say("error: nested too deeply (folders in folders, or lists in lists of a file)")
        return 2
    reason = (str(error).strip().splitlines() or [""])[0][:200]
    _say(f"error: unexpected {type(error).__name__}: {reason} (run the command again with --debug for the traceback)")
    return 1


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # stderr may be closed or full too
        lines = shown_lines(text)
        print(_wrapped(lines, shutil.get_terminal_size().columns) if sys.stderr.isatty() else lines, file=sys.stderr)  # noqa: T201


def _wrapped(text: str, width: int) -> str:
    """Return text wrapped between words; a line to type stays whole, to be copied."""
    return "\n".join(
        line if "tiedae " in line else "\n".join(textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False))
        for line in text.split("\n")
    )


def _give_up_stdout() -> None:
    """Redirect an unwritable stdout (closed pipe, full disk) to the null device, or Python's flush at exit would complain."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
        bool, typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train autoencoders with tied weights, and compare them with PCA.

    To begin, train on the bundled handwritten digits: tiedae train && tiedae reconstruct --n 2
    """


app.command("train", cls=WithSettings)(train_command.train)
app.command("tune", cls=WithSettings)(tune_command.tune)
app.command("eval")(eval_command.evaluate)
app.command("reconstruct")(reconstruct_command.reconstruct)
app.command("inspect")(inspect_command.inspect)
app.command("export")(export_command.export)
app.command("compare")(compare_command.compare)
app.command("report")(report_command.report)
app.command("encode")(encode_command.encode)
app.command("decode")(decode_command.decode)
app.command("score")(score_command.score)
app.command("runs")(runs_command.runs)
app.command("configs")(configs_command.configs)
app.command("schema")(schema_command.schema)
app.command("help")(help_command.help_)


def run() -> None:
    """Run the command line of this process."""
    open_closed_streams()
    note_names(sys.argv)
    sys.stderr = LastingStream(sys.stderr)
    try:
        app()
    except OSError as error:  # from --help or --version, which are printed before a command is invoked
        code = _exit_code(error, debug=False)
        _give_up_stdout()
        raise SystemExit(code) from None
