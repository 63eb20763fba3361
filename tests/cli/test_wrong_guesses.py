"""Wrong guesses: one line says what is wrong and what to type, and the suggested line is a valid command."""

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tiedae_cli.cli.app import app
from tiedae_cli.cli.loose_words import join_words
from tiedae_cli.config.yaml_reader import parse_config

QUICK = ("epochs=1", "hidden_sizes=8", "batch_size=20")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tiedae(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stdout, result.stderr


def refused(line: str) -> str:
    """Return the one-line refusal of a command line."""
    code, out, err = tiedae(*shlex.split(line))
    assert (code, out) == (2, ""), err
    assert err.startswith("error: ") and err.count("\n") == 1, err
    return err.removeprefix("error: ").rstrip("\n")


def offered(message: str) -> str:
    """Return the line to type at the end of a message."""
    found = re.search(r"type: tiedae (.*)$", message)
    assert found is not None, message
    return found[1]


def parses(line: str) -> None:
    """Assert that a line is a valid command: ``train`` prints its config, and other commands have all its options."""
    words = shlex.split(line)
    if words[0] == "train":
        code, out, err = tiedae(*words, "--print-config")
        assert code == 0 and parse_config(out, "printed"), err
        return
    code, _, err = tiedae(*words, "--help")
    assert code == 0, err


@pytest.mark.parametrize(
    "option",
    [
        *("--dropout 0.5", "--timestamp datetime", "--workers 4", "--target-size 32", "--kernel-size 3", "--beta1 0.9"),
        *("--depth-multiplier 2", "--output-dim 3", "--clock now", "--norm batch", "--rooot-mean 1", "--fp16", "--eps 1e-8"),
    ],
)
def test_no_suggestion_is_made_for_an_option_that_nothing_resembles(option: str) -> None:
    message = refused(f"train digits {option}")
    assert "did you mean" not in message
    assert message == f"{option.split()[0]}: no such option (all options: tiedae train --help --all)"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--learning-rte 0.1", "--learning-rate 0.1"),
        ("--bacth-size 5", "--batch-size 5"),
        ("--hiden-sizes 8", "--hidden-sizes 8"),
        ("--optimzer adam", "--optimizer adam"),
    ],
)
def test_a_slip_of_the_finger_is_answered_with_the_option(words: str, line: str) -> None:
    assert f"(did you mean {line}?)" in refused(f"train digits {words}")
    parses(f"train digits {line}")


@pytest.mark.parametrize(
    ("text", "choices"), [("loss=mae", "mse, squared_error, cross_entropy"), ("schedule=step", "constant")]
)
def test_a_choice_that_nothing_resembles_is_answered_with_all_choices(text: str, choices: str) -> None:
    message = refused(f"train digits {text}")
    assert "did you mean" not in message and choices in message


def test_the_code_size_can_be_given_as_an_option() -> None:
    code, out, err = tiedae("train", "digits", "--code-size", "2", "--print-config")
    assert code == 0, err
    assert parse_config(out, "printed").model.hidden_sizes[-1] == 2  # type: ignore[index]


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("inspect --weights", "inspect --features weights.png"),
        ("inspect --filters w.png", "inspect --features w.png"),
        ("train digits -e 3", "train digits --epochs 3"),
        ("train digits -lr 0.1", "train digits --lr 0.1"),
        ("train digits -b 32", "train digits --batch-size 32"),
        ("reconstruct digits --count 5", "reconstruct digits --n 5"),
        ("reconstruct --count=5", "reconstruct --n=5"),
        ("reconstruct --outptu x.png", "reconstruct --output x.png"),
        ("score --worst 3", "score --top 3"),
        ("score --gpu", "score --device cuda"),
        ("score x.csv --contamination 0.01", "score x.csv --false-alarms 0.01"),
        ("encode --out codes.npy", "encode --output codes.npy"),
        ("eval --compnents 3", "eval --components 3"),
        ("report --spli test", "report --split test"),
    ],
)
def test_a_wrong_option_of_any_command_is_answered_with_the_whole_line(line: str, meant: str) -> None:
    Path("runs/digits").mkdir(parents=True)
    Path("runs/digits/last.safetensors").touch()
    message = refused(line)
    assert ": no such option; type: " in message and offered(message) == meant
    parses(meant)


