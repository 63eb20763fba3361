"""Several runs measured on the same items, each beside PCA with as many numbers as its code."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tiedae_cli.data.item_set import ItemForm, ItemSet, Splits, check_split
from tiedae_cli.errors import DataError
from tiedae_cli.model.inference import Evaluation, evaluate
from tiedae_cli.model.layer_summary import parameter_count
from tiedae_cli.model.pca import PrincipalComponents
from tiedae_cli.runs.checkpoint import Checkpoint
from tiedae_cli.runs.run_folder import fingerprint
from tiedae_cli.runs.trained_run import OpenRun
from tiedae_cli.runs.training_state import EpochReport

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """One of the runs to compare."""

    argument: str
    """What names it on the command line."""
    path: Path
    """Its checkpoint."""
    trained: Checkpoint
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


def common_splits(candidates: Sequence[Candidate], split: str, load: Callable[[Candidate], Splits]) -> Splits:
    """Return the data of the first run, on which all are measured.

    Args:
        candidates: at least one.
        split: the split that will be measured.
        load: reads the data of a run, as its model sees it.

    Raises:
        DataError: the runs take data of different forms, or the data is missing.
    """
    first = candidates[0]
    for other in candidates[1:]:
        one, another = first.trained.form, other.trained.form
        if not _same_form(one, another):
            scaled = ", scaled otherwise" if one.describe() == another.describe() else ""
            raise DataError(
                f"{other.argument}: made for {another.describe()}{scaled}; {first.argument}: made for {one.describe()}; "
                "their errors cannot be compared"
            )
    splits = load(first)
    for other in candidates[1:]:
        same_data = other.trained.config.data == first.trained.config.data
        if not same_data and not _has_items(other, split, splits.get(split), load):
            log.info(f"{other.argument}: its own {split} split has other items; measured here on that of {first.argument}")
    return splits


def _has_items(other: Candidate, split: str, images: ItemSet, load: Callable[[Candidate], Splits]) -> bool:
    """Return whether a run's own split has just these items; several splits may look into one tensor, so fingerprints are compared."""
    try:
        return fingerprint(load(other).get(split)) == fingerprint(images)
    except DataError:  # not on this machine (any more)
        return False


def _same_form(one: ItemForm, other: ItemForm) -> bool:
    """Return whether errors in the two forms have the same unit: images are always in [0, 1], vectors have their own scaling."""
    if (one.shape, one.kind) != (other.shape, other.kind):
        return False
    return one.kind == "images" or all(
        np.array_equal(a, b) for a, b in ((one.scale, other.scale), (_or_zero(one.offset), _or_zero(other.offset)))
    )


def _or_zero(offset: np.ndarray | None) -> np.ndarray | float:
    return 0.0 if offset is None else offset


def compare(
    candidates: Sequence[Candidate],
    components: Callable[[Candidate], PrincipalComponents],
    images: ItemSet,
    split: str,
    device: torch.device,
) -> list[ComparedRun]:
    """Measure each run on the same items, beside PCA of its own training items with as many numbers.

    Args:
        candidates: the runs.
        components: returns PCA of a run's training items.
        images: the items.
        split: the name of their split.
        device: where to compute.
    """
    models = [candidate.trained.model(device) for candidate in candidates]
    names = Counter(candidate.trained.run for candidate in candidates)
    compared = []
    for candidate, model in zip(candidates, models, strict=True):
        trained, history = candidate.trained, candidate.history
        compared.append(
            ComparedRun(
                name=trained.run if names[trained.run] == 1 else candidate.argument,
                path=candidate.path,
                sizes=model.sizes,
                shapes=model.shapes,
                tied=model.tied,
                parameters=parameter_count(model, model.tied),
                evaluation=evaluate(model, components(candidate), images, split, device),
                epochs=len(history),
                seconds=sum(report.seconds for report in history),
            )
        )
    return compared


def compare_runs(runs: Sequence[OpenRun], names: Sequence[str], split: str) -> tuple[list[ComparedRun], Splits]:
    """Measure several runs on the same items.

    Args:
        runs: the first one's data is that on which all are measured.
        names: what the command line calls them.
        split: train, validation or test.

    Raises:
        InputError: no split has that name.
        DataError: the runs take data of different forms, or the data is missing.
    """
    check_split(split)
    opened = {run.path: run for run in runs}
    candidates = [Candidate(name, run.path, run.trained, run.history) for name, run in zip(names, runs, strict=True)]
    splits = common_splits(candidates, split, lambda one: opened[one.path].splits)
    items = splits.filled(split)
    return compare(candidates, lambda one: opened[one.path].components(), items, split, runs[0].device), splits
