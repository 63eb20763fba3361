"""A step without kernel launches: captured once in a CUDA graph and replayed, with a step counter on the device.

The captured part does not depend on the host: batch indices, learning rate and the position of the error are looked up with a
counter on the device, which the graph itself advances. Both ends of a step, the gathering and the update, are one kernel each if
they are of the usual kind (``fused_step.py``). Then several steps share a graph.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from tiedae_cli.training.step.autograd import AutogradGradient
from tiedae_cli.training.step.batch import Batch
from tiedae_cli.training.step.gradient import Gradient
from tiedae_cli.training.step.optimizer import Optimizer
from tiedae_cli.training.step.parameters import FlatParameters

WARM_UP_RUNS = 3  # before a capture, so that libraries allocate their workspaces
STEPS_PER_GRAPH = 8  # if a whole step is on the device; 1 launches each step by itself


class Step(Protocol):
    """The captured parts of a ``TrainingStep``."""

    batch: Batch
    gradient: Gradient | AutogradGradient
    optimizer: Optimizer
    parameters: FlatParameters
    errors: Tensor
    steps: int
    share: int
    epoch: int
    clip: float | None

    def update(self, rate: float | Tensor) -> None: ...  # noqa: D102

    def state(self) -> dict[str, Tensor]: ...  # noqa: D102

    def restore(self, state: Mapping[str, Tensor]) -> None: ...  # noqa: D102


class CapturedStep:
    """Training steps as graphs; gathering stays outside if it needs the host (random choices, data in host memory).

    Args:
        step: step to capture; its parameters are unchanged afterwards.
        capture: whether to capture; False runs the same operations one by one, without CUDA.
        steps_per_graph: how many steps share a graph if nothing in them needs the host.
    """

    def __init__(self, step: Step, capture: bool = True, steps_per_graph: int = STEPS_PER_GRAPH) -> None:
        self.step = step
        device = step.errors.device
        self.order = torch.zeros(step.steps, step.share, dtype=torch.int64, device=device)
        self.rates = torch.zeros(step.steps, dtype=torch.float32, device=device)
        self.counter = torch.zeros(1, dtype=torch.int64, device=device)
        self.seen = torch.zeros(1, dtype=torch.int64, pin_memory=capture)  # the host's latest copy of the counter
        self.gather: Callable[[], None] = self._gather
        self.update: Callable[[Tensor], None] = self._update
        self.refresh: Callable[[], None] | None = None  # converts restored parameters, if a fused update converts all others
        if step.gradient.fused:
            self._fuse()
        whole = self.refresh is not None and not step.batch.needs_host
        self.steps_per_graph = steps_per_graph if whole else 1
        self.waiting = 0  # steps that were run by the host and are not launched yet
        self.replays = self._capture() if capture else {count: self._emulated(count) for count in {1, self.steps_per_graph}}

    def begin_epoch(self, order: Tensor, rates: Sequence[float], step: int) -> None:
        """Copy an epoch's order and learning rates to the device."""
        self.launch()
        self.order.copy_(order)
        self.rates.copy_(torch.tensor(rates, dtype=torch.float32))
        self.counter.fill_(step)
        self.seen.fill_(step)
        if self.refresh is not None:
            self.refresh()

    def run(self, step: int) -> None:
        """Run the step of the device's counter, now or with the next ones; the host's ``step`` only seeds random choices."""
        if self.step.batch.needs_host:
            self.step.batch.fill(self.order[step], self.step.epoch, step)
        self.waiting += 1
        if self.waiting == self.steps_per_graph or step + 1 == self.step.steps:
            self.launch()

    def launch(self) -> None:
        """Launch the steps that wait for others to share a graph with."""
        if self.waiting == self.steps_per_graph:
            self.replays[self.waiting]()
        else:
            for _ in range(self.waiting):
                self.replays[1]()
        self.waiting = 0

    def done(self) -> int:
        """Return how many steps of the epoch the device has finished, without synchronizing (it may lag)."""
        done = int(self.seen.item())
        self.seen.copy_(self.counter, non_blocking=True)
        return done

    def _fuse(self) -> None:
        """Replace the operations at the ends of a step by one kernel each, if they are of the kinds that have one."""
        from tiedae_cli.training.step.fused_gradient import FusedGradient
        from tiedae_cli.training.step.fused_step import FusedGather, FusedUpdate

        step, gradient = self.step, self.step.gradient
        assert isinstance(gradient, FusedGradient)
        if FusedGather.fits(step.batch):
            self.gather = FusedGather(step.batch, self.order, self.counter).run
        if FusedUpdate.fits(gradient, step.optimizer) and step.clip is None:
            update = FusedUpdate(step.parameters, gradient, step.optimizer, self.counter, self.rates, step.errors)
            self.update, self.refresh = update.run, update.refresh

    def _gather(self) -> None:
        if not self.step.batch.needs_host:
            self.step.batch.fill(self.order.index_select(0, self.counter).view(-1), 0, 0)

    def _update(self, squared_error: Tensor) -> None:
        self.step.errors.index_copy_(0, self.counter, squared_error.view(1).to(torch.float32))
        self.step.update(self.rates.index_select(0, self.counter).view(()))
        self.counter.add_(1)

    def _operations(self, count: int = 1) -> None:
        for _ in range(count):
            self.gather()
            self.update(self.step.gradient.run())

    def _emulated(self, count: int) -> Callable[[], None]:
        return lambda: self._operations(count)

    def _capture(self) -> dict[int, Callable[[], None]]:
        """Return what replays one step and a whole graph of them."""
        before = self.step.parameters.master.clone()
        optimizer = self.step.state()
        with torch.cuda.device(self.counter.device):  # of the streams, and of Triton's launches
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_UP_RUNS):
                    self.counter.zero_()
                    self._operations()
            torch.cuda.current_stream().wait_stream(stream)
            self.counter.zero_()
            replays = {count: self._graph(count).replay for count in {1, self.steps_per_graph}}
        self.step.parameters.master.copy_(before)
        self.step.restore(optimizer)
        self.step.errors.zero_()
        return replays

    def _graph(self, count: int) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._operations(count)
        return graph
