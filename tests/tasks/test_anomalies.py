"""The recipe ``anomalies`` end to end: trained on the normal rows of a labelled table, then scored and explained."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import tiedae
from tiedae_cli.cli.app import app
from tiedae_cli.config.yaml_reader import load_config
from tiedae_cli.runs import checkpoint

NAMES = ("speed", "power", "heat", "noise")
SMALL = ["--set", "training.steps=60", "--set", "model.hidden_sizes=[16, 8]", "--set", "training.batch_size=64"]


def invoke(*arguments: str, code: int = 0) -> tuple[list[dict[str, object]], str]:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == code, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")], result.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table with dependent columns, and a run of the recipe on its normal rows."""
    place = tmp_path_factory.mktemp("anomalies")
    random = np.random.default_rng(0)
    base = random.normal(size=(400, 2))
    rows = np.c_[base, base.sum(1), base[:, 0] - base[:, 1]] + 0.05 * random.normal(size=(400, 4))
    rows[:30, 2] += 15  # heat does not follow speed and power
    with open(place / "table.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*NAMES, "state"])
        writer.writerows([*row, "broken" if number < 30 else "good"] for number, row in enumerate(100 + 10 * rows))
    labelled = ["--set", "data.label=state", "--set", "data.normal=[good]", "--set", "data.validation=0.3"]
    data = ["--set", f"data.dataset={place / 'table.csv'}", *labelled]
    invoke("train", "--config", "anomalies", *data, *SMALL, "--run-dir", str(place / "run"), "-q")
    return place


@pytest.mark.slow
def test_a_number_of_steps_becomes_whole_epochs(folder: Path) -> None:
    config = load_config(folder / "run" / "config.yaml")
    assert (config.training.steps, config.training.epochs) == (None, 20)  # 222 rows are 3 batches of 64
    invoke("train", "--resume", str(folder / "run"), "-q")  # the statistics are fitted again


@pytest.mark.slow
def test_rows_get_scores_verdicts_and_labels(folder: Path) -> None:
    lines, stderr = invoke("score", str(folder / "run"), "--false-alarms", "0.02")
    assert list(lines[0]) == ["item", "label", "score", "squared_error", "mse_per_value", "threshold", "outlier"]
    assert all(line["outlier"] == (float(str(line["score"])) > float(str(line["threshold"]))) for line in lines)
    broken = {line["item"] for line in lines if line["label"] == "broken"}
    top = invoke("score", str(folder / "run"), "--top", "30", "-q")[0]
    assert {line["item"] for line in top} == broken
    assert "by the labels: AUROC 1.0000, average precision 1.0000, precision at n 1.0000" in stderr
    assert "above the threshold: 30 of 30 outliers" in stderr
    (said,) = invoke("score", str(folder / "run"), str(folder / "table.csv"), "--summary", "--false-alarms", "0.02", "-q")[0]
    assert (said["items"], said["auroc"], said["true_positives"], said["false_negatives"]) == (400, 1.0, 30, 0)
    assert said["expected_false_alarm_rate"] == pytest.approx(2 / 112)


@pytest.mark.slow
def test_explanations_name_the_broken_columns(folder: Path) -> None:
    lines = invoke("score", str(folder / "run"), "--top", "40", "--explain", "2", "-q")[0]
    for line in lines:
        assert ("because" in line) == line["outlier"]
    broken = [line["because"] for line in lines if line.get("label") == "broken"]
    for because in broken:
        assert isinstance(because, list) and len(because) == 2
        outside = ["training_range" in reason for reason in because]  # these come first
        assert outside == sorted(outside, reverse=True)
        assert outside[0] or because[0]["share"] >= because[1]["share"] > 0
        assert (
            set(because[0]) - {"training_range"} == {"column", "value", "expected", "share"} and because[0]["column"] in NAMES
        )
    with open(folder / "table.csv", newline="") as file:
        cells = list(csv.DictReader(file))
    first = next(line for line in lines if "because" in line)
    run = invoke("score", str(folder / "run"), str(folder / "table.csv"), "--top", "1", "--explain", "4", "-q")[0][0]
    for reason in run["because"]:  # type: ignore[attr-defined]
        assert reason["value"] == pytest.approx(float(cells[int(str(run["item"]))][reason["column"]]), rel=1e-5)
    assert sum(reason["share"] for reason in run["because"]) == pytest.approx(1, abs=1e-5)  # type: ignore[attr-defined]
    assert first["outlier"] is True
    assert "which CSV cannot hold" in invoke("score", str(folder / "run"), "--explain", "2", "--format", "csv", code=2)[1]


def test_the_checkpoint_holds_the_statistics(folder: Path) -> None:
    finished = checkpoint.load(folder / "run" / "best.safetensors").finished
    assert finished is not None and finished.score["references"].shape == (222, 8)
    assert checkpoint.load(folder / "run" / "last.safetensors").finished is None
    best = invoke("score", str(folder / "run"), str(folder / "table.csv"), "-q")[0]
    rows = np.genfromtxt(folder / "table.csv", delimiter=",", skip_header=1, usecols=range(4))
    found = tiedae.load(folder / "run").score(rows)
    assert found == pytest.approx([float(str(line["score"])) for line in best], rel=1e-4)


def test_labels_of_one_kind_give_no_auroc(folder: Path, tmp_path: Path) -> None:
    lines = (folder / "table.csv").read_text().splitlines()
    (tmp_path / "good.csv").write_text("\n".join([lines[0], *lines[31:60]]))
    stderr = invoke("score", str(folder / "run"), str(tmp_path / "good.csv"))[1]
    assert "all 29 labelled items are normal; AUROC needs normal and anomalous items" in stderr


@pytest.mark.slow
def test_anomaly_options_that_cannot_work_are_refused(folder: Path, tmp_path: Path) -> None:
    run = str(folder / "run")
    assert "which needs 9,999: --false-alarms" in invoke("score", run, "--false-alarms", "0.0001", code=2)[1]
    assert "cannot be combined with --top, --explain or --against" in invoke("score", run, "--summary", "--top", "3", code=2)[1]
    lines = (folder / "table.csv").read_text().splitlines()
    (tmp_path / "less.csv").write_text("\n".join(line.split(",", 1)[1] for line in lines))
    assert "lacks the columns speed" in invoke("score", run, str(tmp_path / "less.csv"), code=2)[1]
    order = [[cells[index] for index in (3, 4, 0, 2, 1)] for cells in (line.split(",") for line in lines)]
    (tmp_path / "moved.csv").write_text("\n".join(",".join(cells) for cells in order))
    moved, same = (invoke("score", run, str(path), "-q")[0] for path in (tmp_path / "moved.csv", folder / "table.csv"))
    assert moved == same


@pytest.mark.slow
def test_a_report_names_no_threshold_that_score_does_not_use(folder: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["report", str(folder / "run"), "-o", str(tmp_path / "page.html"), "-q"])
    assert result.exit_code == 0, result.output
    page = (tmp_path / "page.html").read_text()
    assert '"threshold":null' in page.replace(" ", "") and "No threshold: " in page


def test_unreadable_rows_of_a_stream_are_named_and_skipped(folder: Path) -> None:
    lines = (folder / "table.csv").read_text().splitlines()[:40]
    whole = invoke("score", str(folder / "run"), str(folder / "table.csv"), "-q")[0]
    for row, cells in ((5, "1,nan,2,3,good"), (9, "1,,2,3,good"), (20, "1,2,much,3,good")):
        lines[row] = cells
    result = CliRunner().invoke(app, ["score", str(folder / "run"), "-"], input="\n".join(lines))
    assert result.exit_code == 1
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["item"] for line in found] == [row for row in range(39) if row not in (4, 8, 19)]
    assert [line["score"] for line in found] == pytest.approx([whole[line["item"]]["score"] for line in found], rel=1e-4)
    for problem in (
        "row 5 (line 6), column power holds NaN",
        "row 9 (line 10), column power holds NaN",
        "row 20 (line 21), column heat: 'much' is not a number",
    ):
        assert f"warning: -: {problem}" in result.stderr
    assert "error: 3 could not be read, 36 are scored:" in result.stderr


