"""What ``eval`` does: a model's errors on files or a split, beside PCA's and the mean's."""

from collections import deque
from collections.abc import Sequence

from tiedae_cli.data.item_reader import ItemReader
from tiedae_cli.data.windows import row_form
from tiedae_cli.errors import DataError
from tiedae_cli.model.denoising import Denoising, measure_denoising
from tiedae_cli.model.inference import Evaluation, evaluate
from tiedae_cli.model.stream_evaluation import evaluate_stream
from tiedae_cli.runs.trained_run import OpenRun
from tiedae_cli.scoring.drift import Drift, DriftWatch
from tiedae_cli.scoring.false_alarms import FALSE_ALARMS
from tiedae_cli.scoring.scorer import Scorer
from tiedae_cli.scoring.tally import Tally
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
        raise DataError(f"{problem}\nto measure the model on another file: tiedae eval {quoted(run.path)} FILE") from None
    fitted = run.components(components)
    result = evaluate(run.network, fitted, items, split, run.device)
    return result, measure_denoising(run.network, fitted, items, run.config.training, run.device)


def drift_of(run: OpenRun, inputs: Sequence[str]) -> Drift | None:
    """Return how the items of files differ from the training data; None if they do not, or cannot be read twice.

    Args:
        run: the model.
        inputs: files, folders; nothing is said about ``-``.
    """
    finished = run.trained.finished
    if finished is None or "-" in inputs:
        return None
    scorer = Scorer(run)
    watch, threshold = DriftWatch(finished.reference, row_form(run.form), run.form.window), scorer.threshold(FALSE_ALARMS)
    rows = ItemReader(run.form, run.block_size, data=run.config.data).open_rows(inputs)
    tally = Tally(None if threshold is None else threshold.value)
    deque(tally.watch(scorer.score(watch.watch(rows.blocks))), maxlen=0)
    return watch.found(tally.outliers, tally.items, threshold)


def evaluate_files(run: OpenRun, inputs: Sequence[str], components: int | None) -> Evaluation:
    """Measure a model on the items of files, beside PCA of its training items and their mean.

    Args:
        run: the model.
        inputs: files, folders, ``-``.
        components: of PCA; None for as many as the code has numbers.

    Raises:
        InputError: an input does not exist.
        DataError: an item cannot be read or measured, or there are none.
    """
    items = ItemReader(run.form, run.block_size, data=run.config.data).open(inputs)
    return evaluate_stream(run.network, run.components(components), items.blocks, run.form, run.device)
