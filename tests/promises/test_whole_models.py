"""A trained model is one whole file: moved alone, with its training data gone or changed, it gives the same numbers."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Ran, Tiedae
from PIL import Image

pytestmark = pytest.mark.slow


def write_table(path: Path, rows: int = 400, scale: float = 1.0, seed: int = 1) -> None:
    chance = np.random.default_rng(seed)
    values = chance.normal(size=(rows, 2)) @ np.random.default_rng(5).normal(size=(2, 5)) + 0.1 * chance.normal(size=(rows, 5))
    np.savetxt(path, values * scale + 7, delimiter=",", header="a,b,c,d,e", comments="", fmt="%.5f")


def write_images(path: Path, count: int = 60, seed: int = 1) -> None:
    np.save(path, np.random.default_rng(seed).integers(0, 256, (count, 8, 8), dtype=np.uint8))


KINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "table": ("csv", ()),
    "neighbours": ("csv", ("score.rank=neighbours",)),
    "series": ("csv", ("window=8",)),
    "images": ("npy", ("hidden_sizes=12,4",)),
    "regions": ("npy", ("hidden_sizes=12,4", "score.rank=region")),
}


def write(path: Path, seed: int) -> None:
    write_table(path, seed=seed) if path.suffix == ".csv" else write_images(path, seed=seed)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_moved_alone_gives_the_same_numbers_without_its_data(kind: str, tiedae: Tiedae) -> None:
    suffix, options = KINDS[kind]
    train, data = Path(f"train.{suffix}"), Path(f"data.{suffix}")
    write(train, seed=1)
    write(data, seed=2)
    assert tiedae("train", train, *options, "--epochs", 2, "--run-dir", "run", "-q").code == 0
    codes = tiedae("encode", "run", data, "-o", "codes.npy", "-q")
    assert codes.code == 0

    def answers(model: str) -> list[str]:
        commands = [
            ("score", model, data),
            ("score", model, data, "--summary"),
            ("score", model, data, "--false-alarms", "0.2", "--explain", "2"),
            ("eval", model, data, "--json"),
            ("eval", model, data, "--json", "--components", "2"),
            ("encode", model, data, "--format", "csv"),
            ("decode", model, "codes.npy", "--format", "csv"),
            ("inspect", model, "--json"),
            ("compare", model, data, "--json"),
        ]
        ran = [tiedae(*command, "-q") for command in commands]
        assert [one.code for one in ran] == [0] * len(ran), [one.err for one in ran]
        outputs = [one.out.replace(model, "MODEL") for one in ran]
        if suffix == "npy":
            picture = data.with_suffix(".png")
            Image.fromarray(np.load(data)[0]).save(picture)
            assert tiedae("reconstruct", model, picture, "-o", "out.png", "-q").code == 0
            outputs.append(Path("out.png").read_bytes().hex())
        return outputs

    before = answers("run/best.safetensors")
    Path("empty").mkdir()
    shutil.copy("run/best.safetensors", "empty/model.safetensors")
    shutil.rmtree("run")
    train.unlink()
    assert answers("empty/model.safetensors") == before
    write(train, seed=3)  # grown and changed
    assert answers("empty/model.safetensors") == before


def test_commands_that_need_the_training_data_say_so_and_what_to_type(tiedae: Tiedae) -> None:
    write_table(Path("train.csv"))
    write_table(Path("data.csv"), seed=2)
    assert tiedae("train", "train.csv", "hidden_sizes=8,2", "--epochs", 1, "--run-dir", "run", "-q").code == 0
    Path("train.csv").unlink()
    ran = tiedae("eval", "run")
    assert ran.code == 2 and ran.err.endswith("to measure the model on another file: tiedae eval run/best.safetensors FILE\n")
    ran = tiedae("eval", "run", "data.csv", "--components", 5)
    assert ran.code == 2 and "principal components, and fitting 5 needs its training data" in ran.err


def test_the_threshold_of_the_file_is_that_of_the_validation_split(tiedae: Tiedae) -> None:
    write_table(Path("train.csv"))
    assert tiedae("train", "train.csv", "--epochs", 2, "--run-dir", "run", "-q").code == 0
    held_out = sorted(line["squared_error"] for line in tiedae("score", "run", "--split", "validation", "-q").lines)
    for rate in (0.05, 0.2, 0.5):
        line = tiedae("score", "run", "--false-alarms", rate, "--summary", "-q").lines[0]
        assert line["threshold"] == held_out[-int(rate * (len(held_out) + 1) + 1e-9)]


# eval and compare on files


def test_eval_of_a_file_is_eval_of_the_split_that_it_holds(tiedae: Tiedae) -> None:
    write_table(Path("train.csv"))
    assert tiedae("train", "train.csv", "--epochs", 2, "--run-dir", "run", "-q").code == 0
    whole = tiedae("eval", "run", "train.csv", "--json").lines[0]
    parts = [tiedae("eval", "run", "--split", split, "--json").lines[0] for split in ("train", "validation", "test")]
    assert (whole["data"], whole["split"], whole["items"]) == (["train.csv"], None, 400)

    def total(values: dict[str, Any], *path: str) -> float:
        for key in path:
            values = values[key]
        return float(values["squared_error_per_item"])

    for path in ((), ("pca",), ("mean_item",), ("raw",), ("raw", "pca"), ("raw", "mean_item")):
        expected = sum(total(part, *path) * part["items"] for part in parts) / 400
        assert total(whole, *path) == pytest.approx(expected, rel=1e-9)


def retrained(tiedae: Tiedae) -> None:
    for number, scale in enumerate((1.0, 3.0)):
        write_table(Path(f"{number}.csv"), scale=scale, seed=number)
        assert tiedae("train", f"{number}.csv", "--epochs", 3, "--run-dir", f"runs/night-{number}", "-q").code == 0


@pytest.mark.parametrize("data", [["1.csv"], []])
def test_models_of_other_scalings_are_compared_in_the_datas_own_units(data: list[str], tiedae: Tiedae) -> None:
    retrained(tiedae)
    ran = tiedae("compare", "night-0", "night-1", *data, "--json")
    assert ran.code == 0, ran.err
    first, second = ran.lines[0]["runs"]
    alone = [tiedae("eval", f"night-{number}", "1.csv", "--json").lines[0] for number in (0, 1)]
    if data:
        assert first["raw"]["squared_error_per_item"] == alone[0]["raw"]["squared_error_per_item"]
        assert second["raw"]["squared_error_per_item"] == alone[1]["raw"]["squared_error_per_item"]
        flags = [
            {line["item"] for line in tiedae("score", f"night-{number}", "1.csv", "-q").lines if line["outlier"]}
            for number in (0, 1)
        ]
        assert [run["outliers"] for run in (first, second)] == [len(flagged) for flagged in flags]
        assert set(first["flagged_alone"]) == flags[0] - flags[1] and set(second["flagged_alone"]) == flags[1] - flags[0]
        assert flags[0] - flags[1] and "only night-0 flags: " in ran.err
    table = tiedae("compare", "night-0", "night-1", *data)
    assert "errors in the data's own units" in " ".join(table.out.split())


def test_words_of_compare_are_told_apart_by_what_they_are(tiedae: Tiedae) -> None:
    retrained(tiedae)
    assert tiedae("compare", "0.csv", "night-1", "--json").lines[0]["data"] == ["0.csv"]
    ran = tiedae("compare", "0.csv")
    assert ran.code == 2 and "0.csv: data, but no model" in ran.err
    assert "nothing: no such checkpoint" in tiedae("compare", "nothing", "0.csv").err
    assert "stdin can be read only once" in tiedae("compare", "night-0", "-").err


# Which run is meant


def interrupted(folder: str, age: int, tiedae: Tiedae, epochs: int = 1) -> None:
    """Train, extend the training by name only, and set its age."""
    assert tiedae("train", "digits", "--epochs", epochs, "--run-dir", folder, "-q").code == 0
    os.utime(Path(folder, "last.safetensors"), (1_000_000 - age,) * 2)


def unfinished(folder: str) -> None:
    """Make a finished run one that was killed after its first epoch of twelve."""
    config = Path(folder, "config.yaml")
    config.write_text(re.sub(r"epochs: 1\b(\.0)?", "epochs: 12", config.read_text()))
    Path(folder, "outcome.json").unlink()


def said(ran: Ran) -> str:
    assert ran.code == 0, ran.err
    return ran.err


def test_the_newest_finished_run_is_meant_and_a_newer_unfinished_one_is_named(tiedae: Tiedae) -> None:
    for age, name in enumerate(("new", "middle", "old")):
        interrupted(f"runs/{name}", age, tiedae)
    assert "runs/" not in said(tiedae("inspect"))
    unfinished("runs/new")
    expected = "runs/new: 1 of 12 epochs, stopped; using runs/middle, the newest finished run\n"
    assert said(tiedae("inspect")).startswith(expected)
    unfinished("runs/middle")
    assert said(tiedae("inspect")).startswith(expected.replace("runs/middle", "runs/old"))
    unfinished("runs/old")
    assert said(tiedae("inspect")).startswith("runs/new: 1 of 12 epochs, stopped\n")
    Path("runs/new/best.safetensors").unlink()
    assert said(tiedae("inspect")).startswith("runs/new: 1 of 12 epochs, stopped; no run is finished, using runs/middle\n")


@pytest.mark.parametrize("command", [("eval",), ("reconstruct", "-o", "x.png"), ("report", "-o", "x.html"), ("compare",)])
def test_an_unfinished_run_says_how_far_it_came(command: tuple[str, ...], tiedae: Tiedae) -> None:
    interrupted("runs/one", 0, tiedae)
    assert "of 1 epochs" not in said(tiedae(command[0], "one", *command[1:]))
    unfinished("runs/one")
    assert "runs/one/best.safetensors: 1 of 12 epochs, stopped\n" in said(tiedae(command[0], "one", *command[1:]))
