"""The TensorBoard tracker: errors and a few reconstructions after each epoch, and the codes of a split at the end.

Shapes: N items, D values per item, codes of size K.
"""

import contextlib
import shutil
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tiedae_cli.data.item_set import ItemForm, ItemSet
from tiedae_cli.model.inference import codes, reconstruct_items
from tiedae_cli.model.pictures import as_pictures
from tiedae_cli.runs.observer import Observer, TrainingResult, TrainingStart
from tiedae_cli.runs.training_state import JOINT, EpochReport
from tiedae_cli.runs.training_summary import finished_epochs
from tiedae_cli.system.optional_packages import optional_package
from tiedae_cli.system.storage import storage_errors
from tiedae_cli.system.text import shown

FOLDER = "tensorboard"
SCALARS = ("train_mse_per_value", "validation_mse_per_value", "learning_rate", "items_per_second")
MOST_POINTS = 2_000  # codes in the projector, which slows down with more
LARGEST_SPRITE = 8192  # pixels a side of the picture that holds all thumbnails: TensorBoard's limit


class TensorBoard(Observer):
    """Writes TensorBoard events to ``tensorboard/`` in the run folder.

    Raises:
        InputError: TensorBoard is not installed.
    """

    def __init__(self) -> None:
        optional_package("tensorboard", "tensorboard")
        self.writer: Any = None
        self._open = contextlib.ExitStack()

    def started(self, start: TrainingStart) -> None:
        """Open the event files; hide events of epochs that an interrupted process did not save."""
        from torch.utils.tensorboard import SummaryWriter

        self.start, self.epochs = start, finished_epochs(start.history)
        self.folder = start.run.folder / FOLDER
        self._open.enter_context(_failing_threads_are_quiet())
        with storage_errors(self.folder):
            self.writer = SummaryWriter(str(self.folder), purge_step=self.epochs + 1 if self.epochs else None)

    def epoch(self, report: EpochReport) -> None:
        """Add an epoch: its metrics and a few reconstructions."""
        self.epochs += report.epoch > 0  # epoch 0 is step 0
        prefix = "" if report.phase == JOINT else report.phase.replace(" ", "_") + "/"
        with storage_errors(self.folder):
            for name in SCALARS:
                value = getattr(report, name)
                if value is not None:
                    self.writer.add_scalar(prefix + name, value, self.epochs)
            if self.start.splits.form.kind == "images" and report.phase == JOINT:
                shown = self.start.shown
                originals, reconstructions, _ = reconstruct_items(self.start.model, shown, self.start.device)
                picture = _over_each_other(originals.numpy(), reconstructions.numpy(), shown.form)
                layout = "HW" if picture.ndim == 2 else "HWC"
                self.writer.add_image("originals over reconstructions", picture, self.epochs, dataformats=layout)
            self.writer.flush()

    @torch.inference_mode()
    def finished(self, result: TrainingResult) -> None:
        """Add the codes of a split with labels and thumbnails for the projector."""
        model, device, step = self.start.model, self.start.device, self.epochs
        items = self.start.splits.get(self.start.shown_split)
        items = items.slice(0, min(len(items), MOST_POINTS))
        x = items.batch(0, len(items))
        labels = None if items.labels is None else [_label(items, label) for label in items.labels.tolist()]
        with storage_errors(self.folder):
            shutil.rmtree(self.folder / f"{step:05}", ignore_errors=True)  # of an earlier end of the same run
            self.writer.add_embedding(
                codes(model, torch.as_tensor(x), device), labels, _thumbnails(x, items.form), step, "code"
            )
            self.writer.close()
        self._open.close()

    def stopped(self, error: BaseException | None) -> None:
        """Close the event files."""
        with self._open, contextlib.suppress(OSError):  # what could not be written has been reported
            if self.writer is not None:
                self.writer.close()


@contextlib.contextmanager
def _failing_threads_are_quiet() -> Iterator[None]:
    """Print no traceback in this block if TensorBoard's thread cannot write: its next call raises the same error."""
    before = threading.excepthook

    def report(failed: threading.ExceptHookArgs) -> None:
        if not type(failed.thread).__module__.startswith("tensorboard."):
            before(failed)

    threading.excepthook = report
    try:
        yield
    finally:
        threading.excepthook = before


def create() -> Observer:
    """Return the tracker."""
    return TensorBoard()


def _over_each_other(originals: np.ndarray, reconstructions: np.ndarray, form: ItemForm) -> np.ndarray:
    """Return one picture in [0, 1]: a row of originals above a row of their reconstructions."""
    rows = [np.concatenate(list(as_pictures(values, form)), 1) for values in (originals, reconstructions)]
    return np.concatenate(rows)


def _label(items: ItemSet, label: int) -> str:
    return str(label) if items.readable_names is None else shown(items.readable_names[label])


def _thumbnails(x: np.ndarray, form: ItemForm) -> Tensor | None:
    """Return the items as pictures in [0, 1], (N, 3, H, W); None if they are not images or too large together."""
    side = int(np.ceil(len(x) ** 0.5))
    if form.kind != "images" or side * max(form.shape[1:]) > LARGEST_SPRITE:
        return None
    pictures = torch.from_numpy(as_pictures(x, form)).float()  # (N, H, W) or (N, H, W, 3)
    return pictures.unsqueeze(1).expand(-1, 3, -1, -1) if pictures.dim() == 3 else pictures.permute(0, 3, 1, 2)
