"""Checks of output paths, shared by every output option of every command.

An output needs an existing folder and may replace an ordinary file. It never replaces an input or another output of the same
command, or a file that holds a run's state, and a symbolic link that leads in a circle is refused.
"""

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tiedae_cli.data.image_files import is_image_file
from tiedae_cli.errors import InputError
from tiedae_cli.runs.run_folder import is_state_of_a_run
from tiedae_cli.system.files_in_use import files_in_use
from tiedae_cli.system.storage import TEMPORARY_PREFIX, replacing, storage_errors


@contextlib.contextmanager
def opened_output(target: str) -> Iterator[IO[bytes]]:
    """Open the target of a result in binary mode: stdout for ``-``, a device or pipe directly, a file atomically.

    Raises:
        InputError: the target must not be replaced.
        StorageError: it cannot be written.
    """
    check_targets(target)
    if target == "-":
        files_in_use().stdout_is_taken = True
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(target)
    if path.exists() and not path.is_file():
        with storage_errors(path), path.open("wb") as file:
            yield file
        return
    with replacing(path) as file:
        yield file
    files_in_use().outputs.add(Path(os.path.realpath(path)))


def check_targets(*targets: str | None) -> None:
    """Refuse targets that must not be replaced; call it before long work.

    Args:
        targets: paths, ``-`` for stdout, None for an output that was not requested.

    Raises:
        InputError: a target is refused; the message says which and why.
    """
    seen: set[Path] = set(files_in_use().outputs)
    stdout = files_in_use().stdout_is_taken
    for target in targets:
        if target is None:
            continue
        if target == "-":
            if stdout:
                raise InputError("-: two results would be mixed on stdout; give a file name for one of them")
            stdout = True
            _refuse_stdout_into_an_input()
            continue
        real = _checked(Path(target))
        if real is None:
            continue
        if real in seen:
            raise InputError(f"{target}: two results would be written to this file; give another file name for one of them")
        seen.add(real)


def refuse_binary_on_terminal(*targets: str | None) -> None:
    """Refuse to write binary data to a terminal; commands check before their work, writers check again.

    Args:
        targets: binary outputs, as in ``check_targets``.

    Raises:
        InputError: one of them is ``-``, and stdout is a terminal.
    """
    if "-" in targets and sys.stdout.isatty():
        raise InputError(
            "refusing to write binary data to a terminal; give a file name instead of -, or pipe the output (... | cat > FILE)"
        )


def _refuse_stdout_into_an_input() -> None:
    """Raise ``InputError`` if stdout appends to a file that is being read, because reading would never end."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        information = os.fstat(sys.stdout.fileno())
        if stat.S_ISREG(information.st_mode) and (information.st_dev, information.st_ino) in files_in_use().inputs:
            raise InputError("stdout is redirected to a file that this command reads; redirect it to another file")


def _checked(path: Path) -> Path | None:
    """Return the real path of a file that may be written; None for a device or a pipe, which cannot be replaced."""
    real = Path(os.path.realpath(path))
    if path.name.startswith(TEMPORARY_PREFIX):
        raise InputError(
            f"{path}: names that begin with {TEMPORARY_PREFIX} are reserved for temporary files, which are deleted"
        )
    if is_state_of_a_run(path) or is_state_of_a_run(real):
        raise InputError(f"{path}: this file holds the state of a run; {_another_name(path)}")
    try:
        information = os.stat(path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InputError(f"{path}: the symbolic link leads in a circle; give the name of a file") from None
        if not real.parent.is_dir():
            raise InputError(
                f"{path}: the folder {path.parent} does not exist; create it first, or give another file name"
            ) from None
        return real
    if stat.S_ISDIR(information.st_mode):
        raise InputError(f"{path}: is a folder; give a file name, for example {path / 'result'}")
    if not stat.S_ISREG(information.st_mode):
        return None
    inside = is_image_file(real.name) and any(folder in real.parents for folder in files_in_use().folders)
    if inside or (information.st_dev, information.st_ino) in files_in_use().inputs:
        raise InputError(f"{path}: this command reads this file and must not replace it; {_another_name(path)}")
    return real


def _another_name(path: Path) -> str:
    """Return the end of a message: an unused name, outside the run folder if runs keep a file of that name."""
    stem = path.with_name(f"my-{path.name}") if is_state_of_a_run(path) else path.with_stem(f"{path.stem}-2")
    return f"write to another file, for example {stem}"
