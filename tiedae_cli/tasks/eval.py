"""What ``eval`` does: a model's errors on a split, beside PCA's and the mean's."""

from tiedae_cli.model.denoising import Denoising, measure_denoising
from tiedae_cli.model.inference import Evaluation, evaluate
from tiedae_cli.runs.trained_run import OpenRun


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
