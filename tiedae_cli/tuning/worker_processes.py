"""Processes that train trials for ``--jobs``: each trains one at a time and asks this process after each epoch."""

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

from tiedae_cli.errors import Interrupted, LostProcessError, TiedaeError
from tiedae_cli.runs.training_state import EpochReport
from tiedae_cli.runs.trials import Trial
from tiedae_cli.tuning.trial_loop import Epoch, TrialTrainer

PATIENCE = 60.0  # seconds in which a process must save and end


class WorkerProcess:
    """A process with a trainer, as a trainer of this process.

    Args:
        make: makes the trainer over there; a function of a module, which ``multiprocessing`` can import.
        setup: its argument.
    """

    def __init__(self, make: Callable[[Any], TrialTrainer], setup: Any) -> None:
        spawning = multiprocessing.get_context("spawn")  # a fork would inherit the threads' locks, but not the threads
        self._connection, theirs = spawning.Pipe()
        self._process = spawning.Process(target=_work, args=(theirs, make, setup), daemon=True)
        self._process.start()
        theirs.close()

    @contextlib.contextmanager
    def opened(self, trial: Trial, epoch: Epoch, deadline: float | None) -> Iterator[Callable[[], str]]:
        """Let the process open a trial; see ``TrialTrainer``."""
        self._send((trial, deadline))
        self._answer(trial, epoch)
        yield lambda: self._answer(trial, epoch)

    def _answer(self, trial: Trial, epoch: Epoch) -> str:
        while True:
            kind, value = self._received(trial)
            if kind == "epoch":
                self._send(epoch(value))
            elif kind == "error":
                raise value
            else:
                return str(value)

    def _received(self, trial: Trial) -> tuple[str, Any]:
        try:
            kind, value = self._connection.recv()
        except (EOFError, OSError):
            raise LostProcessError(f"{trial.folder}: its process ended; the same command resumes") from None
        return kind, value

    def _send(self, value: Any) -> None:
        with contextlib.suppress(OSError):  # the process has ended, which the next ``recv`` reports
            self._connection.send(value)

    def stop(self) -> None:
        """Let the process save and end."""
        if self._process.is_alive():
            self._process.terminate()
        self._process.join(PATIENCE)
        if self._process.is_alive():
            self._process.kill()
        self._connection.close()


@contextlib.contextmanager
def worker_processes(count: int, make: Callable[[Any], TrialTrainer], setup: Any) -> Iterator[list[WorkerProcess]]:
    """Start processes, and stop them at the end of the block.

    Args:
        count: how many.
        make: as of ``WorkerProcess``.
        setup: its argument.
    """
    processes: list[WorkerProcess] = []
    try:
        for _ in range(count):
            processes.append(WorkerProcess(make, setup))
        yield processes
    finally:
        stopping = [threading.Thread(target=process.stop) for process in processes]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join()


def _work(connection: Connection, make: Callable[[Any], TrialTrainer], setup: Any) -> None:
    """Train what arrives, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal it reaches all processes; the parent stops this one
    logging.getLogger("tiedae_cli").addHandler(logging.NullHandler())
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    trainer = make(setup)

    def ask(report: EpochReport) -> bool:
        connection.send(("epoch", report))
        return bool(connection.recv())

    with contextlib.suppress(EOFError, BrokenPipeError, Interrupted):
        while True:
            trial, deadline = connection.recv()
            try:
                with trainer.opened(trial, ask, deadline) as train:
                    connection.send(("opened", ""))
                    connection.send(("ended", train()))
            except TiedaeError as error:
                connection.send(("error", error))


def _stop_with_parent() -> None:
    """Stop this process, as a signal does, when its parent has ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
