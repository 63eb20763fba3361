"""What ``reconstruct`` does: items beside what the model makes of them, as a picture.

Shapes: N items, D values an item.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from tiedae_cli.data import choose
from tiedae_cli.data.image_files import expand_folders, load_image_files
from tiedae_cli.model.evaluation import reconstruct_items
from tiedae_cli.output import figures
from tiedae_cli.runs.opened import OpenRun


@dataclass(frozen=True)
class Reconstruction:
    """Items and what became of them."""

    originals: Tensor
    """(N, D), as the model sees them."""
    reconstructions: Tensor
    """(N, D)"""
    squared_errors: list[float]
    """Of each item, summed over its values."""
    png: bytes


def reconstruct(run: OpenRun, files: Sequence[str], split: str, count: int, seed: int | None) -> Reconstruction:
    """Draw images, or some of a split where none are named, beside their reconstructions.

    Args:
        run: the model.
        files: image files or folders of them.
        split: train, validation or test.
        count: how many of the split.
        seed: chooses them; None takes the first ones.

    Raises:
        InputError: the model's items are no pictures, or there are more than one picture holds.
        DataError: the images or the data cannot be read.
    """
    run.refuse_vectors(f"{run.path}: made for {run.form.describe()}, which have no picture; its errors: tiedae eval {run.path}")
    images = load_image_files(expand_folders(files), run.form) if files else choose(run.split(split), count, seed)
    figures.check_pairs(len(images), run.form)
    originals, reconstructions, errors = reconstruct_items(run.network, images, run.device)
    return Reconstruction(
        originals, reconstructions, errors, figures.reconstruction_pairs(originals, reconstructions, errors, run.form)
    )
