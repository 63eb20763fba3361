"""How much noise a denoising model removes: its error against the clean items, beside PCA's and beside doing nothing.

Shapes: B items a batch, D values an item.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tiedae_cli.config import TrainingConfig
from tiedae_cli.data.item_set import ItemSet
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.model.inference import Evaluation, batch_size, evaluate
from tiedae_cli.model.metrics import ErrorSum, squares
from tiedae_cli.model.pca import PrincipalComponents
from tiedae_cli.runs.trained_run import OpenRun
from tiedae_cli.system.random_streams import EVALUATION_NOISE, seeded
from tiedae_cli.training.step.batch import NOISE, corrupted


@dataclass(frozen=True)
class Denoising:
    """Errors against the clean items of one split, each corrupted once as in training."""

    corruption: str
    level: float
    model: ErrorSum
    pca: ErrorSum
    """The corrupted item projected on the principal components of the clean training split."""
    nothing: ErrorSum
    """The corrupted item itself as the answer."""


@torch.inference_mode()
def measure_denoising(
    model: TiedAutoencoder, components: PrincipalComponents, images: ItemSet, training: TrainingConfig, device: torch.device
) -> Denoising | None:
    """Measure a model under the noise that it was trained with; None where it was trained without.

    The noise is drawn on the CPU from the config's seed: every model of that seed and every device sees the same.
    """
    kind, level = training.corruption, training.corruption_level
    if kind == "none":
        return None
    answers: dict[str, Callable[[Tensor], Tensor]] = {
        "model": model,
        "pca": components.reconstruct,
        "nothing": lambda noisy: noisy,
    }
    totals = dict.fromkeys(answers, 0.0)
    size = batch_size(images)
    for start in range(0, len(images), size):
        clean = images.batch(start, start + size, torch.device("cpu"))  # (B, D)
        noise = NOISE[kind](clean.shape, generator=seeded(training.seed, EVALUATION_NOISE, start))
        clean, noisy = clean.to(device), corrupted(clean, kind, level, noise).to(device)
        for name, answer in answers.items():
            totals[name] += squares(answer(noisy) - clean).sum().item()
    sums = {name: ErrorSum(total, len(images), images.form.pixels) for name, total in totals.items()}
    return Denoising(kind, level, **sums)


def evaluate_run(run: OpenRun, split: str, components: int | None) -> tuple[Evaluation, Denoising | None]:
    """Measure a model on a split beside PCA and the mean, and under the noise that it was trained with, if it was.

    Args:
        run: the model.
        split: train, validation or test.
        components: of PCA; None for as many as the code has numbers.

    Raises:
        DataError: the data is missing, damaged or of another form.
    """
    images, fitted = run.split(split), run.components(components)
    result = evaluate(run.network, fitted, images, split, run.device)
    return result, measure_denoising(run.network, fitted, images, run.config.training, run.device)
