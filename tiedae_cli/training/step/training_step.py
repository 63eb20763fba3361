"""One optimization step, assembled from the parts of the hot path.

``share_exchange.py`` brings the rows of a batch if processes hold shares, and ``batch.py`` prepares it; ``gradient.py`` has the
hand-written forward and backward pass, which ``recorded_calls.py`` runs as a graph on a CPU, ``autograd.py`` torch's; ``losses.py``
the losses, ``penalty.py`` penalties on the code;
``parameters.py`` the flat buffer; ``optimizers/`` the updates; ``graph.py`` the capture on CUDA, with the kernels of
``fused_gradient.py`` and ``fused_step.py`` if ``fusion.py`` finds that they work.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tiedae_cli.config import TrainingConfig
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.system.devices import Place
from tiedae_cli.training.step.autograd import AutogradGradient
from tiedae_cli.training.step.batch import Batch
from tiedae_cli.training.step.fusion import gradient_class
from tiedae_cli.training.step.gradient import Gradient, missing_derivative
from tiedae_cli.training.step.graph import CapturedStep
from tiedae_cli.training.step.optimizer import create_optimizer
from tiedae_cli.training.step.parameters import FlatParameters
from tiedae_cli.training.step.path_gradient import HELD
from tiedae_cli.training.step.penalty import CodePenalty
from tiedae_cli.training.step.share_exchange import ShareExchange
from tiedae_cli.training.training_set import TrainingSet


def is_captured(place: Place) -> bool:
    """Return whether steps run as CUDA graphs, which hold no communication between processes."""
    return place.device.type == "cuda" and place.ranks.count == 1


class TrainingStep:
    """The steps of an epoch: gather a batch, compute its gradient, sum it over the processes, update.

    Args:
        model: model on the device of the items; its parameters are moved to one flat buffer.
        items: the training split.
        training: config with batch size, loss, penalties, noise.
        place: dtype of the matrix products, and the processes that share each batch.

    Attributes:
        batch_size: items per global batch: as configured, at most the whole set.
        share: items of this process in each global batch; those of two processes differ by one at most.
        steps: steps per epoch; the last, partial batch is dropped.
        work: FLOP of a step of this process, without its optimizer.
        errors: (steps,) float32, squared error of each step of this epoch over this process's items, before the update.
    """

    def __init__(
        self,
        model: TiedAutoencoder,
        items: TrainingSet,
        training: TrainingConfig,
        place: Place,
    ) -> None:
        self.ranks = place.ranks
        self.batch_size = min(training.batch_size, len(items))
        self.first, self.stop = self.ranks.share(self.batch_size)  # of each global batch
        self.share = self.stop - self.first
        self.steps = len(items) // self.batch_size
        self.work = self.share * model.training_work
        self.clip = training.gradient_clip
        self.parameters = FlatParameters(model, place.dtype)
        penalized = training.sparsity != "none" or model.code_top_k is not None
        penalty = CodePenalty(model.code_top_k, training, self.batch_size, self.ranks.add) if penalized else None
        noisy = training.corruption != "none"
        by_hand = training.engine == "auto" and missing_derivative(model, training) is None
        captures = by_hand and is_captured(place)
        engine: type[Gradient] | type[AutogradGradient] = Gradient if by_hand else AutogradGradient
        if captures:
            engine = gradient_class(model, training, place.dtype, self.share)
        self.gradient: Gradient | AutogradGradient = engine(
            model, self.parameters, self.share, training.loss, self.batch_size, penalty, noisy, training.cross_entropy_weight
        )
        self.batch = Batch(items, training, self.gradient.input, self.gradient.target, (self.first, self.batch_size))
        self.optimizer = create_optimizer(self.parameters, training)
        gradients = self.parameters.views(self.parameters.gradient)
        self.held = [] if model.path is None else [gradients[name] for name in HELD]
        self.moves = torch.ones((), device=place.device)  # 0 in the first step, 1 afterwards
        self.errors = torch.zeros(self.steps, dtype=torch.float32, device=place.device)
        self.epoch = 0
        self.order = torch.zeros(0, dtype=torch.int64)  # (steps, B of this process)
        self.rates: Sequence[float] = ()
        self.captured: CapturedStep | None = None
        if captures:
            self.captured = CapturedStep(self, capture=place.device.type == "cuda")
            if self.captured.refresh is not None:
                self.held = []  # the kernels hold these gradients
        self.exchange = ShareExchange(items.rows, items.share, self.ranks, self.batch_size) if items.share is not None else None

    def begin_epoch(self, epoch: int, order: Tensor, rates: Sequence[float], step: int = 0) -> None:
        """Prepare the steps of an epoch.

        Args:
            epoch: its number; random choices are a function of it.
            order: (N,) int64, order of the items.
            rates: learning rate of each step.
            step: first step to run.
        """
        self.epoch, self.rates = epoch, rates
        # (steps, B) -> (steps, B of this process): each global batch is cut by rank.
        batches = order[: self.steps * self.batch_size].view(self.steps, self.batch_size)
        mine = batches[:, self.first : self.stop].contiguous()
        if self.exchange is not None:
            self.exchange.begin_epoch(batches)
        elif self.captured is not None:
            self.captured.begin_epoch(mine, rates, step)
        else:
            self.order = mine

    def run(self, step: int) -> None:
        """Take one step of the epoch and store its squared error in ``errors``."""
        self.optimizer.prepare(self.epoch * self.steps + step)
        if self.held:
            self.moves.fill_(float(self.epoch + step > 0))
        if self.captured is not None:
            self.captured.run(step)
            return
        if self.exchange is None:
            indices = self.order[step]
        else:
            self.batch.rows, indices = self.exchange.step(step)
        self.batch.fill(indices, self.epoch, step)
        self.errors[step] = self.gradient.run()
        self.update(self.rates[step])

    def done(self, step: int) -> int:
        """Launch all steps that were run; return how many of these ``step`` steps of this epoch are finished (a GPU lags behind)."""
        if self.captured is None:
            return step
        self.captured.launch()
        return self.captured.done()

    def update(self, rate: float | Tensor) -> None:
        """Update the parameters from the gradient of ``gradient.run``."""
        gradient = self.parameters.gradient
        self.ranks.add(gradient)
        for held in self.held:
            held.mul_(self.moves)
        if self.clip is not None:
            norm = torch.linalg.vector_norm(gradient)
            gradient.mul_((self.clip / (norm + 1e-12)).clamp(max=1.0))  # stays on the device: no synchronization
        self.optimizer.step(rate)

    def state(self) -> dict[str, Tensor]:
        """Return copies of the optimizer's state, on the CPU."""
        if self.captured is not None:
            self.captured.launch()
        return {name: buffer.detach().to("cpu", copy=True) for name, buffer in self.optimizer.buffers().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore a state returned by ``state``.

        Raises:
            ValueError: The state is of another optimizer or of other parameters.
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
