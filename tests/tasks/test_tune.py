"""``tiedae tune`` with values: ordinary runs, an answer beside PCA, and nothing is trained twice."""

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from conftest import Ran, Tiedae

from tiedae_cli.config import Config
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.errors import DataError, DivergedError, TiedaeError
from tiedae_cli.runs import checkpoint as checkpoints
from tiedae_cli.runs.run_list import choose_run
from tiedae_cli.runs.training_state import EpochReport
from tiedae_cli.tasks import train
from tiedae_cli.tuning import trial_loop

FAST = ("epochs=2", "hidden_sizes=12,3", "batch_size=50")


def write_table(folder: Path) -> np.ndarray:
    """Write 400 rows of 10 values with a decaying spectrum to x.npy."""
    chance = np.random.default_rng(3)
    rows: np.ndarray = chance.normal(size=(400, 10)) @ (chance.normal(size=(10, 10)) * 0.6 ** np.arange(10)[:, None]) + 5
    np.save(folder / "x.npy", rows)
    return rows


@pytest.fixture
def table(empty_folder: Path) -> np.ndarray:
    """The rows of x.npy in the working folder."""
    return write_table(empty_folder)


def tuned(tiedae: Tiedae) -> Ran:
    """Tune two code sizes with two seeds each."""
    ran = tiedae("tune", "x.npy", "code_size=2,5", "seed=1,2", *FAST, "--json")
    assert ran.code == 0, ran.err
    return ran


@pytest.fixture(scope="module")
def tuned_once(tiedae: Tiedae, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ran]:
    """A tuning that tests only look at, and its folder."""
    folder = tmp_path_factory.mktemp("tuned")
    write_table(folder)
    with contextlib.chdir(folder):
        return folder, tuned(tiedae)


@pytest.fixture
def curve(tuned_once: tuple[Path, Ran], monkeypatch: pytest.MonkeyPatch) -> Ran:
    """What the tuning in the working folder has written."""
    monkeypatch.chdir(tuned_once[0])
    return tuned_once[1]


@pytest.fixture
def own_curve(tiedae: Tiedae, table: np.ndarray) -> Ran:
    """What a tuning has written that the test may change."""
    return tuned(tiedae)


def validation_errors_of_pca(run: str) -> list[float]:
    """Return the validation errors of 0, 1 ... components by numpy alone, from the splits that the run's config means."""
    splits = load_splits(checkpoints.load(Path(run, "best.safetensors")).config.data)
    train, held = (splits.get(name).batch(0, len(splits.get(name))).astype(np.float64) for name in ("train", "validation"))
    center = train.mean(0)
    vectors = np.linalg.svd(train - center, full_matrices=False)[2]
    return [float(np.square((held - center) - (held - center) @ v.T @ v).mean()) for v in (vectors[:k] for k in range(11))]


def test_the_numbers_of_pca_agree_with_numpy(curve: Ran) -> None:
    done = curve.lines[-1]
    expected = validation_errors_of_pca(curve.lines[0]["run"])
    (found,) = done["curves"]
    assert done["mean_mse_per_value"] == pytest.approx(expected[0], rel=1e-9)
    assert [point["pca_mse_per_value"] for point in found["points"]] == pytest.approx([expected[2], expected[5]], rel=1e-6)
    for numbers in found["numbers"]:
        enough = [count for count, error in enumerate(expected) if 1 - error / expected[0] >= numbers["percent"] / 100]
        assert numbers["pca"] == enough[0]
    words = "90% of the variance: PCA {} numbers, the autoencoder".format(found["numbers"][0]["pca"])
    assert words in curve.err


def test_a_line_per_run_and_the_answer_go_to_stdout_as_json(curve: Ran) -> None:
    *runs, done = curve.lines
    settings = [(one["settings"]["training.seed"], one["settings"]["model.code_size"]) for one in runs]
    assert settings == [(1, 2), (1, 5), (2, 2), (2, 5)] and {one["event"] for one in runs} == {"run"}
    assert done["chosen"]["run"] == min(runs, key=lambda one: one["validation_mse_per_value"])["run"]
    (found,) = done["curves"]
    errors: dict[int, list[float]] = {one["settings"]["model.code_size"]: [] for one in runs}
    for one in runs:
        errors[one["settings"]["model.code_size"]].append(one["validation_mse_per_value"])
    assert {point["code_size"]: point["mse_per_value"] for point in found["points"]} == errors
    assert done["test"]["model"] > 0 and "measured once, for the best of 4 runs" in curve.err
    assert Path(done["picture"]).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_trial_is_the_run_that_train_makes(own_curve: Ran, tiedae: Tiedae) -> None:
    ran = tiedae("train", "x.npy", "code_size=5", "seed=2", *FAST, "-q")
    assert ran.code == 0, ran.err
    one = checkpoints.load(Path("runs/x/best.safetensors"))
    other = checkpoints.load(Path("runs/x-tune/code_size=5,seed=2/best.safetensors"))
    assert one.finished is not None and other.finished is not None
    assert all(one.weights[name].equal(other.weights[name]) for name in one.weights)
    assert one.finished.pca.components.equal(other.finished.pca.components)
    assert one.finished.results.pca_mse_per_value == other.finished.results.pca_mse_per_value


