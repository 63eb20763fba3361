"""An evaluation in words: the error beside that of PCA, as ``train`` and ``eval`` say it."""

from tiedae_cli.model.inference import Evaluation

CLOSE = 1.05  # times more or less than PCA; below it 1.0 would be said


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
