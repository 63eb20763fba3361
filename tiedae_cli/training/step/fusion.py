"""Whether a step on CUDA uses the fused kernels: only if they run on this device and agree with torch's operations.

Nothing here imports Triton before it is asked for, and nothing asks for it on the CPU.
"""

import functools
import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from tiedae_cli.config import Loss, TrainingConfig
from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.model.activations import AnyActivation
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.model.layers import Dense
from tiedae_cli.system.random_streams import seeded
from tiedae_cli.training.step.batch import Batch
from tiedae_cli.training.step.gradient import Gradient
from tiedae_cli.training.step.optimizers.adam import Adam
from tiedae_cli.training.step.parameters import FlatParameters
from tiedae_cli.training.training_set import TrainingSet

log = logging.getLogger(__name__)

ITEMS, SIZES, STEPS, RATE = 16, (64, 48, 32), 2, 0.01  # of the trial
TOLERANCE = {torch.float32: 0.01, torch.bfloat16: 0.1}  # relative to the norm of what is compared


@dataclass(frozen=True)
class Trial:
    """What decides which kernels a step needs, and how they are compiled."""

    device: torch.device
    dtype: torch.dtype
    activations: tuple[tuple[AnyActivation, AnyActivation], ...]
    """(encoder, decoder) of each dense layer."""
    loss: Loss
    cross_entropy_weight: float


def gradient_class(model: TiedAutoencoder, training: TrainingConfig, dtype: torch.dtype, items: int) -> type[Gradient]:
    """Return ``FusedGradient``, or ``Gradient`` if this model, its batch or this machine is not for the kernels.

    Args:
        model: the model, on the device of the training.
        training: loss and cross-entropy weight.
        dtype: of the products.
        items: per batch.
    """
    names = tuple((layer.activation, layer.decoder_activation) for layer in model.layers if isinstance(layer, Dense))
    parameter = next(model.parameters())
    if not names or parameter.dtype != torch.float32 or dtype not in TOLERANCE:
        return Gradient
    why_not = _why_not(Trial(parameter.device, dtype, names, training.loss, training.cross_entropy_weight))
    if why_not is None:
        from tiedae_cli.training.step.fused_gradient import LARGEST_BATCH, FusedGradient

        return FusedGradient if items <= LARGEST_BATCH else Gradient
    log.info(f"the step uses torch's operations instead of fused kernels: {why_not}")
    return Gradient


@functools.cache
def _why_not(trial: Trial) -> str | None:
    """Return why the fused kernels cannot be used, or None: a tiny model takes the same steps with and without them."""
    try:
        found, expected = (_steps(trial, fused) for fused in (True, False))
    except Exception as error:  # whatever Triton, its compilers or the driver raise: torch's operations do the same
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    tolerance = TOLERANCE[trial.dtype]
    for name, value in expected.items():
        if not (found[name] - value).norm() <= tolerance * value.norm():
            return f"their {name} differs from that of torch's operations on {trial.device}"
    return None


def _steps(trial: Trial, fused: bool) -> dict[str, Tensor]:
    """Return what two steps of a tiny model compute: errors, moments and the change of the parameters."""
    model = _model(trial)
    parameters = FlatParameters(model, trial.dtype)
    start = parameters.master.clone()
    adam = Adam(parameters, 0.001)
    like, draws = parameters.master, seeded(2)
    rows = torch.randint(0, 256, (2 * ITEMS, SIZES[0]), dtype=torch.uint8, generator=draws).to(trial.device)
    items = TrainingSet(rows, ItemForm((1, 1, SIZES[0]), scale=1 / 255), trial.device)
    order = torch.randperm(2 * ITEMS, generator=draws).view(STEPS, ITEMS).to(trial.device)
    rates, errors = like.new_full((STEPS,), RATE), like.new_zeros(STEPS)
    run = _run_fused if fused else _run_plain
    run(trial, model, parameters, adam, items, order, rates, errors)
    moments = {name: adam.buffers()[name] for name in ("first_moment", "second_moment")}
    return {"squared error": errors, **moments, "update": parameters.master - start}


def _model(trial: Trial) -> TiedAutoencoder:
    sizes = [*SIZES, *(SIZES[-1],) * len(trial.activations)]
    layers = [Dense(sizes[i], sizes[i + 1], f, g, tied=True) for i, (f, g) in enumerate(trial.activations)]
    draws = seeded(1)
    for layer in layers:
        layer.draw(draws)
    return TiedAutoencoder(layers).to(trial.device)


def _run_plain(
    trial: Trial,
    model: TiedAutoencoder,
    parameters: FlatParameters,
    adam: Adam,
    items: TrainingSet,
    order: Tensor,
    rates: Tensor,
    errors: Tensor,
) -> None:
    gradient = Gradient(model, parameters, ITEMS, trial.loss, ITEMS, cross_entropy_weight=trial.cross_entropy_weight)
    batch = Batch(items, TrainingConfig(), gradient.input, gradient.target)
    for step in range(STEPS):
        batch.fill(order[step], 0, step)
        errors[step] = gradient.run()
        adam.step(rates[step])


def _run_fused(
    trial: Trial,
    model: TiedAutoencoder,
    parameters: FlatParameters,
    adam: Adam,
    items: TrainingSet,
    order: Tensor,
    rates: Tensor,
    errors: Tensor,
) -> None:
    from tiedae_cli.training.step.fused_gradient import FusedGradient
    from tiedae_cli.training.step.fused_step import FusedGather, FusedUpdate

    gradient = FusedGradient(model, parameters, ITEMS, trial.loss, ITEMS, cross_entropy_weight=trial.cross_entropy_weight)
    batch = Batch(items, TrainingConfig(), gradient.input, gradient.target)
    counter = torch.zeros(1, dtype=torch.int64, device=trial.device)
    gather = FusedGather(batch, order, counter)
    update = FusedUpdate(parameters, gradient, adam, counter, rates, errors)
    for _ in range(STEPS):
        gather.run()
        update.run(gradient.run())
