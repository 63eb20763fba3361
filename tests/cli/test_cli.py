"""The command line: its output, its exit codes, and the imports that it avoids."""

import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from tiedae_cli import __version__
from tiedae_cli.cli.app import app
from tiedae_cli.cli.commands.help import print_paged
from tiedae_cli.config.yaml_reader import parse_config
from tiedae_cli.runs import checkpoint
from tiedae_cli.tasks import train as task

COMMANDS = tuple(command.name for command in app.registered_commands if command.name)
QUICK = ("--set", "training.epochs=2", "--set", "model.hidden_sizes=[16, 4]", "--device", "cpu")


def tiedae(*arguments: str) -> Result:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def refused(*arguments: str, code: int = 2) -> str:
    """Run a command that must fail; return its message, which must be its only output."""
    result = tiedae(*arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith("error: ") and "Traceback" not in result.stderr
    return result.stderr.removeprefix("error: ").strip()


# Help and version


def test_help_names_every_command() -> None:
    text = tiedae("--help").stdout
    assert all(f" {command} " in text for command in COMMANDS)
    assert tiedae("-h").stdout == text


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command: str) -> None:
    text = tiedae(command, "--help", *(["--all"] if command in ("train", "tune") else [])).stdout
    only_prints = command in ("runs", "configs", "schema", "help")  # they print stored facts and need no options
    assert all(option in text for option in (() if only_prints else ("--quiet", "--json", "--debug"))) and "--help" in text
    assert ("--device" in text) == (
        command not in ("export", "inspect") and not only_prints
    )  # they compute too little for a GPU


def test_without_arguments_it_shows_its_help() -> None:
    result = CliRunner().invoke(app, [])
    assert "Usage: " in result.stdout + result.stderr


