"""One report from its runs to its page: measures them on the same items and gathers each chapter.

Shapes: N items of the split, P of them on the map, D values an item.
"""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tiedae_cli import __version__
from tiedae_cli.data.item_reader import split_items
from tiedae_cli.data.item_set import ItemSet, Splits
from tiedae_cli.data.sources.part import stop
from tiedae_cli.errors import InputError
from tiedae_cli.model.inference import batch_size, item_errors
from tiedae_cli.model.regions import Regions, region_side
from tiedae_cli.model.threshold import threshold_of
from tiedae_cli.report.code_chapter import Chosen, choose_items, code_chapter, described_items
from tiedae_cli.report.feature_chapter import feature_chapter
from tiedae_cli.report.item_chapter import error_histograms, shown_items
from tiedae_cli.report.live_network import embedded_network
from tiedae_cli.report.page.arrays_block import Arrays
from tiedae_cli.report.page.page import render
from tiedae_cli.report.run_facts import history_chapter, run_facts, vector_columns
from tiedae_cli.runs.run_folder import Run, principal_components
from tiedae_cli.runs.trained_run import OpenRun
from tiedae_cli.scoring.item_scores import score_blocks
from tiedae_cli.system.portability import machine_name
from tiedae_cli.system.progress import progress
from tiedae_cli.system.storage import unused_name
from tiedae_cli.tasks.compare import ComparedRun, compare_runs

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
        verdict = _verdict(run, splits.validation, images, errors[-1], quantile)
        chapters.append({**_run_chapter(run, found, splits, chosen, arrays), **verdict})
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
        "source": splits.source,
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


def _verdict(run: OpenRun, seen: ItemSet, images: ItemSet, errors: Tensor, quantile: float) -> dict[str, Any]:
    """Return the threshold of what a run ranks items by, the side of a region if that is regions, and how many items are above.

    Args:
        run: the model.
        seen: the validation items.
        images: the items of the page.
        errors: their squared errors, (N,).
        quantile: of the validation scores.
    """
    known = run.config.score.rank != "neighbours"  # which needs training rows that the page does not hold
    ranking = run.ranking if known else None
    region = region_side(run.form) if isinstance(ranking, Regions) else None
    if not (known and len(seen)):
        return {"threshold": None, "region": region, "above": None}
    limit = threshold_of(_scores(run, seen), 1 - quantile).value
    scores = errors if ranking is None else _scores(run, images)
    return {"threshold": limit, "region": region, "above": int((scores > limit).sum())}


def _scores(run: OpenRun, images: ItemSet) -> Tensor:
    """Return by what a run ranks items, (N,) float64."""
    blocks = split_items(images, batch_size(images)).blocks
    return torch.cat([scored.scores for scored in score_blocks(run.network, blocks, run.device, stop, run.ranking)])


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


def report_path(runs: Sequence[OpenRun], content: bytes) -> Path:
    """Return where a report goes without ``--output``: into the run folder of a single run, else a free name in the working folder."""
    folder = Run(runs[0].path.parent)
    if len(runs) == 1 and folder.config.exists():
        return folder.report
    return unused_name(Path("report.html" if len(runs) == 1 else "comparison.html"), content)