def test_the_chosen_run_is_the_newest_and_no_trial_is(curve: Ran, tiedae: Tiedae) -> None:
    assert choose_run(Path("runs")) == (Path("runs/x-tune"), None)
    chosen = curve.lines[-1]["chosen"]["run"]
    assert Path("runs/x-tune/best.safetensors").read_bytes() == Path(chosen, "best.safetensors").read_bytes()
    assert [one["name"] for one in tiedae("runs", "--json").lines] == ["x-tune"]
    measured = tiedae("eval", "--split", "test", "--json").lines[0]
    assert measured["mse_per_value"] == pytest.approx(curve.lines[-1]["test"]["model"], rel=1e-12)


@pytest.mark.slow
def test_runs_that_are_done_are_not_repeated_and_more_values_join_them(own_curve: Ran, tiedae: Tiedae) -> None:
    def times() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in Path("runs/x-tune").glob("*=*/last.safetensors")}

    before = times()
    again = tiedae("tune", "x.npy", "code_size=2,5,7", "seed=1,2", *FAST, "--json")
    assert again.code == 0 and "4 of 6 runs are done" in again.err
    assert [one["settings"]["model.code_size"] for one in again.lines[:-1]] == [7, 7]
    assert {path: times()[path] for path in before} == before
    assert again.lines[-1]["runs"] == 6 and len(again.lines[-1]["curves"][0]["points"]) == 3


@pytest.mark.slow
def test_other_fixed_settings_are_another_tuning(own_curve: Ran, tiedae: Tiedae) -> None:
    other = tiedae("tune", "x.npy", "code_size=2,5", *FAST, "activation=relu", "--json")
    assert other.code == 0 and other.lines[-1]["folder"] == "runs/x-tune-2"
    refused = tiedae("tune", "x.npy", "code_size=2,5", *FAST, "activation=relu", "--run-dir", "runs/x-tune")
    assert refused.code == 2 and "--run-dir runs/x-tune: holds something else, not a tuning of this config" in refused.err


@pytest.mark.slow
def test_changed_data_is_refused(own_curve: Ran, tiedae: Tiedae, table: np.ndarray) -> None:
    np.save("x.npy", table + 1)
    ran = tiedae("tune", "x.npy", "code_size=2,5", "seed=1,2", *FAST)
    assert ran.code == 2 and "x.npy has changed since the runs in runs/x-tune were trained" in ran.err


@pytest.mark.slow
def test_explain_chooses_the_smallest_code_that_explains_enough(own_curve: Ran, tiedae: Tiedae) -> None:
    mean = own_curve.lines[-1]["mean_mse_per_value"]
    (found,) = own_curve.lines[-1]["curves"]
    shares = {point["code_size"]: 100 * (1 - sum(point["mse_per_value"]) / 2 / mean) for point in found["points"]}
    assert shares[2] < shares[5]
    words = ("tune", "x.npy", "code_size=2,5", "seed=1,2", *FAST)
    low = tiedae(*words, "--explain", f"{shares[2] - 0.5:.1f}", "--json")
    assert low.lines[-1]["code_size"] == 2 and low.lines[-1]["explained_percent"] == pytest.approx(shares[2])
    assert "tiedae train runs/x-tune/best.yaml" in low.err
    assert "hidden_sizes: [12, 2]" in Path("runs/x-tune/best.yaml").read_text()
    none = tiedae(*words, "--explain", "99.9")
    assert none.code == 0 and "nothing is chosen: no code that was tried explains 99.9% of the variance" in none.err


