"""A step without kernel launches: captured once in a CUDA graph and replayed, with a step counter on the device.

The captured part does not depend on the host: batch indices, learning rate and the position of the error are looked up with a
counter on the device, which the graph itself advances.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from tiedae_cli.training.step.autograd import AutogradGradient
from tiedae_cli.training.step.batch import Batch
from tiedae_cli.training.step.gradient import Gradient
from tiedae_cli.training.step.parameters import FlatParameters

WARM_UP_RUNS = 3  # before a capture, so that libraries allocate their workspaces


class Step(Protocol):
    """The captured parts of a ``TrainingStep``."""

    batch: Batch
    gradient: Gradient | AutogradGradient
    parameters: FlatParameters
    errors: Tensor
    steps: int
    share: int
    epoch: int

    def update(self, rate: float | Tensor) -> None: ...  # noqa: D102

    def state(self) -> dict[str, Tensor]: ...  # noqa: D102

    def restore(self, state: Mapping[str, Tensor]) -> None: ...  # noqa: D102


class CapturedStep:
    """A training step as one graph; gathering stays outside if it needs the host (random choices, data in host memory).

    Args:
        step: step to capture; its parameters are unchanged afterwards.
        capture: whether to capture; False runs the same operations one by one, without CUDA.
    """

    def __init__(self, step: Step, capture: bool = True) -> None:
        self.step = step
        device = step.errors.device
        self.order = torch.zeros(step.steps, step.share, dtype=torch.int64, device=device)
        self.rates = torch.zeros(step.steps, dtype=torch.float32, device=device)
        self.counter = torch.zeros(1, dtype=torch.int64, device=device)
        self.seen = torch.zeros(1, dtype=torch.int64, pin_memory=capture)  # the host's latest copy of the counter
        self.graph = self._capture() if capture else None

    def begin_epoch(self, order: Tensor, rates: Sequence[float], step: int) -> None:
        """Copy an epoch's order and learning rates to the device."""
        self.order.copy_(order)
        self.rates.copy_(torch.tensor(rates, dtype=torch.float32))
        self.counter.fill_(step)
        self.seen.fill_(step)

    def run(self, step: int) -> None:
        """Run the step of the device's counter; the host's ``step`` only seeds random choices."""
        if self.step.batch.needs_host:
            self.step.batch.fill(self.order[step], self.step.epoch, step)
        if self.graph is None:
            self._operations()
        else:
            self.graph.replay()

    def done(self) -> int:
        """Return how many steps of the epoch the device has finished, without synchronizing (it may lag)."""
        done = int(self.seen.item())
        self.seen.copy_(self.counter, non_blocking=True)
        return done

    def _operations(self) -> None:
        if not self.step.batch.needs_host:
            self.step.batch.fill(self.order.index_select(0, self.counter).view(-1), 0, 0)
        squared_error = self.step.gradient.run()
        self.step.errors.index_copy_(0, self.counter, squared_error.view(1).to(torch.float32))
        self.step.update(self.rates.index_select(0, self.counter).view(()))
        self.counter.add_(1)

    def _capture(self) -> torch.cuda.CUDAGraph:
        before = self.step.parameters.master.clone()
        optimizer = self.step.state()
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_RUNS):
                self.counter.zero_()
                self._operations()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        self.counter.zero_()
        with torch.cuda.graph(graph):
            self._operations()
        self.step.parameters.master.copy_(before)
        self.step.restore(optimizer)
        self.step.errors.zero_()
        return graph
