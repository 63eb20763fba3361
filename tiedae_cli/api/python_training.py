"""A training from Python: data in memory or on disk, a config and keys become a run."""

import contextlib
import json
import logging
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Unpack

from tiedae_cli.api.config_keys import ConfigKeys
from tiedae_cli.api.python_run import Run
from tiedae_cli.api.python_terminal import NotebookTerminal, PythonTerminal, in_notebook
from tiedae_cli.api.python_words import python_words
from tiedae_cli.api.temporary_folder import TemporaryFolder
from tiedae_cli.cli.train_request import DATASET, parse_train_request
from tiedae_cli.config import Config, keys
from tiedae_cli.config.samples import find_config, run_name, run_name_of_data
from tiedae_cli.config.yaml_reader import dump_config, load_config, parse_config
from tiedae_cli.data.load_data import SMALL, load_memory, load_splits
from tiedae_cli.data.sources.memory import IN_MEMORY, NAME, MemoryData, as_array, holds_photograph
from tiedae_cli.errors import InputError, Interrupted, TiedaeError
from tiedae_cli.runs.observer import Observer, TrainingResult
from tiedae_cli.system.devices import Ranks, resolve_device
from tiedae_cli.tasks import train as task
from tiedae_cli.training.suitable_data import Load

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingRequest:
    """What a call asks to train."""

    config: Config
    name: str
    """Of the run."""
    memory: MemoryData | None = None
    """The data, unless the config names it."""
    notes: tuple[str, ...] = ()
    """Choices that were made for the caller."""

    @property
    def load(self) -> Load:
        """Loads the data."""
        return load_splits if self.memory is None else partial(load_memory, self.memory)


def train(
    data: Any = "digits",
    config: str | os.PathLike[str] | Mapping[str, Any] | Config | None = None,
    *,
    validation: Any = None,
    test: Any = None,
    labels: Any = None,
    run_dir: str | os.PathLike[str] | None = None,
    device: str = "auto",
    quiet: bool = False,
    **settings: Unpack[ConfigKeys],
) -> Run:
    """Train a model and return its run.

    For the same data, config and seed the weights are bit-identical to those of ``tiedae train``. Nothing stays on disk unless
    ``run_dir`` or ``runs`` is given or ``run.save`` is called. Ctrl-C returns the run so far, with ``run.finished`` False.

    Args:
        data: items to train on, N along the first dimension: a numpy array, a torch tensor, a scipy sparse matrix, a pandas or
            polars DataFrame, a pyarrow table, a list of PIL images. Or what ``tiedae train`` takes: a sample config, a YAML file,
            a data set, the path of a file or folder. Or a config, as in ``config``.
        config: the name of a sample config, a YAML file, a dict of sections or a ``Config``. Default: the sample config that fits
            the data (``vectors``, ``folder`` or ``photographs``).
        validation: items held out for validation: data of the same kind, a count, or a fraction (default: 0.1).
        test: items held out for the test split, given like ``validation``.
        labels: the label of each item, (N,); a dict of these by split; or the name of a table's column.
        run_dir: the run folder to create.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        quiet: print nothing.
        **settings: keys of the config by their last part, for example ``epochs=10``.

    Raises:
        ConfigError: a key or a value is wrong; one line per problem.
        DataError: the data is missing or damaged, or a value cannot be used.
        DivergedError: the loss is no longer finite.
    """
    stays = run_dir is not None or any(keys.find_key(name) == ("output", "runs") for name in settings)
    with errors_in_python():
        request = training_request(data, config, validation, test, labels, settings)
        with Training(request, run_dir, device, quiet, temporary=not stays) as training:
            try:
                training.train()
            except Interrupted as stopped:
                if stopped.signal_number != signal.SIGINT:
                    raise
                log.warning(f"interrupted after {len(training.loop.trainer.history)} epochs; run.finished is False")
            return training.run()


