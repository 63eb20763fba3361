"""How much memory this machine has, and whether data fits into it."""

import psutil


def available_memory() -> int:
    """Return the number of bytes that can be allocated without swapping."""
    return int(psutil.virtual_memory().available)


def total_memory() -> int:
    """Return the size of the memory in bytes."""
    return int(psutil.virtual_memory().total)
