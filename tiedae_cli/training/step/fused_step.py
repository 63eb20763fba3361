"""The ends of a captured step as one kernel each: gathering the batch, and Adam with everything that a step leaves behind.

B items per batch, D values per item, P parameters.
"""

import torch
from torch import Tensor

from tiedae_cli.training.step import fused_kernels as kernels
from tiedae_cli.training.step.batch import Batch
from tiedae_cli.training.step.fused_gradient import FusedGradient
from tiedae_cli.training.step.optimizer import Optimizer
from tiedae_cli.training.step.optimizers.adam import EPSILON, Adam
from tiedae_cli.training.step.parameters import FlatParameters

GATHERED = (torch.uint8, torch.int16, torch.int32, torch.float32, torch.float64)


class FusedGather:
    """Gathers, converts and scales a batch; bit-identical to ``Batch.fill``.

    Args:
        batch: must fit (see ``fits``).
        order: (steps, B) int64, items of each step.
        counter: (1,) int64, the step.
    """

    def __init__(self, batch: Batch, order: Tensor, counter: Tensor) -> None:
        self.rows, self.out, self.order, self.counter = batch.rows, batch.target, order, counter
        self.offset, self.fill = batch.items.offset, batch.items.fill
        scale = batch.scale
        if self.offset is not None:
            scale = torch.as_tensor(batch.items.scale, dtype=batch.items.dtype, device=self.out.device)
        self.scale = scale.expand(self.out.shape[1]).contiguous()  # (D,)

    @staticmethod
    def fits(batch: Batch) -> bool:
        """Return whether a batch needs nothing but its items and their scale, all on the device."""
        known = batch.rows.dtype in GATHERED and batch.rows.is_contiguous() and batch.target.is_contiguous()
        return known and not batch.needs_host

    def run(self) -> None:
        """Fill the batch's target, which is the gradient's input."""
        kernels.gather(self.rows, self.order, self.counter, self.offset, self.scale, self.fill, self.out)


class FusedUpdate:
    """Adam, the conversions of its gradient and of the new parameters, the step's error and the counters.

    It reads the gradient in the dtype of the products and writes the parameters in both, so a step converts nothing else.

    Args:
        parameters: ``refresh_compute`` and ``collect_gradient`` no longer convert them.
        gradient: must fit (see ``fits``).
        optimizer: must fit.
        counter: (1,) int64, the step; advanced.
        rates: (steps,) float32.
        errors: (steps,) float32, written.
    """

    def __init__(
        self,
        parameters: FlatParameters,
        gradient: FusedGradient,
        optimizer: Optimizer,
        counter: Tensor,
        rates: Tensor,
        errors: Tensor,
    ) -> None:
        assert isinstance(optimizer, Adam)
        self.parameters, self.adam = parameters, optimizer
        self.clock = kernels.Clock(counter, rates, errors, optimizer.steps, (optimizer.momentum, optimizer.beta2))
        self.rounded = parameters.compute if parameters.mixed else None
        gradient.clock = self.clock
        parameters.mixed = False

    @staticmethod
    def fits(gradient: FusedGradient, optimizer: Optimizer) -> bool:
        """Return whether the optimizer is Adam, and a kernel of the gradient can advance the counters."""
        return isinstance(optimizer, Adam) and gradient.fuses_output

    def refresh(self) -> None:
        """Convert the parameters after someone has set them in float32."""
        if self.rounded is not None:
            self.rounded.copy_(self.parameters.master)

    def run(self, sums: Tensor) -> None:
        """Update the parameters; write the sum of ``sums`` as the step's squared error."""
        kernels.adam(
            self.parameters.master,
            self.rounded,
            self.parameters.compute_gradient,
            (self.adam.first_moment, self.adam.second_moment),
            sums,
            self.clock,
            self.parameters.weight_count,
            self.adam.l2,
            EPSILON,
        )