@contextlib.contextmanager
def errors_in_python() -> Iterator[None]:
    """Put the messages of errors into the words of Python."""
    try:
        yield
    except TiedaeError as error:
        error.args = (python_words(str(error)),)
        raise


class Training:
    """A training that a call asks for, between its start and its run.

    Args:
        request: what to train.
        run_dir: the run folder to create; None makes one under ``output.runs``, or a temporary one.
        device: where to compute.
        quiet: print nothing.
        temporary: whether the run folder is removed with its run, and gets no pictures.
    """

    def __init__(
        self,
        request: TrainingRequest,
        run_dir: str | os.PathLike[str] | None = None,
        device: str = "auto",
        quiet: bool = False,
        temporary: bool = True,
    ) -> None:
        self.request, self.quiet, self.device = request, quiet, resolve_device(device)
        self._temporary = TemporaryFolder() if temporary else None
        self._run_dir = None if run_dir is None else Path(run_dir).expanduser()
        self._opened, self._result = contextlib.ExitStack(), _Result()

    def __enter__(self) -> "Training":
        """Load the data and make the run folder."""
        with contextlib.ExitStack() as opened:
            if self._temporary is not None:
                opened.push(self._remove_after_error)
                self._run_dir = self._temporary.path / self.request.name
            terminal = None if self.quiet else self._terminal()
            opened.enter_context(saying_nothing() if terminal is None else terminal)
            for note in self.request.notes:
                log.info(note)
            config, name, attach = (
                self.request.config,
                self.request.name,
                partial(task.observers, pictures=self._temporary is None),
            )
            start = task.start(config, name, self._run_dir, self.device, Ranks(), terminal, self.request.load, attach)
            self.loop = opened.enter_context(start)
            more = [] if terminal is None else terminal.observers()
            self.loop.observers = [*self.loop.observers, *more, self._result]
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._opened.__exit__(*error)

    def _terminal(self) -> PythonTerminal:
        hidden = None if self._temporary is None else str(self._temporary.path)
        return NotebookTerminal(hidden) if in_notebook() else PythonTerminal(hidden)

    def _remove_after_error(self, kind: type[BaseException] | None, *_: Any) -> None:
        if kind is not None and self._temporary is not None:
            self._temporary.remove()

    def train(self) -> None:
        """Train to the end; raises as ``TrainingRun.train``."""
        self.loop.train()

    def run(self) -> Run:
        """Return the run so far."""
        return Run(self.loop, self._result.result, self._temporary)


class _Result(Observer):
    """Keeps what a training reached."""

    result: TrainingResult | None = None

    def finished(self, result: TrainingResult) -> None:
        """Keep it."""
        self.result = result


def training_request(
    data: Any,
    config: str | os.PathLike[str] | Mapping[str, Any] | Config | None = None,
    validation: Any = None,
    test: Any = None,
    labels: Any = None,
    settings: Mapping[str, object] | None = None,
) -> TrainingRequest:
    """Return what a call asks to train; arguments as of ``train``.

    Raises:
        InputError: arguments contradict each other.
        ConfigError: a key or a value is wrong.
    """
    assignments = [f"{key}={json.dumps(plain_value(value))}" for key, value in (settings or {}).items()]
    others: dict[str, Any] = {}
    for split, value in (("validation", validation), ("test", test)):
        if isinstance(value, (bool, int, float)):
            assignments.append(f"data.{split}={json.dumps(value)}")
        elif value is not None:
            others[split] = value
    if isinstance(labels, str):
        assignments.append(f"data.label={json.dumps(labels)}")
        labels = None
    if isinstance(data, (str, os.PathLike, Mapping, Config)) or _are_names(data):
        if isinstance(data, Mapping) and any(hasattr(value, "shape") for value in data.values()):
            as_array(data, NAME)  # columns instead of sections: says what to give
        if others or labels is not None:
            what = next(iter(others), "labels")
            raise InputError(f"{what}: arrays go with data in memory; for files give a count or a fraction, or use data.arrays")
        return _named_request(data, config, assignments)
    by_split = dict(labels) if isinstance(labels, Mapping) else {} if labels is None else {"train": labels}
    return _memory_request(MemoryData(_converted(data), others, by_split), config, assignments)


