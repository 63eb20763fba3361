"""Adam over flat parameters in one fused kernel a group."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tiedae_cli.training.step.parameters import FlatParameters

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


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
        parameters: the flat parameters, weights first.
        l2: the penalty's factor.
    """

    def __init__(self, parameters: FlatParameters, l2: float) -> None:
        self.parameters = parameters
        self.first_moment = torch.zeros_like(parameters.master)
        self.second_moment = torch.zeros_like(parameters.master)
        self.steps = torch.zeros((), dtype=torch.float32, device=parameters.master.device)  # shared by the groups
        self.one = torch.ones_like(self.steps)  # a tensor: a Python number would be turned into one in each step
        count = parameters.weight_count
        parts = [(slice(0, count), l2), (slice(count, None), 0.0)] if l2 else [(slice(None), 0.0)]
        self.groups = [self._group(part, decay) for part, decay in parts]

    def _group(self, part: slice, decay: float) -> Group:
        values, gradients = [self.parameters.master[part]], [self.parameters.gradient[part]]
        return Group(values, gradients, [self.first_moment[part]], [self.second_moment[part]], [self.steps], decay)

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
                beta1=BETA1,
                beta2=BETA2,
                weight_decay=group.decay,
                eps=EPSILON,
                amsgrad=False,
                maximize=False,
            )

    def state(self) -> dict[str, Any]:
        """Return copies of the moments, on the CPU, and the count of steps."""
        moments = {"first_moment": self.first_moment, "second_moment": self.second_moment}
        copies = {name: moment.detach().to("cpu", copy=True) for name, moment in moments.items()}
        return {**copies, "steps": int(self.steps.item())}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a ``state()``.

        Raises:
            ValueError: its moments are not those of these parameters.
        """
        if not state["first_moment"].shape == state["second_moment"].shape == self.first_moment.shape:
            raise ValueError("the optimizer's moments have another shape")
        self.first_moment.copy_(state["first_moment"])
        self.second_moment.copy_(state["second_moment"])
        self.steps.fill_(state["steps"])
