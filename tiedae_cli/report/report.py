"""One report from its runs to its page: measures them on the same items and gathers each chapter.

Shapes: N items of the split, P of them on the map, D values an item.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor

from tiedae_cli import __version__
from tiedae_cli.config.shareable import last_part
from tiedae_cli.data.item_set import ItemSet, Splits
from tiedae_cli.errors import InputError
from tiedae_cli.model.inference import item_errors
from tiedae_cli.report.code_chapter import Chosen, choose_items, code_chapter, described_items
from tiedae_cli.report.feature_chapter import feature_chapter
from tiedae_cli.report.item_chapter import error_histograms, shown_items
from tiedae_cli.report.live_network import embedded_network
from tiedae_cli.report.page.arrays_block import Arrays
from tiedae_cli.report.page.page import render
from tiedae_cli.report.run_facts import history_chapter, run_facts, vector_columns
from tiedae_cli.runs.run_comparison import ComparedRun, compare_runs
from tiedae_cli.runs.run_folder import principal_components
from tiedae_cli.runs.trained_run import OpenRun
from tiedae_cli.system.portability import machine_name
from tiedae_cli.system.progress import progress

MOST_RUNS = 8  # columns of one page
STEPS = 4  # of one run, for the progress bar


@dataclass(frozen=True)
class ScoreFacts:
    """What the score of a run says of the items of the page; None where the page cannot compute it."""

    threshold: float | None
    """Items of a higher score are outliers."""
    region: int | None
    """The side of the region by which images are ranked, if they are."""
    above: int | None
    """How many items of the page are outliers."""


Judge = Callable[[OpenRun, ItemSet, ItemSet, Tensor], ScoreFacts]


def report(runs: Sequence[OpenRun], names: Sequence[str], split: str, quantile: float, judge: Judge) -> bytes:
    """Return the page that tells of runs.

    Args:
        runs: their items are those of the first one's data.
        names: what the command line calls them.
        split: train, validation or test.
        quantile: of the validation errors: the threshold of outliers.
        judge: takes a run, the validation items, the items of the page and their squared errors, (N,).

    Raises:
        InputError: no split has that name, or there are too many runs.
        DataError: the runs take data of different forms, or the data is missing.
    """
    if len(runs) > MOST_RUNS:
        raise InputError(f"{len(runs)} runs: one report holds {MOST_RUNS}; `tiedae compare` has a table for more")
    compared, splits = compare_runs(runs, [last_part(name) for name in names], split)
    images, arrays = splits.filled(split), Arrays()
    chosen = choose_items(images)
    errors = []
    chapters = []
    for number, (run, found) in enumerate(zip(runs, compared, strict=True)):
        progress("report", STEPS * number, STEPS * len(runs))
        errors.append(item_errors(run.network, images, run.device))
        facts = judge(run, splits.validation, images, errors[-1])
        chapters.append({**_run_chapter(run, found, splits, chosen, arrays), **asdict(facts)})
    components = principal_components(runs[0].path.parent, splits.train, compared[0].sizes[-1])
    limits = [None if chapter["region"] else chapter["threshold"] for chapter in chapters]
    document = {
        **_head(splits, split, images, chosen, quantile),
        "runs": chapters,
        "shown": shown_items(runs, components, images, errors, arrays),
        "histogram": error_histograms(runs, components, images, errors, limits),
        "map": described_items(chosen, images, arrays),
    }
    progress("report", STEPS * len(runs), STEPS * len(runs))
    return render(document, arrays)


def _head(splits: Splits, split: str, images: ItemSet, chosen: Chosen, quantile: float) -> dict[str, Any]:
    form = splits.form
    labels = images.readable_names
    return {
        "version": __version__,
        "made": datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC"),
        "machine": f"{machine_name()}, {os.cpu_count()} processors, torch {torch.__version__}",
        "source": last_part(splits.source),
        "split": split,
        "items": len(images),
        "counts": {name: len(splits.get(name)) for name in ("train", "validation", "test")},
        "quantile": quantile,
        "form": {
            "kind": form.kind,
            "shape": list(form.shape),
            "values": form.values_per_item,
            "words": form.describe(),
            "value_name": form.value_name,
            "item_name": "image" if form.kind == "images" else "vector",
            "columns": vector_columns(form),
        },
        "label_names": None if labels is None else list(labels),
    }


def _run_chapter(run: OpenRun, found: ComparedRun, splits: Splits, chosen: Chosen, arrays: Arrays) -> dict[str, Any]:
    """Return what the page tells of one run."""
    network, device = run.network, run.device
    facts = run_facts(run, found, splits)
    return {
        **facts,
        "history": history_chapter(run, splits),
        "code": code_chapter(network, chosen, device, arrays),
        "features": feature_chapter(network, run.form, arrays),
        "network": embedded_network(run, chosen, arrays),
    }
