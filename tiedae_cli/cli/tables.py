"""The output of ``tiedae inspect`` and ``tiedae compare``: tables for people, and the same values for JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from rich import box
from rich.table import Table
from rich.text import Text

from tiedae_cli.runs.checkpoint import Checkpoint
from tiedae_cli.tasks.compare import ComparedRun
from tiedae_cli.tasks.inspect import LayerSummary, TrainingSummary, parameter_count

NEEDLESS = (
    "tied",
    "seconds",
    "code",
    "para-\nmeters",
    "MSE per\npixel",
)  # columns that `compare` drops in a narrow window, in this order


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
    """Return parameters, data and training, one row with a name and a sentence each."""
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
        ("parameters", f"{count:,} {tied}; the same shape {otherwise}: {other:,}"),
        ("data", f"{config.data.dataset}: {form.describe()}, {' x '.join(map(str, form.shape))}, {units}"),
        (
            "training",
            f"{training.optimizer}, {training.loss}, {rate}, batches of {training.batch_size:,}, l2 {training.l2:g}, {training.precision}",
        ),
        ("epochs", _epochs(summary, training.epochs)),
    ]
    if summary.best is not None:
        validation = summary.best.validation_mse_per_value
        measured = "" if validation is None else f", validation {validation:.6f} ({validation * form.pixels:.4f} per image)"
        rows.append(
            ("best epoch", f"{summary.best.epoch}: MSE per pixel: training {summary.best.train_mse_per_value:.6f}{measured}")
        )
        rows.append(("seconds", f"{summary.seconds:,.1f} of training steps"))
    table = Table(show_header=False)
    for name, sentence in rows:
        table.add_row(name, Text(sentence))
    return table


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
    }


def comparison_table(runs: Sequence[ComparedRun], source: str) -> Table:
    """Return the runs as a table, in the order of the command line; a terminal shows the lowest error in bold.

    PCA's error is the squared error per image with as many components as the code has numbers. Seconds count training steps only.
    """
    first = runs[0].evaluation
    # To fit 80 columns: no vertical lines, narrow headings; names may wrap, numbers may not.
    title = f"{source}, {first.split} split, {first.model.images:,} images"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for heading in ("run", "shape"):
        table.add_column(heading, overflow="fold")
    for heading in (
        "tied",
        "para-\nmeters",
        "code",
        "MSE per\npixel",
        "squared\nerror per\nimage",
        "PCA's,\nsame\ncode",
        "seconds",
    ):
        table.add_column(heading, justify="right", overflow="fold", no_wrap=True)
    lowest = min(run.evaluation.model.squared_error for run in runs)
    for run in runs:
        errors = run.evaluation.model
        style = "bold" if errors.squared_error == lowest else ""
        table.add_row(
            Text(run.name, style=style),
            run.shapes,
            "yes" if run.tied else "no",
            f"{run.parameters:,}",
            f"{run.sizes[-1]:,}",
            Text(f"{errors.mse_per_value:.6f}", style=style),
            Text(f"{errors.squared_error_per_item:.4f}", style=style),
            f"{run.evaluation.pca.squared_error_per_item:.4f}",
            f"{run.seconds:,.1f}",
        )
    return table


def settings_table(settings: Mapping[str, Sequence[object]], names: Sequence[str]) -> Table:
    """Return a table of the settings that differ between runs, with each value and the runs that have it."""
    table = Table(title="settings that differ", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("setting", no_wrap=True)
    table.add_column("value: run")
    for key, values in settings.items():
        runs_of: dict[str, list[str]] = {}
        for name, value in zip(names, values, strict=True):
            runs_of.setdefault(json.dumps(value), []).append(name)
        table.add_row(key, Text("\n".join(f"{value}: {', '.join(runs)}" for value, runs in runs_of.items())))
    return table


def comparison_values(run: ComparedRun) -> dict[str, Any]:
    """Return one run of a comparison by its JSON names."""
    evaluation = run.evaluation
    return {
        "run": run.name,
        "checkpoint": str(run.path),
        "sizes": list(run.sizes),
        "tied": run.tied,
        "parameters": run.parameters,
        "code_size": run.sizes[-1],
        "mse_per_value": evaluation.model.mse_per_value,
        "squared_error_per_item": evaluation.model.squared_error_per_item,
        "pca": {
            "components": evaluation.components,
            "mse_per_value": evaluation.pca.mse_per_value,
            "squared_error_per_item": evaluation.pca.squared_error_per_item,
        },
        "epochs": run.epochs,
        "seconds": run.seconds,
    }
