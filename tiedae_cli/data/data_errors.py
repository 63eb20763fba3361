"""What reading damaged data raises, as one kind of error that names the data."""

from collections.abc import Iterator
from contextlib import contextmanager

from tiedae_cli.errors import DataError, TiedaeError

LONGEST_REASON = 120  # characters of another library's message


@contextmanager
def data_errors(name: object, what: str | None = None) -> Iterator[None]:
    """Raise as a ``DataError`` that a file cannot be read; this program's own errors pass.

    Args:
        name: of the file.
        what: what it should be, where a library reads it: these meet damage with almost any exception (KeyError, zlib.error,
            ArrowInvalid ...), so then every exception means damage. Without it only the system's and the decoder's errors do.
    """
    try:
        yield
    except TiedaeError:
        raise
    except UnicodeDecodeError:
        raise DataError(f"{name}: not UTF-8 text") from None
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {error.strerror or first_line(error)}") from None
    except Exception as error:
        if what is None:
            raise
        raise DataError(f"{name}: damaged, or not {what} ({first_line(error)})") from None


def first_line(error: Exception) -> str:
    """Return the first line of an exception's message; where it has none, its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:LONGEST_REASON]
