"""Messages, docstrings, comments and pages follow the rules of wording, and messages offer only valid commands."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner
from wording_rules import Text, problems, texts

from tiedae_cli.cli.app import app
from tiedae_cli.cli.commands import configs
from tiedae_cli.config import keys
from tiedae_cli.config.samples import sample_configs
from tiedae_cli.data.item_set import ItemForm


def tiedae(*arguments: str, code: int = 0) -> tuple[str, str]:
    """Run a command; return stdout and stderr."""
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    assert result.exit_code == code, result.stderr
    return result.stdout, result.stderr


def photos(name: str, sizes: list[tuple[int, int]]) -> None:
    """Write random gray images of these heights and widths."""
    Path(name).mkdir()
    for index, size in enumerate(sizes):
        Image.fromarray(np.random.default_rng(index).integers(0, 256, size, dtype=np.uint8)).save(f"{name}/{index:02}.png")


# The rules


@pytest.mark.slow
def test_every_text_follows_the_rules() -> None:
    found = [f"{text.path}:{text.line}: {problem}" for text in texts() for problem in problems(text)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "kind", "count"),
    [
        ("The user is told of each file, and the run goes on to the same bits.", "comment", 3),
        ("a row an item; what does not belong is strange", "literal", 3),
        ("A colour is normalised in the centre.", "page", 3),
        ("Return " + "one more word of " * 7 + "it.", "docstring", 1),
        ("Return the number of items. There are no rules about numbers.", "docstring", 0),
        ("Colors are normalized in the center; the run resumes with bit-identical weights.", "page", 0),
    ],
)
def test_the_rules_find_what_they_should(text: str, kind: str, count: int) -> None:
    assert len(problems(Text("x.py", 1, text, kind))) == count


def options_of(command: str) -> set[str]:
    """Return the options of a command; for ``train`` without those that are keys."""
    parameters = typer.main.get_command(app).commands[command].params  # type: ignore[attr-defined]
    return {option for parameter in parameters for option in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.slow
def test_every_command_in_a_message_exists_with_its_options() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    offered = [
        (text, found[1], found[2])
        for text in texts()
        if text.kind == "literal"
        for found in re.finditer(r"\btiedae ([a-z]+)([^;|\n]*)", text.text)
        if found[1] in commands
    ]
    assert len(offered) >= 25  # the search finds commands at all
    for text, command, rest in offered:
        known = options_of(command) | {"--help", "--all"}
        for option in re.findall(r"(?<!\S)--?[a-z][a-z-]*", rest):
            is_key = command == "train" and keys.find_key(option.lstrip("-")) is not None
            assert option in known or is_key, f"{text.path}:{text.line}: tiedae {command} has no option {option}"


# Messages


@pytest.mark.slow
def test_no_message_says_width_before_height() -> None:
    """No command and no refusal calls images of 20 x 50 (height x width) 50x20."""
    photos("wide", [(20, 50)] * 20)
    photos("mixed", [(20, 50)] * 3 + [(7, 9)])
    photos("other", [(11, 13)])
    np.save("wrong.npy", np.zeros((3, 6, 4), dtype=np.uint8))
    train = ["--layers", "conv 6 9 4, dense 8", "--epochs", "1"]
    said = [
        tiedae("train", "wide", *train),
        tiedae("train", "mixed", "--size", "20,50", "--mode", "gray", *train),
        tiedae("train", "mixed", "--mode", "gray", *train, code=2),
        tiedae("train", "mixed", "--mode", "gray", "--size", "x", code=2),
        tiedae("eval", "wide"),
        tiedae("inspect", "wide"),
        tiedae("reconstruct", "wide", "--n", "2"),
        tiedae("score", "wide", "other"),
        tiedae("score", "wide", "wrong.npy", code=2),
        tiedae("encode", "wide", "wrong.npy", "-o", "x.npy", code=2),
        tiedae("decode", "wide", "wrong.npy", "-o", "x.npy", code=2),
    ]
    text = "\n".join(out + err for out, err in said)
    assert not any(turned in text for turned in ("50x20", "9x7", "13x11", "4x6"))
    assert "1x20x50-" in text and " 20x50 gray images of " in text and "11x13 L, converted to 20x50 gray" in text
    assert "00.png is 20x50, 03.png is 7x9 (height x width)" in text
    assert ItemForm((3, 24, 32)).describe() == "24x32 color images"


@pytest.mark.slow
@pytest.mark.parametrize(("window", "unit"), [(1, "rows"), (4, "windows")])
def test_the_speed_is_given_in_items_by_their_name(window: int, unit: str) -> None:
    np.savetxt("x.csv", np.random.default_rng(0).normal(size=(60, 2)), delimiter=",")
    _, message = tiedae("train", "x.csv", "epochs=1", "hidden_sizes=1", f"data.window={window}")
    assert f" {unit}/s\n" in message and "images/s" not in message
    assert " images/s\n" in tiedae("train", "digits", "epochs=1")[1]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "muon", "soap"])
def test_inspect_names_the_optimizer(optimizer: str) -> None:
    tiedae("train", "-q", "digits", "epochs=1", f"optimizer={optimizer}")
    assert f" {optimizer}, " in tiedae("inspect")[0]


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_list_of_configs_breaks_no_word(columns: int) -> None:
    for name, path in sample_configs().items():
        header = configs._header(path.read_text(encoding="utf-8"))
        lines = configs._entry(name, header, columns).split("\n")
        assert max(map(len, lines)) <= columns and all(line.startswith("    ") for line in lines[1:])
        words = [f"{name}:", *header["for"].split()]
        words += [
            word for field in ("data", "time", "promise", "goal") if field in header for word in (field, *header[field].split())
        ]
        assert " ".join(lines).split() == words


def test_every_sample_config_says_what_it_is_for_its_data_time_and_promise() -> None:
    listed = [json.loads(line) for line in tiedae("configs", "--json")[0].splitlines()]
    assert [one["config"] for one in listed] == list(sample_configs())
    for one in listed:
        assert one["run"].startswith(f"tiedae train --config {one['config']}")
        assert set(one) in ({"config", "for", "data", "run", "time", reached} for reached in ("promise", "goal"))


@pytest.mark.slow
def test_each_problem_is_reported_once() -> None:
    tiedae("train", "-q", "digits", "epochs=1")
    np.save("wrong.npy", np.zeros((3, 5, 4), dtype=np.uint8))
    _, message = tiedae("score", "digits", "wrong.npy", code=2)
    assert message.count("wrong.npy") == 1 and message.splitlines()[-1].startswith("error: wrong.npy: ")
    np.save("good.npy", np.zeros((2, 8, 8), dtype=np.uint8))
    _, message = tiedae("score", "digits", "wrong.npy", "good.npy", code=1)
    assert "wrong.npy" in message.partition("error: ")[0]  # reported at once, and in the list at the end


@pytest.mark.slow
def test_an_unknown_choice_lists_the_choices() -> None:
    tiedae("train", "-q", "digits", "epochs=1")
    _, message = tiedae("export", "--part", "middle", "-o", "x.onnx", code=2)
    assert "'middle' is not one of" in message and "Value error" not in message
