"""``python -m tiedae_cli`` and the console script ``tiedae``."""

import atexit
import gc
import logging
import os
import sys
import warnings


def main() -> None:
    """Run the command line of this process and leave with its exit code."""
    # Importing torch leaves 200,000 objects that are never freed; frequent garbage collections over them slow short trainings.
    gc.set_threshold(50_000)
    if not sys.warnoptions:  # warnings of libraries are for programmers; `python -W` shows them
        warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())  # nor do users need what libraries log
    try:
        from tiedae_cli.cli.app import run  # here, so that Ctrl-C during the imports shows no traceback

        run()
    except KeyboardInterrupt:
        _leave(130)
    except SystemExit as end:
        _leave(end.code)


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
        atexit._run_exitfuncs()
        os._exit(code or 0)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
