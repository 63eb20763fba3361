"""How much memory this machine has."""

import psutil


def available_memory() -> int:
    """Return the bytes that can be taken without swapping."""
    return int(psutil.virtual_memory().available)


def total_memory() -> int:
    """Return the bytes of the whole memory."""
    return int(psutil.virtual_memory().total)
