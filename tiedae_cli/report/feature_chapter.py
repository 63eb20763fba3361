"""The first layer's features, strongest first.

Shapes: H units of the first layer, D values per item.
"""

from typing import Any

import numpy as np
import torch

from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.report.page.arrays_block import Arrays
from tiedae_cli.report.run_facts import vector_columns

MOST_FEATURES = 100
MOST_VALUES = 1 << 20  # of all drawn features together
MOST_COLUMNS = 60  # columns drawn for vectors


def feature_chapter(network: TiedAutoencoder, form: ItemForm, arrays: Arrays) -> dict[str, Any]:
    """Return the rows of the first weight with the largest norms as int8, each scaled by its largest value."""
    features = network.features(form.shape)
    weight = features.flatten(1)  # (H, D); for a convolution each row is a kernel of C k k values
    norms = weight.norm(dim=1)
    count = max(1, min(MOST_FEATURES, MOST_VALUES // weight.shape[1]))
    order = norms.argsort(descending=True, stable=True)[:count]
    rows = weight[order]
    columns, names = torch.arange(weight.shape[1]), vector_columns(form)
    if form.kind == "vectors" and form.values_per_item > MOST_COLUMNS:
        columns = rows.norm(dim=0).argsort(descending=True, stable=True)[:MOST_COLUMNS].sort().values
    rows = rows[:, columns]
    scaled = rows / rows.abs().amax(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    return {
        "units": order.tolist(),
        "norms": norms[order].tolist(),
        "of": len(weight),
        "shape": list(features.shape[1:]),
        "column_names": None if names is None else [names[place] for place in columns.tolist()],
        "rows": arrays.add((scaled * 127).round().numpy().astype(np.int8)),
    }
