"""The ``tune`` command: trains a config with several settings, chooses one, and says how many numbers the data needs."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import fmean

import torch

from tiedae_cli.config import Config
from tiedae_cli.config.grid import combinations
from tiedae_cli.config.keys import Key
from tiedae_cli.config.yaml_reader import dump_config
from tiedae_cli.data.load_data import absolute, load_splits
from tiedae_cli.errors import DivergedError, InputError, Interrupted
from tiedae_cli.model import pca
from tiedae_cli.model.inference import Evaluation, error_sum, evaluate
from tiedae_cli.model.rate_distortion import RateDistortion, explained
from tiedae_cli.output.figures.rate_curve import rate_curve
from tiedae_cli.output.terminal import Terminal
from tiedae_cli.output.tune_display import TuneDisplay
from tiedae_cli.runs.data_identity import identities
from tiedae_cli.runs.observer import Observer, StopTraining
from tiedae_cli.runs.run_folder import Run
from tiedae_cli.runs.trained_run import OpenRun
from tiedae_cli.runs.trials import Trial, TrialResult, TuneFolder, find_tune_folder, tune_name
from tiedae_cli.system.devices import Ranks
from tiedae_cli.tasks import train
from tiedae_cli.training.arithmetic import arithmetic_restored
from tiedae_cli.training.checkpointing import Checkpoints
from tiedae_cli.training.suitable_data import Load, LoadedOnce, data_to_train_on
from tiedae_cli.tuning.best_config import commented, gain_lines
from tiedae_cli.tuning.prepared_data import PreparedData, code_size
from tiedae_cli.tuning.search import Gain, Search
from tiedae_cli.tuning.search_space import dimensions
from tiedae_cli.tuning.trial_loop import DIVERGED, FINISHED, STOPPED, Epoch, Follower, TrialTrainer, train_all
from tiedae_cli.tuning.trial_source import GridSource, TrialSource
from tiedae_cli.tuning.worker_processes import worker_processes

log = logging.getLogger(__name__)

COMPARED = 16  # trials that a search in limited time compares at least, however few validation items there are
FOR_ONE = 1 / 3  # largest share of a search's time in which one trial trains the config


@dataclass(frozen=True)
class TuneRequest:
    """What to tune."""

    base: Config
    """With all keys that do not vary."""
    name: str
    """Of a run of this config."""
    varied: Mapping[Key, Sequence[str]]
    """Values to try as typed, by key."""
    device: torch.device
    run_dir: Path | None = None
    """The folder of the tuning; None: below ``output.runs``."""
    jobs: int = 1
    """Trainings at once."""
    split: str = "validation"
    """That the curve shows."""
    explain: float | None = None
    """Percentage of the variance that the chosen code must explain; None chooses the lowest error."""
    load: Load = load_splits
    search: "SearchLimits | None" = None
    """Search instead of trying given values."""

    @property
    def parent(self) -> Path:
        """Where runs lie."""
        return Path(self.base.output.runs).expanduser()


@dataclass(frozen=True)
class SearchLimits:
    """How long Optuna searches, and what it leaves alone."""

    fixed: tuple[Key, ...] = ()
    """Keys that the user has set."""
    minutes: float | None = None
    trials: int | None = None
    storage: str | None = None
    """URL for Optuna; None: SQLite in the folder."""
    began: float = field(default_factory=time.time)


@dataclass(frozen=True)
class Found:
    """What a search found besides its trials."""

    start: TrialResult | None
    """Of the config that it started from."""
    gains: tuple[Gain, ...]
    """What each choice gained."""
    lines: tuple[str, ...]
    """The same in words."""
    importances: Mapping[str, float]


@dataclass(frozen=True)
class Tuned:
    """What a tuning found."""

    folder: TuneFolder
    results: tuple[TrialResult, ...]
    """In the order of the trials."""
    chosen: TrialResult | None
    """By validation error; None if no trial has finished, or if none explains what was asked for."""
    code_size: int | None
    """Of the chosen run."""
    explained: float | None
    """Percentage of the validation split's variance that codes of this size explain, by the mean over their seeds."""
    curve: RateDistortion | None
    """None if all codes have the same size, or if the data varies."""
    picture: bytes | None
    """The curve as a PNG, which is also in the folder."""
    test: Evaluation | None
    """Of the chosen run on the test split, measured once; None without test items."""
    value_name: str
    pca: Callable[[Trial], float | None]
    """Returns PCA's validation error with as many numbers as a trial's code; None if PCA is exact."""
    found: Found | None = None
    """None of a grid."""