def _are_names(data: Any) -> bool:
    return isinstance(data, (list, tuple)) and bool(data) and all(isinstance(item, (str, os.PathLike)) for item in data)


def _converted(data: Any) -> Any:
    """Return a list of numbers as one array, so that it is converted once."""
    numbers = isinstance(data, (list, tuple)) and not any(hasattr(item, "getbands") for item in data)
    return as_array(data, NAME) if numbers else data


def _named_request(
    data: Any, config: str | os.PathLike[str] | Mapping[str, Any] | Config | None, assignments: Sequence[str]
) -> TrainingRequest:
    """Return what names of configs and data on disk mean."""
    if isinstance(data, (Mapping, Config)):
        if config is not None:
            raise InputError("config: a second config beside the first argument; expected one")
        parsed = _parsed(data, assignments)
        return TrainingRequest(parsed, run_name_of_data(parsed.data.dataset), notes=tuple(keys.real_names(assignments)))
    words = [os.fspath(data)] if isinstance(data, (str, os.PathLike)) else list(map(os.fspath, data))
    if isinstance(config, (Mapping, Config)):
        parsed = _parsed(config, [f"{DATASET}={json.dumps(words)}", *assignments])
        return TrainingRequest(parsed, run_name_of_data(parsed.data.dataset), notes=tuple(keys.real_names(assignments)))
    request = parse_train_request(words, None if config is None else os.fspath(config), assignments, resume=False)
    assert request.config is not None and request.name is not None  # only a run that is resumed has none
    return TrainingRequest(load_config(request.config, request.assignments), request.name, notes=request.notes)


def _memory_request(
    memory: MemoryData, config: str | os.PathLike[str] | Mapping[str, Any] | Config | None, assignments: Sequence[str]
) -> TrainingRequest:
    """Return what a config and keys mean for data in memory."""
    for text in assignments:
        if keys.find_key(text.partition("=")[0]) == ("data", "dataset"):
            raise InputError("dataset: a second data set beside the data in memory; expected one")
    notes, given = keys.real_names(assignments), [f"{DATASET}={json.dumps(IN_MEMORY)}", *assignments]
    if isinstance(config, (Mapping, Config)):
        return TrainingRequest(_parsed(config, given), memory.kind, memory, tuple(notes))
    if config is None:
        sample = _sample_for(memory)
        notes.append(f"X: trained with the sample config {sample}")
        return TrainingRequest(load_config(find_config(sample), given), memory.kind, memory, tuple(notes))
    path = find_config(os.fspath(config))
    return TrainingRequest(load_config(path, given), run_name(path), memory, tuple(notes))


def _sample_for(memory: MemoryData) -> str:
    """Return the sample config that fits data in memory, chosen as for a file of the same kind."""
    if memory.kind == "images":
        return "photographs" if holds_photograph(memory.train, SMALL) else "folder"
    return "folder" if memory.kind == "array" and len(getattr(memory.train, "shape", ())) > 2 else "vectors"


def _parsed(config: Mapping[str, Any] | Config, assignments: Sequence[str]) -> Config:
    text = dump_config(config) if isinstance(config, Config) else json.dumps(dict(config), default=os.fspath)
    return parse_config(text, "config", assignments)


@contextlib.contextmanager
def saying_nothing() -> Iterator[None]:
    """Keep Python from printing log records of this block only because nobody listens; handlers of the caller still get them."""
    logger, handler = logging.getLogger("tiedae_cli"), logging.NullHandler()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def plain_value(value: Any) -> Any:
    """Return a value as JSON can hold it."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (list, tuple)):
        return [plain_value(one) for one in value]
    return value.item() if hasattr(value, "item") else value
