"""A run that is interrupted, killed or extended resumes with bit-identical results; whatever cannot be resumed is refused by name."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import cycle
from pathlib import Path

import pytest
import torch
from conftest import Tiedae
from typer.testing import CliRunner

from tiedae_cli.cli.app import app
from tiedae_cli.config import Config
from tiedae_cli.config.yaml_reader import parse_config
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.errors import Interrupted
from tiedae_cli.runs import checkpoint, run_folder
from tiedae_cli.runs.checkpoint import Checkpoint
from tiedae_cli.runs.run_folder import Run, create_run
from tiedae_cli.runs.training_state import EpochReport
from tiedae_cli.system.devices import Place, Ranks
from tiedae_cli.system.interruption import StopSignals, stopping_at_once
from tiedae_cli.system.locks import LOCK_FILE
from tiedae_cli.training import trainer as training
from tiedae_cli.training.arithmetic import choose_place
from tiedae_cli.training.checkpointing import Checkpoints
from tiedae_cli.training.trainer import Trainer
from tiedae_cli.training.training_run import TrainingRun

pytestmark = pytest.mark.slow

CPU = Place(torch.device("cpu"))
PLAIN = """
model: {hidden_sizes: [24, 6]}
training: {epochs: 3, batch_size: 100, learning_rate: 0.003}
"""
EVERYTHING_RANDOM = """
model: {hidden_sizes: [24, 6], activation: silu, output: sigmoid}
training: {epochs: 2, batch_size: 100, learning_rate: 0.003, schedule: one_cycle, loss: cross_entropy, corruption: masking, shift: 1,
           sparsity: l1, gradient_clip: 1.0, pretraining_epochs: 1}
"""
UNTIED = """
model: {hidden_sizes: [24, 6], tied: false}
training: {epochs: 2, batch_size: 300, schedule: cosine, warmup: 0.1, precision: bfloat16}
"""
CONVOLUTIONS = """
model: {layers: [conv 6 4 2, conv 8 3 1, dense 6], activation: silu, output: sigmoid}
training: {epochs: 2, batch_size: 100, learning_rate: 0.003, loss: squared_error, corruption: gaussian, flip: true,
           pretraining_epochs: 1}
"""
MUON = """
model: {layers: [conv 6 4 2, dense 12, dense 1], activation: silu}
training: {optimizer: muon, momentum: 0.9, epochs: 2, batch_size: 100, learning_rate: 0.003, schedule: one_cycle, gradient_clip: 1.0,
           pretraining_epochs: 1}