@pytest.mark.parametrize(
    ("line", "facts"),
    [
        ("reconstruct --label 5", ["--label: no such option", "a key of the config, for tiedae train", "--n, ", "--split"]),
        ("eval --epochs 3", ["--epochs: no such option", "tiedae train", "--components"]),
        ("report --open", ["--open: no such option", "prints the path of the page"]),
        ("runs --sort error", ["--sort", "mse"]),
        ("compare a --frobnicate", ["--frobnicate: no such option; tiedae compare has ", "(tiedae compare --help)"]),
        ("schema --yaml", ["--yaml: no such option; tiedae schema has "]),
        ("--foo", ["--foo: no such option; tiedae has ", "--version", "(tiedae --help)"]),
        ("compare", ["MODEL", "(tiedae compare --help)"]),
        ("runs a b", ["expected one folder", "tiedae runs --remove a b"]),
        ("train --config", ["--config", "requires an argument", "(tiedae train --help)"]),
        ("eval x --components many", ["--components: expected a whole number", "(tiedae eval --help)"]),
        ("export digits", ["--output: missing; for example: tiedae export digits --output model.onnx"]),
        ("score x --top 0", ["--top: ", "1", "(tiedae score --help)"]),
    ],
)
def test_other_wrong_options_say_what_exists(line: str, facts: list[str]) -> None:
    message = refused(line)
    assert all(fact in message for fact in facts), message


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("train epochs = 3", "train epochs=3"),
        ("train digits epochs= 3", "train digits epochs=3"),
        ("train digits epochs =3", "train digits epochs=3"),
        ("train epochs:3", "train epochs=3"),
        ("train epochs: 3 lr: 0.1", "train epochs=3 lr=0.1"),
        ("train digits epochs 3", "train digits epochs=3"),
        ("train hidden_sizes = 300 150", "train hidden_sizes=300,150"),
        ("train hidden_sizes=300, 150", "train hidden_sizes=300,150"),
        ("train epochs = 3 --lr 0.1", "train epochs=3 lr=0.1"),
        ("train -c mnist activation = relu", "train activation=relu --config mnist"),
        ("train --hidden_sizes 300 150", "train --hidden_sizes 300,150"),
        ("train digits --hidden-sizes 300 150 --epochs 3", "train digits --hidden-sizes 300,150 --epochs 3"),
        ("version", "--version"),
        ("about", "--version"),
        ("anomaly x.csv", "score x.csv"),
        ("recnstruct --n 2", "reconstruct --n 2"),
        ("reconstruct 2", "reconstruct --n 2"),
        ("reconstruct digits 5", "reconstruct digits --n 5"),
        ("eval mnist-best", "train mnist-best"),
        ("score mnist-best x.csv", "train mnist-best"),
    ],
)
def test_a_wrong_guess_is_answered_with_the_line_to_type(line: str, meant: str) -> None:
    assert offered(refused(line)) == meant
    parses(meant) if meant != "--version" else None
    assert meant != "--version" or tiedae("--version")[0] == 0


def test_a_command_that_nothing_resembles_gets_no_suggestion() -> None:
    assert "; expected one of train, tune, eval, " in refused("frob x")


def test_words_that_are_files_or_names_stay_words() -> None:
    Path("epochs").touch()
    Path("150").touch()
    for words in (["epochs", "3"], ["hidden_sizes=8", "150"], ["digits", "mnist"], ["label=", "digits"], ["a:b", "C:\\x"]):
        assert join_words(words, ["digits", "mnist"]) == words


def test_a_folder_after_output_is_a_run_folder() -> None:
    message = refused("train --output myrun")
    assert "linear or sigmoid" in message and message.endswith("type: --run-dir myrun")
    parses("train --run-dir myrun")
    assert "is not a valid choice" in refused("train --output relu")


@pytest.mark.parametrize(("text", "right"), [("--learning-rate 0,001", "learning_rate=0.001"), ("l2=1,5", "l2=1.5")])
def test_a_decimal_comma_is_answered_with_a_decimal_point(text: str, right: str) -> None:
    assert refused(f"train digits {text}").endswith(f"write a decimal point: {right}")
    parses(f"train digits {right}")


