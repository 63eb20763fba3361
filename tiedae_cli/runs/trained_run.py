"""A trained model with what belongs to it: what every command but ``train`` begins with."""

import logging
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch

from tiedae_cli.config import Config
from tiedae_cli.data.item_set import ItemForm, ItemSet, Splits, check_split
from tiedae_cli.data.load_data import load_splits, note_data
from tiedae_cli.errors import DataError, InputError
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.model.inference import block_size
from tiedae_cli.model.pca import PrincipalComponents
from tiedae_cli.runs import checkpoint as checkpoints
from tiedae_cli.runs.run_folder import Run, find_checkpoint, fingerprint, kept_components, principal_components, separate_model
from tiedae_cli.runs.run_list import RUNS
from tiedae_cli.runs.training_state import EpochReport, SplitIdentity
from tiedae_cli.runs.training_summary import run_history
from tiedae_cli.system.devices import resolve_device
from tiedae_cli.system.text import shortened

log = logging.getLogger(__name__)

LONGEST_NAME = 100  # characters of a name that a checkpoint holds


class OpenRun:
    """A checkpoint and, each read when it is first asked for, its model, its data and its yardstick.

    Args:
        path: the checkpoint.
        device: where to compute.
        splits: its data, where somebody has read it already.

    Raises:
        CheckpointError: the file is damaged or another tool's.
    """

    def __init__(self, path: Path, device: torch.device, splits: Splits | None = None) -> None:
        self._read = splits
        self.path = path
        self.device = device
        self.trained = checkpoints.load(path)
        note_data(self.config.data)  # also where it is not read: an output must not replace what the run was trained on

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
            if named_by_user or not os.path.exists(self.config.data.dataset):
                raise
            name = shortened(self.config.data.dataset, LONGEST_NAME)
            message = f"{self.path}: the data that it names ({name}) is missing, damaged or not of its form"
            raise DataError(message) from None  # which quotes nothing: whoever made the file chose what is read

    def _loaded(self) -> Splits:
        """Return the data, and warn if its training split is not the one that the model was trained on."""
        splits = load_splits(self.config.data, False).for_model(self.form, str(self.path))
        before, train = self.trained.training.data.get("train"), splits.train
        if before is not None and before != SplitIdentity(len(train), fingerprint(train)):
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
        """Return PCA of the training split, with as many components as the code has numbers unless told otherwise."""
        return principal_components(self.path.parent, self.splits.train, count or self.network.sizes[-1])

    def kept_components(self) -> PrincipalComponents | None:
        """Return PCA of the training split as the run folder keeps it, without reading the data; None where it keeps none of this size."""
        seen = self.trained.training.data.get("train")
        return (
            None
            if seen is None
            else kept_components(Run(self.path.parent), seen, self.form.values_per_item, self.network.sizes[-1])
        )

    def refuse_vectors(self, why: str) -> None:
        """Raise ``InputError`` with this reason unless the model's items are pictures."""
        if self.form.kind != "images":
            raise InputError(why)


def open_run(model: str | os.PathLike[str] | None = None, device: str = "auto") -> OpenRun:
    """Open a trained model.

    Args:
        model: a checkpoint, a run folder (its best epoch) or a run's name; None is the newest run under ``runs/``.
        device: as ``--device``.

    Raises:
        InputError: nothing of that name, or no such device.
        CheckpointError: the file is damaged or another tool's.
    """
    chosen = resolve_device(device)
    return OpenRun(find_checkpoint(None if model is None else os.fspath(model), RUNS), chosen)


def open_run_with_inputs(first: str | None, others: Sequence[str], device: str) -> tuple[OpenRun, list[str]]:
    """Open what a command line ``[MODEL] [INPUTS]...`` means; return the model and the inputs."""
    model, inputs = separate_model(first, others, RUNS)
    return open_run(model, device), inputs
