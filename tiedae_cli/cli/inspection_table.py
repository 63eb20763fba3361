"""The output of ``tiedae inspect``: layers and facts as tables, and the same values for JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from rich.table import Table
from rich.text import Text

from tiedae_cli.model.layer_summary import LayerSummary, parameter_count
from tiedae_cli.model.verdict import Errors, explained
from tiedae_cli.runs.checkpoint import Checkpoint
from tiedae_cli.runs.finished_parts import FinishedParts
from tiedae_cli.runs.training_state import JOINT, EpochReport
from tiedae_cli.runs.training_summary import TrainingSummary
from tiedae_cli.scoring.false_alarms import FALSE_ALARMS
from tiedae_cli.scoring.threshold import thresholds


def layer_table(layers: Sequence[LayerSummary], title: str) -> Table:
    """Return the architecture, one row per layer, encoder above decoder."""
    table = Table(title=title, title_justify="left")
    for heading in ("layer", "in", "out", "activation", "weight", "parameters"):
        table.add_column(heading, justify="right" if heading in ("in", "out", "parameters") else "left")
    for index, layer in enumerate(layers):
        if index == len(layers) // 2:
            table.add_section()
        own = "its own" if layer.kind.startswith("dense") else f"its own, {layer.kind}"
        weight = f"{layer.transpose_of}, transposed" if layer.transpose_of else own
        name = f"{layer.name} (code)" if index == len(layers) // 2 - 1 else layer.name
        table.add_row(name, f"{layer.inputs:,}", f"{layer.outputs:,}", layer.activation, weight, f"{layer.parameters:,}")
    return table


def facts_table(trained: Checkpoint, summary: TrainingSummary) -> Table:
    """Return a table about parameters, data and training, one row per fact."""
    config, form = trained.config, trained.form
    training, model = config.training, config.model
    network = trained.model(torch.device("cpu"))
    count, other = parameter_count(network, model.tied), parameter_count(network, not model.tied)
    tied, otherwise = ("tied", "untied") if model.tied else ("untied", "tied")
    rate = (
        f"{training.schedule} learning rate{' of' if training.schedule == 'constant' else ' up to'} {training.learning_rate:g}"
    )
    units = "standardized by the training split" if form.kind == "vectors" else "values in [0, 1]"
    rows = [
        ("parameters", f"{count:,} {tied}; the same shape {otherwise}: {other:,}{_beside_path(trained)}"),
        ("data", f"{config.data.data_name}: {form.describe()}, {' x '.join(map(str, form.shape))}, {units}"),
        (
            "training",
            f"{training.optimizer}, {training.loss}, {rate}, batches of {training.batch_size:,}, l2 {training.l2:g}, {training.precision}",
        ),
        ("epochs", _epochs(summary, training.epochs)),
    ]
    if summary.best is not None:
        item = form.items_name.removesuffix("s")
        validation = summary.best.validation_mse_per_value
        measured = (
            "" if validation is None else f", validation {validation:.6f} ({validation * form.values_per_item:.4f} per {item})"
        )
        error = f"MSE per {form.value_name}: training {summary.best.train_mse_per_value:.6f}{measured}"
        rows.append(("best epoch", f"{summary.best.epoch}: {error}"))
        rows += [("linear path", sentence) for sentence in _linear_path(trained, summary.best)]
        rows.append(("seconds", f"{summary.seconds:,.1f} of training steps"))
    rows += [("thresholds", sentence) for sentence in _thresholds(trained)]
    rows.append(("inside", _inside(trained)))
    table = Table(show_header=False)
    for name, sentence in rows:
        table.add_row(name, Text(sentence))
    return table


def _inside(trained: Checkpoint) -> str:
    """Return what the file holds, with the size of each part, and what it lacks."""
    sizes = ", ".join(f"{name} {size / 1000:,.1f} kB" for name, size in trained.contents().items())
    finished = trained.finished
    if finished is None:
        return f"{sizes}; no threshold, PCA or reference statistics (the training has not ended)"
    scores = (
        "no threshold" if finished.calibration is None else f"threshold by {finished.calibration.items:,} validation scores"
    )
    return f"{sizes}; {scores}, {finished.pca.components.shape[1]:,} principal components"


def _thresholds(trained: Checkpoint) -> list[str]:
    """Return the thresholds for the default false-alarm rate in words; empty if there are none."""
    counted = {"row score": "rows", "window score": "windows"}
    parts = [
        f"{name} {found.value:.4g} by {found.items:,} {counted.get(name, 'items')}"
        + (f", too few: {found.expected:.1%} expected" if found.expected > FALSE_ALARMS else "")
        for name, found in thresholds(trained).items()
    ]
    return [f"for {FALSE_ALARMS:.0%} of false alarms: {', '.join(parts)}"] if parts else []


def _linear_path(trained: Checkpoint, best: EpochReport) -> list[str]:
    """Return how much training gained on epoch 0, from which a linear path starts; empty without one."""
    start = next((report for report in trained.training.history if report.phase == JOINT and report.epoch == 0), None)
    if start is None:
        return []
    gained = 1 - best.selection_mse / start.selection_mse if start.selection_mse else 0.0
    where = "PCA" if trained.config.training.init_from is None else "given weights"
    share = _explained(trained)
    said = f"started at {where}: MSE {start.selection_mse:.6f}; the best epoch's is {gained:.1%} lower"
    return [said, *([share] if share else [])]


def _explained(trained: Checkpoint) -> str:
    """Return how much of the variance PCA and the model explain; empty if the training has not ended."""
    finished = trained.finished
    if finished is None:
        return ""
    results, form = finished.results, trained.form
    clipped = results.pca_clipped_mse_per_value
    pca = results.pca_mse_per_value if clipped is None else min(clipped, results.pca_mse_per_value)
    code = finished.pca.components.shape[1]
    sizes = (code, code, form.values_per_item)
    mean = results.mean_mse_per_value
    return explained(Errors(results.mse_per_value, pca, mean, *sizes, form.value_name, clipped=pca == clipped))


def _beside_path(trained: Checkpoint) -> str:
    """Return how many numbers of the baseline the file holds beside the parameters of a linear path; empty without one."""
    if trained.config.model.linear_path == "none" or trained.finished is None:
        return ""
    count = baseline_numbers(trained.finished)
    return f"; beside the linear path, the baseline PCA has {count:,} numbers, which are not parameters"


def baseline_numbers(finished: FinishedParts) -> int:
    """Return how many numbers PCA's mean and components have."""
    return finished.pca.mean.numel() + finished.pca.components.numel()


