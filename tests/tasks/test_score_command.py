"""``score``: errors, thresholds, ranking and AUROC match their definitions; an unreadable file does not stop it."""

import csv
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny_models import DIGITS, VECTORS, parts_of, random_bytes, save_run
from typer.testing import CliRunner

import tiedae_cli
from tiedae_cli.cli.app import app
from tiedae_cli.config import DataConfig
from tiedae_cli.data.item_reader import Block
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.runs import checkpoint
from tiedae_cli.runs.calibration import calibrate
from tiedae_cli.scoring.detection_metrics import average_precision, precision_at_n
from tiedae_cli.scoring.scored import Scored
from tiedae_cli.scoring.tally import Worst

PIXELS = random_bytes(11, 8, 8)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TiedAutoencoder:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", PIXELS.numpy())
    made = save_run(Path("runs"), "digits", DIGITS)
    best = Path("runs/digits/best.safetensors")
    parts = parts_of(DIGITS, 4)
    wide = replace(parts.reference, deviation=torch.full((64,), 100.0, dtype=torch.float64))  # nothing is unlike it
    parts = replace(parts, reference=wide, calibration=calibrate(split_errors(made, "validation")))
    replace(checkpoint.load(best), finished=parts).save(best)
    os.link("runs/digits/best.safetensors", "runs/digits/last.safetensors")
    return made


def run(*arguments: str, code: int = 0) -> tuple[list[dict[str, object]], str]:
    """Run ``score`` in this process; return the objects on stdout and stderr."""
    result = CliRunner().invoke(app, ["score", *arguments])
    assert result.exit_code == code, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()], result.stderr


