"""One report from its runs to its page: measures them on the same items and gathers each chapter.

Shapes: N items of the split, P of them on the map, D values an item.
"""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from tiedae_cli import __version__
from tiedae_cli.data.image_set import ImageSet, Splits
from tiedae_cli.errors import InputError
from tiedae_cli.model.evaluation import item_errors
from tiedae_cli.model.threshold import threshold_of
from tiedae_cli.output.html.packing import Arrays
from tiedae_cli.output.html.page import render
from tiedae_cli.runs.folder import Run, principal_components
from tiedae_cli.runs.opened import OpenRun
from tiedae_cli.system.portability import machine_name
from tiedae_cli.system.reporting import progress
from tiedae_cli.system.storage import unused_name
from tiedae_cli.tasks.comparison import ComparedRun, compare_runs
from tiedae_cli.tasks.report.codes import Chosen, choose_items, code_chapter, described_items
from tiedae_cli.tasks.report.items import error_histograms, shown_items
from tiedae_cli.tasks.report.network import embedded_network
from tiedae_cli.tasks.report.story import history_chapter, run_facts, vector_columns
from tiedae_cli.tasks.report.weights import feature_chapter

MOST_RUNS = 8  # columns of one page
STEPS = 4  # of one run, for the progress bar


def report(runs: Sequence[OpenRun], names: Sequence[str], split: str, quantile: float) -> bytes:
    """Return the page that tells of runs.

    Args:
        runs: their items are those of the first one's data.
        names: what the command line calls them.
        split: train, validation or test.
        quantile: of the validation errors: the threshold of outliers.

    Raises:
        InputError: no split has that name, or there are too many runs.
        DataError: the runs take data of different forms, or the data is missing.
    """
    if len(runs) > MOST_RUNS:
        raise InputError(f"{len(runs)} runs: one report holds {MOST_RUNS}; `tiedae compare` has a table for more")
    compared, splits = compare_runs(runs, names, split)
    images, arrays = splits.filled(split), Arrays()
    chosen = choose_items(images)
    errors = []
    chapters = []
    for number, (run, found) in enumerate(zip(runs, compared, strict=True)):
        progress("report", STEPS * number, STEPS * len(runs))
        errors.append(item_errors(run.network, images, run.device))
        chapters.append(_run_chapter(run, found, splits, chosen, quantile, arrays))
    components = principal_components(runs[0].path.parent, splits.train, compared[0].sizes[-1])
    limits = [chapter["threshold"] for chapter in chapters]
    document = {
        **_head(splits, split, images, chosen, quantile),
        "runs": chapters,
        "shown": shown_items(runs, components, images, errors, arrays),
        "histogram": error_histograms(runs, components, images, errors, limits),
        "map": described_items(chosen, images, arrays),
    }
    progress("report", STEPS * len(runs), STEPS * len(runs))
    return render(document, arrays)


def _head(splits: Splits, split: str, images: ImageSet, chosen: Chosen, quantile: float) -> dict[str, Any]:
    form = splits.form
    labels = images.readable_names
    return {
        "version": __version__,
        "made": datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC"),
        "machine": f"{machine_name()}, {os.cpu_count()} processors, torch {torch.__version__}",
        "source": splits.source,
        "split": split,
        "items": len(images),
        "counts": {name: len(splits.get(name)) for name in ("train", "validation", "test")},
        "quantile": quantile,
        "form": {
            "kind": form.kind,
            "shape": list(form.shape),
            "values": form.pixels,
            "words": form.describe(),
            "value_name": form.value_name,
            "item_name": "image" if form.kind == "images" else "vector",
            "columns": vector_columns(form),
        },
        "label_names": None if labels is None else list(labels),
    }


def _run_chapter(
    run: OpenRun, found: ComparedRun, splits: Splits, chosen: Chosen, quantile: float, arrays: Arrays
) -> dict[str, Any]:
    """Return what the page tells of one run."""
    network, device = run.network, run.device
    seen = splits.validation
    judged = len(seen) > 0 and run.config.score.rank == "squared_error"  # else by training rows that the page does not hold
    limit = threshold_of(item_errors(network, seen, device), 1 - quantile).value if judged else None
    facts = run_facts(run, found, splits)
    return {
        **facts,
        "threshold": limit,
        "history": history_chapter(run, splits),
        "code": code_chapter(network, chosen, device, arrays),
        "features": feature_chapter(network, run.form, arrays),
        "network": embedded_network(run, chosen, arrays),
    }


def report_path(runs: Sequence[OpenRun], content: bytes) -> Path:
    """Return where a report goes without ``--output``: into the run folder of a single run, else a free name in the working folder."""
    folder = Run(runs[0].path.parent)
    if len(runs) == 1 and folder.config.exists():
        return folder.report
    return unused_name(Path("report.html" if len(runs) == 1 else "comparison.html"), content)
