"""Windows of a series as lines over time: one chart per column, with the original, each model's reconstruction and PCA's.

Shapes: N items of the split, S windows shown, W rows of D columns per window, C columns drawn.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tiedae_cli.data.item_set import ItemForm, ItemSet, time_texts
from tiedae_cli.model.metrics import squares
from tiedae_cli.report.page.arrays_block import Arrays

MOST_COLUMNS = 8  # drawn of a window
VALUES = 1 << 20  # of all lines together, which the page holds


def column_names(form: ItemForm) -> list[str]:
    """Return the names of a row's columns."""
    return [f"feature {place}" for place in range(form.shape[2])] if form.columns is None else list(form.columns.values)


def window_titles(items: ItemSet, places: Sequence[int]) -> list[str]:
    """Return the time stamps of the first and last row of windows, or their row numbers if the data has no times.

    Args:
        items: windows.
        places: numbers of windows in the set.
    """
    first = items.positions(np.array(places, np.int64))
    last = first + items.form.window - 1
    if items.times is None:
        numbers = ((rows - items.first_row).tolist() for rows in (first, last))
        return [f"rows {start:,} to {end:,}" for start, end in zip(*numbers, strict=True)]
    return [f"{start} to {end}" for start, end in zip(*(time_texts(items.times[rows]) for rows in (first, last)), strict=True)]


def window_lines(
    items: ItemSet, places: Sequence[int], originals: Tensor, answers: Sequence[Tensor], by_pca: Tensor, arrays: Arrays
) -> dict[str, Any]:
    """Return the lines of windows, in the data's units, of the columns with the largest errors of the first run.

    Args:
        items: the windows of the split.
        places: numbers of the windows in the set, S of them.
        originals: as the models see them, (S, W * D).
        answers: reconstructions by each run, (S, W * D).
        by_pca: PCA's reconstructions, (S, W * D).
        arrays: receives the lines.
    """
    form = items.form
    _, window, width = form.shape
    most = max(1, VALUES // (len(originals) * window * (len(answers) + 2)))
    errors = squares(answers[0] - originals).view(-1, window, width).sum(1)  # (S, D)
    chosen = errors.topk(min(width, MOST_COLUMNS, most), 1).indices.sort(1).values  # (S, C)
    at = chosen[:, None, :].expand(-1, window, -1)

    def lines(values: Tensor) -> dict[str, Any]:
        raw = torch.from_numpy(form.restored(values.double().numpy())).view(-1, window, width)
        return arrays.add(raw.gather(2, at).transpose(1, 2).numpy().astype(np.float32))  # (S, C, W)

    names = column_names(form)
    return {
        "titles": window_titles(items, places),
        "columns": [[names[place] for place in row] for row in chosen.tolist()],
        "of": width,
        "originals": lines(originals),
        "answers": [lines(answer) for answer in answers],
        "pca": lines(by_pca),
    }


def lanes(totals: Tensor, form: ItemForm) -> list[dict[str, Any]]:
    """Return the columns that a small picture of a window draws, one lane each: those with the largest errors.

    Args:
        totals: squared error of each value over all items, (W * D,).
        form: form of a window.
    """
    errors = totals.view(form.window, form.shape[2]).sum(0)
    names = column_names(form)
    return [
        {"column": place, "name": names[place]}
        for place in sorted(errors.topk(min(MOST_COLUMNS, len(errors))).indices.tolist())
    ]