def errors_of(model: TiedAutoencoder, x: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return (model(x) - x).square().sum(1).to(torch.float64)


def split_errors(model: TiedAutoencoder, split: str) -> torch.Tensor:
    images = load_splits(DataConfig()).get(split)
    return errors_of(model, torch.from_numpy(images.batch(0, len(images))))


def numbers(lines: list[dict[str, object]], key: str) -> list[float]:
    return [float(line[key]) for line in lines]  # type: ignore[arg-type]


@pytest.mark.parametrize("block_values", [1 << 21, 5 * 64])
def test_score_writes_every_item_in_order_with_the_threshold(
    model: TiedAutoencoder, monkeypatch: pytest.MonkeyPatch, block_values: int
) -> None:
    monkeypatch.setattr("tiedae_cli.model.inference.BATCH_VALUES", block_values)
    lines, stderr = run()
    expected, validation = split_errors(model, "test"), split_errors(model, "validation")
    threshold = validation.sort().values[198].item()  # 2 of 201 places are above the 199th of 200
    assert [line["item"] for line in lines] == list(range(300))
    assert list(lines[0]) == ["item", "squared_error", "mse_per_value", "threshold", "outlier"]
    assert numbers(lines, "squared_error") == pytest.approx(expected.tolist(), rel=1e-5)
    assert numbers(lines, "mse_per_value") == pytest.approx((expected / 64).tolist(), rel=1e-5)
    assert numbers(lines, "threshold") == pytest.approx([threshold] * 300, rel=1e-6)
    assert [line["outlier"] for line in lines] == (expected > threshold).tolist()
    count = int((expected > threshold).sum())
    assert stderr == (
        f"threshold: squared error {threshold:.6g} by 200 validation items; "
        "expected false alarms 0.00995 (95% interval 0.0012 to 0.028)\n"
        f"{count} of 300 items are above the threshold\n"
    )


def test_quantile_and_threshold_set_the_limit(model: TiedAutoencoder) -> None:
    lines, _ = run("--quantile", "0.5")
    assert lines[0]["threshold"] == pytest.approx(split_errors(model, "validation").median().item(), rel=0.01)
    assert lines[0]["threshold"] == pytest.approx(split_errors(model, "validation").sort().values[100].item(), rel=1e-6)
    assert run("--false-alarms", "0.5")[0] == lines
    stderr = run("--false-alarms", "0.001", code=2)[1]
    assert "200 validation items are too few for a false-alarm rate of 0.001, which needs 999: --false-alarms 0.005" in stderr
    lines, _ = run("x.npy", "--threshold", "20.5")
    assert lines[0]["threshold"] == 20.5
    assert (
        "--quantile and --threshold: only one of them can be given" in run("--quantile", "0.5", "--threshold", "1", code=2)[1]
    )


def test_top_writes_the_highest_scores_first(model: TiedAutoencoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiedae_cli.model.inference.LEAST_WIDTH", 1)
    monkeypatch.setattr("tiedae_cli.model.inference.BATCH_VALUES", 7 * 64)
    lines, _ = run("--top", "5", "-q")
    expected, order = split_errors(model, "test").sort(descending=True)
    assert [line["item"] for line in lines] == order[:5].tolist()
    assert numbers(lines, "squared_error") == pytest.approx(expected[:5].tolist(), rel=1e-5)
    assert len(run("x.npy", "--top", "50")[0]) == 11


@given(st.lists(st.lists(st.integers(0, 5), max_size=6), max_size=6), st.integers(1, 8))
@pytest.mark.slow
def test_ties_among_the_highest_scores_keep_the_first_items(blocks: list[list[int]], count: int) -> None:
    worst = Worst(count)
    for number, block in enumerate(blocks):
        items = [f"{number}.{place}" for place in range(len(block))]
        errors = torch.tensor(block, dtype=torch.float64)
        worst.add(Scored(Block(items, errors[:, None].to(torch.float32).numpy()), errors))
    flat = [(error, f"{number}.{place}") for number, block in enumerate(blocks) for place, error in enumerate(block)]
    expected = sorted(flat, key=lambda pair: -pair[0])[:count]
    if worst.scored is None:
        assert not blocks
        return
    assert list(zip(worst.scored.scores.tolist(), worst.scored.block.items, strict=True)) == expected
    assert worst.scored.block.values.flatten().tolist() == worst.scored.squared_errors.tolist()


def test_score_csv_holds_the_same_as_json_lines(model: TiedAutoencoder) -> None:
    lines, _ = run("x.npy")
    result = CliRunner().invoke(app, ["score", "x.npy", "--format", "csv"])
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [{key: json.loads(value) for key, value in row.items()} for row in rows] == lines
    result = CliRunner().invoke(app, ["score", "x.npy", "-o", "scores.csv"])
    assert result.stdout == "scores.csv\n"
    assert list(csv.DictReader(io.StringIO(Path("scores.csv").read_text()))) == rows
    result = CliRunner().invoke(app, ["score", "x.npy", "-o", "scores.csv", "--json"])
    said = json.loads(result.stdout)
    assert (said["output"], said["items"], said["threshold"]) == ("scores.csv", 11, lines[0]["threshold"])
    assert said["outliers"] == sum(line["outlier"] is True for line in lines)


def make_folder() -> None:
    Path("photos/sub").mkdir(parents=True)
    for index in range(3):
        Image.fromarray(PIXELS[index].numpy()).save(f"photos/{index}.png")
    Image.fromarray(PIXELS[3].numpy()).save("photos/sub/a.png")
    Path("photos/1.png").write_bytes(b"no image")


def test_a_bad_file_in_a_folder_is_named_and_the_rest_is_scored(model: TiedAutoencoder) -> None:
    make_folder()
    lines, stderr = run("photos", "--contact-sheet", "worst.png", code=1)
    assert [line["item"] for line in lines] == ["photos/0.png", "photos/2.png", "photos/sub/a.png"]
    expected = errors_of(model, torch.from_numpy(DIGITS.normalize(PIXELS[[0, 2, 3]].reshape(3, 64).numpy())))
    assert numbers(lines, "squared_error") == pytest.approx(expected.tolist(), rel=1e-5)
    problem = "photos/1.png: not an image that can be decoded (unknown format)"
    assert f"warning: {problem}; skipped\n" in stderr
    assert stderr.endswith(f"error: 1 could not be read, 3 are scored:\n{problem}\n")
    assert Path("worst.png").stat().st_size > 1000
    _, stderr = run("photos", "-q", code=1)
    assert stderr == f"error: 1 could not be read, 3 are scored:\n{problem}\n"
    result = CliRunner().invoke(app, ["score", "photos", "-o", "scores.jsonl"])
    assert result.exit_code == 1
    assert [json.loads(line) for line in Path("scores.jsonl").read_text().splitlines()] == lines


def test_score_fails_with_wrong_input_if_no_item_can_be_scored(model: TiedAutoencoder) -> None:
    make_folder()
    lines, stderr = run("photos/1.png", "-q", code=2)
    assert (lines, stderr) == ([], "error: photos/1.png: not an image that can be decoded (unknown format)\n")
    assert "missing.png: no such file or folder" in run("photos", "missing.png", code=2)[1]
    np.save("wrong.npy", np.zeros((2, 9, 9), np.uint8))
    lines, stderr = run("wrong.npy", "x.npy", code=1)
    assert len(lines) == 11
    assert "wrong.npy: an array of shape 2 x 9 x 9, uint8; this model takes 8x8 gray images" in stderr


def test_unreadable_rows_are_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_run(Path("runs"), "vectors", VECTORS, dataset="nowhere", output="linear")
    rows = np.ones((30, 6), np.float32)
    rows[5:20, 2] = np.nan
    rows[25], rows[26] = 1e25, 3e38  # the first one's square overflows float32; the second overflows in the model
    np.save("v.npy", rows)
    lines, stderr = run("vectors", "v.npy", "--no-threshold", code=1)
    assert [line["item"] for line in lines] == [*range(5), *range(20, 26), *range(27, 30)]
    found = tiedae_cli.load("runs/vectors/best.safetensors")
    seen = torch.from_numpy(found.form.normalize(rows[25:26]))
    with torch.inference_mode():
        own = (found.module(seen).double() - seen.double()).square().sum().item()
    assert lines[10]["squared_error"] == pytest.approx(own, rel=1e-6) and own > 1e50
    assert list(lines[0]) == ["item", "squared_error", "mse_per_value"]
    assert stderr.count("; skipped") == 10
    assert stderr.endswith("and 6 more\n")
    np.save("huge.npy", rows[24:27])
    assert "row 3: its values are too large for this model; skipped" in run("vectors", "huge.npy", "--no-threshold", code=1)[1]
    assert "no threshold, because its training was killed" in run("vectors", "v.npy", "--quantile", "0.9", code=2)[1]
    assert "which are not images" in run("vectors", "v.npy", "--contact-sheet", "w.png", code=2)[1]
    lines, stderr = run("vectors", "v.npy", "--threshold", "1e30", code=1)
    assert [line["outlier"] for line in lines] == [index == 10 for index in range(14)]
    assert "no threshold" not in stderr


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["squared_error", "neighbours", "windows"])
def test_a_value_too_large_for_float32_squares_is_named_by_column(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    np.save("x.npy", rows)
    extra = {"windows": ["data.window=4"], "neighbours": ["score.rank=neighbours"], "squared_error": []}[kind]
    settings = [
        "data.dataset=x.npy",
        "model.hidden_sizes=[2]",
        "linear_path=none",
        "model.code_activation=tanh",
        "training.epochs=1",
        *extra,
    ]
    options = [word for setting in settings for word in ("--set", setting)]
    trained = CliRunner().invoke(app, ["train", "-q", "--config", "vectors", *options, "--run-dir", "run"])
    assert trained.exit_code == 0, trained.output
    rows[7, 2] = 1e25
    np.save("x.npy", rows)
    np.save("y.npy", rows[:20])
    found = tiedae_cli.load("run").form
    scale = torch.as_tensor(found.scale).flatten()[2].item()
    lines, _ = run("run", "y.npy", "--threshold", "1e10", "--explain", "2")
    assert [line["item"] for line in lines] == list(range(20))
    assert [line["outlier"] for line in lines] == [index == 7 for index in range(20)]
    assert lines[7]["squared_error"] == pytest.approx((1e25 * scale) ** 2, rel=1e-5)
    first = lines[7]["because"][0]  # type: ignore[index]
    assert first["column"] == 2 and first["share"] == pytest.approx(1) and first["value"] == pytest.approx(1e25, rel=1e-6)
    (said,) = run("run", "y.npy", "--threshold", "1", "--summary")[0]
    assert said["squared_error_per_item"] == pytest.approx(sum(numbers(lines, "squared_error")) / 20)
    ranked = "score" if kind == "neighbours" else "squared_error"
    assert tiedae_cli.load("run").score(rows[:20]) == pytest.approx(numbers(lines, ranked), rel=1e-4)


@pytest.mark.slow
def test_against_measures_how_well_known_anomalies_are_separated(
    model: TiedAutoencoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiedae_cli.model.inference.LEAST_WIDTH", 1)
    monkeypatch.setattr("tiedae_cli.model.inference.BATCH_VALUES", 7 * 64)
    lines, _ = run("--against", "x.npy", "--quantile", "0.9")
    usual, others = (
        split_errors(model, "test"),
        errors_of(model, torch.from_numpy(DIGITS.normalize(PIXELS.reshape(11, 64).numpy()))),
    )
    threshold = split_errors(model, "validation").sort().values[180].item()  # 20 of 201 places are above
    found, alarms = int((others > threshold).sum()), int((usual > threshold).sum())
    pairs = (others[:, None] > usual[None]).to(torch.float64).mean().item()
    assert lines == [
        {
            "items": 300,
            "against": "x.npy",
            "intruders": 11,
            "auroc": pytest.approx(pairs, abs=1e-12),
            "squared_error_per_item": pytest.approx(usual.mean().item(), rel=1e-5),
            "intruders_squared_error_per_item": pytest.approx(others.mean().item(), rel=1e-5),
            "average_precision": pytest.approx(average_precision(usual, others), abs=1e-9),
            "precision_at_n": pytest.approx(precision_at_n(usual, others), abs=1e-9),
            "threshold": pytest.approx(threshold, rel=1e-5),
            "true_positives": found,
            "false_positives": alarms,
            "false_negatives": 11 - found,
            "true_negatives": 300 - alarms,
            "false_alarm_rate": pytest.approx((usual > threshold).to(torch.float64).mean().item()),
            "detection_rate": pytest.approx((others > threshold).to(torch.float64).mean().item()),
        }
    ]
    assert run("--against", "digits")[0][0]["auroc"] == 0.5  # a data set's test split, which is the same one here
    assert run("x.npy", "--against", "digits")[0][0]["auroc"] == pytest.approx(1 - pairs, abs=1e-12)
    for option in ("--top", "--explain"):
        assert "cannot be combined with --top, --explain or --id" in run("--against", "x.npy", option, "3", code=2)[1]
    for words in (["-o", "u.csv"], ["-o", "u.CSV"], ["-o", "u.jsonl", "--format", "csv"], ["--format", "csv"]):
        assert "which CSV cannot hold; use --format jsonl" in run("x.npy", "--explain", "2", *words, code=2)[1]
    written = CliRunner().invoke(app, ["score", *"x.npy --explain 1 -o u.csv --format jsonl --threshold 0".split()])
    assert written.exit_code == 0, written.output
    assert all("because" in json.loads(line) for line in Path("u.csv").read_text().splitlines())
    assert "nobody: no such file or folder" in run("--against", "nobody", code=2)[1]
    np.save("none.npy", np.zeros((0, 8, 8), np.uint8))
    assert "no intruders in none.npy: nothing to compare" in run("--against", "none.npy", code=2)[1]


def test_the_contact_sheet_shows_the_worst_sharply(model: TiedAutoencoder) -> None:
    lines, stderr = run("x.npy", "--top", "2", "--contact-sheet", "worst.png", "--threshold", "0")
    assert "the 2 worst: worst.png\n" in stderr
    sheet = np.asarray(Image.open("worst.png").convert("L"))
    assert sheet.shape == (50 + 96 + 36 + 14, 14 + 2 * (3 * 96 + 4 + 14))  # one row: title, pictures, captions, gap
    for index, line in enumerate(lines):
        left = 14 + index * (3 * 96 + 4 + 14)
        cell = sheet[50 : 50 + 96, left : left + 96].reshape(8, 12, 8, 12)
        assert (cell == cell[:, :1, :, :1]).all()
        assert np.abs(cell[:, 0, :, 0].astype(int) - PIXELS[line["item"]].numpy().astype(int)).max() <= 1  # type: ignore[index]
        caption = np.asarray(Image.open("worst.png").convert("RGB"))[146:180, left : left + 60].astype(int)
        assert (caption[..., 0] - caption[..., 2]).max() > 100  # in the accent color


@pytest.mark.slow
@pytest.mark.parametrize(("most", "code"), [(0, 3), (1, 3), (2, 0)])
def test_more_outliers_than_allowed_end_with_exit_code_3(most: int, code: int, model: TiedAutoencoder) -> None:
    errors = sorted(numbers(run("x.npy", "-q")[0], "squared_error"))
    arguments = ("x.npy", "--threshold", str(errors[-3]), "--fail-above", str(most))
    lines, stderr = run(*arguments, code=code)
    assert sum(bool(line["outlier"]) for line in lines) == 2  # all is written before
    assert (f"error: 2 outliers, --fail-above allows {most}\n" in stderr) == (code == 3)
    assert run(*arguments, "--summary", "-q", code=code)[0][0]["outliers"] == 2


def test_outliers_win_over_unreadable_items_which_are_counted(model: TiedAutoencoder) -> None:
    Path("photos").mkdir()
    Image.fromarray(PIXELS[0].numpy()).save("photos/0.png")
    Path("photos/1.png").write_bytes(b"not an image")
    lines, stderr = run("photos", "--threshold", "0", "--fail-above", "0", "--summary", code=3)
    assert lines[0]["outliers"] == 1 and lines[0]["unreadable"] == 1
    assert "photos/1.png" in stderr and stderr.endswith("1 outlier, --fail-above allows 0; 1 item could not be read\n")
    assert run("photos", "--threshold", "1e9", "--fail-above", "0", code=1)[0][0]["outlier"] is False
    assert "--fail-above counts outliers" in run("x.npy", "--no-threshold", "--fail-above", "0", code=2)[1]
