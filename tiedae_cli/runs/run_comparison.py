"""Several runs measured on the same items, each beside PCA with as many numbers as its code."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tiedae_cli.config import Config
from tiedae_cli.data.item_reader import ItemReader
from tiedae_cli.data.item_set import ItemForm, Splits, check_split
from tiedae_cli.errors import DataError, InputError
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.model.inference import Evaluation, evaluate
from tiedae_cli.model.layer_summary import parameter_count
from tiedae_cli.model.stream_evaluation import evaluate_stream
from tiedae_cli.runs.checkpoint import Checkpoint
from tiedae_cli.runs.data_identity import changed_data, identity
from tiedae_cli.runs.trained_run import OpenRun
from tiedae_cli.runs.training_state import EpochReport
from tiedae_cli.runs.training_summary import summarize_training

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """One of the runs to compare."""

    argument: str
    """What names it on the command line."""
    path: Path
    """Its checkpoint."""
    trained: Checkpoint
    config: Config
    """What it was trained with, with the paths of its run folder."""
    history: Sequence[EpochReport]
    """The reports of all epochs that its run has finished."""


@dataclass(frozen=True)
class ComparedRun:
    """One run beside the others."""

    name: str
    """The run's name; where two have the same, what the command line calls it."""
    path: Path
    """Its checkpoint."""
    sizes: tuple[int, ...]
    """D, H_1 ... H_L; the last is the code size."""
    shapes: str
    """The same for people: images as channels x height x width."""
    tied: bool
    parameters: int
    evaluation: Evaluation
    """Its errors, and those of PCA with as many numbers as its code."""
    epochs: int
    """Epochs that the run has finished."""
    seconds: float
    """Of their steps."""


def refuse_other_forms(candidates: Sequence[Candidate], same_scaling: bool) -> None:
    """Refuse runs that take other items than the first one.

    Args:
        candidates: at least one.
        same_scaling: whether vectors must be scaled alike, too, because their errors are compared in the models' units.

    Raises:
        DataError: the runs take items of different forms.
    """
    first = candidates[0]
    for other in candidates[1:]:
        one, another = first.trained.form, other.trained.form
        if not _same_items(one, another) or (same_scaling and not has_same_units(one, another)):
            scaled = ", scaled otherwise" if one.describe() == another.describe() else ""
            raise DataError(
                f"{other.argument}: made for {another.describe()}{scaled}; {first.argument}: made for {one.describe()}; "
                "their errors cannot be compared"
            )


def common_splits(candidates: Sequence[Candidate], split: str, load: Callable[[Candidate], Splits]) -> Splits:
    """Return the data of the first run, on which all are measured.

    Args:
        candidates: at least one.
        split: the split that will be measured.
        load: reads the data of a run, as its model sees it.

    Raises:
        DataError: the data is missing.
    """
    first = candidates[0]
    splits = load(first)
    for other in candidates[1:]:
        if other.config.data != first.config.data and not _has_items(other, split, splits, load):
            log.info(f"{other.argument}: its own {split} split has other items; measured here on that of {first.argument}")
    return splits


def _has_items(other: Candidate, split: str, splits: Splits, load: Callable[[Candidate], Splits]) -> bool:
    """Return whether a run's own split has just these items; several splits may look into one array, so identities are compared."""
    try:
        own = load(other)
    except DataError:  # not on this machine (any more)
        return False
    if (own.form.shape, own.form.kind) == (splits.form.shape, splits.form.kind) and own.form.kind == "vectors":
        own = own.with_form(splits.form)
    return changed_data({split: identity(own.get(split))}, {split: identity(splits.get(split))}) is None


def _same_items(one: ItemForm, other: ItemForm) -> bool:
    """Return whether two forms hold the same values: of tables also the same columns, if both have names."""
    columns, others = one.columns, other.columns
    named_alike = columns is None or others is None or columns.values == others.values
    return (one.shape, one.kind) == (other.shape, other.kind) and named_alike


def has_same_units(one: ItemForm, other: ItemForm) -> bool:
    """Return whether errors in two forms have the same unit: images are always in [0, 1], vectors have their own scaling."""
    return one.kind == "images" or all(
        np.array_equal(a, b) for a, b in ((one.scale, other.scale), (_or_zero(one.zero), _or_zero(other.zero)))
    )


def _or_zero(offset: np.ndarray | None) -> np.ndarray | float:
    return 0.0 if offset is None else offset


def compare(
    candidates: Sequence[Candidate], measure: Callable[[Candidate, TiedAutoencoder], Evaluation], device: torch.device
) -> list[ComparedRun]:
    """Measure each run, beside PCA of its own training items with as many numbers.

    Args:
        candidates: the runs.
        measure: returns the errors of a run, given its model on the device.
        device: where to compute.
    """
    names = Counter(candidate.trained.run for candidate in candidates)
    compared = []
    for candidate in candidates:
        trained, model = candidate.trained, candidate.trained.model(device)
        training = summarize_training(trained, candidate.history)
        compared.append(
            ComparedRun(
                name=trained.run if names[trained.run] == 1 else candidate.argument,
                path=candidate.path,
                sizes=model.sizes,
                shapes=model.shapes,
                tied=model.tied,
                parameters=parameter_count(model, model.tied),
                evaluation=measure(candidate, model),
                epochs=training.epochs,
                seconds=training.seconds,
            )
        )
    return compared


def compare_runs(
    runs: Sequence[OpenRun], names: Sequence[str], split: str, same_scaling: bool = True
) -> tuple[list[ComparedRun], Splits]:
    """Measure several runs on the same items, a split of the first one's data.

    Args:
        runs: the models.
        names: what the command line calls them.
        split: train, validation or test.
        same_scaling: as of ``refuse_other_forms``.

    Raises:
        InputError: no split has that name.
        DataError: the runs take data of different forms, or the data is missing.
    """
    check_split(split)
    opened, candidates = {run.path: run for run in runs}, _candidates(runs, names)
    refuse_other_forms(candidates, same_scaling)
    splits = common_splits(candidates, split, lambda one: opened[one.path].splits)

    def measure(one: Candidate, model: TiedAutoencoder) -> Evaluation:
        items = splits.for_model(one.trained.form, one.argument).filled(split)
        return evaluate(model, opened[one.path].components(), items, split, runs[0].device)

    return compare(candidates, measure, runs[0].device), splits


def compare_on_files(runs: Sequence[OpenRun], names: Sequence[str], inputs: Sequence[str]) -> list[ComparedRun]:
    """Measure several runs on the items of files, each by its own scaling.

    Args:
        runs: the models.
        names: what the command line calls them.
        inputs: files and folders; each model reads them.

    Raises:
        InputError: an input does not exist, or is stdin.
        DataError: the runs take data of different forms, or an item cannot be read.
    """
    if "-" in inputs:
        raise InputError("-: stdin can be read only once, but each model reads the items; save them in a file")
    opened, candidates = {run.path: run for run in runs}, _candidates(runs, names)
    refuse_other_forms(candidates, same_scaling=False)

    def measure(one: Candidate, model: TiedAutoencoder) -> Evaluation:
        run = opened[one.path]
        items = ItemReader(run.form, run.block_size, data=run.config.data).open(inputs)
        return evaluate_stream(model, run.components(), items.blocks, run.form, run.device)

    return compare(candidates, measure, runs[0].device)


def _candidates(runs: Sequence[OpenRun], names: Sequence[str]) -> list[Candidate]:
    return [Candidate(name, run.path, run.trained, run.config, run.history) for name, run in zip(names, runs, strict=True)]