"""
SOAP = MUON.replace("muon, momentum: 0.9", "soap")
AUTOGRAD = EVERYTHING_RANDOM.replace("training: {", "training: {engine: autograd, ")
LINEAR_PATH = """
model: {hidden_sizes: [24, 6], activation: silu, output: clip, linear_path: pca}
training: {epochs: 2, batch_size: 100, learning_rate: 0.003, schedule: one_cycle, l2: 0, loss: squared_error, pretraining_epochs: 1}
"""
ONE_TIED_LAYER = LINEAR_PATH.replace("[24, 6]", "6").replace(", pretraining_epochs: 1", ", corruption: gaussian")
CONVOLUTIONS_WITH_PATH = CONVOLUTIONS.replace("output: sigmoid", "output: clip, linear_path: pca, tied: false")
TIMINGS = ("seconds", "items_per_second", "epochs")  # the last is the number of epochs requested


@pytest.fixture(autouse=True)
def report_after_every_step(monkeypatch):
    monkeypatch.setattr(training, "REPORT_EVERY", -1.0)


def make(text: str, *assignments: str, place: Place = CPU) -> Trainer:
    config = parse_config(text, "config", assignments)
    return Trainer(config, load_splits(config.data), place)


def run_on(trainer: Trainer, reports: int | None = None) -> Trainer:
    """Train for a number of reports (one per step and one per epoch), or to the end."""
    for number, _ in enumerate(trainer.train(), 1):
        if number == reports:
            break
    return trainer


def through_a_file(trainer: Trainer, text: str, path: Path, *assignments: str, place: Place = CPU) -> Trainer:
    """Save a trainer, and continue with another one in its place."""
    config = parse_config(text, "config")
    form = load_splits(config.data).form
    state = trainer.state()
    Checkpoint(config, form, trainer.model.state_dict(), state, "test").save(path)
    found = checkpoint.load(path)
    other = make(text, *assignments, place=place)
    other.restore(found.weights, found.training)
    return other


def bits(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {**trainer.model.state_dict(), **trainer.state().optimizer}


def assert_same_bits(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def history(trainer: Trainer) -> list[dict]:
    return [{k: v for k, v in asdict(report).items() if k not in TIMINGS} for report in trainer.state().history]


# The trainer


KINDS = {
    "plain": PLAIN,
    "everything random": EVERYTHING_RANDOM,
    "untied, bfloat16": UNTIED,
    "convolutions": CONVOLUTIONS,
    "muon": MUON,
    "soap": SOAP,
    "autograd": AUTOGRAD,
    "linear path": LINEAR_PATH,
    "one tied layer": ONE_TIED_LAYER,
    "convolutions with a linear path": CONVOLUTIONS_WITH_PATH,
}


@pytest.mark.parametrize("text", KINDS.values(), ids=KINDS)
def test_interrupted_after_any_step(text, tmp_path):
    """Stop and save repeatedly: in the middle of epochs, at their ends and between phases."""
    whole = run_on(make(text))
    steps = whole.step.steps
    for stops in ([1], [steps], [steps + 1], [steps - 1, 1, 1, 1, 3], [5] * 20):
        trainer = make(text)
        for stop in stops:
            trainer = through_a_file(run_on(trainer, stop), text, tmp_path / "last.safetensors")
        assert_same_bits(bits(whole), bits(run_on(trainer)))
        assert history(whole) == history(trainer)


@pytest.mark.cuda
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("text", KINDS.values(), ids=KINDS)
def test_interrupted_after_any_step_on_cuda(text, precision, tmp_path, cuda):
    """Bit-identical on CUDA with the captured step, and with an error like the CPU's."""
    kind = f"training.precision={precision}"
    config = parse_config(text, "config", [kind])
    place = choose_place(cuda, config.training, Ranks())
    whole = run_on(make(text, kind, place=place))
    steps = whole.step.steps
    for stops in ([1], [steps + 1], [steps - 1, 1, 1, 1, 3]):
        trainer = make(text, kind, place=place)
        for stop in stops:
            trainer = through_a_file(run_on(trainer, stop), text, tmp_path / "last.safetensors", kind, place=place)
        assert_same_bits(bits(whole), bits(run_on(trainer)))
        assert history(whole) == history(trainer)
    errors = [
        run.history[-1].train_mse_per_value for run in (whole, run_on(make(text, kind, place=Place(CPU.device, place.dtype))))
    ]
    assert errors[0] == pytest.approx(errors[1], rel=0.1)


def test_interrupted_while_nothing_has_happened_yet(tmp_path):
    trainer = through_a_file(make(PLAIN), PLAIN, tmp_path / "last.safetensors")
    assert_same_bits(bits(run_on(make(PLAIN))), bits(run_on(trainer)))


@pytest.mark.parametrize("stop", [None, 20], ids=["finished", "in the middle"])
def test_an_extended_run_equals_a_longer_one(stop, tmp_path):
    """With a constant learning rate 3 epochs and 2 more are 5."""
    whole = run_on(make(PLAIN, "training.epochs=5"))
    trainer = through_a_file(run_on(make(PLAIN), stop), PLAIN, tmp_path / "last.safetensors", "training.epochs=5")
    assert_same_bits(bits(whole), bits(run_on(trainer)))
    assert history(whole) == history(trainer)


def test_a_saved_state_is_a_copy():
    trainer = run_on(make(PLAIN), 3)
    state = trainer.state()
    before = {name: value.clone() for name, value in state.optimizer.items()}
    assert before.keys() == {"first_moment", "second_moment", "steps"}
    run_on(trainer)
    assert all(torch.equal(state.optimizer[name], value) for name, value in before.items())


