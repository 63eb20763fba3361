"""Threads in place of the processes of one training: they sum, gather and exchange as processes do."""

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from tiedae_cli.system.devices import Ranks

T = TypeVar("T")


class Meeting:
    """Hands what each thread brings to all threads, in the order of their ranks."""

    def __init__(self, count: int) -> None:
        self.barrier = threading.Barrier(count, timeout=60)
        self.brought: list[Any] = [None] * count

    def of_all(self, rank: int, value: Any) -> list[Any]:
        self.brought[rank] = value
        self.barrier.wait()
        found = list(self.brought)
        self.barrier.wait()
        return found


class ThreadRanks(Ranks):
    """One thread in place of one process."""

    def __init__(self, rank: int, count: int, meeting: Meeting) -> None:
        super().__init__(rank, count)
        self.meeting = meeting

    def add(self, values: Tensor) -> None:
        values.copy_(torch.stack(self.meeting.of_all(self.rank, values.clone())).sum(0))

    def gather(self, value: T) -> list[T]:
        return self.meeting.of_all(self.rank, value)

    def from_leader(self, value: T) -> T:
        first: T = self.gather(value)[0]
        return first

    def exchange(self, rows: Tensor, sent: Sequence[int], received: Sequence[int]) -> Tensor:
        brought = self.meeting.of_all(self.rank, torch.split(rows, list(sent)))
        arrived = [parts[self.rank] for parts in brought]
        assert [len(part) for part in arrived] == list(received)
        return torch.cat(arrived)


def in_threads(count: int, run: Callable[[Ranks], T]) -> list[T]:
    """Run a function once per rank, all at the same time; raise the first rank's error."""
    meeting = Meeting(count)
    results: dict[int, T] = {}
    errors: dict[int, BaseException] = {}

    def one(rank: int) -> None:
        try:
            results[rank] = run(ThreadRanks(rank, count, meeting))
        except BaseException as error:
            errors[rank] = error
            meeting.barrier.abort()

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    own = [error for error in errors.values() if not isinstance(error, threading.BrokenBarrierError)]
    if errors:
        raise [*own, *errors.values()][0]
    return [results[rank] for rank in range(count)]
