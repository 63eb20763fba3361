"""Why a training ended where it did: its error beside PCA's and the mean's, the likely causes, and what to try."""

from collections.abc import Iterable
from pathlib import Path

import torch

from tiedae_cli.config import Config
from tiedae_cli.data import Splits
from tiedae_cli.data.item_set import ItemSet
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.model.inference import batch_size, error_sum
from tiedae_cli.model.pca import PrincipalComponents
from tiedae_cli.model.verdict import Errors, Training, advice, sentence
from tiedae_cli.runs.training_state import JOINT, EpochReport
from tiedae_cli.system.portability import quoted
from tiedae_cli.training.trainer import Trainer

LOOKED_AT = 1000  # items that tell whether a code unit is used
UNUSED = 1e-6  # largest spread of an unused unit's values, relative to that of the most used one


def diagnose(
    trainer: Trainer, config: Config, folder: Path, splits: Splits, components: PrincipalComponents, best: EpochReport
) -> tuple[str, bool]:
    """Return the verdict on a finished training, and whether PCA is exact, so that its error is no baseline.

    Args:
        trainer: with the weights of the best epoch.
        config: what it was trained with.
        folder: of the run.
        splits: the data.
        components: PCA with as many components as the code has numbers.
        best: the best epoch.
    """
    model, device, items = trainer.model, trainer.place.device, splits.validation or splits.train
    pca, mean = (error_sum(part.reconstruct, items, device).mse_per_value for part in (components, components.truncated(0)))
    count, form = components.components.shape[1], splits.form
    history = tuple(error_history(trainer.history))
    errors = Errors(best.selection_mse, pca, mean, count, model.sizes[-1], form.pixels, form.value_name, history)
    training = _training(config, model, items, best, trainer.history[-1].learning_rate, device)
    told = (sentence(errors), advice(errors, training, quoted(folder / "config.yaml")))
    return "\n".join(filter(None, told)), errors.pca_is_exact


def error_history(reports: Iterable[EpochReport]) -> list[float]:
    """Return the error after each epoch of the joint training, by which the best epoch is chosen."""
    return [report.selection_mse for report in reports if report.phase == JOINT]


@torch.inference_mode()
def _training(
    config: Config, model: TiedAutoencoder, items: ItemSet, best: EpochReport, last_rate: float, device: torch.device
) -> Training:
    """Return what the weights and the codes tell."""
    training, form = config.training, items.form
    squares = sum(weight.double().square().sum().item() for weight in model.parameters() if weight.dim() > 1)
    spread = (
        model.encode(items.batch(0, min(LOOKED_AT, batch_size(items)), device)).double().std(0, correction=0)
    )  # (B, D) -> (B, K) -> (K,)
    unused = int((spread <= UNUSED * spread.max()).sum().item())
    reconstruction = best.train_mse_per_value * (1 if training.loss == "mse" else form.pixels)
    penalty = 0.0 if training.loss == "cross_entropy" else training.l2 / 2 * squares  # another unit than the squared error's
    rates = (last_rate, training.learning_rate, training.schedule)
    return Training(penalty, reconstruction, unused, model.sizes[-1], *rates)
