"""Items as a model sees them, as pictures that can be drawn.

Shapes: N items, D values an item, H x W pixels.
"""

import numpy as np
from torch import Tensor

from tiedae_cli.data.item_set import ItemForm


def as_pictures(rows: Tensor, form: ItemForm) -> np.ndarray:
    """Return model values, (N, D), as pictures in [0, 1], (N, H, W) gray or (N, H, W, 3) colour."""
    channels, height, width = form.shape
    images = rows.detach().cpu().reshape(-1, channels, height, width).clamp(0, 1)
    if channels >= 3:
        return images[:, :3].permute(0, 2, 3, 1).numpy()
    return images[:, 0].numpy()
