"""A run for Python: its history, its results, its model and its pictures."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tiedae_cli.api.inline import Page, figure_of_png, inline_picture, shows_itself
from tiedae_cli.api.temporary_folder import TemporaryFolder
from tiedae_cli.api.trained_model import Model
from tiedae_cli.config import Config
from tiedae_cli.errors import InputError
from tiedae_cli.output.figures.canvas import figure_png
from tiedae_cli.output.figures.curves import loss_figure
from tiedae_cli.output.reconstructions import picture_title, reconstruct_images
from tiedae_cli.output.training_pictures import TrainingPictures
from tiedae_cli.runs.observer import TrainingResult
from tiedae_cli.runs.run_folder import Run as RunFolder
from tiedae_cli.runs.run_folder import create_named_run, find_checkpoint
from tiedae_cli.runs.run_list import RUNS
from tiedae_cli.runs.trained_run import OpenRun
from tiedae_cli.runs.training_summary import finished_epochs
from tiedae_cli.scoring.false_alarms import QUANTILE
from tiedae_cli.system.locks import LOCK_FILE
from tiedae_cli.system.text import shown
from tiedae_cli.tasks.inspect import draw_codes, draw_features
from tiedae_cli.tasks.report import report_page
from tiedae_cli.training.training_run import TrainingRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES = ("loss", "reconstructions", "codes", "features")


class History(list[dict[str, Any]]):
    """The epochs of a training, one dict each, with the names of ``metrics.jsonl``."""

    @property
    def frame(self) -> Any:
        """The epochs as a pandas DataFrame.

        Raises:
            ImportError: pandas is not installed.
        """
        import pandas

        return pandas.DataFrame(list(self))


class Run:
    """A training and what came out of it.

    Attributes:
        name: of the run.
        config: the complete config, with everything that depends on the data.
        finished: whether training reached its end; False after Ctrl-C.
        folder: the run folder; temporary unless ``run_dir`` or ``runs`` was given.
    """

    name: str
    config: Config
    finished: bool
    folder: Path

    def __init__(self, training: TrainingRun, result: TrainingResult | None, temporary: TemporaryFolder | None) -> None:
        self.config, self.folder, self.name = training.config, training.run.folder, training.run.name
        self.finished = training.trainer.is_finished
        self._splits, self._device, self._reports = training.splits, training.trainer.device, tuple(training.trainer.history)
        self._result, self._temporary = result, temporary

    def __fspath__(self) -> str:
        return str(self.folder)

    @property
    def best(self) -> Path:
        """The checkpoint of the best epoch."""
        return RunFolder(self.folder).best

    @property
    def history(self) -> History:
        """The epochs so far; ``history.frame`` is a DataFrame."""
        values = (report.values() for report in self._reports)
        return History({name: value for name, value in one.items() if name != "event"} for one in values)

    @property
    def results(self) -> dict[str, Any]:
        """What training reached: the best epoch and its error per value, beside PCA's and the mean's.

        The errors are of the validation items, or of the training items if there are none, as the model sees them.
        """
        best = next((report for report in reversed(self._reports) if report.best), None)
        values: dict[str, Any] = {"finished": self.finished, "epochs": finished_epochs(self._reports)}
        if best is not None:
            values |= {"best_epoch": best.epoch, "mse_per_value": best.selection_mse}
        if self._result is not None:
            errors = self._result.errors
            values |= {"pca_mse_per_value": errors.pca, "mean_mse_per_value": errors.mean, "components": errors.components}
        return values | {"seconds": sum(report.seconds for report in self._reports)}

    @cached_property
    def model(self) -> Model:
        """The model of the best epoch.

        Raises:
            InputError: no epoch is finished yet.
        """
        model = Model(self._opened())
        model._kept_folder = self._temporary  # lives as long as the model
        return model

    def _opened(self, device: torch.device | None = None) -> OpenRun:
        return OpenRun(find_checkpoint(str(self.folder), RUNS), device or self._device, self._splits)

    def save(self, folder: Any) -> Path:
        """Keep the run in a new folder, as ``tiedae train`` would have written it, and return the folder.

        Args:
            folder: does not exist, or is empty.

        Raises:
            InputError: the folder is not empty.
            StorageError: it cannot be written.
        """
        made = create_named_run(Path(folder))
        shutil.copytree(self.folder, made.folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(LOCK_FILE))
        if self._result is not None and self._temporary is not None:
            start = replace(self._result.start, run=made)
            TrainingPictures().finished(TrainingResult(start, self._result.history, self._result.best))
        return made.folder

    def report(self, path: Any = None) -> Page:
        """Return the report page of the run; a notebook shows it.

        Args:
            path: also write the page to this file.
        """
        content = report_page([self._opened()], [self.name], self._shown_split, QUANTILE)
        page = Page(content.decode())
        if path is not None:
            page.save(path)
        return page

    @property
    def _shown_split(self) -> str:
        return next(name for name in ("test", "validation", "train") if len(self._splits.get(name)))

    def figure(self, kind: str = "loss") -> "Figure":
        """Return a picture of the run as a matplotlib figure.

        Args:
            kind: ``loss`` by epoch; ``reconstructions`` of a few test images beside PCA's; ``codes`` of the test items as points;
                ``features``, the weights of the first layer as images.

        Raises:
            InputError: no figure has that name, or the model's items are not images.
        """
        if kind not in FIGURES:
            raise InputError(f"figure: {kind!r}: no such figure (known: {', '.join(FIGURES)})")
        if kind == "loss":
            return shows_itself(self._loss_figure())
        if kind == "codes":
            return figure_of_png(draw_codes(self._opened(torch.device("cpu")), self._shown_split))
        self._opened().refuse_vectors(f"figure: {kind}: this model takes {self._splits.form.describe()}, not images")
        return figure_of_png(self._reconstructions() if kind == "reconstructions" else draw_features(self._opened()))

    def _loss_figure(self) -> "Figure":
        result, form = self._result, self._splits.form
        baseline = None if result is None else result.pca_mse_per_value
        components = 0 if result is None else result.errors.components
        return loss_figure(self.name, self._reports, baseline, components, form.value_name)

    def _reconstructions(self) -> bytes:
        opened, items = self._opened(), self._splits.get(self._shown_split).slice(0, self.config.output.images)
        title = picture_title(
            self.name, opened.network, f"{self._splits.source}, {self._shown_split} split, the first {len(items):,}"
        )
        return reconstruct_images(opened.network, items, opened.components(), title, self._device).png()

    def __repr__(self) -> str:
        state = "finished" if self.finished else "not finished"
        lines = [f"Run {shown(self.name)}: {finished_epochs(self._reports)} epochs, {state}"]
        lines += [f"  {text}" for text in self._sentences()]
        return "\n".join(lines)

    def _sentences(self) -> Sequence[str]:
        found = self.results
        if "mse_per_value" not in found:
            return []
        text = f"MSE per {self._splits.form.value_name} {found['mse_per_value']:.6g} (epoch {found['best_epoch']})"
        if "pca_mse_per_value" in found:
            text += f"; PCA with {found['components']} components {found['pca_mse_per_value']:.6g}"
        return [text, "run.model encodes, reconstructs and scores items"]

    def _repr_html_(self) -> str:
        """Return the results as a table, with the pictures of an image model; no JavaScript."""
        head = f"<p><b>Run {escape(shown(self.name))}</b>: {escape(repr(self).splitlines()[0].partition(': ')[2])}</p>"
        rows = [(name.replace("_", " "), value) for name, value in self.results.items() if name != "finished"]
        cells = (f"<tr><td>{escape(name)}</td><td>{_cell(value)}</td></tr>" for name, value in rows)
        pictures = [figure_png(self._loss_figure())] if self._reports else []
        if self._splits.form.kind == "images" and self.best.exists():
            pictures.append(self._reconstructions())
        return f"<div>{head}<table>{''.join(cells)}</table>{''.join(map(inline_picture, pictures))}</div>"


def _cell(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else escape(str(value))