def tune(request: TuneRequest, terminal: Terminal) -> Tuned:
    """Train every combination of values, or what Optuna proposes, and choose one run by its validation error.

    Raises:
        ConfigError: a combination is wrong, or does not fit the data.
        DataError: the data is missing or damaged, or has changed since earlier trials.
        InputError: Optuna is not installed, or its storage cannot be used.
        Interrupted: a signal arrived; everything is saved.
        StorageError: a file cannot be written.
    """
    base = request.base.model_copy(update={"data": absolute(request.base.data)})
    request = replace(request, base=base, load=LoadedOnce(request.load))
    with arithmetic_restored(), pca.decomposed_once():
        return _grid(request, terminal) if request.search is None else _search(request, request.search, terminal)


def _grid(request: TuneRequest, terminal: Terminal) -> Tuned:
    """Train every combination of values."""
    found = combinations(request.base, request.varied)
    prepared = PreparedData(
        request.base, request.load, request.split, lambda form: max(code_size(one.config, form) for one in found)
    )
    for one in found:
        data_to_train_on(one.config, request.load)
    folder = _folder(request, prepared)
    trials = [Trial(number, folder.path / one.name, one.config, one.settings) for number, one in enumerate(found)]
    with Run(folder.path).locked():
        source = GridSource(trials)
        done = list(source.results.values())
        if done:
            terminal.note(f"{len(done):,} of {len(trials):,} runs are done")
        with TuneDisplay(terminal, prepared.value_name, _pca_of(request, prepared), len(trials), None, done) as display:
            _train_all(request, source, display)
        return _answer(request, folder, [source.results[trial.number] for trial in trials], prepared)


def _search(request: TuneRequest, limits: SearchLimits, terminal: Terminal) -> Tuned:
    """Train what Optuna proposes, until the number of trials or the time is reached."""
    prepared = PreparedData(request.base, request.load, request.split, partial(code_size, request.base))
    data_to_train_on(request.base, request.load)
    space = dimensions(request.base, limits.fixed, prepared.splits.form)
    folder = _folder(request, prepared)
    seconds = None if limits.minutes is None else 60 * limits.minutes
    deadline = None if seconds is None else limits.began + seconds
    fixed = request.base.training.steps is not None or ("training", "epochs") in limits.fixed
    epochs = None if seconds is None or fixed else partial(_epochs_in_time, request, seconds)
    compared = None if limits.trials is not None else max(COMPARED, len(prepared.splits.validation))
    source = Search(folder, request.base, space, limits.trials, deadline, limits.storage, epochs, compared)
    if source.base.training.epochs < request.base.training.epochs:
        terminal.note(
            f"all trials train {source.base.training.epochs:,} epochs in place of {request.base.training.epochs:,}, so that "
            "one fits into a third of the time"
        )
    done = source.results()
    terminal.note(f"searches {', '.join(one.name for one in space)}" + (f"; {len(done):,} trials are done" if done else ""))
    with TuneDisplay(terminal, prepared.value_name, _pca_of(request, prepared), limits.trials, seconds, done) as display:
        _train_all(request, source, display, deadline)
    results = source.results()
    if compared is not None and sum(result.state == FINISHED for result in results) >= compared:
        items = len(prepared.splits.validation)
        terminal.note(
            f"{compared:,} trials have finished; among more, {items:,} validation items would choose by chance (--trials N for more)"
        )
    tuned = _answer(request, folder, results, prepared)
    start = next((result for result in results if result.trial.number == 0), None)
    gains, lines = tuple[Gain, ...](), tuple[str, ...]()
    if tuned.chosen is not None:
        gains = tuple(source.gains()) if tuned.chosen.state == FINISHED else ()
        lines = tuple(gain_lines(tuned.chosen, gains))
        text = dump_config(tuned.chosen.trial.config)
        folder.write(folder.best_config, commented(text, tuned.chosen, start, lines, len(results)).encode())
    return replace(tuned, found=Found(start, gains, lines, source.importances()))