@pytest.mark.parametrize(
    ("words", "section", "key", "value"),
    [
        ("--activation ReLU", "model", "activation", "relu"),
        ("optimizer=Adam", "training", "optimizer", "adam"),
        ("code_activation=Linear", "model", "code_activation", "linear"),
        ("scaling=MinMax", "data", "scaling", "minmax"),
        ("mode=Gray", "data", "mode", "gray"),
    ],
)
def test_choices_are_taken_in_any_case(words: str, section: str, key: str, value: str) -> None:
    code, out, err = tiedae("train", "folder", "--data", ".", *words.split(), "--print-config")
    assert code == 0, err
    assert getattr(getattr(parse_config(out, "printed"), section), key) == value


def test_the_old_spelling_of_color_is_answered_with_the_new_one() -> None:
    assert "'colour' is not a valid choice (did you mean color?)" in refused("train folder --data . mode=colour")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("notebook.ipynb", "a Jupyter notebook"),
        ("x.docx", "a document"),
        ("x.pdf", "a document"),
        ("t.sqlite", "a database"),
        ("s.WAV", "a sound file"),
        ("book.xls", "a spreadsheet"),
        ("v.mp4", "a video"),
    ],
)
def test_a_file_of_another_kind_is_named_as_what_it_is(name: str, what: str) -> None:
    Path(name).write_bytes(b"PK\3\4\0\0 anything \xff\0")
    message = refused(f"train {name}")
    assert message.startswith(f"{name}: {what}; ") and "; tiedae reads " in message and ".csv" in message and "image" in message


