"""The arithmetic of a training on a device: its precision, its threads, and torch's settings for reproducible results."""

import contextlib
import logging
from collections.abc import Iterator

import torch

from tiedae_cli.config import TrainingConfig
from tiedae_cli.system.devices import Place, Ranks, has_bfloat16

log = logging.getLogger(__name__)

WORK_PER_THREAD = 20e6  # FLOP of a step; for less, a second thread saved at most a seventh (``benchmarks/threads.py``)


def choose_place(device: torch.device, training: TrainingConfig, ranks: Ranks) -> Place:
    """Return where and how to train on a device; warn if the precision of the config is slower than float32 there."""
    if device.type == "cuda":
        torch.backends.cudnn.deterministic = True  # a convolution's gradient would differ in its last bits from run to run
        if training.tf32:
            torch.set_float32_matmul_precision("high")
    native = has_bfloat16(device)
    if training.precision == "bfloat16" and not native:
        log.warning(
            f"{device} has no bfloat16 arithmetic, and emulating it is slow; training.precision: auto uses float32 here"
        )
    low = training.precision == "bfloat16" or (training.precision == "auto" and native)
    return Place(device, torch.bfloat16 if low else torch.float32, ranks)


@contextlib.contextmanager
def threads_for(work: float) -> Iterator[None]:
    """Compute in this block with no more of torch's threads than are worth it: in a small step they wait for each other.

    Args:
        work: FLOP of a step.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, min(threads, int(work / WORK_PER_THREAD))))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def arithmetic_restored() -> Iterator[None]:
    """Restore at the end of the block those of torch's settings that ``choose_place`` and an interrupted epoch leave."""
    deterministic, precision = torch.backends.cudnn.deterministic, torch.get_float32_matmul_precision()
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = deterministic
        torch.set_float32_matmul_precision(precision)
        torch.set_num_threads(threads)