@pytest.mark.slow
def test_the_curve_shows_the_test_split_if_asked_and_the_choice_stays(curve: Ran, tiedae: Tiedae) -> None:
    ran = tiedae("tune", "x.npy", "code_size=2,5", "seed=1,2", *FAST, "--split", "test", "--json")
    done = ran.lines[-1]
    assert done["split"] == "test" and done["chosen"] == curve.lines[-1]["chosen"]
    size, seed = done["chosen"]["settings"]["model.code_size"], done["chosen"]["settings"]["training.seed"]
    point = next(one for one in done["curves"][0]["points"] if one["code_size"] == size)
    assert point["mse_per_value"][seed - 1] == pytest.approx(done["test"]["model"], rel=1e-12)


@pytest.mark.slow
def test_settings_without_code_sizes_give_a_table_and_a_choice(tiedae: Tiedae, table: np.ndarray) -> None:
    ran = tiedae("tune", "x.npy", "learning_rate=0.0001,0.01", "linear_path=none", *FAST)
    assert ran.code == 0 and "chosen: runs/x-tune/learning_rate=0.01 (lowest validation error of 2 runs)" in ran.err
    assert re.search(r"^ +learning_rate +validation MSE +PCA's", ran.out, re.MULTILINE) and "picture" not in ran.err


@pytest.mark.slow
def test_values_of_the_data_are_compared_by_what_they_explain(tiedae: Tiedae, table: np.ndarray) -> None:
    ran = tiedae("tune", "x.npy", "scaling=none,standard", *FAST, "--json")
    assert ran.code == 0, ran.err
    *runs, done = ran.lines
    shares = {}
    for one in runs:
        finished = checkpoints.load(Path(one["run"], "best.safetensors")).finished
        assert finished is not None
        shares[one["run"]] = one["validation_mse_per_value"] / finished.results.mean_mse_per_value
    assert done["chosen"]["run"] == min(shares, key=shares.__getitem__)
    refused = tiedae("tune", "x.npy", "scaling=none,standard", *FAST, "--explain", "90")
    assert refused.code == 2 and "--explain: the variance of different data cannot be compared" in refused.err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("x.npy",), "tiedae tune x.npy code_size=2,4,8 or tiedae tune x.npy --minutes 5"),
        (
            ("x.npy", "code_size=2,4", "validation=0", "early_stopping=null"),
            "data.validation: 0, but tune chooses by validation items",
        ),
        (("x.npy", "code_size=2,4", "--split", "train"), "--split train: expected validation or test"),
        (("x.npy", "code_size=2,4", "--explain", "0.95"), "0.95 is a fraction; expected a percentage: --explain 95"),
        (("x.npy", "shift=0,1"), "training.shift: moves images; x.npy holds vectors of 10 features"),
        (
            ("x.npy", "seed=1,2", "--trials", "3"),
            "training.seed=1,2: a search chooses values by itself; give one (training.seed=1)",
        ),
        (("x.npy", "seed=1,2", "--storage", "sqlite:///x.db"), "--storage: for a search; add --minutes N or --trials N"),
    ],
)
def test_what_cannot_be_tuned_is_refused_before_anything_is_trained(
    words: tuple[str, ...], problem: str, tiedae: Tiedae, table: np.ndarray
) -> None:
    ran = tiedae("tune", *words)
    assert ran.code == 2 and problem in ran.err and not Path("runs").exists()


@pytest.mark.slow
def test_a_run_that_was_trained_further_is_not_replaced(own_curve: Ran, tiedae: Tiedae) -> None:
    assert tiedae("train", "--resume", "x-tune", "epochs=3", "-q").code == 0
    before = Path("runs/x-tune/best.safetensors").read_bytes()
    again = tiedae("tune", "x.npy", "code_size=2,5", "seed=1,2", *FAST)
    assert again.code == 0 and Path("runs/x-tune/best.safetensors").read_bytes() == before
    assert "runs/x-tune was trained further; its run stays" in again.err


