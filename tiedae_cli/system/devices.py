"""Where and how numbers are computed: the device, the precision, and the rank among the processes of a training."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from tiedae_cli.errors import DeviceError, LostProcessError, TiedaeError
from tiedae_cli.system.launched_processes import launched_processes
from tiedae_cli.system.processors import threads_exceed_quota, usable_processors

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

    Apple's GPUs are used only on request, because they have not been tested. On the CPU, torch gets no more threads than a
    container's quota has processors.

    Raises:
        DeviceError: there is no such device; the message lists those that exist.
    """
    if threads_exceed_quota():  # in a Python program; the command line limits threads before it imports torch
        torch.set_num_threads(min(torch.get_num_threads(), usable_processors()))
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
        self._kept: list[np.ndarray] = []  # the rows of ``keep``, by their number
        self._leading = False  # within ``led``

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

    def gather(self, value: T) -> list[T]:
        """Return the values that all processes passed, in the order of their ranks.

        Raises:
            LostProcessError: another process has ended.
        """
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        with _lost_process_errors():
            torch.distributed.all_gather_object(values, value)
        return values

    def exchange(self, rows: Tensor, sent: Sequence[int], received: Sequence[int]) -> Tensor:
        """Send rows to the processes, and return those that they send to this one, in the order of their ranks, (B, D).

        Args:
            rows: (sum of ``sent``, D) contiguous, of any type: those for process 0 first.
            sent: how many go to each process.
            received: how many come from each process.

        Raises:
            LostProcessError: another process has ended.
        """
        found = rows.new_empty(sum(received), *rows.shape[1:])
        if self.count == 1:
            return found.copy_(rows)
        with _lost_process_errors():  # as bytes: not every backend knows every type
            torch.distributed.all_to_all_single(_bytes(found), _bytes(rows), list(received), list(sent))
        return found

    def led(self, work: Callable[[], T]) -> T:
        """Return what the leading process computes; the others answer its requests for rows. All processes call it together.

        Raises:
            TiedaeError: what the work raises, in every process.
            LostProcessError: another process has ended.
        """
        if self.count == 1 or self._leading:
            return work()
        if not self.leads:
            answer: T = self._answer_for_rows()
            return answer
        self._leading = True
        try:
            value = work()
        except BaseException as error:
            ended = LostProcessError("the leading process of this training was stopped")
            with contextlib.suppress(LostProcessError):
                self.from_leader((None, None, error if isinstance(error, TiedaeError) else ended))
            raise
        finally:
            self._leading = False
        self.from_leader((None, value, None))
        return value

    def keep(self, rows: np.ndarray) -> int:
        """Keep rows for ``rows_at``, and return their number; all processes keep their rows of one array together."""
        self._kept.append(rows)
        return len(self._kept) - 1

    def rows_at(self, number: int, places: list[np.ndarray]) -> np.ndarray:
        """Return rows that the processes keep, (B, D): those of process 0 first. Only for the leading process, within ``led``.

        Args:
            number: of the rows.
            places: of each process, the places among its own rows.
        """
        assert self._leading, "the other processes do not answer now"
        if any(len(rows) for rows in places[1:]):
            self.from_leader(((number, places), None, None))
            return self._collected(number, places)
        return np.asarray(self._kept[number][places[0]])

    def _answer_for_rows(self) -> Any:
        while True:
            request, value, error = self.from_leader((None, None, None))
            if error is not None:
                raise error
            if request is None:
                return value
            self._collected(*request)

    def _collected(self, number: int, places: list[np.ndarray]) -> np.ndarray:
        """Return rows of all processes in the leading one; in the others, what they send."""
        mine = torch.from_numpy(self._kept[number][places[self.rank]])
        received = [len(rows) if self.leads else 0 for rows in places]
        found: np.ndarray = self.exchange(mine, [len(mine), *[0] * (self.count - 1)], received).numpy()
        return found


@contextlib.contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """Join the processes that ``torchrun`` started (gloo on the CPU, NCCL on CUDA); without torchrun, a single process."""
    count = launched_processes()
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


def _bytes(rows: Tensor) -> Tensor:
    """Return the memory of contiguous rows, (B, D), as bytes, (B, bytes of a row)."""
    return rows.view(torch.uint8) if rows.numel() else rows.new_empty(len(rows), 1, dtype=torch.uint8)


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
