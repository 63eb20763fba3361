"""The output of ``tiedae compare``: tables of runs and of the settings that differ, and the same values for JSON."""

import json
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from tiedae_cli.model.metrics import metric_values, metrics_of
from tiedae_cli.runs.run_comparison import ComparedRun

NARROW = 9  # characters per line of a heading, to fit 80 columns
OPTIONAL_COMPARISON_COLUMNS = (
    "variance\nexplained",
    "SSIM",
    "PSNR dB",
    "tied",
    "seconds",
    "code",
    "para-\nmeters",
    "MSE per\npixel",
    "MSE per\nfeature",
)
"""Columns that are hidden in a narrow window, the first one first."""


def comparison_table(runs: Sequence[ComparedRun], source: str, in_raw_units: bool = False) -> Table:
    """Return the runs as a table, in the order in which they were named; the lowest error stands out on a terminal.

    PCA's error is the squared error per image of the stronger PCA, for images the clipped one, with as many components as the code has
    numbers; seconds are those of training steps.

    Args:
        runs: at least one.
        source: what the items are.
        in_raw_units: whether errors are in the data's own units, because the models scale vectors differently.
    """
    found = [one.raw or one if in_raw_units else one for one in (run.evaluation for run in runs)]
    first = found[0]
    # 80 columns must do: no vertical lines, narrow headings; names are folded, numbers are not.
    split = "" if first.split is None else f"{first.split} split, "
    units = ", errors in the data's own units" if in_raw_units else ""
    images = runs[0].evaluation.raw is None
    title = f"{source}, {split}{first.model.items:,} {'images' if images else 'vectors'}{units}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for heading in ("run", "shape"):
        table.add_column(heading, overflow="fold")
    metrics = metrics_of(first.model, images)
    headings = [textwrap.fill(metric.title(images), NARROW) for metric in metrics]
    for heading in ("tied", "para-\nmeters", "code", *headings, "PCA's,\nsame\ncode", "seconds"):
        table.add_column(heading, justify="right", overflow="fold", no_wrap=True)
    lowest = min(evaluation.model.squared_error for evaluation in found)
    for run, evaluation in zip(runs, found, strict=True):
        errors, mean = evaluation.model, evaluation.mean_item
        style = "bold" if errors.squared_error == lowest else ""
        table.add_row(
            Text(run.name, style=style),
            run.shapes,
            "yes" if run.tied else "no",
            f"{run.parameters:,}",
            f"{run.sizes[-1]:,}",
            *(Text(metric.text(metric.value(errors, mean)), style=style) for metric in metrics),
            f"{evaluation.baseline.squared_error_per_item:.4f}",
            f"{run.seconds:,.1f}",
        )
    return table


def settings_table(settings: Mapping[str, Sequence[object]], names: Sequence[str]) -> Table:
    """Return a table of the settings that differ, one row per setting, with each value and its runs."""
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
    """Return the values of one run by their JSON names."""
    evaluation, images = run.evaluation, run.evaluation.raw is None
    clipped, raw = evaluation.pca_clipped, evaluation.raw
    in_raw_units = {} if raw is None else {"raw": metric_values(raw.model, raw.mean_item, images)}
    return {
        "run": run.name,
        "checkpoint": str(run.path),
        "sizes": list(run.sizes),
        "tied": run.tied,
        "parameters": run.parameters,
        "code_size": run.sizes[-1],
        **metric_values(evaluation.model, evaluation.mean_item, images),
        "pca": {"components": evaluation.components, **metric_values(evaluation.pca, evaluation.mean_item, images)},
        **({} if clipped is None else {"pca_clipped": metric_values(clipped, evaluation.mean_item, images)}),
        **in_raw_units,
        "epochs": run.epochs,
        "seconds": run.seconds,
    }
