"""Where results may go: the one place that decides it, for every output option of every command.

An output goes into a folder that is there, and replaces an ordinary older file. It never replaces what the same command reads, another
output of the same command, or a file that holds the state of a run; and it goes through no link that leads in a circle.
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
    """Give the binary file that a result goes to: stdout for ``-``; a device or a pipe as it is; else a file, whole or not at all.

    Raises:
        InputError: the target is none that may be replaced.
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
    """Refuse targets that may not be replaced; a command with several, or with long work before them, asks early.

    Args:
        targets: paths, ``-`` for stdout, None for an output that was not asked for.

    Raises:
        InputError: one of them; the message says which and why.
    """
    seen: set[Path] = set(files_in_use().outputs)
    stdout = files_in_use().stdout_is_taken
    for target in targets:
        if target is None:
            continue
        if target == "-":
            if stdout:
                raise InputError("-: two results would be mixed on stdout; name a file for one of them")
            stdout = True
            _refuse_stdout_into_an_input()
            continue
        real = _checked(Path(target))
        if real is None:
            continue
        if real in seen:
            raise InputError(f"{target}: two results would be written to it; name another file for one of them")
        seen.add(real)


def refuse_bytes_on_terminal(*targets: str | None) -> None:
    """Refuse to write what is no text into a terminal; a command asks before its work, and whoever writes bytes asks again.

    Args:
        targets: as in ``check_targets``, of outputs that are no text.

    Raises:
        InputError: one of them is ``-``, and stdout is a terminal.
    """
    if "-" in targets and sys.stdout.isatty():
        raise InputError(
            "stdout is a terminal, and this output is no text: name a file in place of -, or pipe it on (... | cat > FILE)"
        )


def _refuse_stdout_into_an_input() -> None:
    """Raise ``InputError`` where stdout is appended to a file that is being read: the reading would never end."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        information = os.fstat(sys.stdout.fileno())
        if stat.S_ISREG(information.st_mode) and (information.st_dev, information.st_ino) in files_in_use().inputs:
            raise InputError("stdout goes to a file that this command reads; send it to another one")


def _checked(path: Path) -> Path | None:
    """Return the real path of a file that may be written; None for a device or a pipe, which nothing can replace."""
    real = Path(os.path.realpath(path))
    if path.name.startswith(TEMPORARY_PREFIX):
        raise InputError(f"{path}: names that begin with {TEMPORARY_PREFIX} are those of temporary files, which are removed")
    if is_state_of_a_run(path) or is_state_of_a_run(real):
        raise InputError(f"{path}: a run keeps its own state there; {_another_name(path)}")
    try:
        information = os.stat(path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InputError(f"{path}: a link that leads in a circle; name a file") from None
        if not real.parent.is_dir():
            raise InputError(f"{path}: there is no folder {path.parent}; make it first, or name another file") from None
        return real
    if stat.S_ISDIR(information.st_mode):
        raise InputError(f"{path}: is a folder; name a file, for example {path / 'result'}")
    if not stat.S_ISREG(information.st_mode):
        return None
    inside = is_image_file(real.name) and any(folder in real.parents for folder in files_in_use().folders)
    if inside or (information.st_dev, information.st_ino) in files_in_use().inputs:
        raise InputError(f"{path}: this command reads it, so it is not replaced; {_another_name(path)}")
    return real


def _another_name(path: Path) -> str:
    """Return the end of a message: a name that is free, out of a run folder where runs keep files of that name."""
    stem = path.with_name(f"my-{path.name}") if is_state_of_a_run(path) else path.with_stem(f"{path.stem}-2")
    return f"write to another file, for example {stem}"
