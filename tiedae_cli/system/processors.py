"""How many processors this process may use; numerical libraries overlook the quota of a container."""

import contextlib
import os
from collections.abc import Iterator

from tiedae_cli.system.control_groups import control_groups

THREADS = "OMP_NUM_THREADS"  # the variable by which people and torchrun set the threads of numerical libraries


def usable_processors() -> int:
    """Return how many processors this process may use: those that it sees, or a container's quota, rounded up."""
    return min([_visible_processors(), *_quotas()])


def has_quota() -> bool:
    """Return whether this process may use fewer processors than it sees, for which libraries would start threads."""
    return usable_processors() < _visible_processors()


def threads_exceed_quota() -> bool:
    """Return whether libraries would start more threads than there are usable processors, because nobody has chosen their number."""
    return has_quota() and not os.environ.get(THREADS)


def limit_threads() -> None:
    """Let numerical libraries that are imported after this call start one thread per usable processor, in child processes too.

    With more threads than a container's quota, each waits for others that do not run. A number that somebody has chosen stays.
    """
    if threads_exceed_quota():
        os.environ[THREADS] = str(usable_processors())


def _visible_processors() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _quotas() -> Iterator[int]:
    for version, group in control_groups("cpu"):
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):  # "max", or no such file: no limit
            if version == 2:
                quota, period = map(int, (group / "cpu.max").read_text().split())
            else:
                quota, period = (int((group / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
            if quota > 0:  # -1: no limit
                yield max(1, -(-quota // period))
