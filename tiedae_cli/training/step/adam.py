"""Adam over flat parameters in one fused kernel a group."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class Flat(Protocol):
    """Parameters and their gradient in one buffer each, (P,), weights first."""

    @property
    def master(self) -> Tensor: ...  # noqa: D102

    @property
    def gradient(self) -> Tensor: ...  # noqa: D102

    @property
    def weight_count(self) -> int: ...  # noqa: D102


@dataclass(frozen=True)
class Group:
    """A range of the flat parameters that shares one weight decay; each tensor in a list, as the kernel takes them."""

    values: list[Tensor]
    gradients: list[Tensor]
    first_moments: list[Tensor]
    second_moments: list[Tensor]
    steps: list[Tensor]
    decay: float


class Adam:
    """Adam (Kingma & Ba 2015, algorithm 1) with an L2 penalty on the weights, not on the biases.

    The penalty l2 * 1/2 * sum(W^2) adds l2 * W to the gradient, which the fused kernel does on its way.

    Args:
        parameters: what is moved, weights first.
        l2: the penalty's factor.
        momentum: beta_1, the weight of the past in the first moment.
        ranges: [start, stop) of the parameters that it moves, each within the weights or the biases; all of them by default.
        beta2: the weight of the past in the second moment.
    """

    def __init__(
        self,
        parameters: Flat,
        l2: float,
        momentum: float = BETA1,
        ranges: Sequence[tuple[int, int]] | None = None,
        beta2: float = BETA2,
    ) -> None:
        self.parameters = parameters
        self.momentum, self.beta2 = momentum, beta2
        weights, all_of_them = parameters.weight_count, len(parameters.master)
        if ranges is None:
            ranges = [(0, weights), (weights, all_of_them)] if l2 else [(0, all_of_them)]
        count = sum(stop - start for start, stop in ranges)
        self.first_moment = parameters.master.new_zeros(count)
        self.second_moment = parameters.master.new_zeros(count)
        self.steps = torch.zeros((), dtype=torch.float32, device=parameters.master.device)  # shared by the groups
        self.one = torch.ones_like(self.steps)  # a tensor: a Python number would be turned into one in each step
        self.groups = self._groups(ranges, l2)

    def _groups(self, ranges: Sequence[tuple[int, int]], l2: float) -> list[Group]:
        groups, begin = [], 0
        for start, stop in ranges:
            values, gradients = [self.parameters.master[start:stop]], [self.parameters.gradient[start:stop]]
            moments = slice(begin, begin + stop - start)
            first, second = [self.first_moment[moments]], [self.second_moment[moments]]
            decay = l2 if start < self.parameters.weight_count else 0.0
            groups.append(Group(values, gradients, first, second, [self.steps], decay))
            begin = moments.stop
        return groups

    def step(self, learning_rate: float | Tensor) -> None:
        """Update the parameters from their gradient."""
        self.steps.add_(self.one)
        for group in self.groups:
            # The kernel that torch.optim.Adam(fused=True) calls; its Python around it costs half as much again.
            torch._fused_adam_(
                group.values,
                group.gradients,
                group.first_moments,
                group.second_moments,
                [],
                group.steps,
                lr=learning_rate,
                beta1=self.momentum,
                beta2=self.beta2,
                weight_decay=group.decay,
                eps=EPSILON,
                amsgrad=False,
                maximize=False,
            )

    def buffers(self) -> dict[str, Tensor]:
        """Return what it remembers, not copied: the moments, (P,), and the count of steps, ()."""
        return {"first_moment": self.first_moment, "second_moment": self.second_moment, "steps": self.steps}
