"""How much noise a denoising model removes: its error against the clean items, compared with PCA and with the noisy input itself.

Shapes: B items per batch, D values per item.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tiedae_cli.config import TrainingConfig
from tiedae_cli.data.item_set import ItemSet
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.model.corruption import NOISE, corrupted
from tiedae_cli.model.inference import batch_size
from tiedae_cli.model.item_batches import ItemBatches, as_seen
from tiedae_cli.model.metrics import ErrorSum, item_sums, squares
from tiedae_cli.model.pca import PrincipalComponents
from tiedae_cli.system.random_streams import EVALUATION_NOISE, seeded


@dataclass(frozen=True)
class Denoising:
    """Errors against the clean items of one split, each item corrupted once, as in training."""

    corruption: str
    level: float
    model: ErrorSum
    pca: ErrorSum
    """The corrupted item projected on the principal components of the clean training split."""
    nothing: ErrorSum
    """The corrupted item itself as the reconstruction."""


@torch.inference_mode()
def noisy_item_errors(
    reconstruct: Callable[[Tensor], Tensor], items: ItemBatches, training: TrainingConfig, device: torch.device
) -> Tensor:
    """Return each item's squared error against the clean item if the input is corrupted as in training, (N,) float64 on the CPU.

    The noise is drawn as in ``measure_denoising``.
    """
    size, errors = batch_size(items), [torch.zeros(0, dtype=torch.float64)]
    for start in range(0, len(items), size):
        clean = as_seen(items, start, min(start + size, len(items)), device)  # (B, D)
        noisy = with_evaluation_noise(clean.cpu(), training, start).to(device)
        errors.append(squares(reconstruct(noisy) - clean).sum(1).cpu())
    return torch.cat(errors)


def with_evaluation_noise(clean: Tensor, training: TrainingConfig, start: int) -> Tensor:
    """Return items with the noise of ``training.corruption``, (B, D) on the CPU; ``start`` is the number of the first one."""
    kind = training.corruption
    assert kind != "none", "only for trainings with noise"
    noise = NOISE[kind](clean.shape, generator=seeded(training.seed, EVALUATION_NOISE, start))
    return corrupted(clean, kind, training.corruption_level, noise)


@torch.inference_mode()
def measure_denoising(
    model: TiedAutoencoder, components: PrincipalComponents, items: ItemSet, training: TrainingConfig, device: torch.device
) -> Denoising | None:
    """Measure a model under the noise it was trained with; None if it was trained without noise.

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
    totals: dict[str, Counter[str]] = {name: Counter() for name in answers}
    size = batch_size(items)
    for start in range(0, len(items), size):
        clean = torch.from_numpy(items.batch(start, start + size))  # (B, D)
        clean, noisy = clean.to(device), with_evaluation_noise(clean, training, start).to(device)
        for name, answer in answers.items():
            totals[name].update(item_sums(clean, answer(noisy), items.form))
    sums = {
        name: ErrorSum(total.pop("squared_error"), len(items), items.form.values_per_item, total)
        for name, total in totals.items()
    }
    return Denoising(kind, level, **sums)
