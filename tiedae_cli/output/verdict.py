"""What a training reached, in words: its error beside PCA's, and the commands that come next."""

import logging

from tiedae_cli.model.inference import Evaluation
from tiedae_cli.runs.observer import Observer, TrainingResult
from tiedae_cli.system.portability import quoted

log = logging.getLogger(__name__)

CLOSE = 1.05  # times more or less than PCA; below it 1.0 would be said


class Verdict(Observer):
    """Logs how the best epoch stands beside PCA, and the next commands."""

    def finished(self, result: TrainingResult) -> None:
        """Log the verdict."""
        start, best = result.start, result.best
        value_name, pca = start.splits.form.value_name, result.pca_mse_per_value
        count = result.components.components.shape[1]
        against = "" if pca is None else verdict(best.selection_mse, pca, count, start.model.sizes[-1])
        if start.initial_mse is not None:
            gained = 1 - best.selection_mse / max(start.initial_mse, 1e-12)
            log.info(f"started at MSE {start.initial_mse:.6f} per {value_name}; training gained {gained:.1%}")
        log.info(f"best epoch {best.epoch}: MSE {best.selection_mse:.6f} per {value_name}{against}")
        folder = quoted(start.run.folder)
        what = "reconstruct" if start.splits.form.kind == "images" else "score"
        log.info(f"next: tiedae eval {folder} | tiedae {what} {folder} | tiedae report {folder}")


def verdict(error: float, yardstick: float, count: int, code_size: int) -> str:
    """Return in words how an error stands beside PCA's with so many numbers; empty where PCA leaves nothing to compare with."""
    if yardstick <= 0:
        return ""
    less = error < yardstick
    ratio, share = yardstick / max(error, 1e-12) if less else error / yardstick, f"{abs(error / yardstick - 1):.0%}"
    how_much = f"{ratio:.1f} times" if ratio >= CLOSE else share
    stands = "as much as" if how_much == "0%" else f"{how_much} {'less' if less else 'more'} than"
    numbers = f"{'the same ' if count == code_size else ''}{count} number{'s' * (count != 1)}"
    return f", {stands} PCA with {numbers} ({yardstick:.6f})"


def sentence(evaluation: Evaluation, code_size: int, value_name: str) -> str:
    """Return an evaluation in a sentence, as a training says it at its end.

    Args:
        evaluation: of the model and of PCA.
        code_size: numbers of the model's code.
        value_name: what one value of an item is called.
    """
    error, yardstick = evaluation.model.mse_per_value, evaluation.pca.mse_per_value
    against = verdict(error, yardstick, evaluation.components, code_size)
    return f"MSE {error:.6f} per {value_name}{against}"
