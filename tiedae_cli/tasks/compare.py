"""What ``compare`` does beyond measuring: a picture, the settings in which runs differ, and the items that only one of them flags."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tiedae_cli.data.item_reader import ItemReader, Items
from tiedae_cli.data.item_set import ItemSet, Splits
from tiedae_cli.model.metrics import ErrorSum
from tiedae_cli.output import figures
from tiedae_cli.output.reconstructions import reconstruct_images
from tiedae_cli.runs.run_comparison import ComparedRun
from tiedae_cli.runs.trained_run import OpenRun
from tiedae_cli.scoring.false_alarms import FALSE_ALARMS
from tiedae_cli.scoring.scorer import Scorer


def comparison_picture(runs: Sequence[OpenRun], compared: Sequence[ComparedRun], images: ItemSet, source: str) -> bytes:
    """Draw the same images, one row per run below the originals and PCA with as many numbers, and return the PNG.

    Raises:
        InputError: the runs' items are no pictures.
    """
    rows: list[figures.Answers] = []
    drawn: set[int] = set()
    for run, found in zip(runs, compared, strict=True):
        evaluation, size = found.evaluation, found.sizes[-1]
        answered = reconstruct_images(run.network, images, run.components(), ("", ""), run.device).answers
        for one in answered[:-1]:  # the originals, and PCA of each code size once
            if not rows or (one.errors is not None and size not in drawn):
                line = "" if one.errors is None else _line(evaluation.pca)
                rows.append(replace(one, line=line))
        drawn.add(size)
        rows.append(replace(answered[-1], name=found.name, line=_line(evaluation.model)))
    return figures.labelled_rows(
        rows, (source, "beside each row the mean over the whole split, under each image its own squared error")
    )


def _line(errors: ErrorSum) -> str:
    return f"squared error per image {errors.squared_error_per_item:.4g}"


@dataclass(frozen=True)
class Flags:
    """The items that a model flags as outliers."""

    outliers: int
    alone: list[str | int]
    """Those that no other model flags."""


def flags_of(runs: Sequence[OpenRun], inputs: Sequence[str], splits: Splits | None, split: str) -> list[Flags | None]:
    """Return which items each model flags at its own threshold; None for a model without one.

    Args:
        runs: the models.
        inputs: files and folders, which each model reads; empty for a split.
        splits: the data whose split is scored if there are no inputs.
        split: train, validation or test.
    """
    flagged: list[dict[str | int, None] | None] = []
    for run in runs:
        scorer = Scorer(run)
        threshold = scorer.threshold(FALSE_ALARMS)
        if threshold is None:
            flagged.append(None)
            continue
        if splits is None:
            rows = ItemReader(run.form, run.block_size, data=run.config.data).open_rows(inputs)
        else:
            rows = scorer.rows(splits.for_model(run.form, str(run.path)).filled(split))
        flagged.append(dict.fromkeys(_outliers(scorer, rows, threshold.value)))
    return [
        None
        if own is None
        else Flags(
            len(own), [item for item in own if not any(other and other is not own and item in other for other in flagged)]
        )
        for own in flagged
    ]


def _outliers(scorer: Scorer, rows: Items, limit: float) -> list[str | int]:
    """Return the items of a stream whose scores are above a threshold."""
    found: list[str | int] = []
    for scored in scorer.score(rows.blocks):
        found += [scored.block.items[index] for index in (scored.scores > limit).nonzero().flatten().tolist()]
    return found


def differing_settings(runs: Sequence[OpenRun]) -> dict[str, list[object]]:
    """Return the settings in which the runs differ, each with its value in every run; where a run is kept is none."""
    flat = [
        {
            f"{section}.{key}": value
            for section, values in run.config.model_dump(mode="json").items()
            if section != "output"
            for key, value in values.items()
        }
        for run in runs
    ]
    return {key: [one[key] for one in flat] for key in flat[0] if any(one[key] != flat[0][key] for one in flat[1:])}
