"""The verdict after a training: its error beside PCA's, likely causes of a loss to PCA, and the next commands."""

import logging
from pathlib import Path

import torch
from torch import Tensor

from tiedae_cli.model.error_tail import ErrorTail, describe_tail
from tiedae_cli.model.inference import batch_size, item_errors
from tiedae_cli.model.item_batches import as_seen
from tiedae_cli.model.verdict import Training, advice, explained, sentence
from tiedae_cli.output.next_steps import next_steps
from tiedae_cli.runs.observer import Observer, TrainingResult
from tiedae_cli.system.portability import quoted

log = logging.getLogger(__name__)

EXAMINED = 1000  # items on which unused code units are detected
UNUSED = 1e-6  # largest standard deviation of an unused unit, relative to the largest of all units


class TrainingVerdict(Observer):
    """Logs how the best epoch compares with PCA, what to try if it loses, and the next commands.

    Args:
        in_shell: whether the reader is in a shell rather than in Python.
    """

    def __init__(self, in_shell: bool) -> None:
        self.in_shell = in_shell

    def finished(self, result: TrainingResult) -> None:
        """Log the verdict."""
        start, best = result.start, result.best
        form, folder = start.splits.form, Path(start.run.folder)
        if start.initial_mse is not None:
            gained = 1 - best.selection_mse / max(start.initial_mse, 1e-12)
            log.info(f"started at MSE {start.initial_mse:.6f} per {form.value_name}; training gained {gained:.1%}")
        lines = (sentence(result.errors), advice(result.errors, _training(result), quoted(folder / "config.yaml")))
        log.info(f"best epoch {best.epoch}: " + "\n".join(filter(None, lines)))
        if start.config.model.linear_path == "pca" and (share := explained(result.errors)):
            log.info(share)
        if not result.errors.pca_is_exact and (tail := _tail(result)):
            log.info(tail)
        if best.epoch == 0 and start.config.training.init_from is None:
            name = "PCA, clipped to [0, 1]" if start.config.model.output == "clip" else "PCA"
            log.info(f"no epoch of the training improved on its start: the model is {name}")
        log.info(next_steps(folder, form.kind == "images", self.in_shell))


def _tail(result: TrainingResult) -> str:
    """Return the sentence about the items that carry most of the best epoch's error; empty if no few items do."""
    start = result.start
    errors = item_errors(start.model, start.splits.validation or start.splits.train, start.device)
    return describe_tail(ErrorTail().add(errors.numpy()).share)


@torch.inference_mode()
def _training(result: TrainingResult) -> Training:
    """Return the facts about a finished training that explain its error: weights, codes, learning rate."""
    start, training = result.start, result.start.config.training
    items, model = start.splits.validation or start.splits.train, start.model
    squares = sum(weight.double().square().sum().item() for weight in model.parameters() if weight.dim() > 1)
    codes: Tensor = model.encode(as_seen(items, 0, min(EXAMINED, batch_size(items)), start.device))  # (B, D) -> (B, K)
    spread = codes.double().std(0, correction=0)  # (B, K) -> (K,)
    unused = int((spread <= UNUSED * spread.max()).sum().item())
    reconstruction = result.best.train_mse_per_value * (1 if training.loss == "mse" else items.form.values_per_item)
    penalty = 0.0 if training.loss == "cross_entropy" else training.l2 / 2 * squares  # in another unit than the squared error
    rates = (result.history[-1].learning_rate, training.learning_rate, training.schedule)
    return Training(penalty, reconstruction, unused, model.sizes[-1], *rates)
