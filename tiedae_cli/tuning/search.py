"""Optuna's search as a source of trials: what it proposes, what it prunes, and what each choice gained.

The sampler of trial n is seeded by (seed, n, dimension) and keeps no state, so an interrupted search proposes what an uninterrupted one
would. The state is Optuna's storage alone: SQLite in the folder, or any URL, which several processes and machines may share.
"""

import contextlib
import logging
import math
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tiedae_cli.config import Config
from tiedae_cli.config.yaml_reader import with_assignments
from tiedae_cli.errors import InputError
from tiedae_cli.runs.training_state import EpochReport
from tiedae_cli.runs.trials import Trial, TrialResult, TuneFolder, remove_weights, result_of
from tiedae_cli.system.locks import holding, is_held
from tiedae_cli.system.optional_packages import optional_package
from tiedae_cli.system.random_streams import SEARCH, seeded
from tiedae_cli.tuning.search_space import MOVES, Dimension, Value, config_at, moved, start

if TYPE_CHECKING:
    import optuna

log = logging.getLogger(__name__)

RANDOM_TRIALS = 20  # before TPE has anything to learn from
KEPT = 0.8  # probability that such a trial keeps a value of the best one so far
MOVED = 0.3  # standard deviation of the natural logarithm by which a kept value of a range moves
RUNGS = (0.125, 0.25, 0.5)  # shares of a trial's epochs after which it may be pruned
BEFORE_PRUNING = 5  # trials
FEWEST = 4  # finished trials from which importances are computed
SLOWEST = 0.1  # share of the time that a trial may take, or twice as long as the best one
FOR_GAINS = 0.2  # largest share of the trials or of the time that measures what each choice gained


@dataclass(frozen=True)
class Gain:
    """What one choice of the best trial gained, measured by a trial that differs only in that choice."""

    name: str
    """Of the dimension."""
    before: Value
    """The value of the config that the search started from."""
    error: float | None
    """Validation error with that value; None: not measured."""
    beside: int | None = None
    """The trial that differs from the measured one in this choice alone: the best one, or one that was the best before."""
    beside_error: float | None = None
    """Its validation error."""


@dataclass
class _Open:
    """A trial that is trained in this process."""

    trial: Any
    """Optuna's."""
    prunes: bool
    """Whether it may be pruned: it is neither the start nor a trial that measures a gain."""


