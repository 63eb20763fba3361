"""What ``eval`` does: a model's errors on files or a split, beside PCA's and the mean's."""

from collections.abc import Sequence

from tiedae_cli.data.item_reader import ItemReader, Items
from tiedae_cli.errors import DataError
from tiedae_cli.model.denoising import Denoising, measure_denoising
from tiedae_cli.model.inference import Evaluation, evaluate
from tiedae_cli.model.stream_evaluation import evaluate_stream
from tiedae_cli.runs.trained_run import OpenRun
from tiedae_cli.scoring.drift import Drift
from tiedae_cli.scoring.drift_check import drift_check
from tiedae_cli.system.portability import quoted


def evaluate_run(run: OpenRun, split: str, components: int | None) -> tuple[Evaluation, Denoising | None]:
    """Measure a model on a split beside PCA and the mean, and under the noise that it was trained with, if it was.

    Args:
        run: the model.
        split: train, validation or test.
        components: of PCA; None for as many as the code has numbers.

    Raises:
        DataError: the data is missing, damaged or of another form.
    """
    try:
        items = run.split(split)
    except DataError as problem:
        command = f"tiedae eval {quoted(run.path)} FILE"
        more = "" if command in str(problem) else f"\nto measure the model on another file: {command}"
        raise DataError(f"{problem}{more}") from None
    fitted = run.components(components)
    result = evaluate(run.network, fitted, items, split, run.device)
    return result, measure_denoising(run.network, fitted, items, run.config.training, run.device)


def drift_of_split(run: OpenRun, split: str) -> Drift | None:
    """Return how a split differs from the training data, if the data has changed since; None if it does not.

    Args:
        run: the model.
        split: as for ``evaluate_run``, which has read it.
    """
    check = drift_check(run) if run.data_changed else None
    if check is None:
        return None
    check.read(check.scorer.rows(run.split(split)).blocks)
    return check.found()


def evaluate_files(run: OpenRun, inputs: Sequence[str], components: int | None) -> tuple[Evaluation, Drift | None]:
    """Measure a model on the items of files, beside PCA of its training items and their mean.

    The files are read once; the second result says how their items differ from the training data, if they do.

    Args:
        run: the model.
        inputs: files, folders, ``-``.
        components: of PCA; None for as many as the code has numbers.

    Raises:
        InputError: an input does not exist.
        DataError: an item cannot be read or measured, or there are none.
    """
    reader, check, fitted = (
        ItemReader(run.form, run.block_size, data=run.config.data),
        drift_check(run),
        run.components(components),
    )
    rows = reader.open_rows(inputs)
    items = rows if check is None else Items(check.beside(rows.blocks), rows.count)
    result = evaluate_stream(run.network, fitted, reader.made_of(items).blocks, run.form, run.device)
    return result, None if check is None else check.found()
