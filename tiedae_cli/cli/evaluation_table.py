"""The output of ``tiedae eval``: the errors as a table for people and as values for JSON."""

import math
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from tiedae_cli.model.inference import Evaluation
from tiedae_cli.model.metrics import ErrorSum
from tiedae_cli.tasks.evaluate import Denoising

NEEDLESS = (
    "PSNR dB",
    "squared error per vector",
    "raw squared error per vector",
)  # columns that a narrow window drops, in this order


def evaluation_table(evaluation: Evaluation, source: str, denoising: Denoising | None = None) -> Table:
    """Return a table with one row each for the model, PCA and the mean item; feature vectors are shown in both units.

    A denoising model gets three more rows: the errors against the clean items when the input is noisy.
    """
    raw = evaluation.raw
    count = f"{evaluation.model.images:,} {'images' if raw is None else 'vectors of standardized features'}"
    table = Table(title=f"{source}, {evaluation.split} split, {count}", title_justify="left")
    images = ("MSE per pixel", "squared error per image", "PSNR dB")
    vectors = ("MSE per feature", "squared error per vector", "raw MSE per feature", "raw squared error per vector")
    for heading in ("", *(images if raw is None else vectors), "variance explained"):
        table.add_column(heading, justify="left" if heading == "" else "right")
    units = _rows(evaluation) if raw is None else _rows(raw)
    for (name, errors), (_, raw_errors) in zip(_rows(evaluation), units, strict=True):
        explained = errors.explained_variance(evaluation.mean_item)
        table.add_row(
            name,
            f"{errors.mse_per_value:.6f}",
            f"{errors.squared_error_per_item:.4f}",
            *([f"{errors.psnr_db:.2f}"] if raw is None else _raw_cells(raw_errors)),
            "-" if explained is None else f"{explained:.2%}",
        )
    if denoising is not None:
        table.add_section()
        noise = f"under {denoising.corruption} noise {denoising.level:g}"
        for name, errors in (("model", denoising.model), ("PCA", denoising.pca), ("doing nothing", denoising.nothing)):
            explained = errors.explained_variance(evaluation.mean_item)
            other_units = [f"{errors.psnr_db:.2f}"] if raw is None else ["-", "-"]
            cells = [f"{errors.mse_per_value:.6f}", f"{errors.squared_error_per_item:.4f}", *other_units]
            table.add_row(f"{name}, {noise}", *cells, "-" if explained is None else f"{explained:.2%}")
    return table


def _rows(evaluation: Evaluation) -> Sequence[tuple[str, ErrorSum]]:
    return (
        ("model", evaluation.model),
        (f"PCA, {evaluation.components} components", evaluation.pca),
        ("mean image" if evaluation.raw is None else "mean vector", evaluation.mean_item),
    )


def _raw_cells(errors: ErrorSum) -> list[str]:
    return [f"{errors.mse_per_value:.6g}", f"{errors.squared_error_per_item:.6g}"]


def evaluation_values(evaluation: Evaluation, denoising: Denoising | None = None) -> dict[str, Any]:
    """Return the errors by their JSON names; ``raw`` holds those of feature vectors in the features' own units."""
    raw = evaluation.raw
    under_noise: dict[str, Any] = {}
    if denoising is not None:
        peak, around = raw is None, evaluation.mean_item
        rows = {"model": denoising.model, "pca": denoising.pca, "doing_nothing": denoising.nothing}
        values = {name: _error_values(errors, around, peak) for name, errors in rows.items()}
        under_noise["denoising"] = {"corruption": denoising.corruption, "level": denoising.level, **values}
    return {
        "split": evaluation.split,
        "images": evaluation.model.images,
        **_all_errors(evaluation, has_peak=raw is None),
        **({} if raw is None else {"raw": _all_errors(raw, has_peak=False)}),
        **under_noise,
    }


def _all_errors(evaluation: Evaluation, has_peak: bool) -> dict[str, Any]:
    """Return the three rows; the signal-to-noise ratio only for values that have a peak, which features do not."""
    model, pca, mean = (
        _error_values(errors, evaluation.mean_item, has_peak)
        for errors in (evaluation.model, evaluation.pca, evaluation.mean_item)
    )
    return {**model, "pca": {"components": evaluation.components, **pca}, "mean_item": mean}


def _error_values(errors: ErrorSum, around_mean: ErrorSum, has_peak: bool) -> dict[str, float | None]:
    return {
        "mse_per_value": errors.mse_per_value,
        "squared_error_per_item": errors.squared_error_per_item,
        "psnr_db": errors.psnr_db if has_peak and math.isfinite(errors.psnr_db) else None,
        "explained_variance": errors.explained_variance(around_mean),
    }