def command(*words: str) -> subprocess.Popen[str]:
    """Start the command in a process of its own, with pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", "tiedae_cli", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


LONGER = ("tune", "x.npy", "code_size=2,5", "seed=1,2,3", "hidden_sizes=64,3", "epochs=60", "batch_size=20", "--json")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "getpgid"), reason="needs processes as Unix has them")
def test_a_killed_tuning_leaves_no_process_and_continues_to_the_same_answer(tiedae: Tiedae, table: np.ndarray) -> None:
    killed = command(*LONGER, "--jobs", "2")
    assert killed.stdout is not None
    first = killed.stdout.readline()
    children = psutil.Process(killed.pid).children(recursive=True)
    killed.kill()  # SIGKILL, in the middle of two runs
    killed.communicate()
    assert '"event": "run"' in first and children
    deadline = time.monotonic() + 60
    while any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children):
        assert time.monotonic() < deadline, children
        time.sleep(0.1)
    again, whole = tiedae(*LONGER), tiedae(*LONGER, "--run-dir", "whole")
    assert again.code == whole.code == 0 and len(again.lines) < 7 and len(whole.lines) == 7

    def answer(ran: Ran) -> Any:
        return ran.lines[-1]["curves"], ran.lines[-1]["test"], ran.lines[-1]["chosen"]["settings"]

    assert answer(again) == answer(whole)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_that_the_same_command_resumes(number: int, tiedae: Tiedae, table: np.ndarray) -> None:
    stopped = command(*LONGER, "--jobs", "2") if number == signal.SIGTERM else command(*LONGER)
    assert stopped.stdout is not None
    stopped.stdout.readline()
    stopped.send_signal(number)
    _, err = stopped.communicate(timeout=120)
    assert stopped.returncode == 128 + number, err
    assert "interrupted and saved after" in err and err.endswith("the same command resumes\n")
    assert tiedae(*LONGER).code == 0


@pytest.mark.slow
def test_two_processes_share_a_search_and_finish_the_trial_of_one_that_is_killed(table: np.ndarray) -> None:
    pytest.importorskip("optuna", reason="needs the extra tune")
    words = ("tune", "x.npy", "--trials", "10", "hidden_sizes=64,3", "epochs=80", "batch_size=20", "--json")
    killed, other = command(*words), command(*words)
    assert killed.stdout is not None
    first = json.loads(killed.stdout.readline())
    killed.kill()  # SIGKILL, in the middle of its second trial; the other one has most of the ten before it
    killed.communicate()
    out, err = other.communicate(timeout=300)
    assert other.returncode == 0, err
    *trained, done = [json.loads(line) for line in out.splitlines()]
    assert first["number"] not in {line["number"] for line in trained} and done["runs"] >= 10
    study = sqlite3.connect("runs/x-tune/study.db")
    states = study.execute("select number, state from trials where state != 'WAITING' order by number").fetchall()
    assert [number for number, _ in states] == list(range(10)) and {state for _, state in states} <= {"COMPLETE", "PRUNED"}
    assert done["chosen"]["validation_mse_per_value"] == min(
        value for (value,) in study.execute("select value from trial_values")
    )


def a_minute_per_epoch(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Let each epoch of a search take a minute; return its clock, whose ``now`` is in seconds."""
    pytest.importorskip("optuna", reason="needs the extra tune")
    clock = {"now": 0.0}
    monkeypatch.setattr("tiedae_cli.tuning.trial_loop.time.time", lambda: clock["now"])

    class Passes(trial_loop.Follower):
        def epoch(self, report: EpochReport) -> None:
            clock["now"] += 60.0
            super().epoch(report)

    monkeypatch.setattr("tiedae_cli.tasks.tune.Follower", Passes)
    return clock