@pytest.mark.parametrize(
    ("normal", "anomalies", "settings", "message"),
    [
        ("alike", 5, (), "all 16 training items are identical; training needs items that differ"),
        ("different", 5, ("data.normal=[fine]",), "data.normal: t.csv: no item has the label fine (it has broken, good)"),
        (2, 9, (), "t.csv has 2 items with the label good; with 1 for test and 1 for validation none is left for training"),
        (3, 9, (), "t.csv: there is only one training item"),
        (0, 9, (), "data.normal: t.csv: no item has the label good (it has broken)"),
    ],
)
def test_tables_with_nothing_to_learn_are_refused(
    normal: str | int, anomalies: int, settings: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    count = normal if isinstance(normal, int) else 20
    rows = [[0 if normal == "alike" else row, row % 3 if normal != "alike" else 1, "good"] for row in range(count)]
    with open("t.csv", "w", newline="") as file:
        csv.writer(file).writerows([["x", "y", "state"], *rows, *([row, -row, "broken"] for row in range(anomalies))])
    given = [word for setting in ("data.label=state", "data.normal=[good]", *settings) for word in ("--set", setting)]
    _, stderr = invoke("train", "--config", "anomalies", "--set", "data.dataset=t.csv", *given, *SMALL, code=2)
    assert message in stderr
    assert not Path("runs").exists()


@pytest.mark.slow
def test_a_table_of_normal_rows_only_trains_but_gives_no_auroc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with open("t.csv", "w", newline="") as file:
        csv.writer(file).writerows([["x", "y", "state"], *([row % 7, row % 5, "good"] for row in range(40))])
    data = ["--set", "data.dataset=t.csv", "--set", "data.label=state", "--set", "data.normal=[good]"]
    invoke("train", "--config", "anomalies", *data, *SMALL, "--run-dir", "run", "-q")
    (said,), stderr = invoke("score", "run", "--summary")
    assert said["items"] == 4 and "auroc" not in said
    assert "all 4 labelled items are normal; AUROC needs normal and anomalous items" in stderr
    assert "warning: 4 validation items are too few for a false-alarm rate of 0.01, which needs 99" in stderr
    assert "--false-alarms 0.2; less takes more data" in invoke("score", "run", "--false-alarms", "0.01", code=2)[1]
    enough = "--false-alarms 0.2, or train with --set data.validation=9\n"
    assert enough in invoke("score", "run", "--false-alarms", "0.1", code=2)[1]
