"""Errors of a model over a stream of items that is read once, beside PCA and the mean.

Shapes: B items per block, D values per item.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from tiedae_cli.data.item_set import Block, ItemForm
from tiedae_cli.data.sources.part import item_name
from tiedae_cli.errors import DataError
from tiedae_cli.model.error_tail import ErrorTail
from tiedae_cli.model.inference import Evaluation
from tiedae_cli.model.metrics import ErrorSum, item_sums, squares
from tiedae_cli.model.pca import PrincipalComponents
from tiedae_cli.system.devices import in_float64


@torch.inference_mode()
def evaluate_stream(
    model: Callable[[Tensor], Tensor],
    components: PrincipalComponents,
    blocks: Iterable[Block],
    form: ItemForm,
    device: torch.device,
) -> Evaluation:
    """Measure a model, PCA and the mean item on a stream; of feature vectors also in the raw features' units.

    Args:
        model: (B, D) -> (B, D), on the device.
        components: PCA of the model's training items.
        blocks: the items, at least one.
        form: of an item.
        device: where to compute.

    Raises:
        DataError: there are no items, or an error is not finite; the message names the item.
    """
    answers: dict[str, Callable[[Tensor], Tensor]] = {
        "model": model,
        "pca": components.reconstruct,
        "mean_item": components.truncated(0).reconstruct,
    }
    if form.kind == "images":
        answers["pca_clipped"] = components.reconstruct_clipped
    sums: dict[str, Counter[str]] = {name: Counter() for name in answers}
    raw, items, tail = dict.fromkeys(answers, 0.0), 0, ErrorTail()
    scale = torch.as_tensor(form.scale, dtype=torch.float64)
    for block in blocks:
        x = torch.as_tensor(block.values, device=device)
        items += len(x)
        made = {name: answer(x) for name, answer in answers.items()}
        for name, answered in made.items():
            sums[name].update(item_sums(x, answered, form))
            raw[name] += squares(in_float64(answered - x).cpu() / scale).sum().item()
        _refuse_infinite(sums["model"]["squared_error"], block, model, x)
        tail.add(squares(made["model"] - x).sum(1).cpu().numpy())
    if not items:
        raise DataError("no items to measure")
    return replace(_evaluation(sums, raw, items, form, components.components.shape[1]), tail=tail.share)


def _evaluation(
    sums: dict[str, Counter[str]], raw: dict[str, float], items: int, form: ItemForm, components: int
) -> Evaluation:
    width = form.values_per_item
    own = {name: ErrorSum(total.pop("squared_error"), items, width, total) for name, total in sums.items()}
    unscaled = {name: ErrorSum(total, items, width) for name, total in raw.items()}
    inner = (
        Evaluation(None, unscaled["model"], unscaled["pca"], components, unscaled["mean_item"])
        if form.kind == "vectors"
        else None
    )
    return Evaluation(None, own["model"], own["pca"], components, own["mean_item"], inner, own.get("pca_clipped"))


def _refuse_infinite(total: float, block: Block, model: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """Raise ``DataError`` if the model's error became infinite with this block."""
    if not np.isfinite(total):
        wrong = ~squares(model(x) - x).sum(1).isfinite()
        name = item_name(block.items[int(wrong.nonzero()[0].item())])
        raise DataError(f"{name}: its values are too large for this model: its error is not finite")
