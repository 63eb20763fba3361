"""The chapter about items: the best, median and worst beside their reconstructions, and the distribution of errors.

Shapes: N items of the split, S shown, D values per item.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tiedae_cli.data.item_set import ItemForm, ItemSet
from tiedae_cli.model.inference import batch_size, item_errors
from tiedae_cli.model.metrics import squares
from tiedae_cli.model.pca import PrincipalComponents
from tiedae_cli.model.pictures import as_pictures
from tiedae_cli.report.page.arrays_block import Arrays
from tiedae_cli.report.run_facts import vector_columns
from tiedae_cli.report.shared_units import Answer
from tiedae_cli.report.window_chapter import column_names, lanes, window_lines

GROUP = 6  # items of each of the three groups
LARGEST_PICTURE = 160  # pixels: longest side of a stored picture
BINS = 48
TAIL = 0.995  # quantile of the errors at the end of the axis
WORST_COLUMNS = 12
WORST_VALUES = 5  # values shown of one vector


def shown_items(
    models: Sequence[Answer],
    components: PrincipalComponents,
    items: ItemSet,
    errors: Sequence[Tensor],
    arrays: Arrays,
    raw: bool,
) -> dict[str, Any]:
    """Return the best, median and worst items by the first run's errors, with all reconstructions.

    Args:
        models: reconstruct values in the units of the items.
        components: PCA, for images clipped to [0, 1].
        items: the items of the split.
        errors: squared errors of each run, (N,).
        arrays: receives the pictures.
        raw: whether errors are in the data's own units.
    """
    groups = extremes(errors[0])
    places = np.array([place for _, members in groups for place in members])
    originals = torch.from_numpy(items.select(places).batch(0, len(places)))  # (S, D)
    by_pca = _stronger_pca(components, items.form)(originals)
    answers = [model(originals) for model in models]
    scale = torch.as_tensor(items.form.scale).double() if raw else 1.0
    names = {
        "groups": [
            {"name": name, "items": [_described(place, items, errors) for place in members]} for name, members in groups
        ],
        "components": components.components.shape[1],
        "pca_errors": squares((by_pca.double() - originals) / scale).sum(1).tolist(),
    }
    if items.form.kind == "vectors":
        totals = _errors_by_value(models, components, items)
        windows = items.form.window > 1
        lines = window_lines(items, places.tolist(), originals, answers, by_pca, arrays) if windows else None
        return {
            **names,
            "columns": worst_columns(totals, len(items), items.form),
            "values": worst_values(originals, answers, by_pca, items.form),
            "windows": lines,
            "lanes": lanes(totals[0], items.form) if windows else None,
        }
    return {
        **names,
        "originals": arrays.add(_pictures(originals, items.form)),
        "answers": [arrays.add(_pictures(answer, items.form)) for answer in answers],
        "pca": arrays.add(_pictures(by_pca, items.form)),
    }


def extremes(errors: Tensor) -> list[tuple[str, list[int]]]:
    """Return the numbers of the best, median and worst items (worst first), or one group if there are few items."""
    order = errors.argsort(stable=True)
    count = min(GROUP, len(order) // 3)
    if not count:
        return [("worst", order.flip(0).tolist())]
    middle = (len(order) - count) // 2
    return [
        ("best", order[:count].tolist()),
        ("median", order[middle : middle + count].tolist()),
        ("worst", order[-count:].flip(0).tolist()),
    ]


def _described(place: int, items: ItemSet, errors: Sequence[Tensor]) -> dict[str, Any]:
    label = None if items.labels is None else int(items.labels[place])
    return {"item": place, "label": label, "errors": [error[place].item() for error in errors]}


def _stronger_pca(components: PrincipalComponents, form: ItemForm) -> Answer:
    """Return PCA as the page compares with it: of images clipped to the range of pixels."""
    return components.reconstruct_clipped if form.kind == "images" else components.reconstruct


def _pictures(rows: Tensor, form: ItemForm) -> np.ndarray:
    """Return model values, (S, D), as bytes, (S, H, W, 1 or 3), no side longer than ``LARGEST_PICTURE``."""
    channels, height, width = form.shape
    factor = LARGEST_PICTURE / max(height, width)
    if factor < 1:
        size = max(1, round(height * factor)), max(1, round(width * factor))
        rows = F.interpolate(rows.reshape(-1, channels, height, width), size, mode="area").flatten(1)
        form = ItemForm((channels, *size))
    pictures = as_pictures(rows.numpy(), form)
    return np.asarray(np.rint((pictures if pictures.ndim == 4 else pictures[..., None]) * 255), dtype=np.uint8)


@torch.inference_mode()
def _errors_by_value(models: Sequence[Answer], components: PrincipalComponents, items: ItemSet) -> Tensor:
    """Return the squared error of each value, summed over the items, of each run and of PCA, (R + 1, D) float64."""
    form, size = items.form, batch_size(items)
    answers = [*models, components.reconstruct]
    totals = torch.zeros(len(answers), form.values_per_item, dtype=torch.float64)
    for start in range(0, len(items), size):
        x = torch.from_numpy(items.batch(start, start + size))
        for total, answer in zip(totals, answers, strict=True):
            total += squares(answer(x) - x).sum(0)
    return totals


def worst_columns(totals: Tensor, count: int, form: ItemForm) -> list[dict[str, Any]]:
    """Return the columns with the largest share of the first run's error, with the RMSE of each run and of PCA.

    RMSE is in the data's units; shares refer to the squared error in the model's units.

    Args:
        totals: as of ``_errors_by_value``.
        count: number of items.
        form: form of an item.
    """
    width = form.shape[2]
    scale = torch.as_tensor(form.scale).double().expand(form.values_per_item)[:width]  # alike in each row of a window
    totals = totals.view(len(totals), form.window, width).sum(1)
    roots = (totals / (count * form.window)).sqrt() / scale  # (R + 1, D), raw
    names = column_names(form)
    order = totals[0].argsort(descending=True, stable=True)[:WORST_COLUMNS].tolist()
    share = totals[0] / totals[0].sum().clamp_min(1e-300)
    return [
        {
            "name": names[place],
            "share": share[place].item(),
            "errors": roots[:-1, place].tolist(),
            "pca": roots[-1, place].item(),
        }
        for place in order
    ]


def worst_values(originals: Tensor, answers: Sequence[Tensor], by_pca: Tensor, form: ItemForm) -> list[list[dict[str, Any]]]:
    """Return the values of each vector with the largest errors of the first run, in the data's units."""
    names = vector_columns(form) or []
    raw = [form.restored(values.double().numpy()) for values in (originals, by_pca, *answers)]
    found = []
    for index, difference in enumerate((answers[0] - originals).abs()):
        order = difference.argsort(descending=True, stable=True)[:WORST_VALUES].tolist()
        found.append(
            [
                {
                    "name": names[place],
                    "value": raw[0][index, place].item(),
                    "answers": [answer[index, place].item() for answer in raw[2:]],
                    "pca": raw[1][index, place].item(),
                    "deviations": difference[place].item(),
                }
                for place in order
            ]
        )
    return found


