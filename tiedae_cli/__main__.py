"""``python -m tiedae_cli`` and the console script ``tiedae``."""

import gc


def main() -> None:
    """Run the command line of this process and leave with its exit code."""
    # Importing torch makes a million objects that all stay: looking through them for garbage costs a second of a short command.
    gc.set_threshold(50_000)
    try:
        from tiedae_cli.cli import run  # here, so that Ctrl-C during the imports shows no traceback

        run()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    finally:
        gc.freeze()


if __name__ == "__main__":
    main()
