"""The report from runs to page: measures all runs on the same items and collects each chapter.

Shapes: N items of the split, P of them on the map, D values per item.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor

from tiedae_cli import __version__
from tiedae_cli.config.shareable import last_part, shareable_name
from tiedae_cli.data.item_set import ItemForm, ItemSet, Splits
from tiedae_cli.errors import InputError
from tiedae_cli.model.inference import item_errors
from tiedae_cli.report.code_chapter import Chosen, choose_items, code_chapter, described_items
from tiedae_cli.report.feature_chapter import feature_chapter
from tiedae_cli.report.item_chapter import error_histograms, shown_items
from tiedae_cli.report.live_network import embedded_network
from tiedae_cli.report.page.arrays_block import Arrays
from tiedae_cli.report.page.render import render
from tiedae_cli.report.run_facts import history_chapter, item_word, run_facts, vector_columns
from tiedae_cli.report.shared_units import answer_of, converted, same_units
from tiedae_cli.runs.run_comparison import ComparedRun, compare_runs, has_same_units
from tiedae_cli.runs.trained_run import OpenRun
from tiedae_cli.system.portability import machine_name
from tiedae_cli.system.processors import usable_processors
from tiedae_cli.system.progress import progress

MOST_RUNS = 8  # in one report
STEPS = 4  # of the progress bar per run


@dataclass(frozen=True)
class ScoreFacts:
    """Facts about a run's anomaly score; None for what the page cannot compute."""

    threshold: float | None
    """Items with a higher score are outliers."""
    region: int | None
    """Side of the region in pixels, if images are ranked by regions."""
    above: int | None
    """Number of outliers in the split."""
    row_threshold: float | None
    """Of windows: the threshold of the row score, by which ``score`` judges; ``threshold`` is that of the window score."""


@dataclass(frozen=True)
class SizeFacts:
    """The chapter on runs that differ in code size only."""

    picture: str
    """A data URL."""
    lines: tuple[str, ...]
    """What the picture says."""


Judge = Callable[[OpenRun, ItemSet, Tensor], ScoreFacts]
CompareSizes = Callable[[Sequence[ComparedRun], Splits], SizeFacts | None]


def report(
    runs: Sequence[OpenRun], names: Sequence[str], split: str, quantile: float, judge: Judge, compare_sizes: CompareSizes
) -> bytes:
    """Return the page about one or several runs, UTF-8.

    Args:
        runs: the runs; all are measured on the first one's data, in the data's own units if they scale it differently.
        names: their names on the page.
        split: train, validation or test.
        quantile: quantile of the validation scores that is the threshold for outliers.
        judge: takes a run, the items of the split as it sees them and their squared errors, (N,).
        compare_sizes: returns the chapter on code sizes, if the runs differ in nothing else.

    Raises:
        InputError: the split is unknown, or there are too many runs.
        DataError: the runs need different forms of data, or the data is missing.
    """
    if len(runs) > MOST_RUNS:
        raise InputError(
            f"{len(runs)} runs are too many for one report (at most {MOST_RUNS}); for a table of more runs: tiedae compare"
        )
    compared, splits = compare_runs(runs, [shareable_name(name) for name in names], split, same_scaling=False)
    items, arrays = splits.filled(split), Arrays()
    chosen, answers = choose_items(items), [answer_of(run, items.form) for run in runs]
    errors, in_raw_units = [], not same_units(runs)
    chapters = []
    for number, (run, found) in enumerate(zip(runs, compared, strict=True)):
        progress("report", STEPS * number, STEPS * len(runs))
        own = splits.for_model(run.form, names[number])
        errors.append(item_errors(answers[number], items, run.device, raw=in_raw_units))
        own_errors = item_errors(run.network, own.filled(split), run.device) if in_raw_units else errors[-1]
        facts = judge(run, own.filled(split), own_errors)
        chapters.append({**_run_chapter(run, found, own, items.form, _seen_by(run, items, chosen), arrays), **asdict(facts)})
    components = runs[0].components()
    limits = [None if chapter["region"] or in_raw_units else chapter["threshold"] for chapter in chapters]
    document = {
        **_head(splits, split, items, chosen, quantile, runs[0].config.score.rank, in_raw_units),
        "in_raw_units": in_raw_units,
        "runs": chapters,
        "shown": shown_items(answers, components, items, errors, arrays, in_raw_units),
        "histogram": error_histograms(components, items, errors, limits, runs[0].device, in_raw_units),
        "map": described_items(chosen, items, arrays),
    }
    progress("report", STEPS * len(runs), STEPS * len(runs))
    return render(document, arrays, compare_sizes(compared, splits))


def _head(
    splits: Splits, split: str, items: ItemSet, chosen: Chosen, quantile: float, rank: str, in_raw_units: bool
) -> dict[str, Any]:
    form = splits.form
    labels = items.readable_names
    return {
        "version": __version__,
        "made": datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC"),
        "machine": f"{machine_name()}, {usable_processors()} processors, torch {torch.__version__}",
        "source": last_part(splits.source),
        "split": split,
        "items": len(items),
        "counts": {name: len(splits.get(name)) for name in ("train", "validation", "test")},
        "quantile": quantile,
        "form": {
            "kind": form.kind,
            "shape": list(form.shape),
            "values": form.values_per_item,
            "words": form.describe(),
            "value_name": form.value_name,
            "item_name": item_word(form),
            "window": form.window,
            "error_name": "window score"
            if not in_raw_units and form.window > 1 and rank == "squared_error"
            else "squared error",
            "columns": vector_columns(form),
        },
        "label_names": None if labels is None else list(labels),
    }


def _seen_by(run: OpenRun, items: ItemSet, chosen: Chosen) -> Chosen:
    """Return the chosen items as a run sees them."""
    if has_same_units(items.form, run.form):
        return chosen
    return Chosen(chosen.indices, converted(chosen.values, items.form, run.form))


def _run_chapter(
    run: OpenRun, found: ComparedRun, splits: Splits, page: ItemForm, chosen: Chosen, arrays: Arrays
) -> dict[str, Any]:
    """Return the facts about one run; ``page`` has the units of the page, all else is as the run sees it."""
    network, device = run.network, run.device
    facts = run_facts(run, found, splits)
    return {
        **facts,
        "history": history_chapter(run, splits),
        "code": code_chapter(network, chosen, device, arrays),
        "features": feature_chapter(network, run.form, arrays),
        "network": embedded_network(run, page, chosen, arrays),
    }
