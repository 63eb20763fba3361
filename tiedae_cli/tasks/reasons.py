"""Why an item is strange: the values that carry its error.

Shapes: B items a block, D values an item.
"""

from typing import Any

import torch
from torch import Tensor

from tiedae_cli.data.image_set import DataForm


def reasons(values: Tensor, reconstructions: Tensor, form: DataForm, count: int) -> list[list[dict[str, Any]]]:
    """Return, for each item, the values with the largest shares of its squared error, as the JSON interface names them.

    Args:
        values: as the model sees them, (B, D).
        reconstructions: (B, D).
        form: of the items; gives the columns their names and the numbers their units.
        count: how many.
    """
    errors = (reconstructions - values).square()
    shares = errors / errors.sum(1, keepdim=True).clamp_min(1e-30)
    top = shares.topk(min(count, shares.shape[1]), 1)
    wide = values.to(torch.float64), reconstructions.to(torch.float64)
    raw, expected = (form.denormalise(x).gather(1, top.indices).tolist() for x in wide)
    names = form.columns.values if form.columns is not None else range(form.pixels)
    return [
        [
            {"column": names[place], "value": value, "expected": usual, "share": share}
            for place, value, usual, share in zip(*cells, strict=True)
        ]
        for cells in zip(top.indices.tolist(), raw, expected, top.values.tolist(), strict=True)
    ]