def test_a_damaged_zip_archive_is_called_one() -> None:
    Path("all.zip").write_bytes(b"PK\3\4\0\0 anything \xff\0")
    assert refused("train all.zip").startswith("all.zip: damaged, or not a zip archive")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("layers=3", "hidden_sizes=256,128,32"),
        ("hidden_layers=3", "hidden_sizes=256,128,32"),
        ("--hidden-layers 2", "hidden_sizes=128,32"),
        ("model.layers=1", "hidden_sizes=32"),
        ("n_layers=9", "hidden_sizes=128,32"),
        ("layers=128", "hidden_sizes=128,32"),
    ],
)
def test_a_number_of_layers_is_answered_with_one_number_per_layer(text: str, line: str) -> None:
    message = refused(f"train digits {text}")
    assert "one number per layer" in message and message.endswith(line)
    parses(f"train digits {line}")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table and a run."""
    folder = tmp_path_factory.mktemp("trained")
    with contextlib.chdir(folder):
        np.save("x.npy", np.random.default_rng(0).normal(size=(2000, 4)))
        assert tiedae("train", "-q", "x.npy", *QUICK, "hidden_sizes=2")[0] == 0
    return folder


@pytest.fixture
def run(folder: Path, trained: Path) -> str:
    """The name of a run in the working folder."""
    shutil.copytree(trained, folder, dirs_exist_ok=True)
    return "x"


@pytest.mark.parametrize("text", ["0.01", "1%", "1 %"])
def test_false_alarms_are_a_fraction_or_a_percentage(run: str, text: str) -> None:
    plain, percent = (tiedae("score", run, "x.npy", "--summary", "--false-alarms", value) for value in ("0.01", text))
    assert plain == percent and plain[0] == 0 and "warning" not in plain[2]


def test_a_false_alarm_rate_of_one_gives_a_warning(run: str) -> None:
    code, _, err = tiedae("score", run, "x.npy", "--false-alarms", "1")
    assert code == 0 and "warning: " in err and "--false-alarms 0.01" in err


@pytest.mark.parametrize(
    ("text", "fact"), [("5", "for 5% type 0.05"), ("-1", "0 to 1"), ("few", "such as 1%"), ("nan", "0 to 1")]
)
def test_a_false_alarm_rate_that_is_not_a_fraction_is_refused(run: str, text: str, fact: str) -> None:
    assert fact in refused(f"score {run} x.npy --false-alarms {text}")


@pytest.mark.slow
def test_next_has_one_command_per_line_and_each_of_them_runs(run: str) -> None:
    err = tiedae("train", "digits", *QUICK)[2]
    lines = re.findall(r"^(?:next:|     ) tiedae (.*)$", err, re.MULTILINE)
    assert lines == ["eval digits", "reconstruct digits", "report digits"] and "|" not in err.split("next:")[1]
    for line in lines:
        code, _, told = tiedae(*line.split())
        assert code == 0, told


@pytest.mark.slow
def test_next_names_the_path_of_a_run_that_its_name_does_not_find(run: str) -> None:
    Path("x").mkdir()
    Path("x/last.safetensors").write_bytes(Path("runs/x/last.safetensors").read_bytes())
    assert "next: tiedae eval elsewhere/new\n" in tiedae("train", "x.npy", *QUICK, "--run-dir", "elsewhere/new")[2]
    assert "next: tiedae eval runs/x\n" in tiedae("train", "--resume", "runs/x", "epochs=2")[2]


@pytest.mark.slow
def test_from_python_next_is_python(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    import tiedae_cli

    trained = tiedae_cli.train("digits", epochs=1, hidden_sizes=[8], batch_size=20)
    after = capsys.readouterr().err.split("next: ")[1]
    assert "model = run.model" in after and "tiedae eval" not in after
    exec("\n".join(line.strip() for line in after.splitlines()), {"run": trained, "X": np.zeros((2, 8, 8), np.uint8)})


def told_in_every_command(run: str) -> list[str]:
    """Return the verdict of eval, compare and report."""
    said = [tiedae("eval", run)[2], tiedae("compare", run, run)[2]]
    assert tiedae("report", run, "-o", "page.html", "-q")[0] == 0
    return [*said, Path("page.html").read_text()]


@pytest.mark.slow
def test_every_command_reports_a_code_that_is_not_smaller_than_the_data(run: str) -> None:
    trained = tiedae("train", "x.npy", "epochs=2", "hidden_sizes=8", "--run-dir", "runs/wide")[2]
    for text in (trained, *told_in_every_command("wide")):
        assert "the code (8) is not smaller than the data (4 features): PCA is exact, nothing is compressed" in text
        assert not re.search(r"times (more|less) than PCA", text)


@pytest.mark.slow
def test_every_command_reports_a_dead_training() -> None:
    stuck = ("activation=relu", "training.learning_rate=10", "epochs=6", "hidden_sizes=8", "schedule=constant")
    trained = tiedae("train", "digits", *stuck, "--run-dir", "runs/dead")[2]
    for text in (trained, *told_in_every_command("dead")):
        assert "always answering the mean (" in text and "a learning rate that is too high" in text
        assert not re.search(r"times more than PCA", text)
    found = re.search(r"^try: tiedae (train .* learning_rate=1)$", trained, re.MULTILINE)
    assert found is not None, trained
    parses(found[1])


@pytest.mark.slow
def test_a_large_penalty_is_named_as_the_cause_with_the_line_to_try() -> None:
    trained = tiedae("train", "digits", "epochs=15", "hidden_sizes=16", "l2=0.001", "schedule=constant", "loss=mse")[2]
    assert "likely cause" in trained and "the L2 penalty is " in trained and "the learning rate is still " in trained
    found = re.search(r"^try: tiedae (train .* l2=0 schedule=cosine)$", trained, re.MULTILINE)
    assert found is not None, trained
    parses(found[1])


@pytest.mark.slow
def test_forced_color_in_a_pipe_has_color_but_no_bar_and_no_carriage_return(run: str) -> None:
    command = [sys.executable, "-m", "tiedae_cli"]
    environment = {**os.environ, "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    trained = subprocess.run([*command, "train", "digits", *QUICK], capture_output=True, env=environment, check=True)
    assert b"\r" not in trained.stderr and b"\x1b[?25" not in trained.stderr and b"\x1b[2K" not in trained.stderr
    warned = [*command, "score", "x", "x.npy", "--false-alarms", "1"]
    scored = subprocess.run(warned, capture_output=True, env=environment, check=True)
    assert b"\x1b[33m" in scored.stderr and b"\r" not in scored.stderr


def test_help_of_train_opens_with_what_people_use_and_all_shows_the_rest() -> None:
    short, whole = tiedae("train", "--help")[1], tiedae("train", "--help", "--all")[1]
    used = re.findall(r"^  (?:-\w, )?--[a-z-]+", short.split("Most used options:")[1], re.MULTILINE)
    assert len(used) == 10 and "tiedae train --help --all" in short
    assert len(short.splitlines()) < 50 < len(whole.splitlines())
    assert tiedae("help", "train", "--all")[1] == whole and tiedae("help", "train")[1] == short
    assert tiedae("train", "--all")[0] == 2
