"""The output of ``tiedae eval``: the errors as a table for people and as values for JSON."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from tiedae_cli.model.denoising import Denoising
from tiedae_cli.model.inference import Evaluation
from tiedae_cli.model.metrics import ErrorSum, metric_values, metrics_of

OPTIONAL_EVALUATION_COLUMNS = (
    "SSIM",
    "PSNR dB",
    "squared error per vector",
    "raw squared error per vector",
)  # columns that a narrow window hides, in this order


def evaluation_table(evaluation: Evaluation, source: str, denoising: Denoising | None = None) -> Table:
    """Return a table with one row each for the model, PCA and the mean item; feature vectors are shown in both units.

    A denoising model gets three more rows: the errors against the clean items when the input is noisy.
    """
    raw, mean = evaluation.raw, evaluation.mean_item
    images = raw is None
    count = f"{evaluation.model.items:,} {'images' if images else 'vectors of standardized features'}"
    split = "" if evaluation.split is None else f"{evaluation.split} split, "
    table = Table(title=f"{source}, {split}{count}", title_justify="left")
    metrics = sorted(metrics_of(evaluation.model, images), key=lambda metric: not metric.in_raw_units)
    in_raw_units = [] if images else [metric for metric in metrics if metric.in_raw_units]
    headings = [metric.title(images) for metric in metrics]
    headings[len(in_raw_units) : len(in_raw_units)] = [f"raw {metric.title(images)}" for metric in in_raw_units]
    for heading in ("", *headings):
        table.add_column(heading, justify="left" if heading == "" else "right")

    def add_row(name: str, errors: ErrorSum, raw_cells: Sequence[str]) -> None:
        cells = [metric.text(metric.value(errors, mean)) for metric in metrics]
        cells[len(in_raw_units) : len(in_raw_units)] = raw_cells
        table.add_row(name, *cells)

    for (name, errors), (_, raw_errors) in zip(_rows(evaluation), _rows(raw or evaluation), strict=True):
        raw_values = [metric.value(raw_errors, (raw or evaluation).mean_item) for metric in in_raw_units]
        add_row(name, errors, ["-" if value is None else f"{value:.6g}" for value in raw_values])
    if denoising is not None:
        table.add_section()
        noise = f"under {denoising.corruption} noise {denoising.level:g}"
        for name, errors in (("model", denoising.model), ("PCA", denoising.pca), ("noisy input", denoising.nothing)):
            add_row(f"{name}, {noise}", errors, ["-"] * len(in_raw_units))
    return table


def _rows(evaluation: Evaluation) -> Sequence[tuple[str, ErrorSum]]:
    clipped = evaluation.pca_clipped
    return (
        ("model", evaluation.model),
        (f"PCA, {evaluation.components} components", evaluation.pca),
        *([] if clipped is None else [("PCA, clipped to [0, 1]", clipped)]),
        ("mean image" if evaluation.raw is None else "mean vector", evaluation.mean_item),
    )


def evaluation_values(evaluation: Evaluation, denoising: Denoising | None = None) -> dict[str, Any]:
    """Return the errors by their JSON names; ``raw`` holds those of feature vectors in the features' own units."""
    raw = evaluation.raw
    under_noise: dict[str, Any] = {}
    if denoising is not None:
        rows = {"model": denoising.model, "pca": denoising.pca, "doing_nothing": denoising.nothing}
        values = {name: metric_values(errors, evaluation.mean_item, raw is None) for name, errors in rows.items()}
        under_noise["denoising"] = {"corruption": denoising.corruption, "level": denoising.level, **values}
    return {
        "split": evaluation.split,
        "items": evaluation.model.items,
        **_all_values(evaluation, images=raw is None),
        "error_share_of_worst_1_percent": evaluation.tail,
        **({} if raw is None else {"raw": _all_values(raw, images=False)}),
        **under_noise,
    }


def _all_values(evaluation: Evaluation, images: bool) -> dict[str, Any]:
    """Return the rows of the table."""

    def values(errors: ErrorSum) -> dict[str, float | None]:
        return metric_values(errors, evaluation.mean_item, images)

    pca = {"components": evaluation.components, **values(evaluation.pca)}
    clipped = {} if evaluation.pca_clipped is None else {"pca_clipped": values(evaluation.pca_clipped)}
    return {**values(evaluation.model), "pca": pca, **clipped, "mean_item": values(evaluation.mean_item)}
