"""The control groups of this process on Linux: by them a container's memory and processors are limited."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

OWN_GROUPS, GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def control_groups(kind: str) -> Iterator[tuple[int, Path]]:
    """Yield version (1 or 2) and folder of each group that limits this process, its own first; none on other systems.

    Args:
        kind: what is limited, as version 1 names it: ``memory`` or ``cpu``.
    """
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = [line.split(":", 2) for line in OWN_GROUPS.read_text().splitlines()]
        own = next((name for _, kinds, name in lines if kind in kinds.split(",")), None)  # version 1 has one tree per kind
        version, root = (2, GROUPS) if own is None else (1, GROUPS / kind)
        path = root / (own or next(name for number, _, name in lines if number == "0")).lstrip("/")
        for group in (path, *path.parents):  # in a container, the name may be that of another root
            yield version, group
            if group == root:
                return
