"""Adam over flat parameters in one fused kernel a group."""

from collections.abc import Mapping
from dataclasses import dataclass

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

    def state(self) -> dict[str, Tensor]:
        """Return copies of the moments, (P,), and of the count of steps, (), on the CPU."""
        return {name: buffer.detach().to("cpu", copy=True) for name, buffer in self._buffers().items()}

    def _buffers(self) -> dict[str, Tensor]:
        return {"first_moment": self.first_moment, "second_moment": self.second_moment, "steps": self.steps}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a ``state()``.

        Raises:
            ValueError: it is not a state of these parameters.
        """
        buffers = self._buffers()
        if {name: value.shape for name, value in state.items()} != {name: value.shape for name, value in buffers.items()}:
            raise ValueError("the optimizer's buffers are others")
        for name, buffer in buffers.items():
            buffer.copy_(state[name])
