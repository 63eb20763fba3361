"""The MLflow tracker, read back with MLflow's client: parameters, metrics, artifacts, and one run after resuming."""

import importlib.util
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tiedae_cli.cli.app import app

MISSING = [name for name in ("mlflow", "sqlalchemy", "alembic") if importlib.util.find_spec(name) is None]
needs_mlflow = pytest.mark.skipif(bool(MISSING), reason=f"needs the extra mlflow: {', '.join(MISSING)} not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # MLflow's database code warns of SQLAlchemy's changes
]
SMALL = ("digits", "--device", "cpu", "--hidden-sizes", "8,3", "--trackers", "mlflow", "--images", "4")
NAMES = {"train_mse_per_value", "validation_mse_per_value", "learning_rate", "items_per_second"}


@pytest.fixture(autouse=True)
def no_store_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_DISABLE_TELEMETRY"):
        monkeypatch.delenv(name, raising=False)


def train(*words: str, code: int = 0) -> Any:
    result = CliRunner().invoke(app, ["train", *words])
    assert result.exit_code == code, result.output
    return result


def opened(store: str, experiment: str) -> Any:
    """Return a client, and the only run of an experiment."""
    from mlflow import MlflowClient

    client = MlflowClient(store)
    (run,) = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return client, run


def left_behind() -> tuple[object, ...]:
    """Return what a training could leave in the process; names with an underscore are those of libraries that MLflow loads."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("_")}
    return environment, logging.root.manager.disable, list(logging.root.handlers)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs that was resumed for a third; made once, because MLflow takes seconds to create its database."""
    folder = tmp_path_factory.mktemp("mlflow") / "run"
    before = left_behind()
    result = train(*SMALL, "--epochs", "2", "--run-dir", str(folder))
    assert "mlflow" not in result.stderr.replace(str(folder.parent), "") and "alembic" not in result.stderr
    train("-q", "--device", "cpu", "--resume", str(folder), "--epochs", "3")
    assert left_behind() == before
    return folder


@needs_mlflow
def test_a_resumed_training_continues_its_mlflow_run(run_folder: Path) -> None:
    client, run = opened(f"sqlite:///{run_folder}/mlflow/mlflow.db", "tiedae")
    assert (run.info.run_name, run.info.status) == ("run", "FINISHED")
    assert run.data.params["model.hidden_sizes"] == "[8, 3]" and run.data.params["training.epochs"] == "2"
    lines = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 3
    for name in NAMES:
        logged = [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]
        assert logged == [(line["epoch"], line[name]) for line in lines]
    outcome = json.loads((run_folder / "outcome.json").read_text())
    assert run.data.metrics["best_mse_per_value"] == outcome["mse_per_value"]
    assert run.data.metrics["pca_mse_per_value"] == outcome["pca_mse_per_value"]
    artifacts = run_folder / "mlflow" / run.info.run_id / "artifacts"
    names = {"best.safetensors", "config.yaml", "loss.png", "reconstructions.png"}
    assert {one.path for one in client.list_artifacts(run.info.run_id)} == names
    for name in names:
        assert (artifacts / name).read_bytes() == (run_folder / name).read_bytes()


@needs_mlflow
def test_environment_variables_choose_store_and_experiment_and_a_diverged_run_is_marked_failed(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = f"sqlite:///{run_folder}/mlflow/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "team")
    Path("wild.yaml").write_text("""
        model: {hidden_sizes: [32, 32, 32, 32, 32], activation: relu}
        training: {epochs: 200, batch_size: 50, learning_rate: 10}
        output: {trackers: [mlflow]}
    """)
    train("-q", "--device", "cpu", "--config", "wild.yaml", "--run-dir", "run", code=1)
    assert not Path("run/mlflow").exists()
    assert opened(store, "team")[1].info.status == "FAILED"


@needs_mlflow
def test_an_unreachable_mlflow_store_is_reported_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://x")
    said = train(*SMALL, "-q", "--run-dir", "run", code=1).stderr
    assert said.startswith("error: MLflow: ") and said.count("\n") == 1


def test_a_missing_package_is_reported_with_its_install_command_before_a_run_is_created(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert "pip install 'tiedae[mlflow]'" in train(*SMALL, "-q", "--run-dir", "run", code=2).stderr
    assert not Path("run").exists()
