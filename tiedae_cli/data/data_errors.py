"""Maps the exceptions of reading damaged data to ``DataError``, which names the data."""

from collections.abc import Iterator
from contextlib import contextmanager

from tiedae_cli.errors import DataError, TiedaeError

LONGEST_REASON = 120  # characters of another library's message


@contextmanager
def data_errors(name: object, what: str | None = None) -> Iterator[None]:
    """Raise ``DataError`` if a file cannot be read; this program's own errors pass.

    Args:
        name: of the file.
        what: what the file should be, if a library reads it. Libraries raise almost any exception for damage (KeyError, zlib.error,
            ArrowInvalid ...), so every exception then means damage. Default: only OSError and UnicodeDecodeError do.
    """
    try:
        yield
    except TiedaeError:
        raise
    except UnicodeDecodeError:
        raise DataError(f"{name}: not UTF-8 text") from None
    except MemoryError:  # pyarrow's is one too
        raise DataError(f"{name}: does not fit into memory") from None
    except Exception as error:
        if isinstance(error, OSError) and (what is None or error.errno is not None):  # without a number: gzip's word for damage
            raise DataError(f"{name}: cannot be read: {error.strerror or first_line(error)}") from None
        if what is None:
            raise
        raise DataError(f"{name}: damaged, or not {what} ({first_line(error)})") from None


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message; its type if the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:LONGEST_REASON]
