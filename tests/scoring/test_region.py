"""The score ``region`` is its formula, written out as a search over all squares of pixels."""

import numpy as np
import pytest
import torch

from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.scoring.rankers import Region
from tiedae_cli.scoring.regions import region_means, region_side


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 17, 25)])
def test_the_score_is_the_largest_squared_error_of_all_regions(shape: tuple[int, int, int]) -> None:
    form = ItemForm(shape, scale=1 / 255)
    residuals = torch.randn(5, form.values_per_item, generator=torch.Generator().manual_seed(0))
    nothing = torch.zeros_like(residuals)
    side, errors = region_side(form), residuals.square().view(5, *shape).sum(1).numpy()
    places = [(row, column) for row in range(shape[1] - side + 1) for column in range(shape[2] - side + 1)]
    sums = np.array([errors[:, row : row + side, column : column + side].sum((1, 2)) for row, column in places])
    assert Region(form).scores(nothing, residuals).numpy() == pytest.approx(sums.max(0), rel=1e-5)
    assert region_means(residuals, form).shape == (5, shape[1] - side + 1, shape[2] - side + 1)
    assert len(Region(form).scores(nothing[:0], residuals[:0])) == 0


def test_squares_that_no_float32_holds() -> None:
    residuals = torch.full((1, 64), float(np.float32(1e25)))
    assert Region(ItemForm((1, 8, 8))).scores(torch.zeros(1, 64), residuals).tolist() == [float(np.float32(1e25)) ** 2]