def test_version_is_printed() -> None:
    assert tiedae("--version").stdout == f"tiedae {__version__}\n"


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"]])
def test_help_and_version_import_nothing_slow(arguments: list[str]) -> None:
    program = f"""
import sys
from tiedae_cli.cli.app import app
from tiedae_cli.cli.commands.help import print_paged
try:
    app({arguments!r})
except SystemExit as stopped:
    assert not stopped.code
print(*{{name.partition(".")[0] for name in sys.modules}}, file=sys.stderr)
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert found.returncode == 0 and found.stdout
    slow = {"torch", "torchvision", "matplotlib", "numpy", "PIL", "yaml"}
    if len(arguments) == 1:
        slow.add("pydantic")  # typer imports it for a command's arguments
    assert not slow & set(found.stderr.split())


# From training to pictures


@pytest.mark.slow
def test_eval_and_reconstruct_need_no_model_argument_after_train(empty_folder: Path) -> None:
    trained = tiedae("train", *QUICK)
    assert (trained.exit_code, trained.stdout) == (0, "runs/digits/best.safetensors\n")
    notes = trained.stderr.splitlines()
    assert notes[0] == ("runs/digits: 64-16-4-16-64 tied, 1,188 parameters, on 1,297 8x8 gray images of digits, cpu, float32")
    assert notes[1].startswith("epoch 1/2  train MSE ") and notes[2].startswith("epoch 2/2  train MSE ")
    evaluated = tiedae("eval")
    assert evaluated.exit_code == 0
    assert "worse than always answering the mean" in evaluated.stderr and "too short" in evaluated.stderr
    assert "PCA, 4 components" in evaluated.stdout and "mean image" in evaluated.stdout
    assert tiedae("train", "-q", *QUICK, "epochs=20", "batch_size=20", "--run-dir", "longer").exit_code == 0
    evaluated = tiedae("eval", "longer")
    assert re.fullmatch(
        r"MSE 0\.\d{6} per pixel, (\d\.\d times|\d%) more than PCA clipped to \[0, 1\] with the same 4 numbers \(0\.\d{6}\)\n",
        evaluated.stderr,
    )
    assert (
        tiedae("eval", "longer", "--components", "3")
        .stderr.split("than ")[1]
        .startswith("PCA clipped to [0, 1] with 3 numbers (")
    )
    assert "PCA, 4 components" in evaluated.stdout and "mean image" in evaluated.stdout
    drawn = tiedae("reconstruct")
    assert (drawn.exit_code, drawn.stdout) == (0, "runs/digits/reconstructions-2.png\n")
    with Image.open("runs/digits/reconstructions-2.png") as image:
        assert image.size == (800, 600)


@pytest.mark.slow
def test_a_second_run_gets_its_own_folder_and_repeats_the_first() -> None:
    assert tiedae("train", "-q", *QUICK).stdout == "runs/digits/best.safetensors\n"
    again = tiedae("train", "-q", "--config", "runs/digits/config.yaml", "--device", "cpu")
    assert (again.stdout, again.stderr) == ("runs/digits-2/best.safetensors\n", "")
    metrics = [
        [
            {key: value for key, value in json.loads(line).items() if key not in ("seconds", "items_per_second")}
            for line in (Path("runs") / name / "metrics.jsonl").read_text().splitlines()
        ]
        for name in ("digits", "digits-2")
    ]
    assert metrics[0] == metrics[1] and len(metrics[0]) == 2


@pytest.mark.slow
def test_train_prints_json_lines() -> None:
    result = tiedae("train", "--json", "-q", "--run-dir", "here", *QUICK)
    first, second, done = (json.loads(line) for line in result.stdout.splitlines())
    names = ["event", "phase", "epoch", "epochs", "train_mse_per_value", "validation_mse_per_value", "seconds"]
    assert list(first) == [*names, "items_per_second", "learning_rate", "best"]
    assert (first["event"], first["epoch"], second["epoch"]) == ("epoch", 1, 2)
    assert (done["event"], done["run"], done["checkpoint"]) == ("done", "here", "here/best.safetensors")
    assert done["best"] in (first, second) and result.stderr == ""


def test_eval_prints_json(digits_run: Path) -> None:
    result = tiedae("eval", "--json", "--split", "validation", "--components", "3", str(digits_run))
    values = json.loads(result.stdout)
    assert (values["checkpoint"], values["split"], values["items"]) == ("runs/digits/best.safetensors", "validation", 200)
    assert values["squared_error_per_item"] == pytest.approx(64 * values["mse_per_value"])
    assert values["pca"]["components"] == 3
    best = [json.loads(line) for line in (digits_run / "metrics.jsonl").read_text().splitlines()][-1]
    assert values["mse_per_value"] == pytest.approx(best["validation_mse_per_value"], rel=1e-5)
    assert values["explained_variance"] == pytest.approx(1 - values["mse_per_value"] / values["mean_item"]["mse_per_value"])


@pytest.mark.slow
def test_reconstruct_prints_json_and_a_seed_chooses_images(digits_run: Path) -> None:
    def errors(*arguments: str) -> list[float]:
        found = json.loads(tiedae("reconstruct", "--json", "--n", "12", "-o", "x.png", *arguments).stdout)
        assert (found["output"], found["items"]) == ("x.png", 12)
        return list(found["squared_errors"])

    assert len(errors()) == 12 and errors() == errors()
    assert errors("--seed", "1") == errors("--seed", "1") != errors("--seed", "2")
    assert errors("--split", "train") != errors()


def test_reconstruct_refuses_more_images_than_the_split_has(digits_run: Path) -> None:
    result = tiedae("reconstruct", "--n", "1000")
    assert result.stdout == "runs/digits/reconstructions-300.png\n"
    assert result.stderr == "only 300 images in this split; 1,000 were asked for\n"


@pytest.mark.parametrize("named", [True, False], ids=["model named", "newest run"])
def test_reconstruct_takes_the_users_images(digits_run: Path, named: bool) -> None:
    for name, size in (("a.png", 8), ("b.png", 50)):
        Image.fromarray(np.full((size, size), 128, dtype=np.uint8)).save(name)
    model = [str(digits_run)] if named else []
    result = tiedae("reconstruct", *model, "a.png", "b.png")
    assert (result.exit_code, result.stdout) == (0, "runs/digits/reconstructions-2.png\n")
    assert result.stderr == "b.png: 50x50 L, converted to 8x8 gray\n"


@pytest.mark.slow
def test_reconstruct_never_replaces_another_picture(digits_run: Path) -> None:
    def drawn(*arguments: str) -> str:
        return tiedae("reconstruct", "-q", *arguments).stdout

    first = drawn()
    before = Path(first.strip()).read_bytes()
    assert first == "runs/digits/reconstructions-2.png\n" == drawn()  # the same picture keeps its name
    assert drawn("--seed", "5") == "runs/digits/reconstructions-2-2.png\n" == drawn("--seed", "5")
    assert drawn("--split", "train") == "runs/digits/reconstructions-2-3.png\n"
    assert Path(first.strip()).read_bytes() == before


@pytest.mark.slow
def test_a_checkpoint_whose_config_contradicts_itself_is_refused_by_every_command(digits_run: Path) -> None:
    good = checkpoint.load(str(digits_run / "best.safetensors"))
    model = good.config.model.model_copy(update={"code_top_k": 9})
    forged = replace(good, config=good.config.model_copy(update={"model": model}))
    forged.save(Path("forged.pt"))
    np.save("x.npy", np.zeros((2, 8, 8), np.uint8))
    np.save("codes.npy", np.zeros((2, 8), np.float32))
    for arguments in (
        ("eval", "forged.pt"),
        ("reconstruct", "forged.pt"),
        ("encode", "forged.pt", "x.npy"),
        ("decode", "forged.pt", "codes.npy"),
        ("score", "forged.pt", "x.npy"),
        ("inspect", "forged.pt"),
        ("compare", "forged.pt"),
        ("export", "forged.pt", "-o", "x.onnx"),
        ("train", "--set", "training.init_from=forged.pt"),
    ):
        result = tiedae(*arguments)
        assert result.exit_code == 1, arguments
        assert "forged.pt: model.code_top_k: the code has only 8 units" in result.stderr, arguments


def test_score_without_results_keeps_the_old_file(digits_run: Path) -> None:
    np.save("bad.npy", np.full((2, 64), np.nan, np.float32))
    Path("scores.jsonl").write_text("older\n")
    result = tiedae("score", "--threshold", "1", "bad.npy", "-o", "scores.jsonl")
    assert (result.exit_code, result.stdout, Path("scores.jsonl").read_text()) == (2, "", "older\n")


@pytest.mark.slow
def test_a_run_finds_its_data_from_every_folder(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save("x.npy", np.random.default_rng(0).integers(0, 256, (60, 5, 4), dtype=np.uint8))
    assert tiedae("train", "--config", "folder", "--set", "data.dataset=x.npy", *QUICK).exit_code == 0
    config = (empty_folder / "runs/x/config.yaml").read_text()
    assert f"dataset: {empty_folder / 'x.npy'}" in config
    (empty_folder / "elsewhere").mkdir()
    monkeypatch.chdir(empty_folder / "elsewhere")
    assert tiedae("eval", "../runs/x").exit_code == 0
    assert tiedae("train", "--config", "../runs/x/config.yaml", "--set", "training.epochs=1").exit_code == 0


@pytest.mark.slow
def test_the_name_of_a_run_wins_over_a_path_with_a_note(empty_folder: Path, digits_run: Path) -> None:
    Path("digits").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("digits/a.png")
    said = "digits: the data set of that name; what lies here is ./digits\n"
    for arguments in (("train", *QUICK), ("eval", "runs/digits"), ("score", "runs/digits", "--against", "digits")):
        result = tiedae(*arguments)
        assert result.exit_code == 0 and said in result.stderr, arguments
    assert json.loads(tiedae("score", "runs/digits", "--against", "./digits").stdout)["intruders"] == 1


@pytest.mark.slow
def test_quiet_is_silent_about_a_download(empty_folder: Path) -> None:
    loud, quiet = (tiedae("train", *options, "--config", "mnist", "--set", "data.root=nowhere") for options in ((), ("-q",)))
    assert "mnist: not in nowhere; downloading it once\n" in loud.stderr
    assert quiet.stderr.startswith("error: mnist: not in nowhere, and the download failed")


def test_reconstruct_writes_to_stdout(digits_run: Path) -> None:
    result = tiedae("reconstruct", "-q", "--output", "-")
    with Image.open(io.BytesIO(result.stdout_bytes)) as image:
        assert image.size == (800, 600)
    assert list(digits_run.glob("reconstructions-*.png")) == []


def test_json_and_a_png_are_not_mixed_on_stdout(digits_run: Path) -> None:
    result = tiedae("reconstruct", "-q", "--json", "--output", "-")
    with Image.open(io.BytesIO(result.stdout_bytes)) as image:
        image.verify()
    assert b"squared_errors" not in result.stdout_bytes


def test_print_config_prints_the_resolved_config_and_stops() -> None:
    result = tiedae("train", "--print-config", "--config", "mnist", "--set", "training.epochs=7")
    config = parse_config(result.stdout, "printed")
    assert (config.data.dataset, config.training.epochs, config.model.hidden_sizes) == ("mnist", 7, (300, 150))
    assert (result.exit_code, result.stderr) == (0, "") and not Path("runs").exists()


@pytest.mark.slow
def test_a_config_is_read_from_stdin() -> None:
    result = CliRunner().invoke(app, ["train", "-q", "--config", "-", *QUICK], input="output: {runs: elsewhere}\n")
    assert (result.exit_code, result.stdout) == (0, "elsewhere/stdin/best.safetensors\n")
    result = CliRunner().invoke(app, ["train", "--config", "-"], input="training:\n  epoch: 5\n")
    assert result.stderr == "error: stdin:2: training.epoch: unknown key; type `training: {epochs: 5}`\n"


# Wrong input: exit code 2, one short message


def test_a_misspelled_key_is_answered_with_a_suggestion() -> None:
    Path("my.yaml").write_text("training:\n  epoch: 5\nmodel:\n  activation: rulu\n")
    assert sorted(refused("train", "--config", "my.yaml").splitlines()) == [
        "my.yaml:2: training.epoch: unknown key; type `training: {epochs: 5}`",
        "my.yaml:4: model.activation: 'rulu' is not a valid choice (did you mean relu?)",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("train", "--set", "training.epochs=x"),
            "training.epochs=x: training.epochs: must be a valid integer, not 'x'",
        ),
        (("train", "--config", "nothing.yaml"), "--config nothing.yaml: no such file, and no sample config has that name"),
        (
            ("train", "--config", "mnits"),
            "--config mnits: no such file, and no sample config has that name (did you mean mnist?)",
        ),
        (("train", "--set", "data.dataset=mnits"), "data.dataset: mnits: no such data set (did you mean mnist?)"),
        (("train", "--device", "cuda:99"), "--device cuda:99: not on this machine; available: auto, cpu"),
        (("train", "--device", "gpu"), "--device gpu: not on this machine; available: auto, cpu"),
        (("train", "mnits"), "mnits: no config, file or data set of that name (did you mean mnist?)"),
        (("train", "--resume"), "--resume: no run under runs/; with --config it would start one"),
        (("eval",), "no run under runs/ yet: train one with `tiedae train`, or name a checkpoint"),
        (("eval", "nothing.pt"), "nothing.pt: no such checkpoint or run folder"),
        (("reconstruct",), "no run under runs/ yet: train one with `tiedae train`"),
        (("reconstruct", "nothing"), "nothing: no such checkpoint or run folder"),
    ],
)
def test_wrong_input_is_reported_with_exit_code_2(arguments: tuple[str, ...], message: str) -> None:
    assert refused(*arguments).startswith(message)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("eval", "--split", "tset"), "--split tset: no such split (known: train, validation, test)"),
        (("reconstruct", "--split", "tset"), "--split tset: no such split"),
        (("reconstruct", "x.png"), "x.png: no such file"),
        (("train", "--run-dir", "runs/digits"), "--run-dir runs/digits: not empty; name a new folder"),
        (
            ("train", "--resume", "--set", "training.seed=1"),
            "--resume continues the same training, but these keys differ:\ntraining.seed",
        ),
        (
            ("train", "--resume", "--set", "training.engine=autograd"),
            "--resume continues the same training, but these keys differ:\ntraining.engine",
        ),
        (
            ("train", "--resume", "--set", "training.epochs=1"),
            "training.epochs: 1 is less than the 4 epochs that are already done",
        ),
    ],
)
def test_wrong_input_to_commands_that_use_a_run_is_reported(digits_run: Path, arguments: tuple[str, ...], message: str) -> None:
    assert refused(*arguments).startswith(message)


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "--epohs", "5"),
        ("trian",),
        ("reconstruct", "--n", "0"),
        ("reconstruct", "--n", "x"),
        ("eval", "--components", "0"),
        ("eval", "a", "b"),
    ],
)
def test_an_unknown_option_exits_with_code_2(arguments: tuple[str, ...]) -> None:
    result = tiedae(*arguments)
    assert (result.exit_code, result.stdout) == (2, "") and "error" in result.stderr.lower()


@pytest.mark.slow
def test_missing_data_is_reported_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIEDAE_DATA", str(tmp_path / "data"))
    result = tiedae("train", "--config", "mnist")
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"error: mnist: not in {tmp_path / 'data'}, and the download failed (" in result.stderr
    assert "Put MNIST/raw/{train-images-idx3-ubyte, " in result.stderr
    assert "tiedae train --config digits" in result.stderr and not Path("runs").exists()


# Failures: exit code 1


def test_a_damaged_checkpoint_is_reported(digits_run: Path) -> None:
    path = digits_run / "best.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert refused("eval", code=1).startswith("runs/digits/best.safetensors: damaged")


def test_an_unwritable_folder_is_reported() -> None:
    Path("runs").write_text("a file")
    assert refused("train", "-q", code=1) == "runs: cannot be created: File exists"


def test_a_diverged_training_fails_and_names_the_epoch() -> None:
    Path("wild.yaml").write_text("""
        model: {hidden_sizes: [32, 32, 32, 32, 32], activation: relu}
        training: {epochs: 200, batch_size: 50, learning_rate: 10}
    """)
    message = refused("train", "-q", "--config", "wild.yaml", code=1).splitlines()
    assert message[0].startswith("epoch ") and message[0].endswith(": the loss is not finite: the training diverged")
    assert message[-1] == "The last good state is runs/wild/last.safetensors"
    assert tiedae("eval", "runs/wild/last.safetensors").exit_code == 0


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")])
def test_out_of_memory_is_answered_with_advice(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object) -> None:
        raise error

    monkeypatch.setattr(task, "start", start)
    assert refused("train", "-q", code=1).startswith("out of memory; try a smaller training.batch_size")


def test_a_library_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object) -> None:
        raise ImportError("libtorch_cpu.so: failed to map segment from shared object")

    monkeypatch.setattr(task, "start", start)
    expected = "the program cannot be loaded: libtorch_cpu.so: failed to map segment from shared object"
    assert refused("train", "-q", code=1) == expected


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyError("a bug"), OSError("a bug")])
def test_a_bug_is_one_line_unless_debug_is_given(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object) -> None:
        raise error

    monkeypatch.setattr(task, "start", start)
    expected = f"unexpected {type(error).__name__}: {error} (run the command again with --debug for the traceback)"
    assert refused("train", "-q", code=1) == expected
    result = tiedae("train", "-q", "--debug")
    assert result.exit_code == 1 and "Traceback" in result.stderr and "in start" in result.stderr


def test_debug_shows_the_traceback() -> None:
    result = tiedae("eval", "--debug")
    assert result.exit_code == 2 and "Traceback" in result.stderr and "error: no run under runs/" in result.stderr


# Devices


def test_a_missing_device_is_answered_with_the_available_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    message = refused("train", "--device", "cuda:2")
    assert message == "--device cuda:2: not on this machine; available: auto, cpu, cuda:0, cuda:1"


def test_device_names_are_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    from tiedae_cli.errors import DeviceError
    from tiedae_cli.system.devices import resolve_device

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert resolve_device("auto") == resolve_device("cpu") == torch.device("cpu")
    with pytest.raises(DeviceError, match="--device cuda: not on this machine; available: auto, cpu"):
        resolve_device("cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda:0")
    assert resolve_device("cuda:1") == torch.device("cuda:1")


@pytest.mark.parametrize(("lines", "paged"), [(5, True), (1000, False)])
def test_long_help_is_paged_on_a_terminal(monkeypatch: pytest.MonkeyPatch, lines: int, paged: bool) -> None:
    found: list[str] = []
    monkeypatch.setattr("pydoc.pager", found.append)
    monkeypatch.setenv("LESS", "R")
    for name in ("stdin", "stdout"):
        stream = io.StringIO()
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(sys, name, stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((80, lines)))
    print_paged("a\n" * 20)
    assert found == (["a\n" * 20] if paged else [])
