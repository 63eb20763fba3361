"""Several trainings from Python: values of keys become runs, a table and a figure of error by code size."""

import json
import os
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiedae_cli.api.inline import inline_picture, shows_itself
from tiedae_cli.api.python_terminal import NotebookTerminal, PythonTerminal, in_notebook
from tiedae_cli.api.python_training import errors_in_python, plain_value, saying_nothing, training_request
from tiedae_cli.api.temporary_folder import TemporaryFolder
from tiedae_cli.api.trained_model import Model, load
from tiedae_cli.cli.tune_table import tune_values
from tiedae_cli.config import Config, keys
from tiedae_cli.config.grid import parse_grid
from tiedae_cli.errors import InputError
from tiedae_cli.model.rate_distortion import statements
from tiedae_cli.output.figures.rate_curve import rate_figure
from tiedae_cli.system.devices import resolve_device
from tiedae_cli.tasks import tune as task

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Tuning:
    """The runs of a tuning, the chosen one, and what they say about the number of values that the data needs.

    Attributes:
        folder: of all runs; temporary unless ``run_dir`` was given.
        config: of the chosen run; None if no run was chosen.
    """

    folder: Path
    config: Config | None

    def __init__(self, tuned: task.Tuned, explain: float | None, temporary: TemporaryFolder | None) -> None:
        self.folder, self._tuned, self._explain, self._temporary = tuned.folder.path, tuned, explain, temporary
        self.config = None if tuned.chosen is None else tuned.chosen.trial.config

    @property
    def runs(self) -> list[dict[str, Any]]:
        """One dict per run: its settings, ``validation_mse_per_value``, ``pca_mse_per_value``, epochs, seconds and state."""
        found = []
        for result in self._tuned.results:
            values = result.values()
            settings = {key.rpartition(".")[2]: value for key, value in values.pop("settings").items()}
            pca, chosen = self._tuned.pca(result.trial), result is self._tuned.chosen
            found.append({**settings, **values, "pca_mse_per_value": pca, "chosen": chosen})
        return found

    @property
    def frame(self) -> Any:
        """The runs as a pandas DataFrame.

        Raises:
            ImportError: pandas is not installed.
        """
        import pandas

        return pandas.DataFrame(self.runs)

    @property
    def results(self) -> dict[str, Any]:
        """What ``tiedae tune --json`` prints last: curves, numbers that explain the variance, the choice and its test error."""
        return tune_values(self._tuned, self._explain)

    @property
    def statement(self) -> str:
        """How many numbers explain 90%, 95% and 99% of the variance, in words; empty if all codes have the same size."""
        return "" if self._tuned.curve is None else "\n".join(statements(self._tuned.curve))

    @property
    def figure(self) -> "Figure":
        """Error by code size beside PCA's, as a matplotlib figure.

        Raises:
            InputError: all codes have the same size.
        """
        if self._tuned.curve is None:
            raise InputError("figure: all codes have the same size; give several, for example code_size=[2, 4, 8]")
        return shows_itself(rate_figure("error by code size", self._tuned.curve))

    @property
    def model(self) -> Model:
        """The model of the chosen run.

        Raises:
            InputError: no run was chosen.
        """
        if self._tuned.chosen is None:
            raise InputError("model: no run was chosen")
        model = load(self._tuned.chosen.trial.folder)
        model._kept_folder = self._temporary  # lives as long as the model
        return model

    def __repr__(self) -> str:
        head = f"Tuning of {len(self._tuned.results):,} runs"
        return "\n".join(filter(None, [head, self.statement]))

    def _repr_html_(self) -> str:
        picture = "" if self._tuned.picture is None else inline_picture(self._tuned.picture)
        return f"<p>{escape(repr(self))}</p>{picture}"


def tune(
    data: Any = "digits",
    config: str | os.PathLike[str] | Mapping[str, Any] | Config | None = None,
    *,
    validation: Any = None,
    test: Any = None,
    labels: Any = None,
    split: str = "validation",
    explain: float | None = None,
    minutes: float | None = None,
    trials: int | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    device: str = "auto",
    quiet: bool = False,
    **settings: Any,
) -> Tuning:
    """Train with several settings, compare with PCA, and say how many numbers explain the data.

    A list of values of a key that holds one value is tried value by value, for example ``code_size=[2, 4, 8], seed=range(3)``. For a
    key that holds a list give a list of lists: ``hidden_sizes=[[64, 8], [128, 8]]``. Each combination is a run. With ``minutes`` or
    ``trials`` Optuna searches instead (extra ``tune``).

    Args:
        data: as of ``train``.
        config: as of ``train``.
        validation: as of ``train``; the choice is made on these items.
        test: as of ``train``; measured once, for the chosen run.
        labels: as of ``train``.
        split: the split that the curve shows, ``validation`` or ``test``.
        explain: percentage of the variance; chooses the smallest code that explains it. Default: the lowest validation error.
        minutes: search for this long.
        trials: search until this many settings have been tried.
        run_dir: folder of all runs, which a later call continues. Default: temporary.
        device: as of ``train``.
        quiet: print nothing.
        **settings: keys of the config by their last part: one value, or several.

    Raises:
        ConfigError: a key or a value is wrong; one line per problem.
        DataError: as of ``train``, or it has changed since earlier runs in ``run_dir``.
        InputError: nothing varies, or Optuna is not installed.
    """
    temporary = TemporaryFolder() if run_dir is None else None
    folder = Path(run_dir or "").expanduser() if temporary is None else temporary.path / "tune"
    with errors_in_python():
        fixed, words = _sorted(settings)
        grid, limits = parse_grid(words), None
        if minutes is not None or trials is not None:
            if grid.varied:
                raise InputError(f"{next(iter(grid.varied))[1]}: a search chooses values by itself; give one value")
            limits = task.SearchLimits(tuple(keys.resolve(name, "") for name in fixed), minutes, trials)
        elif not grid.varied:
            raise InputError("nothing varies; give several values of a key, for example code_size=[2, 4, 8], or minutes=5")
        request = training_request(data, config, validation, test, labels, fixed)
        wanted = task.TuneRequest(
            request.config,
            request.name,
            grid.varied,
            resolve_device(device),
            folder,
            split=split,
            explain=explain,
            load=request.load,
            search=limits,
        )
        terminal = _terminal(temporary)
        with saying_nothing() if quiet else terminal:
            for note in () if quiet else request.notes:
                terminal.note(note)
            if quiet:
                terminal.console.quiet = True
            return Tuning(task.tune(wanted, terminal), explain, temporary)


def _terminal(temporary: TemporaryFolder | None) -> PythonTerminal:
    hidden = None if temporary is None else str(temporary.path)
    return NotebookTerminal(hidden) if in_notebook() else PythonTerminal(hidden)


def _sorted(settings: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the settings with one value, and the words for those with several."""
    fixed, words = dict[str, Any](), list[str]()
    for name, given in settings.items():
        several = _is_sequence(given) and (not keys.is_list(keys.resolve(name, "")) or all(map(_is_sequence, given)))
        values = list(given) if several else [given]
        if len(values) == 1:
            fixed[name] = values[0]
        else:
            words += [f"{name}={json.dumps(plain_value(value))}" for value in values]
    return fixed, words


def _is_sequence(value: Any) -> bool:
    return isinstance(value, (list, tuple, range)) or getattr(value, "ndim", 0) == 1
