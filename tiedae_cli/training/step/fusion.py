"""Whether a step on CUDA uses the fused kernels: only if they run on this device and agree with torch's operations.

Nothing here imports Triton before it is asked for, and nothing asks for it on the CPU.
"""

import contextlib
import functools
import logging
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tiedae_cli.config import Activation, Loss, TrainingConfig
from tiedae_cli.config.schema import Output
from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.model.activations import AnyActivation
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.model.layers import Dense
from tiedae_cli.model.linear_path import LinearPath
from tiedae_cli.system.random_streams import seeded
from tiedae_cli.training.step.batch import Batch
from tiedae_cli.training.step.gradient import Gradient
from tiedae_cli.training.step.optimizers.adam import Adam
from tiedae_cli.training.step.parameters import FlatParameters
from tiedae_cli.training.step.path_gradient import HELD
from tiedae_cli.training.training_set import TrainingSet

log = logging.getLogger(__name__)

ITEMS, SIZES, STEPS, RATE = 16, (64, 48, 32), 2, 0.01  # of the trial
TOLERANCE = {"update": 0.1}  # relative to the norm; Adam's first steps are of one size, however small and rounded the gradient
OTHER_TOLERANCE = 0.01


@dataclass(frozen=True)
class Trial:
    """What decides which kernels a step needs, and how they are compiled."""

    device: torch.device
    dtype: torch.dtype
    activations: tuple[tuple[Activation, AnyActivation], ...]
    """(encoder, decoder) of each dense layer."""
    path: Output | None
    """Output activation of the linear path; None: there is none."""
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
    if not names or parameter.dtype != torch.float32 or dtype not in (torch.float32, torch.bfloat16):
        return Gradient
    path = None if model.path is None else model.path.output
    why_not = _why_not(Trial(parameter.device, dtype, names, path, training.loss, training.cross_entropy_weight))
    if why_not is None:
        from tiedae_cli.training.step.fused_gradient import LARGEST_BATCH, FusedGradient

        return FusedGradient if items <= LARGEST_BATCH else Gradient
    log.info(f"the step uses torch's operations instead of fused kernels: {why_not}")
    return Gradient


@functools.cache
def _why_not(trial: Trial) -> str | None:
    """Return why the fused kernels cannot be used, or None: a tiny model takes the same steps with and without them."""
    try:
        # Triton launches on the current device, wherever the tensors are.
        with torch.cuda.device(trial.device) if trial.device.type == "cuda" else contextlib.nullcontext():
            found, plain = (_steps(trial, fused) for fused in (True, False))
            exact = _steps(replace(trial, dtype=torch.float32), fused=False)
    except Exception as error:  # whatever Triton, its compilers or the driver raise: torch's operations do the same
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    for name, value in exact.items():
        rounding = (plain[name] - value).norm()  # bfloat16 may put a value on another side of a kink
        allowed = TOLERANCE.get(name, OTHER_TOLERANCE) * value.norm() + 2 * rounding
        if not (found[name] - value).norm() <= allowed:
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
    sizes = [*SIZES, *(SIZES[-1],) * len(trial.activations)][: len(trial.activations) + 1]
    layers = [Dense(i, o, *names, tied=True) for i, o, names in zip(sizes, sizes[1:], trial.activations, strict=False)]
    path = None if trial.path is None else LinearPath(sizes[0], sizes[-1], trial.path, tied=True)
    draws = seeded(1)
    for layer in [*layers, *([] if path is None else [path.layer])]:
        layer.draw(draws)
    if path is not None:
        for gate in (path.code_gate, path.output_gate):
            torch.nn.init.constant_(gate, 0.5)
    return TiedAutoencoder(layers, path=path).to(trial.device)


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
        if step == 0 and model.path is not None:
            for name in HELD:
                parameters.views(parameters.gradient)[name].zero_()
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