@pytest.mark.slow
def test_the_best_epoch_of_a_trial_whose_time_is_up_may_be_the_chosen_one(
    tiedae: Tiedae, table: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_minute_per_epoch(monkeypatch)
    Path("x.yaml").write_text(
        "data: {dataset: x.npy}\nmodel: {hidden_sizes: [12, 3]}\ntraining: {epochs: 4, batch_size: 50, l2: 5.0}"
    )
    ran = tiedae("tune", "x.yaml", "linear_path=none", "--minutes", "5.5", "--json")
    first, second = ran.lines[:2]
    assert (first["state"], second["state"], second["epochs"]) == ("finished", "stopped", 2)
    assert second["validation_mse_per_value"] < first["validation_mse_per_value"]  # without the penalty
    assert ran.lines[-1]["chosen"]["number"] == 1 and ran.lines[-1]["test"]["model"] > 0
    assert tiedae("eval", "x-tune", "--json").code == 0
    assert "l2: 0" in Path("runs/x-tune/best.yaml").read_text()


@pytest.mark.slow
def test_a_config_that_takes_too_long_is_searched_with_fewer_epochs(
    tiedae: Tiedae, table: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A third of six minutes are 120 seconds; 40 epochs of 6 would be twice as long. A continued search keeps the number."""
    a_minute_per_epoch(monkeypatch)
    asked: list[int] = []

    def six(config: Config, *_: object) -> float:
        asked.append(config.training.epochs)
        return 6.0

    monkeypatch.setattr("tiedae_cli.tasks.train.epoch_seconds", six)
    Path("x.yaml").write_text("data: {dataset: x.npy}\ntraining: {epochs: 40}")
    long = ("tune", "x.yaml", "hidden_sizes=12,3", "batch_size=50", "linear_path=none")
    ran = tiedae(*long, "--minutes", "6", "--json")
    assert asked == [40] and "all trials train 20 epochs in place of 40, so that one fits into a third of the time" in ran.err
    assert "epochs: 20" in Path("runs/x-tune/best.yaml").read_text()
    again = tiedae(*long, "--trials", "1")
    assert "all trials train 20 epochs in place of 40" in again.err and asked == [40]
    for more in (("epochs=40", "--minutes", "1"), ("--trials", "1")):
        assert "epochs in place" not in tiedae(*long, *more, "--run-dir", f"runs/{more[0]}").err
    assert asked == [40]


@pytest.mark.slow
@pytest.mark.parametrize("error", [DivergedError("epoch 1: the error is not finite"), DataError("x.npy: has just gone")])
def test_an_error_while_an_epoch_is_timed_is_not_one_of_the_storage(
    tiedae: Tiedae, table: np.ndarray, monkeypatch: pytest.MonkeyPatch, error: TiedaeError
) -> None:
    """A config that diverges is no reason to give up: other trials may not."""
    clock = a_minute_per_epoch(monkeypatch)

    def fails(*_: object) -> float:
        raise error

    monkeypatch.setattr("tiedae_cli.tasks.train.epoch_seconds", fails)
    ran = tiedae("tune", "x.npy", "hidden_sizes=12,3", "batch_size=50", "--minutes", "2")
    assert "--storage" not in ran.err and (clock["now"] > 0) == isinstance(error, DivergedError)
    assert ran.code == (0 if isinstance(error, DivergedError) else 2), ran.err
    assert isinstance(error, DivergedError) or "x.npy: has just gone" in ran.err


@pytest.mark.slow
def test_a_search_ends_when_more_trials_would_be_chosen_by_chance(tiedae: Tiedae, table: np.ndarray) -> None:
    """With 20 validation items 20 trials are compared, in far less than an hour; a number of trials is what it says."""
    pytest.importorskip("optuna", reason="needs the extra tune")
    words = ("tune", "x.npy", "validation=20", "hidden_sizes=12,3", "optimizer=adam", "epochs=1")
    ran = tiedae(*words, "--minutes", "60", "--json")
    assert ran.code == 0, ran.err
    assert "20 trials have finished; among more, 20 validation items would choose by chance (--trials N for more)" in ran.err
    assert sum(one.get("state") == "finished" for one in ran.lines) == 20
    more = tiedae(*words, "--trials", f"{len(ran.lines) + 1}", "--json")
    assert [one["event"] for one in more.lines] == ["run", "run", "done"] and "by chance" not in more.err


def test_an_epoch_is_timed_by_its_first_second(table: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config.model_validate({"data": {"dataset": "x.npy"}, "model": {"hidden_sizes": [3], "output": "linear"}})
    whole = train.epoch_seconds(config, torch.device("cpu"), load_splits)
    assert 0 < whole < train.ENOUGH
    monkeypatch.setattr("tiedae_cli.tasks.train.ENOUGH", 0.0)
    monkeypatch.setattr("tiedae_cli.training.trainer.REPORT_EVERY", 0.0)
    assert train.epoch_seconds(config, torch.device("cpu"), load_splits) > 0
    pretrained = config.model_copy(update={"training": config.training.model_copy(update={"pretraining_epochs": 1})})
    assert train.epoch_seconds(pretrained, torch.device("cpu"), load_splits) == 0


@pytest.mark.slow
def test_a_trial_whose_time_is_up_is_saved_and_finished_by_the_next_search(
    tiedae: Tiedae, table: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = a_minute_per_epoch(monkeypatch)
    words = ("tune", "x.npy", "hidden_sizes=12,3", "batch_size=50", "epochs=4", "linear_path=none", "--json")
    stopped = tiedae(*words, "--minutes", "5.5")
    assert stopped.code == 0, stopped.err
    first, second = stopped.lines[:2]
    assert (first["state"], first["epochs"], second["state"], second["epochs"]) == ("finished", 4, "stopped", 2)
    assert stopped.lines[-1]["chosen"]["number"] == min(0, 1, key=lambda n: (first, second)[n]["validation_mse_per_value"])
    clock["now"] = 0.0
    again = tiedae(*words, "--trials", "2")
    assert [(one["number"], one["state"], one["epochs"]) for one in again.lines[:-1]] == [(1, "finished", 4)]
