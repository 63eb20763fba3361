"""A trained model with what belongs to it: what every command but ``train`` begins with."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from tiedae_cli.config import Config
from tiedae_cli.data.image_files import images_under
from tiedae_cli.data.item_set import ItemForm, ItemSet, Splits, check_split
from tiedae_cli.data.load_data import is_there, load_splits, note_data
from tiedae_cli.data.sources.detection import is_input
from tiedae_cli.errors import DataError, InputError
from tiedae_cli.model import pca
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.model.inference import block_size
from tiedae_cli.model.pca import PrincipalComponents
from tiedae_cli.runs import checkpoint as checkpoints
from tiedae_cli.runs.checkpoint import Checkpoint
from tiedae_cli.runs.export_document import is_exported
from tiedae_cli.runs.run_folder import Run, find_checkpoint, fingerprint, named_model
from tiedae_cli.runs.run_list import RUNS, is_finished, progress_of, summarize
from tiedae_cli.runs.training_state import EpochReport, SplitIdentity
from tiedae_cli.runs.training_summary import run_history
from tiedae_cli.system.devices import resolve_device
from tiedae_cli.system.text import shortened

LONGEST_NAME = 100  # characters of a name that a checkpoint holds

log = logging.getLogger(__name__)


class OpenRun:
    """A checkpoint and, each read when it is first asked for, its model and its data.

    Args:
        path: the checkpoint.
        device: where to compute.
        splits: its data, where somebody has read it already.
        trained: what the checkpoint holds, if it is in memory.

    Raises:
        CheckpointError: the file is damaged or another tool's.
    """

    def __init__(
        self, path: Path, device: torch.device, splits: Splits | None = None, trained: Checkpoint | None = None
    ) -> None:
        self._read = splits
        self.path = path
        self.device = device
        self.trained = trained or checkpoints.load(path)
        self.data_changed = False  # since the training; known once ``splits`` are read
        note_data(self.config.data)  # also if it is not read: an output must not replace what the run was trained on

    def with_weights(self, weights: Mapping[str, Tensor]) -> "OpenRun":
        """Return the same run with other weights, without what its training added at its end."""
        return OpenRun(self.path, self.device, self._read, replace(self.trained, weights=weights, finished=None))

    def on_cpu(self) -> "OpenRun":
        """Return the same run on the CPU."""
        return OpenRun(self.path, torch.device("cpu"), self._read, self.trained)

    @property
    def config(self) -> Config:
        """What it was trained with."""
        return self.trained.config

    @property
    def form(self) -> ItemForm:
        """Of one item, and the scaling between its values and the model's."""
        return self.trained.form

    @property
    def block_size(self) -> int:
        """How many items to compute at once."""
        return block_size(self.form)

    @cached_property
    def network(self) -> TiedAutoencoder:
        """The model on the device."""
        return self.trained.model(self.device)

    @cached_property
    def history(self) -> list[EpochReport]:
        """The reports of all epochs that its run has finished, also those after this checkpoint."""
        return run_history(self.path, self.trained)

    @cached_property
    def splits(self) -> Splits:
        """The data that it was trained on, as the model sees it: feature vectors by the statistics of its own training.

        Raises:
            DataError: the data is missing, damaged, or not of the model's form any more.
        """
        try:
            return self._read or self._loaded()
        except DataError:
            named_by_user = Run(self.path.parent).config.is_file()
            if named_by_user or not is_there(self.config.data):
                raise
            name = shortened(self.config.data.data_name, LONGEST_NAME)
            message = f"{self.path}: the data that it names ({name}) is missing, damaged or not of its form"
            raise DataError(message) from None  # which quotes nothing: whoever made the file chose what is read

    def _loaded(self) -> Splits:
        """Return the data, and warn if its training split is not the one that the model was trained on."""
        splits = load_splits(self.config.data, False).for_model(self.form, str(self.path))
        before, train = self.trained.training.data.get("train"), splits.train
        if before is not None and before != SplitIdentity(len(train), fingerprint(train)):
            self.data_changed = True
            log.warning(
                f"{self.path}: the data has changed since this run was trained; its splits may hold items of the training"
            )
        return splits

    def split(self, name: str) -> ItemSet:
        """Return the items of a split.

        Raises:
            InputError: no split has that name.
            DataError: it is empty, or as in ``splits``.
        """
        check_split(name)
        return self.splits.filled(name)

    def components(self, count: int | None = None) -> PrincipalComponents:
        """Return PCA of the training items: from the checkpoint, or fitted to the data if that keeps fewer components.

        Args:
            count: how many components; None for as many as the code has numbers.

        Raises:
            DataError: the data is needed and cannot be read; the message says why it is needed.
        """
        wanted, kept = min(count or self.network.sizes[-1], self._most_components), self.kept_components()
        if kept is not None and kept.components.shape[1] >= wanted:
            return kept.truncated(wanted)
        try:
            train = self.splits.train
        except DataError as problem:
            keeps = "no PCA" if kept is None else f"{kept.components.shape[1]:,} principal components"
            raise DataError(f"{self.path} keeps {keeps}, and fitting {wanted:,} needs its training data: {problem}") from None
        return pca.fit(train, wanted).in_float32()

    @property
    def _most_components(self) -> int:
        """The most components that PCA of the training items has."""
        seen = self.trained.training.data.get("train")
        return min(self.form.values_per_item, self.form.values_per_item if seen is None else seen.images)

    def kept_components(self) -> PrincipalComponents | None:
        """Return PCA of the training items as the checkpoint keeps it; None if its training has not ended yet."""
        return None if self.trained.finished is None else self.trained.finished.pca

    def warn_if_unfinished(self) -> None:
        """Log how far the training has come if it is not finished."""
        finished, folder = self.trained.finished, self.path.parent
        if (folder / "last.safetensors").exists():
            text = None if is_finished(folder) else progress_of(summarize(folder))
        elif finished is None:
            text = f"{len(self.history):,} of {self.config.training.epochs:,} epochs, killed"
        elif finished.results.state in ("finished", "stopped early"):
            text = None
        else:
            text = f"{finished.results.epochs:,} of {finished.results.planned:,} epochs, {finished.results.state}"
        if text is not None:
            log.info(f"{self.path}: {text}")

    def refuse_vectors(self, why: str) -> None:
        """Raise ``InputError`` with this reason unless the model's items are pictures."""
        if self.form.kind != "images":
            raise InputError(why)


