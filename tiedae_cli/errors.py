"""The error family: every failure that a user can meet, each with the exit code that the shell sees.

Only ``cli/app.py`` turns these into a message and an exit code; everything else raises them.
"""


class TiedaeError(Exception):
    """Something failed although the input was right (a full disk, a damaged file, a diverged run): exit code 1."""

    exit_code = 1


class InputError(TiedaeError):
    """The user's input is wrong (a flag, a config, the data): exit code 2."""

    exit_code = 2


class ConfigError(InputError):
    """One or more problems of a config, a line each, each line with its place."""


class DataError(InputError):
    """A data set that is missing, damaged or of the wrong form; the message names the file."""


class DeviceError(InputError):
    """A device that is not there; the message names those that are."""


class CheckpointError(TiedaeError):
    """A checkpoint that is damaged, hostile, from another tool or from a newer version."""


class StorageError(TiedaeError):
    """A file that could not be written: disk full, quota, read-only folder."""


class ExportError(TiedaeError):
    """An exported model that cannot be written in its format, or does not answer as the model does."""


class DivergedError(TiedaeError):
    """The loss became NaN or infinite; the message names epoch and step."""


class LostProcessError(TiedaeError):
    """Another process of a distributed training ended."""


class OutliersFound(TiedaeError):
    """More outliers than ``--fail-above`` allows: exit code 3."""

    exit_code = 3


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM arrived: exit code 128 + the signal's number.

    Like ``KeyboardInterrupt`` no ``Exception``, so that no library's ``except Exception`` takes it for a failure of its own.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number
