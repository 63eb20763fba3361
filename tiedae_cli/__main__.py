"""``python -m tiedae_cli`` and the console script ``tiedae``."""

from __future__ import annotations

# Only modules that the interpreter has loaded already: files of the working directory must not be imported in their place,
# and Ctrl-C must be handled before anything takes time.
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main(as_module: bool = False) -> None:
    """Run the command line of this process and leave with its exit code.

    Args:
        as_module: whether ``python -m`` started the process; it put the working directory first on the path of imports.
    """
    try:
        folder = _working_directory()
        if as_module and not sys.flags.safe_path and sys.path[0] == folder:
            del sys.path[0]  # a torch.py that lies there is not torch
        _stop_quietly_during_imports()
        _ignore_settings_of_libraries()
        _run()
    except KeyboardInterrupt:
        _leave(130)
    except SystemExit as end:
        _leave(end.code)


def _stop_quietly_during_imports() -> None:
    """End the process at once on SIGINT, and ignore SIGUSR1, until the command installs its own handlers."""
    import signal

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(130))
    number = getattr(signal, "SIGUSR1", None)  # not on Windows
    if number is not None and signal.getsignal(number) is signal.SIG_DFL:
        signal.signal(number, lambda number, frame: None)


def _working_directory() -> str:
    """Return the working directory.

    Raises:
        SystemExit: it has been deleted (some libraries abort the process then), or the package lies in a zip file.
    """
    if not os.path.isdir(os.path.dirname(__file__)):
        _refuse(f"{os.path.dirname(__file__)}: the package cannot run inside a zip file; unpack it, or install it with pip")
    try:
        return os.getcwd()
    except OSError as error:
        _refuse(f"the working directory cannot be used ({error.strerror}); change to another one, for example with: cd")


def _refuse(message: str) -> NoReturn:
    if sys.stderr is not None:
        sys.stderr.write(f"error: {message}\n")
    raise SystemExit(2)


def _ignore_settings_of_libraries() -> None:
    """Hide matplotlib's settings from it: a file or variable from anywhere could change pictures, or make the import hang or fail."""
    os.environ.pop("MPLBACKEND", None)
    exists = os.path.exists

    def exists_for_program(path: int | str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> bool:
        name = os.path.basename(path) if isinstance(path, str) else ""
        return (name != "matplotlibrc" or os.path.basename(os.path.dirname(str(path))) == "mpl-data") and exists(path)

    os.path.exists = exists_for_program


def _run() -> None:
    import gc
    import logging
    import warnings

    # Importing torch leaves 200,000 objects that are never freed; frequent garbage collections over them slow short trainings.
    gc.set_threshold(50_000)
    if not sys.warnoptions:  # warnings of libraries are for programmers; `python -W` shows them
        warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())  # nor do users need what libraries log
    try:
        from tiedae_cli.system.processors import limit_threads

        limit_threads()
        from tiedae_cli.cli.app import run
    except OSError as error:  # for example too many open files
        _refuse(f"the program cannot be loaded: {error.strerror or error}")
    run()


def _leave(code: object) -> None:
    """End the process with an exit code; skip the destruction of torch's objects, which takes longer than many commands.

    Raises:
        SystemExit: buffered output cannot be written; the interpreter reports it.
    """
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):
        raise SystemExit(code) from None
    if code is None or isinstance(code, int):
        import atexit

        atexit._run_exitfuncs()
        os._exit(code or 0)
    raise SystemExit(code)


if __name__ == "__main__":
    main(as_module=True)
