"""Where and how numbers are computed: the device, the precision, and the rank among the processes of a training."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor

from tiedae_cli.errors import DeviceError, InputError, LostProcessError

T = TypeVar("T")
LOST_AFTER = timedelta(minutes=10)  # a process that is silent for longer counts as lost


def available_devices() -> list[str]:
    """Return the names that ``--device`` accepts on this machine."""
    names = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        names.append("mps")
    return names


def resolve_device(name: str) -> torch.device:
    """Return the device that ``--device`` asks for; ``auto`` is the first CUDA device, or the CPU if there is none.

    Apple's GPUs are used only on request, because they have not been tested.

    Raises:
        DeviceError: there is no such device; the message lists those that exist.
    """
    available = available_devices()
    if name in ("auto", "cuda") and "LOCAL_RANK" in os.environ and "cuda:0" in available:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    if name == "auto":
        return torch.device("cuda:0" if "cuda:0" in available else "cpu")
    if name == "cuda" and "cuda:0" in available:
        return torch.device("cuda:0")
    if name in available:
        return torch.device(name)
    raise DeviceError(f"--device {name}: not on this machine; available: auto, {', '.join(available)}")


def in_float64(values: Tensor) -> Tensor:
    """Return values as float64 on their own device, or on the CPU if the device has no float64 (Apple's GPUs)."""
    return (values.cpu() if values.device.type == "mps" else values).to(torch.float64)


class Ranks:
    """The processes that train together, and the rank of this one; by default a single process.

    Args:
        rank: of this process, from 0.
        count: the number of processes.
    """

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank = rank
        self.count = count

    @property
    def leads(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def share(self, count: int) -> tuple[int, int]:
        """Return the [start, stop) range of this process among ``count`` items; the ranges of all processes differ by one at most."""
        return count * self.rank // self.count, count * (self.rank + 1) // self.count

    def add(self, values: Tensor) -> None:
        """Sum a tensor over all processes, in place.

        Raises:
            LostProcessError: another process has ended.
        """
        if self.count > 1:
            with _lost_process_errors():
                torch.distributed.all_reduce(values)

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        if self.count == 1:
            return flag
        flags = torch.tensor([int(flag)])
        self.add(flags)
        return bool(flags.item())

    def from_leader(self, value: T) -> T:
        """Return the value that the leading process passed.

        Raises:
            LostProcessError: another process has ended.
        """
        if self.count == 1:
            return value
        values = [value]
        with _lost_process_errors():
            torch.distributed.broadcast_object_list(values, src=0)
        return values[0]


@contextlib.contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """Join the processes that ``torchrun`` started (gloo on the CPU, NCCL on CUDA); without torchrun, a single process."""
    count = _processes()
    if count == 1:
        yield Ranks()
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with _lost_process_errors():
        torch.distributed.init_process_group(backend, timeout=LOST_AFTER)
    try:
        yield Ranks(torch.distributed.get_rank(), count)
    finally:
        if torch.cuda.is_available():  # required by NCCL; gloo in torch 2.6 may hang here, and the process ends anyway
            torch.distributed.destroy_process_group()


def _processes() -> int:
    """Return how many processes train together, from the variables that ``torchrun`` sets.

    Raises:
        InputError: they are incomplete or not numbers.
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


@contextlib.contextmanager
def _lost_process_errors() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # torch.distributed has no narrower type for a lost peer
        raise LostProcessError(
            f"another process of this training ended or cannot be reached ({str(error).splitlines()[0]})"
        ) from None


@dataclass(frozen=True)
class Place:
    """Where and how a training computes."""

    device: torch.device
    dtype: torch.dtype = torch.float32
    """Data type of the matrix products."""
    ranks: Ranks = field(default_factory=Ranks)


def has_bfloat16(device: torch.device) -> bool:
    """Return whether the device multiplies bfloat16 matrices in hardware; emulation is many times slower than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and _cpu_has_bfloat16()


def _cpu_has_bfloat16() -> bool:
    if hasattr(torch.cpu, "get_capabilities"):  # since torch 2.13
        capabilities = torch.cpu.get_capabilities()
        return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    asked = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(supported() for supported in asked if supported is not None)