def _epochs_in_time(request: TuneRequest, seconds: float) -> int:
    """Return how many of the config's epochs a trial can train in its share of the time, at least one; all if the config diverges."""
    epochs = request.base.training.epochs
    try:
        needed = epochs * train.epoch_seconds(request.base, request.device, request.load)
    except DivergedError:
        return epochs
    return epochs if needed <= FOR_ONE * seconds else max(1, int(epochs * FOR_ONE * seconds / needed))


def _folder(request: TuneRequest, prepared: PreparedData) -> TuneFolder:
    identity, searches = identities(prepared.splits), request.search is not None
    return find_tune_folder(request.parent, tune_name(request.name), request.run_dir, request.base, searches, identity)


def _pca_of(request: TuneRequest, prepared: PreparedData) -> Callable[[Trial], float | None]:
    """Return what gives PCA's validation error for a trial; of other data it is not known."""

    def pca_error(trial: Trial) -> float | None:
        same = trial.config.data == request.base.data
        return prepared.pca_error(code_size(trial.config, prepared.splits.form)) if same else None

    return pca_error


def _train_all(request: TuneRequest, source: TrialSource, display: TuneDisplay, deadline: float | None = None) -> None:
    """Train all trials, in this process or in several."""
    jobs = request.jobs if request.device.type == "cpu" else 1
    if jobs < request.jobs:
        log.warning(f"--jobs {request.jobs}: {request.device} trains one run at a time")
    try:
        if jobs == 1:
            train_all(source, [_Trainer(request.load, request.device)], display, deadline)
            return
        setup = _Setup(request.load, request.device, max(1, torch.get_num_threads() // jobs))
        with worker_processes(jobs, _trainer_of_process, setup) as workers:
            train_all(source, workers, display, deadline)
    except Interrupted as stopped:
        message = f"interrupted and saved after {display.done:,} runs; the same command resumes"
        raise Interrupted(message, stopped.signal_number) from None


@dataclass(frozen=True)
class _Setup:
    """What a process needs to train trials."""

    load: Load
    device: torch.device
    threads: int


def _trainer_of_process(setup: _Setup) -> TrialTrainer:
    torch.set_num_threads(setup.threads)
    return _Trainer(setup.load, setup.device, decomposes=True)


class _Trainer:
    """Trains trials in this process: each is a run as ``tiedae train`` makes it, without its pictures.

    Args:
        load: loads the data.
        device: where to compute.
        decomposes: whether this process has to decompose the training items for PCA by itself.
    """

    def __init__(self, load: Load, device: torch.device, decomposes: bool = False) -> None:
        self.load, self.device = load, device
        if decomposes:
            self._kept = pca.decomposed_once()
            self._kept.__enter__()

    @contextlib.contextmanager
    def opened(self, trial: Trial, epoch: Epoch, deadline: float | None) -> Iterator[Callable[[], str]]:
        """Start or resume a trial; see ``TrialTrainer``."""

        def attach(checkpoints: Checkpoints, trackers: Sequence[Observer], terminal: Terminal | None) -> list[Observer]:
            return [*train.recorders(checkpoints, trackers, terminal), Follower(epoch, deadline, trial.longest)]

        last, where = Run(trial.folder).last, (self.device, Ranks(), None, self.load, attach)
        if last.exists():
            opened = train.resume(last, trial.config, [], *where)
        else:
            opened = train.start(trial.config, trial.folder.name, trial.folder, *where)
        with opened as training:
            yield partial(_trained, training.train)


def _trained(training: Callable[[], None]) -> str:
    """Train, and return how it ended."""
    try:
        training()
    except StopTraining as stopped:
        return str(stopped)
    except DivergedError:
        return DIVERGED
    return FINISHED


def _answer(request: TuneRequest, folder: TuneFolder, results: Sequence[TrialResult], prepared: PreparedData) -> Tuned:
    """Choose a trial by validation error, make it the newest run, and draw the curve."""
    # Of a trial that the time has stopped, the best epoch so far counts.
    finished = [result for result in results if result.state in (FINISHED, STOPPED) and result.mse_per_value is not None]
    alike = all(result.trial.config.data == request.base.data for result in results)
    chosen, share = _chosen(request, finished, prepared) if alike else (_lowest_share(request, finished), None)
    curve, picture, test, size = None, None, None, None
    if alike and len({size for _, size in prepared.groups(finished)}) > 1:
        curve = prepared.rate_distortion(finished, partial(_shown_error, request, prepared))
        picture = rate_curve(f"{prepared.splits.source}: error by code size", curve)
        folder.write(folder.picture, picture)
    if chosen is not None:
        has_weights = Run(chosen.trial.folder).best.exists()
        if not has_weights:
            log.info(f"{chosen.trial.folder}: trained on another machine; its config is {folder.best_config}")
        elif not folder.publish(chosen.trial, [result.trial for result in results]):
            log.info(f"{folder.path} was trained further; its run stays")
        folder.write(folder.best_config, dump_config(chosen.trial.config).encode())
        test, size = _test(chosen, prepared, request), code_size(chosen.trial.config, prepared.splits.form)
    name = prepared.value_name
    return Tuned(folder, tuple(results), chosen, size, share, curve, picture, test, name, _pca_of(request, prepared))


def _chosen(
    request: TuneRequest, finished: Sequence[TrialResult], prepared: PreparedData
) -> tuple[TrialResult | None, float | None]:
    """Return the trial with the lowest error, of the smallest code that explains enough, and what that code size explains."""
    groups, mean = prepared.groups(finished), prepared.validation[0]
    shares = {key: explained(fmean(map(_error, group)), mean) for key, group in groups.items()}
    enough = [key for key in groups if request.explain is None or shares[key] >= request.explain]
    if request.explain is not None:
        enough = [key for key in enough if key[1] == min(size for _, size in enough)]
    if not enough:
        return None, None
    best = min(enough, key=lambda key: min(map(_error, groups[key])))
    return min(groups[best], key=_error), shares[best]


def _error(result: TrialResult) -> float:
    assert result.mse_per_value is not None  # the trial has finished
    return result.mse_per_value


def _lowest_share(request: TuneRequest, finished: Sequence[TrialResult]) -> TrialResult | None:
    """Return the trial with the lowest validation error relative to that of the mean of its own data."""
    if request.explain is not None:
        raise InputError("--explain: the variance of different data cannot be compared; give one value per key of data")
    return min(finished, key=_share_of_mean, default=None)


def _share_of_mean(result: TrialResult) -> float:
    parts = Run(result.trial.folder).load(Run(result.trial.folder).best).finished
    assert parts is not None  # the trial has finished
    return _error(result) / max(parts.results.mean_mse_per_value, 1e-300)


def _shown_error(request: TuneRequest, prepared: PreparedData, result: TrialResult) -> float:
    """Return a trial's error on the split that the curve shows."""
    if request.split == "validation":
        return _error(result)
    model = Run(result.trial.folder).load(Run(result.trial.folder).best).model(request.device)
    return error_sum(model, prepared.splits.get(request.split), request.device).mse_per_value


def _test(chosen: TrialResult, prepared: PreparedData, request: TuneRequest) -> Evaluation | None:
    """Measure the chosen run on the test split, beside PCA."""
    best = Run(chosen.trial.folder).best
    if chosen.trial.config.data != request.base.data or not len(prepared.splits.test) or not best.exists():
        return None
    run = OpenRun(best, request.device, prepared.splits)
    return evaluate(run.network, run.components(), run.split("test"), "test", request.device)
