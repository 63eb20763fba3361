"""``python -m tiedae_cli`` and the console script ``tiedae``."""


def main() -> None:
    """Run the command line of this process and leave with its exit code."""
    try:
        from tiedae_cli.cli import run  # here, so that Ctrl-C during the imports shows no traceback

        run()
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