def error_histograms(
    components: PrincipalComponents,
    items: ItemSet,
    errors: Sequence[Tensor],
    limits: Sequence[float | None],
    device: torch.device,
    raw: bool,
) -> dict[str, Any]:
    """Return histograms of the items' squared errors in common bins; the last bin also holds all larger errors.

    Args:
        components: PCA.
        items: the items of the split.
        errors: squared errors of each run, (N,).
        limits: thresholds of each run; None if it has none in these units.
        device: where to compute.
        raw: whether errors are in the data's own units.
    """
    by_pca = item_errors(components.reconstruct, items, device, raw)
    clipped = item_errors(components.reconstruct_clipped, items, device) if items.form.kind == "images" else None
    known = [limit for limit in limits if limit is not None]
    ends = [float(np.quantile(error, TAIL)) for error in errors]
    end = max([*ends, *(1.15 * limit for limit in known), 1e-12])
    edges = torch.linspace(0, end, BINS + 1, dtype=torch.float64)

    def counts(values: Tensor) -> list[int]:
        places = (values / end * BINS).long().clamp(0, BINS - 1)
        return torch.bincount(places, minlength=BINS).tolist()

    return {
        "edges": edges.tolist(),
        "runs": [counts(error) for error in errors],
        "beyond": [int((error > end).sum()) for error in errors],
        "pca": counts(by_pca),
        "pca_clipped": None if clipped is None else counts(clipped),
        "medians": [error.median().item() for error in errors],
    }
