"""A trained model for Python: data in its own form and units goes in, answers of the same kind come out.

Shapes: N items, H x W or C x H x W of an image, D values of a vector, K numbers of a code.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tiedae_cli.api.answers import as_frame, as_series
from tiedae_cli.api.inline import Page
from tiedae_cli.api.model_evaluation import ModelEvaluation, SeenItems, evaluate_items
from tiedae_cli.api.raw_module import RawModule
from tiedae_cli.config import Config
from tiedae_cli.data.item_reader import ItemReader, raw_array, raw_shape
from tiedae_cli.data.item_set import Block, ItemForm
from tiedae_cli.data.sources.memory import as_array, kind_of, stacked_images
from tiedae_cli.data.windows import row_form
from tiedae_cli.errors import InputError
from tiedae_cli.model import inference
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.model.pca import PrincipalComponents
from tiedae_cli.runs.checkpoint import Checkpoint
from tiedae_cli.runs.trained_run import OpenRun, open_run
from tiedae_cli.scoring.drift import Drift
from tiedae_cli.scoring.drift_check import drift_check
from tiedae_cli.scoring.false_alarms import QUANTILE
from tiedae_cli.scoring.finished_model import with_weights
from tiedae_cli.scoring.onnx_score import JudgedBy
from tiedae_cli.scoring.scorer import Scorer
from tiedae_cli.scoring.threshold import Threshold
from tiedae_cli.system.devices import resolve_device
from tiedae_cli.system.storage import replacing
from tiedae_cli.system.text import shown
from tiedae_cli.tasks.export import export_run, export_score
from tiedae_cli.tasks.report import report_page

NAME = "X"  # of what is asked about, for messages
FALSE_ALARMS = 0.01


class Model:
    """A trained autoencoder.

    Every method takes N items, or a single one, in the data's own form and units: a numpy array, a torch tensor, a scipy sparse
    matrix, a pandas or polars DataFrame, a pyarrow table or PIL images. The columns of a DataFrame are matched by name, and answers
    keep its index. Otherwise answers are numpy arrays.

    Attributes:
        module: the ``nn.Module``, in evaluation mode. It takes values as the model sees them, (N, D) float32: images in [0, 1],
            vectors after scaling. ``as_module()`` takes raw values.
        config: the config that it was trained with.
        form: the form of one item, and the scaling between its values and the model's.
        path: the checkpoint.
    """

    module: TiedAutoencoder
    config: Config
    form: ItemForm
    path: Path
    _kept_folder: Any = None
    """Keeps a temporary run folder until the model is gone."""

    def __init__(self, run: OpenRun) -> None:
        self.path, self.config, self.form, self.device = run.path, run.config, run.form, run.device
        self.module = run.network
        self._run = run

    def encode(self, X: Any) -> Any:
        """Return the codes of items, (N, ...) -> (N, K) float32.

        Raises:
            DataError: the items do not have the model's form, a column is missing, or a value is not finite or out of range.
        """
        return self._mapped(X, lambda seen: inference.codes(self.module, seen, self.device).numpy(), self.code_names)

    def decode(self, codes: Any) -> Any:
        """Return what codes stand for, (N, K) -> (N, ...): uint8 if the images were uint8, else float32 in the data's own units.

        Raises:
            DataError: the codes do not have K finite numbers each.
        """
        size = self.module.sizes[-1]
        form = ItemForm((1, 1, size), "vectors")
        wanted = f"this model's codes have {size} numbers"
        return self._mapped(codes, lambda code: self._raw(self._decoded(code)), self.value_names, form, wanted)

    def reconstruct(self, X: Any) -> Any:
        """Return the reconstructions of items, (N, ...) -> (N, ...), typed like those of ``decode``.

        Raises:
            DataError: as in ``encode``.
        """

        def answer(seen: Tensor) -> np.ndarray:
            return self._raw(self._decoded(inference.codes(self.module, seen, self.device)))

        return self._mapped(X, answer, self.value_names)

    def score(self, X: Any) -> Any:
        """Return the score of each item, (N, ...) -> (N,) float64; a higher one is more anomalous.

        The score is the squared error in the model's units, summed over an item's values, or what ``score.rank`` says. A model of
        windows returns row scores: the mean of a row's own squared error over the windows that hold it.

        Raises:
            DataError: as in ``encode``.
        """
        if self.form.window == 1:
            return self._mapped(X, lambda seen: self._scorer.scores(seen).numpy(), "score")
        data = self._prepared(X)
        blocks = self._reader().open_memory(data, NAME, windows=False).blocks
        scored = list(self._scorer.score(blocks))
        scores = torch.cat([torch.zeros(0, dtype=torch.float64), *(block.scores for block in scored)])
        return as_series(scores.numpy(), data, "score", [row for block in scored for row in block.block.items])

    def threshold(self, rate: float = FALSE_ALARMS) -> Threshold:
        """Return the score above which an item is an outlier, with the false-alarm rate to expect.

        Args:
            rate: of false alarms, from 0 to 1.

        Raises:
            InputError: the model keeps no scores of validation items.
        """
        found = self._scorer.threshold(rate)
        if found is None:
            raise InputError("threshold: the model keeps no scores of validation items; train to the end with validation=0.1")
        return found

    def outliers(self, X: Any, false_alarms: float = FALSE_ALARMS) -> Any:
        """Return which items are outliers, (N, ...) -> (N,) bool: their score is above ``threshold(false_alarms)``.

        Raises:
            InputError: as in ``threshold``.
            DataError: as in ``encode`` and ``threshold``.
        """
        return self.score(X) > self.threshold(false_alarms).value

    def explain(self, X: Any, most: int = 3) -> list[list[dict[str, Any]]]:
        """Return for each item which values, or regions of an image, carry its error: the largest share first.

        Args:
            X: N items.
            most: reasons per item.

        Returns:
            A list per item of dicts with ``column`` (of an image the region), ``value``, ``expected`` and ``share``.

        Raises:
            DataError: as in ``encode``.
        """
        data, form = self._prepared(X), row_form(self.form)
        blocks = self._reader().open_memory(data, NAME, windows=False).blocks
        found: list[list[dict[str, Any]]] = []
        for scored in self._scorer.score(blocks, explain=most):
            why = scored.evidence
            assert why is not None  # it was asked for
            found += [why.described(index, form) for index in range(len(scored.scores))]
        return found

    def drift(self, X: Any) -> Drift:
        """Return how items differ from the training data, (N, ...); the answer is false if they do not.

        ``times_expected`` is the number of outliers divided by the expected one, if chance does not explain it. ``columns`` are those
        whose values moved, the farthest first, each with ``mean``, ``training_mean`` and ``training_deviation`` in the data's own units,
        ``shift`` in training deviations and the Kolmogorov-Smirnov ``distance``. Columns are compared from 20 items (or windows) on.

        Raises:
            InputError: the model keeps no statistics of its training, because that was killed.
            DataError: as in ``encode``.
        """
        check = drift_check(self._run)
        if check is None:
            raise InputError("drift: the model keeps no statistics of its training; train to the end")
        check.read(self._reader().open_memory(self._prepared(X), NAME, windows=False).blocks)
        return check.found() or Drift(None, [])

    def evaluate(self, X: Any = None, labels: Any = None) -> ModelEvaluation:
        """Return the errors of the model, of PCA with as many components, and of the training mean.

        Args:
            X: N items; None takes the test split of the training.
            labels: (N,), 1 (or True) for outliers and 0 for normal items; adds AUROC and other measures of detection.

        Raises:
            DataError: as in ``encode``; or PCA needs the data of the training, which cannot be read.
            InputError: the number of labels is not the number of items, or they do not name outliers.
        """
        components, normal = self.pca, self.config.data.normal
        if X is None:
            split = next(name for name in ("test", "validation", "train") if len(self._run.splits.get(name)))
            return evaluate_items(self.module, components, self._run.split(split), split, self.device)
        seen = SeenItems(self.form, list(self._blocks(self._prepared(X))))
        scores = None if labels is None else np.asarray(self.score(X))
        return evaluate_items(self.module, components, seen, NAME, self.device, labels, scores, normal)

    @cached_property
    def pca(self) -> PrincipalComponents:
        """PCA of the training items, with as many components as the code has numbers; of values as the model sees them.

        Raises:
            DataError: the data of the training cannot be read.
        """
        return self._run.kept_components() or self._run.components()

    @property
    def checkpoint(self) -> Checkpoint:
        """Everything that the checkpoint holds."""
        return self._run.trained

    @property
    def code_names(self) -> list[str]:
        """Names of the K numbers of a code: ``code0``, ``code1`` ..."""
        return [f"code{number}" for number in range(self.module.sizes[-1])]

    @property
    def value_names(self) -> list[str] | None:
        """Names of the D values of a vector; None for images and windows."""
        if self.form.kind != "vectors" or self.form.window > 1:
            return None
        columns = self.form.columns
        return list(columns.values) if columns is not None else [str(number) for number in range(self.form.values_per_item)]

    def save(self, path: Any) -> Path:
        """Write the checkpoint to a file, and return its path; ``tiedae.load`` and the commands read it.

        Raises:
            StorageError: it cannot be written.
        """
        self._run.trained.save(Path(path))
        return Path(path)

    def export_onnx(
        self,
        path: Any,
        *,
        part: str = "both",
        raw: bool = True,
        false_alarms: float | None = None,
        threshold: float | None = None,
    ) -> Path:
        """Write the model as an ONNX file, checked against onnxruntime, and return its path.

        Args:
            path: of the file.
            part: ``score`` (from raw values to score, outlier, reconstruction and code), ``both``, ``encoder`` or ``decoder``.
            raw: whether the other parts take and give the data's own values; ``score`` always does.
            false_alarms: fraction of normal items expected above the threshold of ``score``. Default: 0.01.
            threshold: the threshold of ``score``, in place of ``false_alarms``.

        Raises:
            InputError: the extra ``onnx`` is not installed, the part is unknown, or there is no threshold.
            ExportError: the answers differ from the model's.
        """
        if part not in ("score", "both", "encoder", "decoder"):
            raise InputError(f"part: {part!r}: expected score, both, encoder or decoder")
        if part == "score":
            content, _ = export_score(self._run.on_cpu(), JudgedBy(false_alarms, threshold))
        else:
            if false_alarms is not None or threshold is not None:
                raise InputError(f"part {part!r} has no threshold; only the part 'score' has one")
            content, _ = export_run(self._run, "onnx", part, raw)  # type: ignore[arg-type]
        with replacing(Path(path)) as file:
            file.write(content)
        return Path(path)

    def report(self, path: Any = None) -> Page:
        """Return the report page; a notebook shows it.

        Args:
            path: also write the page to this file.

        Raises:
            DataError: the data of the training cannot be read.
        """
        splits = self._run.splits
        split = next(name for name in ("test", "validation", "train") if len(splits.get(name)))
        page = Page(report_page([self._run], [self._run.trained.run], split, QUANTILE).decode())
        if path is not None:
            page.save(path)
        return page

    def as_module(self) -> RawModule:
        """Return a copy as a torch module that takes raw values, (N, ...) float -> (N, ...), differentiable and trainable."""
        return RawModule(self.form, self._run.trained.model(self.device))

    @classmethod
    def from_module(cls, module: RawModule, like: "Model") -> "Model":
        """Return a model with the weights of a module that ``as_module`` made, for example after fine-tuning.

        Args:
            module: made by ``like.as_module()``.
            like: gives the config, the form of an item and the data of the training.
        """
        weights = {name: value.detach().cpu().clone() for name, value in module.network.state_dict().items()}
        model = cls(with_weights(like._run, weights))
        model._kept_folder = like._kept_folder
        return model

    def __getstate__(self) -> dict[str, Any]:
        """Return the checkpoint's bytes: a model is pickled without its data."""
        with tempfile.TemporaryDirectory(prefix="tiedae-") as folder:
            file = self.save(Path(folder) / "best.safetensors")
            return {"checkpoint": file.read_bytes(), "device": str(self.device)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        with tempfile.TemporaryDirectory(prefix="tiedae-") as folder:
            file = Path(folder) / "best.safetensors"
            file.write_bytes(state["checkpoint"])
            try:
                device = resolve_device(state["device"])
            except InputError:  # of another machine
                device = resolve_device("cpu")
            Model.__init__(self, OpenRun(file, device))

    def __repr__(self) -> str:
        return (
            f"Model {shown(self._run.trained.run)}: {self.module.round_trip}, takes {self.form.describe()} in their own units\n"
            "  model.module takes values as the model sees them, model.as_module() raw values"
        )

    def _repr_html_(self) -> str:
        """Return the shape of the model in a line."""
        return f"<p><b>Model {escape(shown(self._run.trained.run))}</b>: {escape(repr(self).splitlines()[0].partition(': ')[2])}</p>"

    @cached_property
    def _scorer(self) -> Scorer:
        return Scorer(self._run)

    def _decoded(self, code: Tensor) -> Tensor:
        return inference.decoded(self.module, code, self.device)

    def _raw(self, values: Tensor) -> np.ndarray:
        return raw_array(values.numpy(), self.form, as_float=not self.form.eight_bit)

    def _reader(self, form: ItemForm | None = None, wanted: str | None = None) -> ItemReader:
        return ItemReader(form or self.form, inference.block_size(self.form), expected=wanted, data=self.config.data)

    def _blocks(self, data: Any, form: ItemForm | None = None, wanted: str | None = None) -> Iterator[Block]:
        return self._reader(form, wanted).open_memory(data, NAME).blocks

    def _prepared(self, X: Any) -> Any:
        """Return data with images as one array, and a row of a pandas DataFrame as a DataFrame."""
        if kind_of(X) == "images":
            return stacked_images(list(X), self.form.shape, self.form.range)
        columns = self.form.columns
        if (
            columns is not None
            and hasattr(X, "to_frame")
            and {column.name for column in columns.fed} <= set(getattr(X, "index", ()))
        ):
            return X.to_frame().T
        return X

    def _mapped(
        self,
        X: Any,
        function: Callable[[Tensor], np.ndarray],
        names: Sequence[str] | str | None,
        form: ItemForm | None = None,
        wanted: str | None = None,
    ) -> Any:
        """Return a function of blocks, (B, D) -> (B, ...), over all items; of a single item its single answer.

        Args:
            X: N items or one.
            function: of values as the model sees them.
            names: of the columns of a DataFrame, or of a Series; None answers with an array in any case.
            form: of an item; None is the model's.
            wanted: what would be right, for messages.
        """
        form = form or self.form
        single = kind_of(X) == "images" and not isinstance(X, (list, tuple))
        data = self._prepared([X] if single else X)
        if kind_of(data) != "table" and not hasattr(data, "tocsr"):
            data = as_array(data, NAME)
            channels, height, width = form.shape
            if not single and form.window == 1 and data.shape in (raw_shape(form), form.shape, (height, width, channels)):
                single, data = True, data[None]
        answers, items = [], list[Any]()
        for block in self._blocks(data, form, wanted):
            answers.append(function(torch.from_numpy(block.values)))
            items += block.items
        whole = np.concatenate(answers) if answers else function(torch.zeros(0, form.values_per_item))
        if single or (data is not X and kind_of(data) == "table"):
            return whole[0] if whole.ndim > 1 else np.asarray(whole[0])
        if isinstance(names, str):
            return as_series(whole, data, names, items)
        return whole if names is None else as_frame(whole, data, names, items)


def load(model: str | os.PathLike[str] | None = None, device: str = "auto") -> Model:
    """Open a trained model.

    Args:
        model: a checkpoint, a run folder (its best epoch), a run or its name; default: the newest run under ``runs/``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

    Raises:
        InputError: nothing has that name, or there is no such device.
        CheckpointError: the file is damaged, or not a tiedae checkpoint.
    """
    return Model(open_run(None if model is None else os.path.expanduser(model), device))