class Search:
    """A source of trials that Optuna proposes.

    Args:
        folder: of the tuning.
        base: the config of trial 0.
        space: what to vary.
        trials: largest number of trials; None: only time limits them.
        deadline: ``time.time()`` at which the search ends; None: only the number limits it.
        storage: URL for Optuna; None: SQLite in the folder.
        epochs: returns how many epochs the trials of a new study train, at most those of the config; None: those of the config.
        finished: largest number of trials that are compared, pruned ones not counted; None: any.

    Raises:
        InputError: Optuna is not installed, or the storage cannot be used.
    """

    def __init__(
        self,
        folder: TuneFolder,
        base: Config,
        space: Sequence[Dimension],
        trials: int | None,
        deadline: float | None,
        storage: str | None = None,
        epochs: Callable[[], int] | None = None,
        finished: int | None = None,
    ) -> None:
        self.optuna = optional_package("optuna", "tune", "tune without values")
        self.optuna.logging.set_verbosity(self.optuna.logging.WARNING)
        self.folder, self.base, self.space, self.most, self.deadline = folder, base, space, trials, deadline
        self.most_finished = finished
        self.began = time.time()
        self.start = start(base, space)
        self.place = f"{socket.gethostname()}:{folder.path.resolve()}"  # where the run folders of this process lie
        self.shared = storage is not None
        self._open: dict[int, _Open] = {}  # by number
        self._lock = threading.RLock()
        with self._storage_held(storage):
            self.study: optuna.Study = self._create(storage)
        if "epochs" not in self.study.user_attrs:
            count = base.training.epochs if epochs is None else epochs()
            with self._storage_held(storage):
                if "epochs" not in self.study.user_attrs:  # another process may have been faster
                    self.study.set_user_attr("epochs", count)
        if self.study.user_attrs["epochs"] < base.training.epochs:
            self.base = with_assignments(base, [f"training.epochs={self.study.user_attrs['epochs']}"])
        with self._storage_held(storage):
            if not self.study.get_trials(deepcopy=False):
                self.study.enqueue_trial(self.start)

    @contextlib.contextmanager
    def _storage_held(self, storage: str | None) -> Iterator[None]:
        with holding(self.folder.path, lambda: None), _storage_errors(storage):
            yield

    def _create(self, storage: str | None) -> "optuna.Study":
        url = storage or f"sqlite:///{self.folder.path.resolve() / 'study.db'}"
        pruner = self.optuna.pruners.MedianPruner(n_startup_trials=BEFORE_PRUNING)
        study: optuna.Study = self.optuna.create_study(
            storage=self.optuna.storages.RDBStorage(
                url, engine_kwargs={"connect_args": {"timeout": 60}} if "sqlite" in url else {}
            ),
            sampler=_sampler(self.optuna, self.base.training.seed, [one.name for one in self.space]),
            pruner=pruner,
            study_name=self.folder.path.name,
            load_if_exists=True,
        )
        elsewhere = {
            "dataset": tuple(Path(one).name for one in self.base.data.sources),
            "root": None,
        }  # another machine has it in another place
        base = self.base.model_copy(update={"data": self.base.data.model_copy(update=elsewhere)})
        asked = base.model_dump_json(exclude={"output"})
        if study.user_attrs.setdefault("config", asked) != asked:
            raise InputError(
                f"--storage: its study {study.study_name} searches another config; name a new folder with --run-dir"
            )
        study.set_user_attr("config", asked)
        return study

    @contextlib.contextmanager
    def claimed(self) -> Iterator[Trial | None]:
        """Yield the next trial: an interrupted one of this folder, or a new one."""
        with self._lock, holding(self.folder.path, lambda: None):  # until the trial's run is locked
            found = self._interrupted() or self._new()
            yield found

    def _interrupted(self) -> Trial | None:
        running = self.study.get_trials(deepcopy=False, states=(self.optuna.trial.TrialState.RUNNING,))
        for frozen in running:
            own = frozen.user_attrs.get("place", None if self.shared else self.place) == self.place
            if own and not is_held(self._path(frozen.number)) and frozen.number not in self._open:
                return self._proposed(self.optuna.trial.Trial(self.study, frozen._trial_id))
        return None

    def _new(self) -> Trial | None:
        while True:
            known = self.study.get_trials(deepcopy=False)
            taken = [one for one in known if one.state.name != "WAITING"]
            if self._left(len(taken)) <= 0:
                return None
            self._enqueue_gains(len(taken))
            if len(taken) == len(known):  # none is waiting
                self._enqueue_move(known)
            asked = self.study.ask()
            found = self._proposed(asked)
            if found is not None:
                return found

    def _proposed(self, asked: "optuna.trial.Trial") -> Trial | None:
        """Return Optuna's trial as a run; None if its values contradict each other."""
        asked.set_user_attr("place", self.place)
        values = {one.name: _suggested(asked, one) for one in self.space}
        config = self.base if asked.number == 0 else config_at(self.base, self.space, values)
        if config is None:
            self.study.tell(asked, state=self.optuna.trial.TrialState.FAIL)
            return None
        frozen = self.study.get_trials(deepcopy=False)[asked.number]
        prunes = "fixed_params" not in frozen.system_attrs or "move" in frozen.user_attrs
        self._open[asked.number] = _Open(asked, prunes)
        return Trial(asked.number, self._path(asked.number), config, values, self._longest() if prunes else math.inf)

    def _path(self, number: int) -> Path:
        return self.folder.path / f"trial-{number:04}"

    def _enqueue_move(self, known: "Sequence[optuna.trial.FrozenTrial]") -> None:
        """Ask for the next one of the moves from the best trial that lead somewhere new."""
        best, points = self.best(), [one.params for one in known]
        tried = max((one.user_attrs.get("move", -1) for one in known), default=-1)
        for number, move in list(enumerate(MOVES))[tried + 1 :] if known else []:
            params = moved(self.start if best is None else best.params, move, self.space)
            if params not in points:
                self.study.enqueue_trial(params, user_attrs={"move": number})
                return

    def _enqueue_gains(self, taken: int) -> None:
        """Near the end, ask for trials that differ from the best one in a single choice, which they set back to the start's value."""
        best = self.best()
        if best is None or best.number == 0 or not self._is_near_end(taken, best):
            return
        known = [one.params for one in self.study.get_trials(deepcopy=False)]
        for name in self._changed(best):
            params = {**best.params, name: self.start[name]}
            if params not in known and len(params) == len(self.space):
                self.study.enqueue_trial(params, skip_if_exists=True)

    def _left(self, taken: int) -> float:
        """Return how many trials may follow."""
        left = math.inf if self.most is None else float(self.most - taken)
        return left if self.most_finished is None else min(left, self.most_finished - len(self._finished()))

    def _is_near_end(self, taken: int, best: "optuna.trial.FrozenTrial") -> bool:
        changed = len(self._changed(best))
        if self._left(taken) <= min(changed, FOR_GAINS * min(self.most or math.inf, self.most_finished or math.inf)):
            return True
        if self.deadline is None:
            return False
        one = best.duration.total_seconds() if best.duration is not None else 0.0
        return self.deadline - time.time() <= min(changed * one, (self.deadline - self.began) * FOR_GAINS)

    def _changed(self, best: "optuna.trial.FrozenTrial") -> list[str]:
        return [name for name, value in self.start.items() if best.params.get(name) != value]

    def _longest(self) -> float:
        """Return the seconds that a trial may take, so that it leaves time for others."""
        best = self.best()
        if self.deadline is None or best is None or best.duration is None:
            return math.inf
        return max(SLOWEST * (self.deadline - self.began), 2 * float(best.duration.total_seconds()))

    def epoch(self, trial: Trial, report: EpochReport) -> bool:
        """Report the error of a few epochs; return whether the trial is worse than most at that point."""
        percent = {max(1, round(share * report.epochs)): round(100 * share) for share in RUNGS}.get(report.epoch)
        if percent is None or report.epoch >= report.epochs:
            return False
        with self._lock:
            one = self._open[trial.number]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a resumed trial reports again
                one.trial.report(report.selection_mse, percent)
            return one.prunes and bool(one.trial.should_prune())

    def ended(self, trial: Trial, state: str) -> TrialResult:
        """Report a trial's end. Only the best trial keeps its weights, and one whose time was up, which can be resumed."""
        result = result_of(trial, state)
        states = self.optuna.trial.TrialState
        with self._lock:
            asked = self._open.pop(trial.number).trial
            if state == "stopped":
                return result
            before = self.best()
            if state == "finished":
                self.study.tell(asked, result.mse_per_value)
            else:
                self.study.tell(asked, state=states.PRUNED)
            best = self.best()
            for number in {trial.number, *([] if before is None else [before.number])} - {-1 if best is None else best.number}:
                remove_weights(self._path(number))
        return replace(result, state=state)

    def _finished(self) -> list["optuna.trial.FrozenTrial"]:
        found: list[optuna.trial.FrozenTrial] = self.study.get_trials(
            deepcopy=False, states=(self.optuna.trial.TrialState.COMPLETE,)
        )
        return found

    def best(self) -> "optuna.trial.FrozenTrial | None":
        """Return the finished trial with the lowest error; the first one of several."""
        best: optuna.trial.FrozenTrial | None = min(self._finished(), key=lambda one: one.value or 0.0, default=None)
        return best

    def results(self) -> list[TrialResult]:
        """Return the results of all trials so far, also those of other processes and machines."""
        names = {"COMPLETE": "finished", "PRUNED": "pruned", "RUNNING": "stopped"}
        found = []
        for one in self.study.get_trials(deepcopy=False):
            if one.state.name not in names or len(one.params) < len(self.space):
                continue
            config = self.base if one.number == 0 else config_at(self.base, self.space, one.params)
            assert config is not None  # else its state would be FAIL
            trial = Trial(one.number, self._path(one.number), config, one.params)
            running = one.state.name == "RUNNING" and is_held(trial.folder)  # by another process
            result = result_of(trial, "running" if running else names[one.state.name])
            found.append(replace(result, mse_per_value=one.value) if one.state.name == "COMPLETE" else result)
        return found

    def gains(self) -> list[Gain]:
        """Return what each choice of the best trial gained over the config that the search started from.

        If the best trial came out of such a measurement itself, the gains are those beside the trial that was the best before.
        """
        best, finished = self.best(), sorted(self._finished(), key=lambda one: one.value or 0.0)
        if best is None:
            return []
        gains = []
        for name in self._changed(best):
            gain = Gain(name, self.start[name], None)
            for around in (one for one in finished if one.params.get(name) == best.params[name]):
                params = {**around.params, name: self.start[name]}
                error = next((one.value for one in finished if one.params == params), None)
                if error is not None:
                    gain = Gain(name, self.start[name], error, around.number, around.value)
                    break
            gains.append(gain)
        return gains

    def importances(self) -> dict[str, float]:
        """Return the share of each dimension in the differences between trials (PED-ANOVA), the largest first; empty with few trials."""
        if len(self._finished()) < FEWEST:
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            evaluator = self.optuna.importance.PedAnovaImportanceEvaluator()
            found: dict[str, float] = self.optuna.importance.get_param_importances(self.study, evaluator=evaluator)
        return found