# The command line, in this process


def train(*arguments: object, code: int = 0):
    result = CliRunner().invoke(app, ["train", "--device", "cpu", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def error(*arguments: object, code: int = 2) -> str:
    result = train("-q", *arguments, code=code)
    assert result.stdout == ""
    return result.stderr.removeprefix("error: ").rstrip()


def last(run: Path | str) -> dict[str, torch.Tensor]:
    return checkpoint.load(Path(run) / "last.safetensors").weights


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A config file in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    path = Path("plain.yaml")
    path.write_text(PLAIN)
    return path


def interrupted_at(monkeypatch, stop: int, *arguments: object, number: int = signal.SIGTERM):
    """Train until a signal arrives after so many reports."""
    whole = Trainer.train

    def with_signal(self):
        for count, report in enumerate(whole(self), 1):
            if count == stop:
                os.kill(os.getpid(), number)
            yield report

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train", with_signal)
        return train(*arguments, code=128 + number)


@pytest.mark.parametrize("stop", [1, 7, 12, 13, 14, 30, 39])
def test_signal_save_resume(stop, config, monkeypatch):
    """Twelve steps and the end of an epoch give 13 reports per epoch."""
    number = (signal.SIGINT, signal.SIGTERM)[stop % 2]
    expected = train("-q", "--config", config, "--run-dir", "whole").stdout
    result = interrupted_at(monkeypatch, stop, "--config", config, "--run-dir", "cut", number=number)
    assert result.stderr.splitlines()[-1] == "interrupted and saved; continue with: tiedae train --resume cut"
    assert result.stdout == ""
    saved = checkpoint.load(Path("cut/last.safetensors")).training
    assert (len(saved.history), saved.step) == (stop // 13, stop % 13)
    assert train("-q", "--resume", "cut").stdout == expected.replace("whole", "cut")
    assert_same_bits(last("whole"), last("cut"))
    whole, cut = (
        [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()] for run in ("whole", "cut")
    )
    assert [{k: v for k, v in line.items() if k not in TIMINGS} for line in whole] == [
        {k: v for k, v in line.items() if k not in TIMINGS} for line in cut
    ]


def test_a_second_signal_stops_at_once_and_leaves_the_last_good_file(config, monkeypatch):
    """The second one arrives while the state is being saved because of the first."""
    whole = Checkpoint.write

    def stopped(self, file):
        if self.training.step:
            file.write(b"half of a checkpoint")
            os.kill(os.getpid(), signal.SIGINT)
        whole(self, file)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "write", stopped)
        result = interrupted_at(monkeypatch, 5, "--config", config, "--run-dir", "cut", number=signal.SIGINT)
    assert result.stderr.splitlines()[-1] == "stopped at once by a second signal; the last saved state is whole"
    assert {path.name for path in Path("cut").iterdir()} - {LOCK_FILE} == {"config.yaml", "last.safetensors"}
    assert checkpoint.load(Path("cut/last.safetensors")).training.step == 0
    train("-q", "--config", config, "--run-dir", "whole")
    train("-q", "--resume", "cut")
    assert_same_bits(last("whole"), last("cut"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_data_is_loaded(number, config, monkeypatch):
    def load(*_):
        os.kill(os.getpid(), number)
        time.sleep(60)

    monkeypatch.setattr("tiedae_cli.data.load_data.load_digits", load)
    assert train("--config", config, code=128 + number).stderr == "interrupted\n"
    assert not Path("runs").exists()


def test_a_signal_while_the_pictures_are_drawn(config, monkeypatch):
    def draw(*_):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)

    with monkeypatch.context() as patch:
        patch.setattr("tiedae_cli.output.figures.loss_curve", draw)
        result = train("-q", "--config", config, code=130)
    assert result.stderr == (
        "interrupted; the training is complete and saved; to draw its pictures: tiedae train --resume runs/plain\n"
    )
    assert list(Path("runs/plain").glob(".tiedae-*")) == []
    train("-q", "--resume")
    assert Path("runs/plain/loss.png").exists()


def test_signals_mean_what_they_meant_before_and_after():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted) as outside, stopping_at_once():
        with StopSignals() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.received == signal.SIGTERM
            with pytest.raises(Interrupted) as second:
                os.kill(os.getpid(), signal.SIGINT)
            assert second.value.exit_code == 130
        os.kill(os.getpid(), signal.SIGTERM)
    assert outside.value.exit_code == 143
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_finished_run_prints_its_checkpoint_again(config):
    first = train("--config", config)
    before = last("runs/plain")
    again = train("--resume", "--json")
    assert first.stdout == "runs/plain/best.safetensors\n"
    (done,) = [json.loads(line) for line in again.stdout.splitlines()]
    assert (done["event"], done["checkpoint"], done["epochs"]) == ("done", "runs/plain/best.safetensors", 3)
    assert train("-q", "--resume", "plain").stdout == first.stdout
    assert train("-q", "--resume", "runs/plain/last.safetensors").stdout == first.stdout
    assert_same_bits(before, last("runs/plain"))


def test_one_command_line_for_a_scheduler(config, monkeypatch):
    """With --config, --resume starts a run, resumes an unfinished one, and does nothing for a finished one."""
    command = ("--resume", "--config", config, "--set", "training.l2=0")
    interrupted_at(monkeypatch, 20, *command)
    assert train("-q", *command).stdout == train("-q", *command).stdout == "runs/plain/best.safetensors\n"
    assert [path.name for path in Path("runs").iterdir()] == ["plain"]
    train("-q", "--config", config, "--set", "training.l2=0")
    assert_same_bits(last("runs/plain"), last("runs/plain-2"))


def test_extending_on_the_command_line(config):
    train("-q", "--config", config)
    train("-q", "--resume", "--set", "training.epochs=5")
    train("-q", "--config", config, "--set", "training.epochs=5", "--run-dir", "whole")
    assert_same_bits(last("runs/plain"), last("whole"))
    assert "epochs: 5" in Path("runs/plain/config.yaml").read_text()


def test_other_changes_are_named_and_refused(config):
    train("-q", "--config", config)
    message = error("--resume", "--set", "model.tied=false", "--set", "training.seed=1", "--set", "training.epochs=9")
    assert message.splitlines()[1:3] == ["model.tied: True -> False", "training.seed: 42 -> 1"]
    assert "Only these may change: training.epochs, " in message.splitlines()[3]
    other = error("--resume", "--set", "training.optimizer=muon", "--set", "training.momentum=0.8")
    assert other.splitlines()[1:3] == ["training.optimizer: adam -> muon", "training.momentum: None -> 0.8"]
    config.write_text(PLAIN.replace("0.003", "0.004"))
    assert "training.learning_rate: 0.003 -> 0.004" in error("--resume", "--config", config)
    assert (
        error("--resume", "--set", "training.epochs=2") == "training.epochs: 2 is less than the 3 epochs that are already done"
    )


def test_pretraining_epochs_are_not_counted_as_epochs(config, monkeypatch):
    config.write_text(EVERYTHING_RANDOM.replace("pretraining_epochs: 1", "pretraining_epochs: 3"))
    interrupted_at(monkeypatch, 13 * 7, "--config", config)
    assert len(checkpoint.load(Path("runs/plain/last.safetensors")).training.history) == 7
    train("-q", "--resume")
    train("-q", "--config", config, "--run-dir", "whole")
    assert_same_bits(last("runs/plain"), last("whole"))


def test_nothing_to_resume(config):
    assert error("--resume") == "--resume: no run under runs/; with --config it would start one"
    assert error("--resume", "nothing").startswith("--resume nothing: nothing to resume; expected a run folder")
    assert error("--resume", "--run-dir", "new").startswith("--resume --run-dir new: nothing to resume there; --config says")
    train("-q", "--config", config, "--run-dir", "run")
    assert "both name a run" in error("--resume", "run", "--run-dir", "other")
    shutil.copy("run/best.safetensors", "mine.safetensors")
    assert error("--resume", "mine.safetensors").startswith("--resume mine.safetensors: not in a run folder")
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["mine.safetensors", "plain.yaml", "run"]


def damage(path: Path) -> None:
    """Flip a bit in a copy of a file, not in its hard links."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 4
    path.unlink()
    path.write_bytes(raw)


def test_a_damaged_last_checkpoint_offers_the_others(config, monkeypatch):
    interrupted_at(monkeypatch, 31, "--config", config, "--run-dir", "my run")
    damage(Path("my run/last.safetensors"))
    lines = error("--resume", "my run", code=1).splitlines()
    assert lines[0].startswith("my run/last.safetensors: damaged: ")
    assert lines[1:] == [
        "to resume after the 2 epochs in previous.safetensors: tiedae train --resume 'my run/previous.safetensors'",
        "to resume after the 2 epochs in best.safetensors: tiedae train --resume 'my run/best.safetensors'",
    ]
    train("-q", "--resume", "my run/previous.safetensors")
    train("-q", "--config", config, "--run-dir", "whole")
    assert_same_bits(last("whole"), last("my run"))


def test_a_missing_last_checkpoint_offers_the_others(config):
    train("-q", "--config", config, "--run-dir", "run")
    Path("run/last.safetensors").unlink()
    damage(Path("run/previous.safetensors"))
    lines = error("--resume", "run", code=1).splitlines()
    assert lines == [
        "run/last.safetensors: no such file",
        "to resume after the 3 epochs in best.safetensors: tiedae train --resume run/best.safetensors",
    ]
    train("-q", "--resume", "run/best.safetensors", "--set", "training.epochs=4")
    train("-q", "--config", config, "--run-dir", "whole", "--set", "training.epochs=4")
    assert_same_bits(last("whole"), last("run"))


def test_killed_between_the_last_checkpoint_and_the_best_one(config, monkeypatch):
    """last.safetensors is of epoch 2, the best one so far; best.safetensors was to be linked to it."""
    interrupted_at(monkeypatch, 26, "--config", config, "--run-dir", "run")
    before = checkpoint.load(Path("run/previous.safetensors"))
    Path("run/best.safetensors").unlink()
    before.save(Path("run/best.safetensors"))
    Path("run/config.yaml").unlink()
    train("-q", "--resume", "run", "--set", "training.epochs=2")
    assert len(checkpoint.load(Path("run/best.safetensors")).training.history) == 2
    assert Path("run/config.yaml").exists()


class PowerCut(Exception):
    pass


@pytest.mark.parametrize("operation", ["replacing_name", "link_or_copy", "append_line"])
def test_a_power_cut_between_epochs_that_are_saved_together(operation, config, monkeypatch):
    """Every third of the short epochs is saved, with the best one before it; the power goes before each write in turn."""
    config.write_text(PLAIN.replace("epochs: 3", "epochs: 9"))
    monkeypatch.setattr(Trainer, "_lowest_mse", lambda self: float("inf") if self.epoch + 1 in (1, 2, 4, 5, 8) else 0.0)
    train("-q", "--config", config, "--run-dir", "whole")
    whole = checkpoint.load(Path("whole/best.safetensors"))
    assert len(whole.training.history) == 8
    reports = checkpoint.load(Path("whole/last.safetensors")).training.history
    epochs = [(report.epoch, report.train_mse_per_value, report.best) for report in reports]
    usual = getattr(run_folder, operation)
    cuts = 0
    for cut in range(2, 100):  # the first write makes the run
        waited, calls = cycle([0.0, 0.0, 1.5]), 0

        def counted(*arguments, stop=cut):
            nonlocal calls
            calls += 1
            if calls == stop:
                raise PowerCut
            return usual(*arguments)

        run = Path(f"{operation}-{cut}")
        with monkeypatch.context() as patch:
            patch.setattr(Checkpoints, "_waited", lambda _, waited=waited: next(waited))
            patch.setattr(training, "REPORT_EVERY", 1e9)
            patch.setattr(run_folder, operation, counted)
            patch.setattr(TrainingRun, "_finish", lambda _: None)
            result = CliRunner().invoke(app, ["train", "--device", "cpu", "-q", "--config", str(config), "--run-dir", str(run)])
        if calls < cut:
            break
        assert result.exit_code
        cuts += 1
        train("-q", "--resume", run)
        assert_same_bits(last("whole"), last(run))
        best = checkpoint.load(run / "best.safetensors")
        assert_same_bits(dict(whole.weights), dict(best.weights))
        assert len(best.training.history) == len(whole.training.history)
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert [(line["epoch"], line["train_mse_per_value"], line["best"]) for line in lines] == epochs
    assert cuts >= 2


@pytest.mark.parametrize("loss", ["missing", "damaged"])
def test_a_lost_best_checkpoint_is_chosen_anew_and_said_so(loss, config, monkeypatch):
    interrupted_at(monkeypatch, 31, "--config", config, "--run-dir", "run")
    damage(Path("run/best.safetensors"))
    if loss == "missing":
        Path("run/best.safetensors").unlink()
    result = train("--resume", "run")
    assert "warning: run/best.safetensors: not the best epoch's weights; from here on the best is chosen anew" in result.stderr
    best = checkpoint.load(Path("run/best.safetensors")).training.history
    assert [report.best for report in best] == [False, False, True]
    train("-q", "--config", config, "--run-dir", "whole")
    assert_same_bits(last("whole"), last("run"))


def test_other_data_is_refused(write_mnist, config):
    data = ("--set", "data.dataset=mnist", "--set", "data.validation=5")

    def root(folder: Path) -> tuple[str, str]:
        return "--set", f"data.root={folder}"

    first = Path(shutil.copytree(write_mnist(train=40), "first"))
    train("-q", "--config", config, *data, *root(first), "--run-dir", "run")
    fewer = Path(shutil.copytree(write_mnist(train=39), "fewer"))
    prefix = "run/last.safetensors: mnist has changed since this run was trained: "
    assert error("--resume", "run", *root(fewer)) == prefix + "35 train items before, 34 now"
    other = Path(shutil.copytree(first, "other"))
    images = other / "MNIST" / "raw" / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-1000] + bytes(1000))
    assert error("--resume", "run", *root(other)) == prefix + "as many items, but their values differ"
    small = Path(shutil.copytree(write_mnist(train=40, size=14), "small"))
    assert error("--resume", "run", *root(small)).endswith("28x28 gray images, but mnist now has 14x14 gray images")
    assert train("-q", "--resume", "run", *root(Path(shutil.copytree(first, "moved")))).stdout == "run/best.safetensors\n"


def test_a_diverged_state_never_replaces_a_good_one(config, monkeypatch):
    """A weight becomes NaN in the middle of an epoch, while the state is saved after every step."""
    whole = Trainer.train

    def with_nan(self):
        for count, report in enumerate(whole(self), 1):
            if count == 18:
                self.step.parameters.master[0] = float("nan")
            yield report

    monkeypatch.setattr(Trainer, "train", with_nan)
    arguments = ("--config", config, "--run-dir", "run", "--set", "training.checkpoint_every=1e-9")
    lines = error(*arguments, code=1).splitlines()
    assert lines[0] == "epoch 2, step 5: a weight is not finite"
    assert "training.learning_rate" in lines[1]
    assert lines[-1] == "The last good state is run/last.safetensors"
    for name in ("last.safetensors", "previous.safetensors", "best.safetensors"):
        assert all(weight.isfinite().all() for weight in checkpoint.load(Path("run") / name).weights.values())
    assert checkpoint.load(Path("run/last.safetensors")).training.step == 4


def test_a_locked_run_is_refused_and_a_lock_ends_with_its_process(config):
    train("-q", "--config", config, "--run-dir", "run")
    code = f"import filelock, time; lock = filelock.FileLock('run/{LOCK_FILE}'); lock.acquire(); print('held', flush=True)"
    holder = subprocess.Popen([sys.executable, "-c", code + "; time.sleep(60)"], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert error("--resume", "run") == "run: another process is training this run"
    finally:
        holder.kill()
        holder.communicate()
    train("-q", "--resume", "run")


def test_a_file_system_without_locks_does_not_stop_training(config, monkeypatch):
    def refuse(*_):
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr("fcntl.flock", refuse)
    train("-q", "--config", config, "--run-dir", "run")


def test_what_a_killed_process_left_behind_is_removed(config):
    train("-q", "--config", config, "--run-dir", "run")
    Path("run/.tiedae-0123456789abcdef").write_text("half")
    train("-q", "--resume", "run")
    assert list(Path("run").glob(".tiedae-*")) == []


def test_a_folder_with_a_killed_beginning_is_begun_again(config):
    Path("run").mkdir()
    Path("run/.tiedae-0123456789abcdef").write_text("killed while the first checkpoint was written")
    train("-q", "--resume", "--config", config, "--run-dir", "run")
    assert list(Path("run").glob(".tiedae-*")) == []


def test_two_runs_at_once_get_different_folders(tmp_path):
    """The kernel alone decides who makes a folder, among threads as among processes."""
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: create_run(tmp_path / "runs", "digits").name, range(100)))
    assert sorted(made) == sorted(["digits", *(f"digits-{number}" for number in range(2, 101))])


# Real processes


def start(*arguments: object, **options) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "tiedae_cli", "train", "--device", "cpu", "--resume", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options)


def test_real_processes_sigint_sigterm_two_signals_and_sigkill(config):
    """A training that is stopped four times and finished by a fifth process is bit-identical to an uninterrupted one."""
    text = PLAIN.replace("epochs: 3", "epochs: 80, checkpoint_every: 0.001").replace("[24, 6]", "[256, 64]")
    config.write_text(text)
    run = Path("run")
    command = ("--config", config, "--run-dir", run)
    for numbers, code in (([signal.SIGINT], 130), ([signal.SIGTERM], 143), ([signal.SIGKILL], -9), ([2, 2, 2], 130)):
        process = start(*command)
        assert process.stderr is not None
        process.stderr.readline()  # the training continues from here
        lines = [process.stderr.readline() for _ in range(2)]
        assert all(line.startswith("epoch ") for line in lines)
        for number in numbers:
            process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == code, stderr
        assert "Traceback" not in stderr
        if len(numbers) == 1 and code > 0:
            assert stderr.splitlines()[-1] == "interrupted and saved; continue with: tiedae train --resume run"
        if code > 0:
            assert list(run.glob(".tiedae-*")) == []
        assert checkpoint.load(run / "last.safetensors").training.history
    process = start(*command)
    stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stdout) == (0, "run/best.safetensors\n"), stderr
    splits = load_splits(Config().data)
    whole = Trainer(parse_config(text, "config"), splits, CPU)
    best = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for report in whole.train():
            if isinstance(report, EpochReport) and report.best:
                best = {name: weight.clone() for name, weight in whole.model.state_dict().items()}
    finally:
        torch.set_num_threads(threads)
    assert_same_bits(last("run"), whole.model.state_dict())
    assert_same_bits(checkpoint.load(Run(run).best).weights, best)


def test_resuming_a_training_that_stopped_early_says_so_and_more_patience_trains_on(tiedae: Tiedae) -> None:
    arguments = ("digits", "epochs=40", "learning_rate=0.05", "early_stopping=2", "-q", "--run-dir", "es")
    assert tiedae("train", *arguments).code == 0

    def done() -> int:
        return len(Path("es/metrics.jsonl").read_text().splitlines())

    stopped = done()
    assert stopped < 40
    assert json.loads(Path("es/outcome.json").read_text())["stopped_early_after"] == stopped
    for more in (60, 120):
        ran = tiedae("train", "--resume", "es", "--epochs", more)
        expected = (
            f"es: stopped early after {stopped} of {more} epochs; to train longer: tiedae train --resume es early_stopping=4\n"
        )
        assert ran.code == 0 and expected in ran.err and done() == stopped
    assert tiedae("train", "--resume", "es", "early_stopping=40", "-q").code == 0
    assert done() > stopped
