"""The MLflow tracker: the config as parameters, the errors per epoch as metrics, pictures and checkpoint as artifacts.

MLflow sends telemetry and logs about its database to stderr; both are switched off around each call.
"""

import contextlib
import json
import logging
import os
import time
import warnings
from collections.abc import Iterator
from typing import Any

from tiedae_cli.config import Config
from tiedae_cli.config.shareable import without_folders
from tiedae_cli.config.yaml_reader import dump_config
from tiedae_cli.errors import Interrupted, StorageError, TiedaeError
from tiedae_cli.runs.observer import Observer, TrainingResult, TrainingStart
from tiedae_cli.runs.run_folder import Run
from tiedae_cli.runs.training_state import JOINT, EpochReport
from tiedae_cli.runs.training_summary import finished_epochs
from tiedae_cli.system.optional_packages import optional_package
from tiedae_cli.system.regular_files import open_regular

EXPERIMENT = "tiedae"
FOLDER = "mlflow"  # in the run folder: the store, unless MLFLOW_TRACKING_URI is set
RUN_ID = "mlflow.json"  # in the run folder: the ID of the MLflow run, for resuming
METRICS = ("train_mse_per_value", "validation_mse_per_value", "learning_rate", "items_per_second")
LONGEST = 6000  # characters: MLflow's limit for a parameter


class MlflowTracker(Observer):
    """Logs a training to ``MLFLOW_TRACKING_URI`` (default: a SQLite file in the run folder).

    A resumed training continues the same MLflow run. Its parameters stay those of the first start, because MLflow cannot change
    them; the artifact ``config.yaml`` is current. If a killed process logged an epoch but did not save it, it is logged twice.

    Raises:
        InputError: MLflow or the packages that its SQLite store needs are not installed.
    """

    def __init__(self) -> None:
        with _private():
            for package in ("mlflow", "sqlalchemy", "alembic"):
                optional_package(package, "mlflow")
        self.client: Any = None
        self.run_id: str | None = None

    def started(self, start: TrainingStart) -> None:
        """Start the MLflow run, or continue that of an earlier process.

        Raises:
            StorageError: MLflow cannot be reached or refuses the run.
        """
        self.run, self.epochs = start.run, finished_epochs(start.history)
        with _private(), _mlflow_errors():
            from mlflow import MlflowClient

            self.client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or _own_store(start.run))
            self.run_id = self._known_run() or self._new_run()
            self.client.update_run(self.run_id, status="RUNNING")
            known = self.client.get_run(self.run_id).data.params
            for name, value in _parameters(start.config).items():
                if name not in known:
                    self.client.log_param(self.run_id, name, value)

    def _known_run(self) -> str | None:
        """Return the ID of an earlier process's MLflow run; None if there is none or it has been deleted."""
        from mlflow.exceptions import MlflowException

        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, MlflowException):
            with open_regular(self.run.folder / RUN_ID) as file:
                run_id = str(json.loads(file.read())["run_id"])
            if self.client.get_run(run_id).info.lifecycle_stage == "active":
                return run_id
        return None

    def _new_run(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            experiment = found.experiment_id
        else:
            own = None if os.environ.get("MLFLOW_TRACKING_URI") else (self.run.folder / FOLDER).absolute().as_uri()
            experiment = self.client.create_experiment(name, artifact_location=own)
        run_id = str(self.client.create_run(experiment, run_name=self.run.name).info.run_id)
        self.run.write(self.run.folder / RUN_ID, json.dumps({"run_id": run_id}).encode())
        return run_id

    def epoch(self, report: EpochReport) -> None:
        """Log an epoch's metrics."""
        self.epochs += report.epoch > 0  # epoch 0 is step 0
        prefix = "" if report.phase == JOINT else report.phase.replace(" ", "_") + "/"
        self._log({prefix + name: getattr(report, name) for name in METRICS})

    def finished(self, result: TrainingResult) -> None:
        """Log the results, the pictures, the checkpoint and the config, and end the MLflow run."""
        best, run = result.best, self.run
        self._log({"best_mse_per_value": best.selection_mse, "pca_mse_per_value": result.pca_mse_per_value})
        with _private(), _mlflow_errors():
            for path in (run.loss_figure, run.reconstructions_figure, run.best):
                if path.exists():
                    self.client.log_artifact(self.run_id, str(path))
            self.client.log_text(self.run_id, dump_config(without_folders(result.start.config)), run.config.name)
        self._end("FINISHED")

    def stopped(self, error: BaseException | None) -> None:
        """End the MLflow run: status KILLED after a signal, else FAILED."""
        if self.run_id is not None:
            self._end("KILLED" if error is None or isinstance(error, Interrupted) else "FAILED")

    def _log(self, values: dict[str, float | None]) -> None:
        with _private(), _mlflow_errors():
            from mlflow.entities import Metric

            now = int(1000 * time.time())
            metrics = [Metric(name, value, now, self.epochs) for name, value in values.items() if value is not None]
            self.client.log_batch(self.run_id, metrics=metrics)

    def _end(self, status: str) -> None:
        with _private(), _mlflow_errors():
            self.client.set_terminated(self.run_id, status)


def create() -> Observer:
    """Return the tracker."""
    return MlflowTracker()


def _own_store(run: Run) -> str:
    """Return the URI of a SQLite file in the run folder."""
    folder = run.folder.absolute() / FOLDER
    folder.mkdir(exist_ok=True)
    return f"sqlite:///{(folder / 'mlflow.db').as_posix()}"


def _parameters(config: Config) -> dict[str, str]:
    """Return each config key with its value as text, without the folders of paths."""
    return {
        f"{section}.{key}": (value if isinstance(value, str) else json.dumps(value))[:LONGEST]
        for section, fields in without_folders(config).model_dump(mode="json").items()
        for key, value in fields.items()
    }


@contextlib.contextmanager
def _private() -> Iterator[None]:
    """Switch off MLflow's telemetry and its log messages below warning level in this block."""
    before = os.environ.get("MLFLOW_DISABLE_TELEMETRY")
    disabled = logging.root.manager.disable
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    logging.disable(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLflow and its database warn about their own code
            yield
    finally:
        logging.disable(disabled)
        if before is None:
            del os.environ["MLFLOW_DISABLE_TELEMETRY"]
        else:
            os.environ["MLFLOW_DISABLE_TELEMETRY"] = before


@contextlib.contextmanager
def _mlflow_errors() -> Iterator[None]:
    """Turn any error of MLflow, its database or its server into a ``StorageError``."""
    try:
        yield
    except TiedaeError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise StorageError(f"MLflow: {reason}") from None
