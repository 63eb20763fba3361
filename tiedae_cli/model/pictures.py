"""Convert items as a model sees them to pictures.

Shapes: N items, D values per item, H x W pixels.
"""

import numpy as np

from tiedae_cli.data.item_set import ItemForm


def as_pictures(rows: np.ndarray, form: ItemForm) -> np.ndarray:
    """Return model values, (N, D), as pictures in [0, 1], (N, H, W) gray or (N, H, W, 3) color."""
    channels, height, width = form.shape
    images = rows.reshape(-1, channels, height, width).clip(0, 1)
    return images[:, :3].transpose(0, 2, 3, 1) if channels >= 3 else images[:, 0]
