"""Several models of the same vectors with different scalings: all answer in the units of the first one.

Shapes: B items per block, D values per item.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.runs.run_comparison import has_same_units
from tiedae_cli.runs.trained_run import OpenRun

Answer = Callable[[Tensor], Tensor]


def same_units(runs: Sequence[OpenRun]) -> bool:
    """Return whether all runs scale their values alike."""
    return all(has_same_units(runs[0].form, run.form) for run in runs)


def converted(values: Tensor, given: ItemForm, wanted: ItemForm) -> Tensor:
    """Return values in the units of one form, (B, D), in those of another."""
    raw = given.restored(values.double().cpu().numpy())
    return torch.from_numpy(wanted.normalize(wanted.transformed(raw))).to(values.device)


def answer_of(run: OpenRun, form: ItemForm) -> Answer:
    """Return a function that reconstructs values in the units of a form, (B, D) -> (B, D), with a run's model, on any device."""
    own_units = has_same_units(run.form, form)

    @torch.inference_mode()
    def answer(x: Tensor) -> Tensor:
        seen = x if own_units else converted(x, form, run.form)
        made: Tensor = run.network(seen.to(run.device)).to(x.device)
        return made if own_units else converted(made, run.form, form)

    return answer
