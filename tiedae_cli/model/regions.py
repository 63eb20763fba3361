"""The score ``region``: an image is as strange as its strangest region.

With the residual r(x) = decode(encode(x)) - x and the squares Q of s x s pixels that lie in the image, s an eighth of its shorter side,

    score(x) = max over Q of sum over the pixels of Q, and their channels, of r(x)^2

A defect is small: the error summed over the whole image hides it among what is usual everywhere.
Shapes: B images a block, D values an image of C x H x W.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.model.metrics import squares
from tiedae_cli.system.devices import in_float64

REGIONS_A_SIDE = 8  # of the image's shorter side


def region_side(form: ItemForm) -> int:
    """Return how many pixels wide and high a region of an image is."""
    return max(1, round(min(form.shape[1:]) / REGIONS_A_SIDE))


def region_means(values: Tensor, form: ItemForm) -> Tensor:
    """Return the mean over the pixels and channels of every region, (B, D) -> (B, H - s + 1, W - s + 1), by its upper left corner."""
    return F.avg_pool2d(values.reshape(-1, *form.shape).mean(1, keepdim=True), region_side(form), 1)[:, 0]


@dataclass(frozen=True)
class Regions:
    """Ranks images by their strangest region."""

    form: ItemForm

    def scores(self, x: Tensor, residuals: Tensor) -> Tensor:
        """Return the score of each image, (B, D) and (B, D) -> (B,) float64."""
        values = region_side(self.form) ** 2 * self.form.shape[0]  # of one region
        return region_means(squares(residuals), self.form).flatten(1).amax(1) * values if len(x) else in_float64(x.new_zeros(0))