def _epochs(summary: TrainingSummary, planned: int) -> str:
    if summary.checkpoint_epochs == summary.epochs:
        return f"{summary.epochs:,} of {planned:,}"
    return f"{summary.epochs:,} of {planned:,}; this checkpoint is from epoch {summary.checkpoint_epochs:,}"


def inspection_values(trained: Checkpoint, layers: Sequence[LayerSummary], summary: TrainingSummary) -> dict[str, Any]:
    """Return the values of the two tables by their JSON names."""
    config, form = trained.config, trained.form
    network = trained.model(torch.device("cpu"))
    return {
        "run": trained.run,
        "tied": config.model.tied,
        "code_size": network.sizes[-1],
        "parameters": parameter_count(network, config.model.tied),
        "parameters_tied": parameter_count(network, tied=True),
        "parameters_untied": parameter_count(network, tied=False),
        "layers": [asdict(layer) for layer in layers],
        "form": {"kind": form.kind, "shape": list(form.shape)},
        "config": config.model_dump(mode="json"),
        "epochs": summary.epochs,
        "checkpoint_epochs": summary.checkpoint_epochs,
        "seconds": summary.seconds,
        "best": None if summary.best is None else asdict(summary.best),
        "bytes": trained.contents(),
        "baseline_numbers": None if trained.finished is None else baseline_numbers(trained.finished),
        "thresholds": {name: found.value for name, found in thresholds(trained).items()},
        "results": None if trained.finished is None else asdict(trained.finished.results),
    }
