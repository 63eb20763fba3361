"""The regions of an image: the squares of s x s pixels that lie in it, s an eighth of its shorter side.

Shapes: B images per block, D values per image of C x H x W.
"""

import torch.nn.functional as F
from torch import Tensor

from tiedae_cli.data.item_set import ItemForm

REGIONS_A_SIDE = 8  # of the image's shorter side


def region_side(form: ItemForm) -> int:
    """Return how many pixels wide and high a region of an image is."""
    return max(1, round(min(form.shape[1:]) / REGIONS_A_SIDE))


def region_means(values: Tensor, form: ItemForm) -> Tensor:
    """Return the mean of each region by its upper left corner, (B, D) -> (B, H - s + 1, W - s + 1)."""
    return F.avg_pool2d(values.reshape(-1, *form.shape).mean(1, keepdim=True), region_side(form), 1)[:, 0]
