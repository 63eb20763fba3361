"""A trained model for Python: arrays in the data's own form and units go in, numpy arrays come out."""

import os
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tiedae_cli.config import Config
from tiedae_cli.data.item_reader import ItemReader, raw_array, raw_shape
from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.errors import InputError
from tiedae_cli.model import inference as evaluation
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.runs.trained_run import OpenRun, open_run
from tiedae_cli.scoring.scorer import Scorer

Array = np.ndarray | Tensor


class Model:
    """A trained autoencoder.

    Shapes: N items; one item is H x W (gray images), C x H x W or D (vectors), and K is the size of the code. Each method takes
    N items or a single one, works in blocks, and answers in kind.

    Attributes:
        module: the ``nn.Module``, in evaluation mode.
        config: the config that it was trained with.
        form: the form of one item, and the scaling between its values and the model's.
        path: the checkpoint.
    """

    module: TiedAutoencoder
    config: Config
    form: ItemForm
    path: Path

    def __init__(self, run: OpenRun) -> None:
        self.path, self.config, self.form, self.device = run.path, run.config, run.form, run.device
        self.module = run.network
        self._run = run

    def encode(self, x: Array) -> np.ndarray:
        """Return the codes of items, (N, ...) -> (N, K) float32.

        Raises:
            DataError: the items do not have the model's form, or a value is not finite or out of range.
        """
        return self._mapped(x, self.form, lambda values: evaluation.codes(self.module, values, self.device).numpy())

    def decode(self, codes: Array) -> np.ndarray:
        """Return what codes stand for, (N, K) -> (N, ...): uint8 where the images were uint8, else float32 in the data's own units.

        Raises:
            DataError: the codes do not have K finite numbers each.
        """
        size = self.module.sizes[-1]
        wanted = f"this model's codes have {size} numbers"
        return self._mapped(codes, ItemForm((1, 1, size), "vectors"), lambda code: self._raw(self._decoded(code)), wanted)

    def reconstruct(self, x: Array) -> np.ndarray:
        """Return what the model makes of items, (N, ...) -> (N, ...), typed as ``decode`` does.

        Raises:
            DataError: as in ``encode``.
        """
        return self._mapped(
            x, self.form, lambda values: self._raw(self._decoded(evaluation.codes(self.module, values, self.device)))
        )

    def score(self, x: Array) -> np.ndarray:
        """Return the score of each item, (N, ...) -> (N,) float64: its squared error in the model's units, summed over its values.

        With ``score.rank`` set, by what that says.
        A model of windows gives row scores: of each row the mean, over the windows that hold it, of its own squared error there.

        Raises:
            DataError: as in ``encode``.
        """
        scorer = self._scorer
        if self.form.window == 1:
            return self._mapped(x, self.form, lambda values: scorer.scores(values).numpy())
        reader = ItemReader(self.form, evaluation.block_size(self.form), data=self.config.data)
        rows = reader.open_array(_as_array(x), "x", windows=False)
        return torch.cat([scored.scores for scored in scorer.score(rows.blocks)]).numpy()

    @cached_property
    def _scorer(self) -> Scorer:
        return Scorer(self._run)

    def _decoded(self, code: Tensor) -> Tensor:
        return evaluation.decoded(self.module, code, self.device)

    def _raw(self, values: Tensor) -> np.ndarray:
        return raw_array(values.numpy(), self.form, as_float=not self.form.eight_bit)

    def _mapped(
        self, x: Array, form: ItemForm, function: Callable[[Tensor], np.ndarray], wanted: str | None = None
    ) -> np.ndarray:
        """Return a function of blocks, (B, D) -> (B, ...), over all items; of a single item its single answer."""
        array = _as_array(x)
        channels, height, width = form.shape
        single = form.window == 1 and array.shape in (raw_shape(form), form.shape, (height, width, channels))
        reader = ItemReader(form, evaluation.block_size(self.form), expected=wanted, data=self.config.data)
        answers = list(self._answers(reader, array[None] if single else array, function))
        whole = np.concatenate(answers) if answers else function(torch.zeros(0, form.values_per_item))
        return np.asarray(whole[0]) if single else whole

    @staticmethod
    def _answers(reader: ItemReader, array: np.ndarray, function: Callable[[Tensor], np.ndarray]) -> Iterator[np.ndarray]:
        for block in reader.open_array(array, "x").blocks:
            yield function(torch.from_numpy(block.values))


def _as_array(x: Array) -> np.ndarray:
    if isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
        raise InputError("x: a masked array; fill its masked values, for example with x.filled(numpy.nan)")
    return x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)


def load(model: str | os.PathLike[str] | None = None, device: str = "auto") -> Model:
    """Open a trained model.

    Args:
        model: a checkpoint, a run folder (its best epoch) or a run's name; None is the newest run under ``runs/``.
        device: as ``--device``.

    Raises:
        InputError: nothing of that name, or no such device.
        CheckpointError: the file is damaged or another tool's.
    """
    return Model(open_run(None if model is None else os.path.expanduser(model), device))
