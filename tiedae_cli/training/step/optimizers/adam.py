"""Adam over flat parameters, one fused kernel per group."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tiedae_cli.config import TrainingConfig
from tiedae_cli.training.step.optimizer import Optimizer
from tiedae_cli.training.step.parameters import FlatParameters

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
    """A range of the flat parameters that shares one weight decay; each tensor in a list, as the kernel requires."""

    values: list[Tensor]
    gradients: list[Tensor]
    first_moments: list[Tensor]
    second_moments: list[Tensor]
    steps: list[Tensor]
    decay: float


class Adam:
    """Adam (Kingma & Ba 2015, algorithm 1) with an L2 penalty on the weights, not on the biases.

    The penalty l2 * 1/2 * sum(W^2) adds l2 * W to the gradient, within the fused kernel.

    Args:
        parameters: parameters to update, weights first.
        l2: the penalty's factor.
        momentum: beta_1, the weight of the past in the first moment.
        ranges: [start, stop) ranges of the parameters to update, each within the weights or the biases. Default: all.
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
        self.l2, self.momentum, self.beta2 = l2, momentum, beta2
        weights, all_of_them = parameters.weight_count, len(parameters.master)
        if ranges is None:
            ranges = [(0, weights), (weights, all_of_them)] if l2 else [(0, all_of_them)]
        count = sum(stop - start for start, stop in ranges)
        self.first_moment = parameters.master.new_zeros(count)
        self.second_moment = parameters.master.new_zeros(count)
        self.steps = torch.zeros((), dtype=torch.float32, device=parameters.master.device)  # shared by the groups
        self.one = torch.ones_like(self.steps)  # a tensor, because a Python number would be converted in each step
        self.groups = self._groups(ranges, l2)
        self.update = update_function(parameters.master)

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

    def prepare(self, step: int) -> None:
        """Do nothing."""

    def step(self, learning_rate: float | Tensor) -> None:
        """Update the parameters from their gradient."""
        self.steps.add_(self.one)
        for group in self.groups:
            self.update(
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


def create(parameters: FlatParameters, training: TrainingConfig) -> Optimizer:
    """Return Adam as a config describes it."""
    return Adam(parameters, training.l2, BETA1 if training.momentum is None else training.momentum)


def update_function(like: Tensor) -> Callable[..., None]:
    """Return torch's fused kernel, or ``plain_update`` if a test call on the type and device of ``like`` fails or disagrees.

    ``torch.optim.Adam(fused=True)`` calls this kernel; the Python around it costs half as much again.
    """
    kernel: Callable[..., None] | None = getattr(torch, "_fused_adam_", None)
    if kernel is None:
        return plain_update
    results = []
    try:
        for update in (plain_update, kernel):
            value, gradient, first, second = (like.new_tensor([number, 1.0]) for number in (0.5, 2.0, 0.3, 0.7))
            step = torch.full((), 3.0, device=like.device)
            numbers = {"lr": 0.1, "beta1": BETA1, "beta2": BETA2, "weight_decay": 0.1, "eps": EPSILON}
            update([value], [gradient], [first], [second], [], [step], **numbers, amsgrad=False, maximize=False)
            results.append(torch.cat([value, first, second]))
    except (RuntimeError, TypeError):
        return plain_update
    expected, found = results
    return kernel if torch.allclose(found, expected, rtol=1e-4, atol=1e-6) else plain_update


def plain_update(
    values: list[Tensor],
    gradients: list[Tensor],
    first_moments: list[Tensor],
    second_moments: list[Tensor],
    _: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float | Tensor,
    beta1: float,
    beta2: float,
    weight_decay: float,
    eps: float,
    amsgrad: bool,
    maximize: bool,
) -> None:
    """Update as ``torch._fused_adam_`` does, with public operations; no AMSGrad, no maximization."""
    for value, gradient, first, second, step in zip(values, gradients, first_moments, second_moments, steps, strict=True):
        gradient = gradient.add(value, alpha=weight_decay)
        first.lerp_(gradient, 1 - beta1)
        second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        deviation = (second / (1 - beta2**step)).sqrt_().add_(eps)
        value.sub_(first / deviation * (lr / (1 - beta1**step)))
