"""The pieces of the hot path become one optimization step.

``batch.py`` how a batch reaches the model; ``gradient.py`` forward and backward by hand, ``autograd.py`` by torch; ``losses.py`` the
losses, ``penalty.py`` what they add on the code; ``parameters.py`` the flat buffer; ``optimizers/`` the update; ``graph.py`` their
capture on CUDA; here they become a step.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tiedae_cli.config import TrainingConfig
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.system.devices import Place
from tiedae_cli.training.step.autograd import AutogradGradient
from tiedae_cli.training.step.batch import Batch
from tiedae_cli.training.step.gradient import Gradient, missing_derivative
from tiedae_cli.training.step.graph import CapturedStep
from tiedae_cli.training.step.optimizer import create_optimizer
from tiedae_cli.training.step.parameters import FlatParameters
from tiedae_cli.training.step.penalty import CodePenalty
from tiedae_cli.training.training_set import TrainingSet


class TrainingStep:
    """The steps of an epoch: gather a batch, its gradient, its sum over the processes, the optimizer.

    Args:
        model: on the device of the images; its parameters are moved into one flat buffer.
        images: the training split.
        training: batch size, loss, penalties, noise.
        place: the type of the matrix products, and the processes among which each batch is cut.

    Attributes:
        batch_size: items of the global batch: as configured, at most the whole set, a multiple of the processes.
        steps: of an epoch; the last, partial batch is dropped.
        errors: (steps,) float32, the squared error of each step of this epoch, of this process's items, before the step.
    """

    def __init__(
        self,
        model: TiedAutoencoder,
        images: TrainingSet,
        training: TrainingConfig,
        place: Place,
    ) -> None:
        self.ranks = place.ranks
        self.share = min(training.batch_size, len(images)) // self.ranks.count
        self.batch_size = self.share * self.ranks.count
        self.steps = len(images) // self.batch_size
        self.clip = training.gradient_clip
        self.parameters = FlatParameters(model, place.dtype)
        penalized = training.sparsity != "none" or model.code_top_k is not None
        penalty = CodePenalty(model.code_top_k, training, self.batch_size, self.ranks.add) if penalized else None
        noisy = training.corruption != "none"
        by_hand = training.engine == "auto" and missing_derivative(model, training) is None
        engine = Gradient if by_hand else AutogradGradient
        self.gradient: Gradient | AutogradGradient = engine(
            model, self.parameters, self.share, training.loss, self.batch_size, penalty, noisy, training.cross_entropy_weight
        )
        part = (self.ranks.rank, self.ranks.count)
        self.batch = Batch(images, training, self.gradient.input, self.gradient.target, part)
        self.optimizer = create_optimizer(self.parameters, training)
        self.errors = torch.zeros(self.steps, dtype=torch.float32, device=place.device)
        self.epoch = 0
        self.order = torch.zeros(0, dtype=torch.int64)  # (steps, B of this process)
        self.rates: Sequence[float] = ()
        captures = place.device.type == "cuda" and self.ranks.count == 1 and by_hand
        self.captured = CapturedStep(self) if captures else None

    def begin_epoch(self, epoch: int, order: Tensor, rates: Sequence[float], step: int = 0) -> None:
        """Prepare the steps of an epoch.

        Args:
            epoch: its number, of which random choices are a function.
            order: (N,) int64, the order in which the items are visited.
            rates: the learning rate of each step.
            step: the first one to be run.
        """
        self.epoch, self.rates = epoch, rates
        # (steps, B) -> (steps, B of this process): each global batch is cut by rank.
        batches = order[: self.steps * self.batch_size].view(self.steps, self.batch_size)
        mine = batches[:, self.ranks.rank * self.share : (self.ranks.rank + 1) * self.share].contiguous()
        if self.captured is not None:
            self.captured.begin_epoch(mine, rates, step)
        else:
            self.order = mine

    def run(self, step: int) -> None:
        """Take one step of the epoch; its squared error goes to ``errors``."""
        self.optimizer.prepare(self.epoch * self.steps + step)
        if self.captured is not None:
            self.captured.run(step)
            return
        self.batch.fill(self.order[step], self.epoch, step)
        self.errors[step] = self.gradient.run()
        self.update(self.rates[step])

    def done(self, step: int) -> int:
        """Return how many steps of the epoch are done, of ``step`` that were begun: a GPU lags behind."""
        return step if self.captured is None else self.captured.done()

    def update(self, rate: float | Tensor) -> None:
        """Move the parameters by the gradient that ``gradient.run`` left."""
        gradient = self.parameters.gradient
        self.ranks.add(gradient)
        if self.clip is not None:
            norm = torch.linalg.vector_norm(gradient)
            gradient.mul_((self.clip / (norm + 1e-12)).clamp(max=1.0))  # stays on the device: no synchronisation
        self.optimizer.step(rate)

    def state(self) -> dict[str, Tensor]:
        """Return copies of what the optimizer must remember, on the CPU."""
        return {name: buffer.detach().to("cpu", copy=True) for name, buffer in self.optimizer.buffers().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a ``state()``.

        Raises:
            ValueError: it is another optimizer's, or of other parameters; the message says which.
        """
        buffers = self.optimizer.buffers()
        if state.keys() != buffers.keys():
            found = ", ".join(sorted(state)) or "nothing"
            raise ValueError(f"the optimizer needs {', '.join(sorted(buffers))}, it holds {found}"[:200])
        for name, buffer in buffers.items():
            if (state[name].shape, state[name].dtype) != (buffer.shape, buffer.dtype):
                raise ValueError(f"the optimizer's {name} has the shape {list(state[name].shape)}, not {list(buffer.shape)}")
        for name, buffer in buffers.items():
            buffer.copy_(state[name])