def _suggested(trial: "optuna.trial.Trial", one: Dimension) -> Value:
    if one.choices:
        value: Value = trial.suggest_categorical(one.name, one.choices)
    elif one.whole:
        value = trial.suggest_int(one.name, int(one.low), int(one.high), log=one.logarithmic)
    else:
        value = trial.suggest_float(one.name, one.low, one.high, log=one.logarithmic)
    return value


def _sampler(optuna: Any, seed: int, names: Sequence[str]) -> Any:
    """Return a sampler that proposes a value by TPE with a seed of the trial and the dimension, so it needs no state."""

    class Seeded(optuna.samplers.BaseSampler):  # type: ignore[misc]
        def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
            return {}

        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
            return {}

        def sample_independent(self, study: Any, trial: Any, name: str, distribution: Any) -> Any:
            generator = seeded(seed, SEARCH, trial.number, names.index(name))
            finished = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
            if 0 < len(finished) < RANDOM_TRIALS and float(torch.rand((), generator=generator)) < KEPT:
                return _near(min(finished, key=lambda one: one.value).params[name], distribution, generator)
            own = int(torch.randint(2**31, (), generator=generator))
            tpe = optuna.samplers.TPESampler(seed=own, n_startup_trials=RANDOM_TRIALS, multivariate=False, constant_liar=False)
            return tpe.sample_independent(study, trial, name, distribution)

    return Seeded()


def _near(value: Value, distribution: Any, generator: torch.Generator) -> Value:
    """Return a choice as it is, and a number of a range moved a little."""
    if isinstance(value, str) or not hasattr(distribution, "high"):
        return value
    near = value * math.exp(MOVED * float(torch.randn((), generator=generator)))
    inside = float(min(max(near, distribution.low), distribution.high))
    return round(inside) if isinstance(value, int) else inside


@contextlib.contextmanager
def _storage_errors(storage: str | None) -> Iterator[None]:
    """Turn what a database raises into an ``InputError`` that names the URL without its password."""
    try:
        yield
    except (InputError, KeyboardInterrupt):
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"--storage: the study cannot be opened: {reason}") from None