def open_run(model: str | os.PathLike[str] | None = None, device: str = "auto") -> OpenRun:
    """Open a trained model.

    Args:
        model: a checkpoint, a run folder (its best epoch) or a run's name; None is the newest finished run under ``runs/``.
        device: as ``--device``.

    Raises:
        InputError: nothing of that name, or no such device.
        CheckpointError: the file is damaged or another tool's.
    """
    chosen = resolve_device(device)
    return OpenRun(find_checkpoint(None if model is None else os.fspath(model), RUNS), chosen)


def separate_model(first: str | None, others: Sequence[str], parent: Path) -> tuple[str | None, list[str]]:
    """Return MODEL and INPUTS of a command line ``[MODEL] [INPUTS]...``; the first argument may be either.

    The name of a run, a checkpoint or an exported file is a MODEL, whatever it looks like. Image files, arrays, tables, ``-`` and
    folders of images are inputs. Anything else is a MODEL that does not exist.
    """
    if first is None or is_exported(first) or (first != "-" and named_model(first, parent) is not None):
        return first, list(others)
    if is_input(first) or (Path(first).is_dir() and images_under(Path(first))):
        return None, [first, *others]
    return first, list(others)


def open_run_with_inputs(first: str | None, others: Sequence[str], device: str) -> tuple[OpenRun, list[str]]:
    """Open what a command line ``[MODEL] [INPUTS]...`` means; return the model and the inputs."""
    model, inputs = separate_model(first, others, RUNS)
    return open_run(model, device), inputs


def separate_models(words: Sequence[str], parent: Path) -> tuple[list[str], list[str]]:
    """Return the MODELs and the DATA of a command line ``MODEL... [DATA...]``: which of the two each word is.

    What names a run or a checkpoint is a MODEL; so is a word that is not an input either, which is reported when it is opened.
    """
    models = [word for word in words if separate_model(word, [], parent)[0] is not None]
    return models, [word for word in words if word not in models]
