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
from tiedae_cli.runs.trained_run import OpenRun

GROUP = 6  # items of each of the three groups
LARGEST_PICTURE = 160  # pixels: longest side of a stored picture
BINS = 48
TAIL = 0.995  # quantile of the errors at the end of the axis
WORST_COLUMNS = 12
WORST_VALUES = 5  # values shown of one vector


def shown_items(
    runs: Sequence[OpenRun], components: PrincipalComponents, items: ItemSet, errors: Sequence[Tensor], arrays: Arrays
) -> dict[str, Any]:
    """Return the best, median and worst items by the first run's errors, with all reconstructions.

    Args:
        runs: the models.
        components: PCA.
        items: the items of the split.
        errors: squared errors of each run, (N,).
        arrays: receives the pictures.
    """
    groups = extremes(errors[0])
    places = np.array([place for _, members in groups for place in members])
    originals = torch.from_numpy(items.select(places).batch(0, len(places)))  # (S, D)
    answers = [_answers(run, originals) for run in runs]
    by_pca = components.reconstruct(originals)
    names = {
        "groups": [
            {"name": name, "items": [_described(place, items, errors) for place in members]} for name, members in groups
        ],
        "components": components.components.shape[1],
        "pca_errors": squares(by_pca - originals).sum(1).tolist(),
    }
    if items.form.kind == "vectors":
        return {
            **names,
            "columns": worst_columns(runs, components, items),
            "values": worst_values(originals, answers, by_pca, items.form),
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


@torch.inference_mode()
def _answers(run: OpenRun, originals: Tensor) -> Tensor:
    answers: Tensor = run.network(originals.to(run.device))
    return answers.cpu()


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
def worst_columns(runs: Sequence[OpenRun], components: PrincipalComponents, items: ItemSet) -> list[dict[str, Any]]:
    """Return the columns with the largest share of the first run's error, with the RMSE of each run and of PCA.

    RMSE is in the data's units; shares refer to the squared error in the model's units.
    """
    form, size = items.form, batch_size(items)
    answers = [lambda x, run=run: _answers(run, x) for run in runs] + [components.reconstruct]
    totals = torch.zeros(len(answers), form.values_per_item, dtype=torch.float64)
    for start in range(0, len(items), size):
        x = torch.from_numpy(items.batch(start, start + size))
        for total, answer in zip(totals, answers, strict=True):
            total += squares(answer(x) - x).sum(0)
    scale = torch.as_tensor(form.scale).double().expand(form.values_per_item)
    roots = (totals / len(items)).sqrt() / scale  # (R + 1, D), raw
    names = vector_columns(form) or []
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
    runs: Sequence[OpenRun],
    components: PrincipalComponents,
    items: ItemSet,
    errors: Sequence[Tensor],
    limits: Sequence[float | None],
) -> dict[str, Any]:
    """Return histograms of the items' squared errors in common bins; the last bin also holds all larger errors."""
    by_pca = item_errors(components.reconstruct, items, runs[0].device)
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
        "medians": [error.median().item() for error in errors],
    }
