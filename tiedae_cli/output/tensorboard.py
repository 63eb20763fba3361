"""A training as TensorBoard shows it: the errors by epoch, a few reconstructions after each, and in the end the codes as points.

Shapes: N items, D values an item, K numbers of the code.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tiedae_cli.data.item_set import ItemForm, ItemSet
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.model.inference import codes, reconstruct_items
from tiedae_cli.model.pictures import as_pictures
from tiedae_cli.runs.training_state import JOINT, EpochReport
from tiedae_cli.system.storage import storage_errors

FOLDER = "tensorboard"
SCALARS = ("train_mse_per_value", "validation_mse_per_value", "learning_rate", "items_per_second")
MOST_POINTS = 2_000  # codes that the projector gets; it slows down with more
LARGEST_SPRITE = 8192  # pixels of the picture that holds all thumbnails, either way: TensorBoard's limit


class Board:
    """Writes the events of one run into the folder ``tensorboard`` of its run folder.

    Args:
        run: the run folder.
        done: epochs that are done, of all phases; what an interrupted process wrote of later ones is not shown.
    """

    def __init__(self, run: Path, done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder = run / FOLDER
        self.writer: Any = None
        with storage_errors(self.folder):
            self.writer = SummaryWriter(str(self.folder), purge_step=done + 1 if done else None)

    def epoch(self, report: EpochReport, step: int, model: TiedAutoencoder, shown: ItemSet, device: torch.device) -> None:
        """Add an epoch: its numbers, and how a few items look by now.

        Args:
            report: the epoch.
            step: its number among those of all phases, from 1.
            model: as it is after the epoch.
            shown: the items to reconstruct; vectors have no picture.
            device: of the model.
        """
        prefix = "" if report.phase == JOINT else report.phase.replace(" ", "_") + "/"
        with storage_errors(self.folder):
            for name in SCALARS:
                value = getattr(report, name)
                if value is not None:
                    self.writer.add_scalar(prefix + name, value, step)
            if shown.form.kind == "images" and report.phase == JOINT:
                originals, reconstructions, _ = reconstruct_items(model, shown, device)
                picture = _over_each_other(originals, reconstructions, shown.form)
                layout = "HW" if picture.ndim == 2 else "HWC"
                self.writer.add_image("originals over reconstructions", picture, step, dataformats=layout)
            self.writer.flush()

    @torch.inference_mode()
    def finish(self, step: int, model: TiedAutoencoder, images: ItemSet, device: torch.device) -> None:
        """Add the codes of a split, with their labels and thumbnails, for the projector."""
        images = images.slice(0, min(len(images), MOST_POINTS))
        x = images.batch(0, len(images), device)
        labels = None if images.labels is None else [_label(images, label) for label in images.labels.tolist()]
        with storage_errors(self.folder):
            shutil.rmtree(self.folder / f"{step:05}", ignore_errors=True)  # of a run that was finished before
            self.writer.add_embedding(codes(model, x, device), labels, _thumbnails(x.cpu(), images.form), step, "code")
            self.writer.flush()

    def close(self) -> None:
        """End the files."""
        self.writer.close()


def _over_each_other(originals: Tensor, reconstructions: Tensor, form: ItemForm) -> np.ndarray:
    """Return one picture, the originals in a row over their reconstructions, in [0, 1]."""
    rows = [np.concatenate(list(as_pictures(values, form)), 1) for values in (originals, reconstructions)]
    return np.concatenate(rows)


def _label(images: ItemSet, label: int) -> str:
    return str(label) if images.readable_names is None else images.readable_names[label]


def _thumbnails(x: Tensor, form: ItemForm) -> Tensor | None:
    """Return the items as pictures in [0, 1], (N, 3, H, W), or None where they are none or too large together."""
    side = int(np.ceil(len(x) ** 0.5))
    if form.kind != "images" or side * max(form.shape[1:]) > LARGEST_SPRITE:
        return None
    pictures = torch.from_numpy(as_pictures(x, form)).float()  # (N, H, W) or (N, H, W, 3)
    return pictures.unsqueeze(1).expand(-1, 3, -1, -1) if pictures.dim() == 3 else pictures.permute(0, 3, 1, 2)
