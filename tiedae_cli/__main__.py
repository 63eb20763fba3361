"""``python -m tiedae_cli`` and the console script ``tiedae``."""

import atexit
import gc
import logging
import os
import sys
import warnings


def main() -> None:
    """Run the command line of this process and leave with its exit code."""
    # torch's import leaves 200,000 objects that all stay: looking through them for garbage again and again slows a short training.
    gc.set_threshold(50_000)
    if not sys.warnoptions:  # a warning of a library is for who writes programs with it; `python -W` shows them
        warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())  # nor is what a library logs for people
    try:
        from tiedae_cli.cli.app import run  # here, so that Ctrl-C during the imports shows no traceback

        run()
    except KeyboardInterrupt:
        _leave(130)
    except SystemExit as end:
        _leave(end.code)


def _leave(code: object) -> None:
    """End the process with an exit code, without taking torch apart object by object, which takes longer than many a command's work.

    Raises:
        SystemExit: something is left to say that cannot be written: the interpreter says so.
    """
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):
        raise SystemExit(code) from None
    if code is None or isinstance(code, int):
        atexit._run_exitfuncs()
        os._exit(code or 0)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
