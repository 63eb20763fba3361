"""The exceptions: one for each kind of failure that a user can meet, with its exit code.

Only ``cli/app.py`` turns them into a message and an exit code; all other modules raise them.
"""


class TiedaeError(Exception):
    """A failure despite valid input (full disk, damaged file, diverged run): exit code 1."""

    exit_code = 1


class InputError(TiedaeError):
    """Invalid input (an option, the config, the data): exit code 2."""

    exit_code = 2


class ConfigError(InputError):
    """One or more problems in a config: one line per problem, each with its position."""


class DataError(InputError):
    """Data that is missing, damaged or of the wrong form; the message names the file."""


class DeviceError(InputError):
    """A device that does not exist; the message lists those that do."""


class CheckpointError(TiedaeError):
    """A checkpoint that is damaged, malicious, from another tool or from a newer version."""


class StorageError(TiedaeError):
    """A file that cannot be written: disk full, quota exceeded, read-only folder."""


class ExportError(TiedaeError):
    """A model that cannot be exported to a format, or an exported file that gives other results than the model."""


class DivergedError(TiedaeError):
    """The loss became NaN or infinite; the message names epoch and step."""


class LostProcessError(TiedaeError):
    """A distributed training that lost one of its processes."""


class OutliersFound(TiedaeError):
    """More outliers than ``--fail-above`` allows: exit code 3."""

    exit_code = 3


class Interrupted(KeyboardInterrupt):
    """The command was stopped by SIGINT, SIGTERM or SIGHUP: exit code 128 + the signal's number.

    Not an ``Exception``, like ``KeyboardInterrupt``, so that a library's ``except Exception`` does not swallow it.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number
