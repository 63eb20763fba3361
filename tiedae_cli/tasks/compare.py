"""What ``compare`` does beyond measuring: a picture of the same images, and the settings in which the runs differ."""

from collections.abc import Sequence
from dataclasses import replace

from tiedae_cli.data.item_set import ItemSet
from tiedae_cli.model.metrics import ErrorSum
from tiedae_cli.output import figures
from tiedae_cli.output.reconstructions import reconstruct_images
from tiedae_cli.runs.run_comparison import ComparedRun
from tiedae_cli.runs.trained_run import OpenRun


def comparison_picture(runs: Sequence[OpenRun], compared: Sequence[ComparedRun], images: ItemSet, source: str) -> bytes:
    """Draw the same images, a row a run under the originals and under PCA with as many numbers, and return the PNG.

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
