"""Facts about a run: its verdict, its errors, its settings and its history by epoch."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tiedae_cli.config import Config
from tiedae_cli.config.shareable import without_folders
from tiedae_cli.data.item_set import ItemForm, Splits
from tiedae_cli.model.denoising import measure_denoising
from tiedae_cli.model.inference import Evaluation, error_sum
from tiedae_cli.model.metrics import ErrorSum, metric_values, metrics_of
from tiedae_cli.model.verdict import EXACT, explained, sentence
from tiedae_cli.report.window_chapter import column_names
from tiedae_cli.runs.run_comparison import ComparedRun
from tiedae_cli.runs.run_folder import Run
from tiedae_cli.runs.trained_run import OpenRun
from tiedae_cli.runs.training_state import JOINT, EpochReport
from tiedae_cli.runs.training_summary import error_history
from tiedae_cli.system.portability import quoted

TABLE_ROWS = 100  # rows of the table of epochs


def vector_columns(form: ItemForm) -> list[str] | None:
    """Return the names of a vector's values; None for images."""
    if form.kind == "images":
        return None
    names = column_names(form)
    return names if form.window == 1 else [f"{name}, row {row + 1}" for row in range(form.window) for name in names]


def item_word(form: ItemForm) -> str:
    """Return the word for one item on the page."""
    return "image" if form.kind == "images" else "vector" if form.window == 1 else "window"


def run_facts(run: OpenRun, found: ComparedRun, splits: Splits) -> dict[str, Any]:
    """Return a run's verdict, errors, settings, and its shape, time and command."""
    history = run.history
    folder = Run(run.path.parent)
    again = f"tiedae train --config {quoted(_given_away(folder.config))}" if folder.config.exists() else None
    evaluation = found.evaluation
    assert evaluation.split is not None  # a report shows a split
    shown = splits.filled(evaluation.split)
    denoising = measure_denoising(run.network, run.components(), shown, run.config.training, run.device)
    seconds, images = sum(report.seconds for report in history), run.form.kind == "images"
    best = next((report for report in reversed(history) if report.best), None)
    return {
        "name": found.name,
        "path": _given_away(run.path),
        "command": again,
        "sizes": list(found.sizes),
        "shape": found.shapes,
        "code_size": found.sizes[-1],
        "tied": found.tied,
        "parameters": found.parameters,
        "activation": run.config.model.activation,
        "epochs": found.epochs,
        "best_epoch": None if best is None else best.epoch,
        "seconds": seconds,
        "items_per_second": history[-1].items_per_second if history else None,
        "finished": datetime.fromtimestamp(run.path.stat().st_mtime, UTC).strftime("%d %B %Y, %H:%M UTC"),
        "settings": changed_settings(without_folders(run.config)),
        "columns": error_columns(evaluation, images),
        "errors": error_values(evaluation, images),
        "raw_errors": None if evaluation.raw is None else error_values(evaluation.raw, images),
        "verdict": verdict(found, splits.form, error_history(history), run.config.model.linear_path == "pca"),
        "denoising": None
        if denoising is None
        else {
            "corruption": denoising.corruption,
            "level": denoising.level,
            **{name: getattr(denoising, name).squared_error_per_item for name in ("model", "pca", "nothing")},
        },
        "corruption": {"kind": run.config.training.corruption, "level": run.config.training.corruption_level},
    }


def _given_away(path: Path) -> str:
    """Return the path of a run's file as a page may show it: of an absolute one, the run folder's name and the file's."""
    return f"{path.parent.name}/{path.name}" if path.is_absolute() else str(path)


def changed_settings(config: Config) -> list[dict[str, str]]:
    """Return the config keys that differ from their defaults, with value and default."""
    found = []
    for section, default in Config().model_dump(mode="json").items():
        values = getattr(config, section).model_dump(mode="json")
        found += [
            {"key": f"{section}.{key}", "value": _word(values[key]), "default": _word(old)}
            for key, old in default.items()
            if values[key] != old and not (key == "shuffle" and values[key] == "items")  # what `auto` became
        ]
    return found


def _word(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def error_columns(evaluation: Evaluation, images: bool) -> list[dict[str, Any]]:
    """Return the metrics on the page; the extra ones are hidden in narrow windows."""
    metrics = metrics_of(evaluation.model, images)
    return [
        {"name": metric.name, "heading": metric.title(images), "unit": metric.unit, "extra": metric.images_only}
        for metric in metrics
    ]


def error_values(evaluation: Evaluation, images: bool) -> list[dict[str, Any]]:
    """Return the metrics of the model, of PCA and of the mean, as rows of a table."""
    mean = evaluation.mean_item
    rows = [
        ("model", evaluation.model),
        (f"PCA, {evaluation.components} components", evaluation.pca),
        *([] if evaluation.pca_clipped is None else [("PCA, clipped to [0, 1]", evaluation.pca_clipped)]),
        ("mean of the training data", mean),
    ]
    largest = max(error.squared_error_per_item for _, error in rows) or 1.0
    return [
        {
            "name": name,
            "values": metric_values(error, mean, images),
            "share": error.squared_error_per_item / largest,
        }
        for name, error in rows
    ]


def verdict(found: ComparedRun, form: ItemForm, history: Sequence[float], path: bool) -> str:
    """Return the result of a run in two sentences, of a model with a linear path (``path``) in three."""
    evaluation, item = found.evaluation, item_word(form)
    kept = evaluation.model.explained_variance(evaluation.mean_item)
    numbers = f"{found.sizes[-1]:,} number{'s' * (found.sizes[-1] != 1)}"
    head = f"The code describes the {form.values_per_item:,} {form.value_name}s of each {item} with {numbers}"
    if kept is not None and kept > 0:
        head += f" and explains {100 * kept:.1f}% of the variance"
    errors = evaluation.errors(found.sizes[-1], form.value_name, history)
    share = explained(errors) if path else ""
    return ". ".join([head, sentence(errors), *([share] if share else [])]) + "."


def history_chapter(run: OpenRun, splits: Splits) -> dict[str, Any]:
    """Return errors and learning rate per epoch (all layers together), beside PCA's error on the same split."""
    history = [report for report in run.history if report.phase == JOINT]
    items = splits.validation if len(splits.validation) else splits.train
    components = run.components()
    pca = error_sum(components.reconstruct, items, run.device)
    clipped = error_sum(components.reconstruct_clipped, items, run.device) if splits.form.kind == "images" else None
    exact = components.components.shape[1] >= splits.form.values_per_item or pca.squared_error <= EXACT * _mean_error(
        run, items
    )
    step = -(-len(history) // TABLE_ROWS) if history else 1
    epochs = [_epoch_values(report) for report in history]
    return {
        "pca": None if exact else pca.mse_per_value,
        "pca_clipped": None if exact or clipped is None else clipped.mse_per_value,
        "components": components.components.shape[1],
        "on": "validation" if len(splits.validation) else "training",
        "epochs": epochs,
        "table": [values for index, values in enumerate(epochs) if index % step == 0 or values["best"]][: 2 * TABLE_ROWS],
        "pretraining": sum(report.phase != JOINT for report in run.history),
    }


def _mean_error(run: OpenRun, items: Any) -> float:
    total: ErrorSum = error_sum(run.components().truncated(0).reconstruct, items, run.device)
    return total.squared_error


def _epoch_values(report: EpochReport) -> dict[str, Any]:
    return {
        "epoch": report.epoch,
        "train": report.train_mse_per_value,
        "validation": report.validation_mse_per_value,
        "rate": report.learning_rate,
        "best": report.best,
    }
