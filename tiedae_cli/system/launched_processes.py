"""The processes that ``torchrun`` started, by the variables that it sets."""

import os

from tiedae_cli.errors import InputError


def launched_processes() -> int:
    """Return how many processes run together; 1 without torchrun.

    Raises:
        InputError: the variables are incomplete or not numbers.
    """
    count, rank = os.environ.get("WORLD_SIZE", "1"), os.environ.get("RANK", "")
    if count == "1":
        return 1
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if missing or not (count.isdecimal() and rank.isdecimal() and int(rank) < int(count)):
        wrong = f"but not {', '.join(missing)}" if missing else f"and RANK={rank}"
        raise InputError(
            f"WORLD_SIZE={count} is set, {wrong}; start several processes with torchrun, or unset WORLD_SIZE for one"
        )
    return int(count)
