"""The items of a report: the best, the median and the worst beside what the runs and PCA make of them, and how errors spread.

Shapes: N items of the split, S shown, D values an item.
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
LARGEST_PICTURE = 160  # pixels a side that are stored of a picture that is only looked at
BINS = 48
TAIL = 0.995  # quantile of the errors at which the axis ends
WORST_COLUMNS = 12
WORST_VALUES = 5  # of one vector


def shown_items(
    runs: Sequence[OpenRun], components: PrincipalComponents, images: ItemSet, errors: Sequence[Tensor], arrays: Arrays
) -> dict[str, Any]:
    """Return the best, median and worst items by the first run's errors, with what each run and PCA answer.

    Args:
        runs: the models.
        components: PCA.
        images: the split.
        errors: of each run, (N,).
        arrays: takes the pictures.
    """
    groups = extremes(errors[0])
    places = np.array([place for _, members in groups for place in members])
    originals = torch.from_numpy(images.select(places).batch(0, len(places)))  # (S, D)
    answers = [_answers(run, originals) for run in runs]
    by_pca = components.reconstruct(originals)
    names = {
        "groups": [
            {"name": name, "items": [_described(place, images, errors) for place in members]} for name, members in groups
        ],
        "components": components.components.shape[1],
        "pca_errors": squares(by_pca - originals).sum(1).tolist(),
    }
    if images.form.kind == "vectors":
        return {
            **names,
            "columns": worst_columns(runs, components, images),
            "values": worst_values(originals, answers, by_pca, images.form),
        }
    return {
        **names,
        "originals": arrays.add(_pictures(originals, images.form)),
        "answers": [arrays.add(_pictures(answer, images.form)) for answer in answers],
        "pca": arrays.add(_pictures(by_pca, images.form)),
    }


def extremes(errors: Tensor) -> list[tuple[str, list[int]]]:
    """Return the places of the best, the median and the worst items, worst first among the last; fewer where there are few items."""
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


def _described(place: int, images: ItemSet, errors: Sequence[Tensor]) -> dict[str, Any]:
    label = None if images.labels is None else int(images.labels[place])
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
def worst_columns(runs: Sequence[OpenRun], components: PrincipalComponents, images: ItemSet) -> list[dict[str, Any]]:
    """Return the columns of the largest share of the first run's error, with each run's and PCA's root mean square error.

    Errors are in the data's own units; the share is of the squared error in the units that the model sees.
    """
    form, size = images.form, batch_size(images)
    answers = [lambda x, run=run: _answers(run, x) for run in runs] + [components.reconstruct]
    totals = torch.zeros(len(answers), form.values_per_item, dtype=torch.float64)
    for start in range(0, len(images), size):
        x = torch.from_numpy(images.batch(start, start + size))
        for total, answer in zip(totals, answers, strict=True):
            total += squares(answer(x) - x).sum(0)
    scale = torch.as_tensor(form.scale).double().expand(form.values_per_item)
    roots = (totals / len(images)).sqrt() / scale  # (R + 1, D), raw
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
    """Return, for each of a few vectors, the values with the largest errors of the first run, in the data's own units."""
    names = vector_columns(form) or []
    raw = [form.denormalize(values.double().numpy()) for values in (originals, by_pca, *answers)]
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
    images: ItemSet,
    errors: Sequence[Tensor],
    limits: Sequence[float | None],
) -> dict[str, Any]:
    """Return how the squared errors of the items spread: counts in common bins, the last of which also holds all larger ones."""
    by_pca = item_errors(components.reconstruct, images, runs[0].device)
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
