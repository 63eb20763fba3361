"""``python -m tiedae_cli`` and the console script ``tiedae``."""

from tiedae_cli.cli import run


def main() -> None:
    """Run the command line of this process and leave with its exit code."""
    run()


if __name__ == "__main__":
    main()
