"""Files of a run are used only if they belong to it and are complete and finite; YAML and CSV are read as people mean them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from tiedae_cli.cli.app import app
from tiedae_cli.config import Config
from tiedae_cli.config.yaml_reader import dump_config, parse_config
from tiedae_cli.errors import ConfigError
from tiedae_cli.runs import checkpoint


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def evaluated(run: Path) -> dict[str, Any]:
    result = invoke("eval", "--json", "-q", run)
    assert result.exit_code == 0, result.output
    values: dict[str, Any] = json.loads(result.stdout)
    return values


# Checkpoints


@pytest.mark.parametrize(
    "command",
    [("eval",), ("score",), ("encode", "-o", "codes.npy"), ("train", "--resume")],
    ids=["eval", "score", "encode", "train"],
)
def test_a_checkpoint_does_not_choose_where_a_download_goes(
    command: tuple[str, ...], digits_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIEDAE_DATA", str(tmp_path / "mine"))
    found = checkpoint.load(digits_run / "last.safetensors")
    data = found.config.data.model_copy(update={"dataset": "mnist", "root": str(tmp_path / "theirs")})
    forged = replace(found, config=found.config.model_copy(update={"data": data}))
    forged.save(digits_run / "last.safetensors")
    best = digits_run / "best.safetensors"
    replace(forged, finished=checkpoint.load(best).finished).save(best)
    result = invoke(*command[:1], *command[1:2] * (command[0] == "train"), digits_run, *command[1:] * (command[0] == "encode"))
    assert result.exit_code == 2 and "the download failed" in result.stderr, result.output
    assert not (tmp_path / "theirs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["weights", "optimizer", "errors"])
def test_a_checkpoint_holds_finite_numbers(value: float, where: str, digits_run: Path) -> None:
    found = checkpoint.load(digits_run / "last.safetensors")
    weights, state = dict(found.weights), found.training
    if where == "weights":
        weights["layers.0.weight"] = torch.full_like(weights["layers.0.weight"], value)
    if where == "optimizer":
        state = replace(state, optimizer={name: torch.full_like(one, value) for name, one in state.optimizer.items()})
    if where == "errors":
        state = replace(state, errors=torch.tensor([value]))
    replace(found, weights=weights, training=state).save(digits_run / "best.safetensors")
    for command in ("eval", "score", "inspect", "encode", "export -o x.safetensors", "compare"):
        name, *rest = command.split()
        result = invoke(name, digits_run, *rest)
        assert result.exit_code == 1 and "not finite" in result.stderr, (command, result.output)


@pytest.mark.slow
def test_a_value_that_is_too_large_for_the_model_is_named(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(80, 4)).astype(np.float32)
    x[17] = 3e38
    np.save("x.npy", x)
    settings = (
        "data.dataset=x.npy",
        "data.scaling=none",
        "training.epochs=1",
        "model.hidden_sizes=[64]",  # so many sums that one leaves float32 whatever the weights
        "model.output=linear",
        "training.learning_rate=0.001",
    )
    clean = x.copy()
    clean[17] = 0
    np.save("x.npy", clean)
    trained = invoke("train", "-q", "--run-dir", "run", *(word for one in settings for word in ("--set", one)))
    assert trained.exit_code == 0, trained.output
    np.save("x.npy", x)
    for split in ("train", "validation", "test"):
        result = invoke("eval", "run", "--split", split, "--json")
        if result.exit_code == 0:
            assert json.loads(result.stdout)["mse_per_value"] is not None
        else:
            assert result.exit_code == 2 and f" of the {split} split: its values are too large for this model" in result.stderr
    assert 2 in {invoke("eval", "run", "--split", split).exit_code for split in ("train", "validation", "test")}


# Numbers


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("shape", [(60, 6), (60, 4, 4)])
def test_a_value_that_is_not_finite_is_named_for_every_type(dtype: type, value: float, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).random(shape).astype(dtype)
    x.reshape(60, -1)[41, 2] = value
    np.save("x.npy", x)
    result = invoke("train", "--set", "data.dataset=x.npy")
    assert result.exit_code == 2
    assert result.stderr == f"error: x.npy: row 42 holds {'NaN' if np.isnan(value) else 'infinity'}\n"


@pytest.mark.parametrize("option", ["--threshold", "--quantile"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_threshold_is_a_number(option: str, value: str, digits_run: Path) -> None:
    assert invoke("score", digits_run, f"{option}={value}").exit_code == 2


@pytest.mark.parametrize("cell", ["1_0", "\uff11\uff12", "0x10", "1e"])
def test_a_cell_that_only_a_programmer_takes_for_a_number(cell: str) -> None:
    rows = ["a,b,c"] + [f"{i},{i * i % 7},{i / 8}" for i in range(40)]
    rows[30] = f"3,{cell},1"
    Path("x.csv").write_text("\n".join(rows))
    result = invoke("train", "--set", "data.dataset=x.csv")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: x.csv: row 30 (line 31), column b: {cell!r} is not a number")


# YAML


@pytest.mark.parametrize(
    ("text", "expected"),
    [("010", 10), ("0o10", 8), ("0x1F", 31), ("+7", 7), ("8", 8)],
)
def test_whole_numbers(text: str, expected: int) -> None:
    assert parse_config(f"training: {{epochs: {text}}}", "x.yaml").training.epochs == expected


@pytest.mark.parametrize("text", ["1:30", "1_0", "0b11", "yes", "true", "1e1", "~", ".inf", "2024-01-01"])
def test_other_values_are_not_whole_numbers(text: str) -> None:
    with pytest.raises(ConfigError, match=r"x.yaml:1: training.epochs: "):
        parse_config(f"training: {{epochs: {text}}}", "x.yaml")


@pytest.mark.parametrize(("text", "expected"), [("1e-3", 1e-3), ("1E-3", 1e-3), (".5", 0.5), ("1.", 1.0), ("0.25", 0.25)])
def test_numbers(text: str, expected: float) -> None:
    assert parse_config(f"training: {{learning_rate: {text}}}", "x.yaml").training.learning_rate == expected


@pytest.mark.parametrize("word", ["no", "on", "1:30", "1_0", "2024-01-01", "0b1", "y", "=", "<<"])
def test_words_are_words(word: str) -> None:
    config = parse_config(f"data: {{dataset: {word}}}", "x.yaml")
    assert config.data.dataset == word
    assert parse_config(dump_config(config), "y.yaml") == config


@pytest.mark.parametrize("text", ["no", "010", "1e3", "true", "~", "null", "0x1", "", ".5"])
def test_text_that_looks_like_something_else_is_written_so_that_it_stays_text(text: str) -> None:
    config = Config.model_validate({"output": {"runs": text or "x"}})
    assert parse_config(dump_config(config), "y.yaml") == config


@pytest.mark.parametrize(("text", "right"), [("no", "false"), ("Yes", "true"), ("off", "false")])
def test_yes_and_no(text: str, right: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(f"model: {{tied: {text}}}", "x.yaml")
    assert str(caught.value) == f"x.yaml:1: model.tied: {text} is text in YAML 1.2; write {right}"
