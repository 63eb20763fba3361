"""The README's commands are run, its options and keys exist, its table is the schema's, its links lead somewhere."""

import importlib.util
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from tiedae_cli.cli import app
from tiedae_cli.config import Config
from tiedae_cli.config_file import parse_config, sample_configs

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PROSE = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
COMMANDS = [line.strip() for line in re.findall(r"^    (.*)$", PROSE, re.MULTILINE)]
TIEDAE = [line for line in COMMANDS if line.startswith("tiedae ")]


def section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def config_table() -> str:
    spec = importlib.util.spec_from_file_location("config_table", ROOT / "docs/config_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.table()


def words(line: str) -> list[str]:
    """Return the words of the first tiedae command of a line."""
    found = shlex.split(line, comments=True)
    end = next((i for i, word in enumerate(found) if word in ("|", "&&", ">", "2>/dev/null")), len(found))
    return found[1:end]


def test_the_two_lines_of_a_fresh_machine_do_their_own_set_up() -> None:
    run, test = (line for line in COMMANDS if line.startswith("python3 -m venv"))
    assert run.startswith("python3 -m venv .venv && .venv/bin/pip install .")
    assert run.endswith(".venv/bin/tiedae train && .venv/bin/tiedae reconstruct --n 2")
    assert test == "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/python -m pytest"
    assert test in section("Run the tests")


@pytest.mark.parametrize("line", TIEDAE)
def test_every_command_and_option_exists(line: str) -> None:
    command, *rest = words(line)
    if command.startswith("--"):
        assert command in CliRunner().invoke(app, ["--help"]).stdout
        return
    shown = CliRunner().invoke(app, [command, "--help"])
    assert shown.exit_code == 0, shown.output
    for word in rest:
        if re.match(r"--?[a-z]", word):
            assert re.search(rf"(^|[\s,/]){re.escape(word)}\b", shown.stdout), f"{command} has no {word}"
        if "=" in word and not word.startswith("-"):
            parse_config("", "README", [word])


@pytest.mark.parametrize("line", [line for line in TIEDAE if "--config" in line])
def test_every_config_is_a_sample(line: str) -> None:
    given = words(line)
    name = given[given.index("--config") + 1]
    assert name in sample_configs() or name.startswith("runs/")


@pytest.mark.parametrize("line", re.findall(r"^\| `((?:model|training): \{.*?)` ", README, re.MULTILINE))
def test_the_lines_of_the_variants_are_configs(line: str) -> None:
    values: dict = {}
    for part in re.split(r"` with `", line):
        values |= yaml.safe_load(part)
    if values.get("training", {}).get("sparsity") == "kl":
        values.setdefault("model", {})["code_activation"] = "sigmoid"
    if values.get("training", {}).get("loss") == "cross_entropy":
        values.setdefault("model", {})["output"] = "sigmoid"
    assert parse_config(yaml.safe_dump(values), "README") != Config()


def test_the_config_table_is_the_schemas() -> None:
    assert config_table() in README, "run python docs/config_table.py and put its table into the README"


def test_links_lead_to_files() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_promises_name_what_exists() -> None:
    for script in re.findall(r"python ((?:benchmarks|docs)/\w+\.py)", README):
        assert (ROOT / script).exists(), script
    for name in re.findall(r"tests/\w+\.py", README):
        assert (ROOT / name).exists(), name


def test_the_first_commands_work_with_nothing_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``train && reconstruct --n 2``, then eval, inspect, encode, decode, score, compare and export as the README has them."""
    monkeypatch.chdir(tmp_path)
    short = ["--set", "training.epochs=2"]
    commands = [
        ["train", *short],
        ["reconstruct", "--n", "2"],
        ["eval"],
        ["train", "--json", *short],
        ["inspect", "--features", "features.png", "--codes", "codes.png"],
        ["encode", "digits", "-o", "codes.npy"],
        ["decode", "digits", "codes.npy", "-o", "images.npy"],
        ["score", "--top", "24", "--contact-sheet", "worst.png"],
        ["compare", "digits", "digits-2", "--output", "compare.png"],
    ]
    outputs = []
    for command in commands:
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, f"{command}: {result.output}"
        outputs.append(result.stdout)
    assert outputs[0] == "runs/digits/best.pt\n" and outputs[1] == "runs/digits/reconstructions-2.png\n"
    assert [json.loads(line)["event"] for line in outputs[3].splitlines()] == ["epoch", "epoch", "done"]
    for name in ("features.png", "codes.png", "codes.npy", "images.npy", "worst.png", "compare.png"):
        assert (tmp_path / name).stat().st_size > 0


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
@pytest.mark.parametrize("line", [line for line in COMMANDS if "| jq" in line])
def test_the_filters_are_jq(line: str) -> None:
    """jq compiles each filter; given nothing, it prints nothing."""
    import subprocess

    filter_words = shlex.split(line.split("| jq", 1)[1])
    result = subprocess.run(["jq", *filter_words], input="", capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
