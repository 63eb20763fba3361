"""First guesses of new users work, or the refusal ends with the line to type, with the user's values."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import Tiedae
from PIL import Image

from tiedae_cli.cli import completion
from tiedae_cli.cli.app import _wrapped
from tiedae_cli.cli.config_options import as_assignments
from tiedae_cli.config import Config, keys
from tiedae_cli.config.samples import sample_configs
from tiedae_cli.config.yaml_reader import load_config, parse_config

QUICK = ("epochs=1", "hidden_sizes=8", "batch_size=20")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settled(tiedae: Tiedae, *arguments: str) -> Config:
    """Return the config that a command line asks for."""
    code, out, err = tiedae("train", *arguments, "--print-config")
    assert code == 0, err
    return parse_config(out, "printed")


def own_data() -> None:
    chance = np.random.default_rng(0)
    Path("photos").mkdir()
    for number in range(60):
        Image.fromarray(chance.integers(0, 256, (6, 5), dtype=np.uint8)).save(f"photos/{number}.png")
    for name, (shape, count) in {"holiday": ((9, 8, 3), 20), "x-rays": ((70, 80), 10)}.items():
        Path(name).mkdir()
        for number in range(count):
            Image.fromarray(chance.integers(0, 256, shape, dtype=np.uint8)).save(f"{name}/{number}.png")
    np.save("pictures.npy", chance.integers(0, 256, (60, 6, 5), dtype=np.uint8))
    np.save("features.npy", chance.normal(size=(60, 4)))
    rows = "\n".join(",".join(f"{v:.3f}" for v in row) for row in chance.normal(size=(60, 3)))
    Path("table.csv").write_text(f"a,b,c\n{rows}\n")
    Path("my.yaml").write_text("data: {dataset: digits}\nmodel: {hidden_sizes: [8]}\ntraining: {epochs: 1}\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "run", "sample"),
    [
        ("photos", "photos", "folder"),
        ("photos/", "photos", "folder"),
        ("holiday", "holiday", "photographs"),
        ("x-rays", "x-rays", "photographs"),
        ("./table.csv", "table", "vectors"),
        ("features.npy", "features", "vectors"),
        ("pictures.npy", "pictures", "folder"),
        ("my.yaml", "my", None),
        ("digits", "digits", None),
        ("DIGITS", "digits", None),
        ("vectors table.csv", "table", None),
        ("--data table.csv --config vectors", "table", None),
    ],
)
def test_train_takes_data_and_configs_by_name(words: str, run: str, sample: str | None, tiedae: Tiedae) -> None:
    own_data()
    code, out, err = tiedae("train", *words.split(), *QUICK)
    assert (code, out) == (0, f"runs/{run}/best.safetensors\n"), err
    said = f"trained with the sample config {sample} (tiedae configs {sample} shows it)"
    assert (sample is not None and said in err) or (sample is None and "trained with the sample config" not in err)
    assert f"next: tiedae eval {run}\n" in err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes and links")
def test_photographs_are_recognized_behind_links_hidden_files_and_pipes(tiedae: Tiedae) -> None:
    """Files that training skips do not decide, and named pipes are never read."""
    own_data()
    Path("all").mkdir()
    Path("all/.thumbnail.png").write_bytes(Path("photos/0.png").read_bytes())
    os.mkfifo("all/a.png")
    Path("all/trip").symlink_to(Path("holiday").absolute())
    code, out, err = tiedae("train", "all", "--print-config")
    assert code == 0, err
    assert parse_config(out, "printed").data.size == (64, 64)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        ("epochs=10", "training.epochs", 10),
        ("training.epochs=10", "training.epochs", 10),
        ("--epochs 10", "training.epochs", 10),
        ("--epochs=10", "training.epochs", 10),
        ("--training.epochs 10", "training.epochs", 10),
        ("--set epochs=10", "training.epochs", 10),
        ("--batch-size 64", "training.batch_size", 64),
        ("--batch_size 64", "training.batch_size", 64),
        ("--learning-rate 1e-3", "training.learning_rate", 0.001),
        ("--lr 1e-3", "training.learning_rate", 0.001),
        ("lr=0.5", "training.learning_rate", 0.5),
        ("--hidden 300,20", "model.hidden_sizes", (300, 20)),
        ("--hidden-sizes 32", "model.hidden_sizes", (32,)),
        ("hidden_sizes=[64,8]", "model.hidden_sizes", (64, 8)),
        ("--latent-dim 7", "model.hidden_sizes", (256, 7)),
        ("--bottleneck 7", "model.hidden_sizes", (256, 7)),
        ("--tied false", "model.tied", False),
        ("--no-tied", "model.tied", False),
        ("--tied", "model.tied", True),
        ("--l2 0", "training.l2", 0.0),
        ("--random-state 7", "training.seed", 7),
        ("--patience 3", "training.early_stopping", 3),
        ("--ignore a,b", "data.ignore", ("a", "b")),
        ("--exclude *mask*", "data.exclude", ("*mask*",)),
        ("--label no", "data.label", "no"),
        ("--size 32", "data.size", (32, 32)),
        ("--size 32,24", "data.size", (32, 24)),
        ("data.dataset=~/x.csv", "data.dataset", str(Path.home() / "x.csv")),
        ("--steps 300", "training.steps", 300),
    ],
)
def test_keys_are_accepted_in_every_spelling(words: str, key: str, value: object, tiedae: Tiedae) -> None:
    section, name = key.split(".")
    assert getattr(getattr(settled(tiedae, "digits", *words.split()), section), name) == value


@pytest.mark.parametrize(
    ("config", "words", "kept", "gone"),
    [
        ("digits", "layers=conv 4 3 2, dense 8", "model.layers", "model.hidden_sizes"),
        ("anomalies", "epochs=5", "training.epochs", "training.steps"),
        ("anomalies", "epochs=7", "training.epochs", "training.steps"),
    ],
)
def test_a_typed_key_replaces_the_configs_alternative_key(
    config: str, words: str, kept: str, gone: str, tiedae: Tiedae
) -> None:
    own_data()
    found = settled(tiedae, config, "features.npy", words) if config == "anomalies" else settled(tiedae, config, words)
    value = {name: getattr(getattr(found, name.split(".")[0]), name.split(".")[1]) for name in (kept, gone)}
    assert value[gone] is None and (value[kept] == int(words[-1]) if kept == "training.epochs" else value[kept])


@pytest.mark.parametrize("epochs", [5, 7])
def test_two_alternative_keys_contradict_each_other(epochs: int, tiedae: Tiedae) -> None:
    Path("my.yaml").write_text(f"training: {{epochs: {epochs}, steps: 100}}")
    for words in (("my.yaml",), ("digits", f"epochs={epochs}", "steps=100")):
        code, _, err = tiedae("train", *words)
        assert code == 2 and "training.steps: conflicts with training.epochs" in err, words
    assert settled(tiedae, "digits", "steps=100").training.steps == 100  # the printed config loads again


@pytest.mark.slow
def test_another_tools_name_of_a_key_is_answered_with_ours(tiedae: Tiedae) -> None:
    code, _, err = tiedae("train", "digits", "--lr", "1e-2", "--latent-dim", "4", "--epochs", "1")
    assert code == 0 and "lr: training.learning_rate\n" in err and "latent-dim: model.code_size\n" in err


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("train --lrr 0.1", "--lrr: no such option (did you mean --learning-rate 0.1?)"),
        ("train --epohs=3", "--epohs: no such option (did you mean --epochs 3?)"),
        ("train epohs=3", "epohs: no such key (did you mean training.epochs=3?)"),
        ("train --weight-decay 0.1", "--weight-decay: no such option: decoupled weight decay is not offered; training.l2 is"),
        ("train wd=0.1", "wd: no such key: decoupled weight decay is not offered; training.l2 is an L2 penalty in the loss"),
        ("train --rate 0.1", "--rate: no such option (all options: tiedae train --help --all)"),
        ("train target=price", "target: no such key (all keys: tiedae train --help --all)"),
        ("train --gpu", "--gpu: no such option; here it is --device cuda"),
        ("train --output-dir x", "--output-dir: no such option; here it is --run-dir DIR"),
        ("train --epochs", "--epochs: needs a value: --epochs N"),
        ("train mnits", "mnits: no config, file or data set of that name (did you mean mnist?)"),
        ("train mnist.npz", "mnist.npz: no such file or folder (looked from "),
        ("train vectors", "vectors: trains on your own data, and features.npy does not exist; type: tiedae train vectors PATH"),
        ("train digits sparse", "sparse: a second config beside digits"),
        ("train --config holder", "--config holder: a folder, not a YAML file; to train on its contents: tiedae train holder"),
        ("train runs/digits", "to train the same again: tiedae train runs/digits/config.yaml"),
        ("train runs/digits", "runs/digits: a run. To resume it: tiedae train --resume runs/digits"),
        ("fit mnist", "fit: no such command; type: tiedae train mnist"),
        ("resume digits", "resume: no such command; type: tiedae train --resume digits"),
        ("predict x.npy", "predict: no such command; type: tiedae reconstruct x.npy"),
        ("ls", "ls: no such command; type: tiedae runs"),
        ("test", "test: no such command; type: tiedae eval"),
        ("trian mnist", "trian: no such command; type: tiedae train mnist"),
        ("mnist", "mnist: no such command; type: tiedae train mnist"),
        ("plot", "plot: no such command; expected one of train, tune, eval, "),
        ("nonsense", "nonsense: no such command; expected one of train, tune, eval, "),
        ("eval nope", "nope: no such checkpoint or run folder (runs under runs/: digits)"),
    ],
)
def test_a_refusal_ends_with_a_line_to_type(line: str, told: str, digits_run: Path, tiedae: Tiedae) -> None:
    Path("holder").mkdir()
    code, out, err = tiedae(*line.split())
    assert (code, out) == (2, "") and told in err, err


@pytest.mark.parametrize("command", ["eval", "reconstruct", "inspect", "encode", "score", "export"])
def test_without_a_run_every_command_tells_how_to_train_one(command: str, tiedae: Tiedae) -> None:
    code, _, err = tiedae(command)
    assert (code, err) == (2, "error: no run under runs/ yet: train one with `tiedae train`, or name a checkpoint\n")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("epochs: 10", "my.yaml:1: epochs: unknown key; type `training: {epochs: 10}`"),
        ("training: {lr: 0.1}", "my.yaml:1: training.lr: unknown key; type `training: {learning_rate: 0.1}`"),
        (
            "training: {weight_decay: 0.1}",
            "my.yaml:1: training.weight_decay: unknown key: decoupled weight decay is not offered",
        ),
        ("training: {rate: 0.1}", "my.yaml:1: training.rate: unknown key (known: epochs, "),
        ("latent_dim: 7", "type `model: {code_size: 7}`"),
    ],
)
def test_keys_of_other_tools_in_yaml_are_answered_with_ours(text: str, told: str, tiedae: Tiedae) -> None:
    Path("my.yaml").write_text(text)
    code, _, err = tiedae("train", "my.yaml")
    assert code == 2 and told in err


@pytest.mark.slow
def test_resuming_a_finished_run_says_how_to_train_longer(tiedae: Tiedae) -> None:
    assert tiedae("train", "-q", *QUICK)[0] == 0
    code, _, err = tiedae("train", "--resume", "digits")
    assert code == 0 and "all 1 epochs are done; to train longer: tiedae train --resume runs/digits --epochs 2\n" in err
    code, _, err = tiedae("train", "--resume", "runs/digits", "--epochs", "2")
    assert code == 0 and "complete" not in err
    assert [json.loads(line)["epochs"] for line in tiedae("runs", "--json")[1].splitlines()] == [2]


@pytest.mark.slow
def test_a_long_training_in_a_pipe_has_few_lines_and_all_of_its_epochs_in_the_metrics(tiedae: Tiedae) -> None:
    _, _, err = tiedae("train", "digits", "epochs=60", "hidden_sizes=4", "batch_size=500")
    told = [line.split()[1] for line in err.splitlines() if line.startswith("epoch ")]
    assert told == ["1/60", *(f"{epoch}/60" for epoch in range(5, 61, 5))]
    assert len(Path("runs/digits/metrics.jsonl").read_text().splitlines()) == 60


@pytest.mark.slow
def test_runs_lists_every_run_with_its_state(tiedae: Tiedae) -> None:
    assert tiedae("train", "-q", *QUICK)[0] == 0
    assert tiedae("train", "-q", *QUICK, "training.learning_rate=10", "training.loss=squared_error", "output=sigmoid")[0] in (
        0,
        1,
    )
    Path("runs/broken").mkdir()
    Path("runs/broken/last.safetensors").touch()
    found = {run["name"]: run for run in map(json.loads, tiedae("runs", "--json")[1].splitlines())}
    assert found["broken"]["state"] == "unreadable"
    run = found["digits"]
    assert (run["state"], run["epochs"], run["asked"], run["shape"], run["data"]) == ("finished", 1, 1, "8", "digits")
    assert 0 < run["pca_mse_per_value"] < run["mse_per_value"]
    metrics = Path("runs/digits/metrics.jsonl").read_text().splitlines()
    assert run["mse_per_value"] == min(json.loads(line)["validation_mse_per_value"] for line in metrics)
    damaged = Path("runs/digits/outcome.json").read_text()
    for text in ('{"state": "finished", "epochs": 1, "pca_mse_per_value": "x"}', "[]", "{}", '{"state": 3, "epochs": 1}'):
        Path("runs/digits/outcome.json").write_text(text)
        assert tiedae("runs")[0] == 0 and '"pca_mse_per_value": null' in tiedae("runs", "--json")[1]
    Path("runs/digits/outcome.json").write_text(damaged)
    table = tiedae("runs")[1]
    assert all(word in table for word in ("digits", "1/1", "finished", "unreadable"))
    Path("runs/digits/outcome.json").unlink()
    config = Path("runs/digits/config.yaml")
    config.write_text(config.read_text().replace("epochs: 1,", "epochs: 9,").replace("epochs: 1\n", "epochs: 9\n"))
    states = {run["name"]: run["state"] for run in map(json.loads, tiedae("runs", "--json")[1].splitlines())}
    assert states["digits"] == "stopped"


@pytest.mark.slow
def test_a_tilde_in_yaml_is_the_home_folder(folder: Path, monkeypatch: pytest.MonkeyPatch, tiedae: Tiedae) -> None:
    own_data()
    monkeypatch.setenv("HOME", str(folder))
    Path("home.yaml").write_text("data: {dataset: ~/table.csv}\noutput: {runs: ~/mine}\nmodel: {hidden_sizes: 2}\n")
    assert tiedae("train", "home.yaml", "epochs=1")[:2] == (0, f"{folder}/mine/home/best.safetensors\n")


def test_generated_configs_name_the_schema_for_editors(tiedae: Tiedae) -> None:
    assert tiedae("train", "--print-config")[1].startswith("# yaml-language-server: $schema=tiedae.schema.json")


def test_configs_schema_and_help_print_what_they_promise(tiedae: Tiedae) -> None:
    code, out, _ = tiedae("configs")
    assert code == 0 and re.findall(r"^([\w-]+): ", out, re.MULTILINE) == list(sample_configs())
    for name in ("-", "nope", "my.yaml"):
        code, _, err = tiedae("configs", name)
        assert code == 2 and f"{name}: no sample config has that name" in err
    assert tiedae("configs", "digits")[1] == sample_configs()["digits"].read_text()
    schema = json.loads(tiedae("schema")[1])
    assert "epochs" in schema["$defs"]["TrainingConfig"]["properties"]
    assert tiedae("help", "train", "--all")[1].splitlines()[2:] == tiedae("train", "--help", "--all")[1].splitlines()[2:]
    for command in ("train", "runs"):
        assert tiedae("help", command)[1].splitlines()[2:] == tiedae(command, "--help")[1].splitlines()[2:]
    assert tiedae("-V")[1] == tiedae("--version")[1]


def test_every_key_is_an_option_with_its_help(tiedae: Tiedae) -> None:
    text = tiedae("train", "--help", "--all")[1]
    for section, key in keys.properties():
        assert f"  --{key.replace('_', '-')} " in text and f"Keys of the config, {section}:" in text


def test_errors_on_a_terminal_break_between_words_and_lines_to_type_stay_whole() -> None:
    words = "error: " + "word " * 30
    assert all(len(line) <= 40 and not line.startswith(" ") for line in _wrapped(words, 40).split("\n"))
    line = "error: no run yet: train one with tiedae train --config mnist --set data.dataset=x.npy"
    assert _wrapped(line, 40) == line and _wrapped("a\nb", 40) == "a\nb"


def test_every_synonym_names_a_key() -> None:
    known = {*keys.properties(), ("training", "optimizer")}
    assert all(key in known for key in keys.SYNONYMS.values())
    assert not {name for name in keys.SYNONYMS if name in {key for _, key in keys.properties()}}
    assert not keys.SYNONYMS.keys() & {*keys.VAGUE, *keys.NOT_OFFERED}


def test_own_options_keep_their_values() -> None:
    own = {"--config": True, "--set": True, "-q": False, "--json": False}
    assert as_assignments(["--config", "--epochs", "-q", "--lr", "1", "--", "--lr"], own) == [
        *("--config", "--epochs", "-q", "--set", "lr=1", "--", "--lr")
    ]


@pytest.mark.parametrize(
    ("args", "incomplete", "offered"),
    [
        ([], "mnist", ["mnist", "mnist-best"]),
        ([], "epo", ["epochs="]),
        ([], "schedule=c", ["schedule=constant", "schedule=cosine"]),
        (["--schedule"], "o", ["one_cycle"]),
        (["--tied"], "", ["true", "false"]),
        (["table.csv", "--label"], "", ["a", "b", "c"]),
        ([], "tab", ["table.csv"]),
        (["--resume"], "d", ["digits"]),
    ],
)
def test_completion_offers_configs_keys_values_and_runs(args: list[str], incomplete: str, offered: list[str]) -> None:
    own_data()
    Path("runs/digits").mkdir(parents=True)
    Path("runs/digits/last.safetensors").touch()
    found = completion.training_words(args, incomplete)
    assert [name for name in offered if name not in found] == []


def test_the_sample_configs_load() -> None:
    assert all(load_config(path) for path in sample_configs().values())
