"""Rows of a series as windows: views without a copy, ranges for the splits, a score for every row, and the same from every source."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from log_capture import silently
from typer.testing import CliRunner

import tiedae_cli
from tiedae_cli.cli.app import app
from tiedae_cli.config import DataConfig
from tiedae_cli.data.item_set import Block, Splits
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.data.sources.part import stop
from tiedae_cli.data.windows import row_blocks, window_blocks, window_starts
from tiedae_cli.errors import DataError
from tiedae_cli.training.training_set import training_set

N, D, W = 103, 2, 8
ROWS = np.stack([np.arange(N) * 0.5, np.sin(np.arange(N))], 1)  # row i is known by its first value
SMALL = "--set model.hidden_sizes=[4] --set training.epochs=1 --set training.batch_size=4".split()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", ROWS)


def load(**fields: object) -> Splits:
    return silently(load_splits, DataConfig.model_validate({"dataset": "x.npy", "window": W, **fields}))


def first_rows(windows: np.ndarray) -> list[int]:
    """Return with which row of ``ROWS`` each window, (N, W * D) raw, begins."""
    return (windows[:, 0] * 2).astype(np.int64).tolist()


def test_windows_are_views_of_the_rows() -> None:
    train = load(validation=0, test=0).train
    assert len(train) == N - W + 1
    assert np.array_equal(
        train.raw(0, len(train)), np.lib.stride_tricks.sliding_window_view(ROWS, W, 0).swapaxes(1, 2).reshape(-1, W * D)
    )
    rows = training_set(train, torch.device("cpu")).rows
    assert rows.untyped_storage().data_ptr() == train.values.ctypes.data
    assert rows.untyped_storage().nbytes() == ROWS.nbytes  # no copy: 16 times as large otherwise
    assert train.form.describe() == "windows of 8 rows of 2 features"


def test_splits_are_ranges_of_rows_and_share_none() -> None:
    splits = load(validation=20, test=0.2)
    rows = {name: first_rows(splits.get(name).raw(0, 1000)) for name in ("train", "validation", "test")}
    last = N - round(0.2 * N)
    assert rows["train"] == list(range(last - 20 - W + 1))
    assert rows["validation"] == list(range(last - 20, last - W + 1))
    assert rows["test"] == list(range(last, N - W + 1))


def test_every_row_has_the_statistics_of_its_column_in_the_training_rows() -> None:
    splits = load(validation=20, test=20)
    training = ROWS[: N - 40]
    assert np.allclose(splits.form.offset.reshape(W, D), training.mean(0), rtol=1e-12)
    assert np.allclose(1 / splits.form.scale.reshape(W, D), training.std(0), rtol=1e-12)


@pytest.mark.parametrize(("rows", "window", "stride"), [(20, 8, 3), (16, 8, 8), (8, 8, 1), (9, 8, 8), (30, 5, 2)])
def test_the_last_window_ends_with_the_last_row(rows: int, window: int, stride: int) -> None:
    starts = window_starts(0, rows, window, stride)
    held = {row for start in starts for row in range(start, start + window)}
    assert held == set(range(rows)) and starts == sorted(set(starts)) and starts[-1] == rows - window


def test_normal_rows_alone_train_and_no_window_reaches_over_others() -> None:
    labels = np.zeros(N, int)
    labels[[30, 95]] = 1
    lines = ["a,b,state", *(f"{a!r},{b!r},{label}" for (a, b), label in zip(ROWS.tolist(), labels, strict=True))]
    Path("x.csv").write_text("\n".join(lines))
    splits = load(dataset="x.csv", label="state", normal=["0"], validation=20, test=20)
    train = set(first_rows(splits.train.raw(0, 1000)))
    assert train == set(range(23)) | set(range(31, first_rows(splits.validation.raw(0, 1))[0] - W + 1))
    test = first_rows(splits.test.raw(0, 1000))
    assert 95 in test and test == list(range(test[0], N - W + 1))
    assert splits.test.row_labels is not None and splits.test.row_labels.tolist() == labels[test[0] :].tolist()


@pytest.mark.parametrize("size", [1, 3, 7, 8, 50, 1000])
@pytest.mark.parametrize("stride", [1, 3, 8])
def test_a_stream_has_the_windows_of_the_array(size: int, stride: int) -> None:
    rows = np.arange(N, dtype=np.float32)[:, None]
    blocks = (Block(range(start, min(start + size, N)), rows[start : start + size]) for start in range(0, N, size))
    found = list(window_blocks(blocks, W, stride, stop))
    starts = window_starts(0, N, W, stride)
    assert [name for block in found for name in block.items] == starts
    assert np.concatenate([block.values for block in found]).tolist() == [list(range(start, start + W)) for start in starts]


def test_rows_of_a_set_come_back_from_its_windows() -> None:
    splits = load(validation=0, test=0, stride=3)
    blocks = list(row_blocks(splits.train, 10, 3))
    seen = np.concatenate([block.values for block in blocks]).astype(np.float64)
    assert [row for block in blocks for row in block.items] == list(range(N))
    assert np.allclose(seen, (ROWS - ROWS.mean(0)) / ROWS.std(0), atol=1e-6)


def trained(*settings: str) -> str:
    command = [
        "train",
        "-q",
        "--config",
        "vectors",
        "--set",
        "data.dataset=x.npy",
        "--set",
        f"data.window={W}",
        *SMALL,
        *settings,
    ]
    result = CliRunner().invoke(app, [*command, "--run-dir", "run"])
    assert result.exit_code == 0, result.output
    return "run"


def scores(*arguments: str, text: str | None = None) -> list[dict[str, float]]:
    result = CliRunner().invoke(app, ["score", "-q", "run", *arguments], input=text)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_each_row_keeps_its_label(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiedae_cli.runs.trained_run.block_size", lambda form: size)
    rows, labels = ROWS.copy(), ["odd" if number in (85, 90, 101) else "good" for number in range(N)]
    rows[[85, 90, 101]] += 1000  # strange enough for every model
    table = "\n".join(["a,b,state", *(f"{a!r},{b!r},{label}" for (a, b), label in zip(rows.tolist(), labels, strict=True))])
    Path("x.csv").write_text(table)
    own = {"dataset": "x.csv", "label": "state", "normal": "[good]", "validation": 20, "test": 30, "stride": 3}
    trained(*[text for key, value in own.items() for text in ("--set", f"data.{key}={value}")])
    for arguments, text in (((), None), (("x.csv",), None), (("-",), table)):
        lines = scores(*arguments, text=text)
        first = 0 if arguments else 70  # the test split: 30 good rows and the three among them
        assert [line["label"] for line in lines] == labels[first:]
        worst = scores(*arguments, "--top", "40", text=text)
        assert [line["label"] for line in worst] == [labels[first + int(line["item"])] for line in worst]
        (said,) = scores(*arguments, "--summary", text=text)
        errors = {kind: [line["squared_error"] for line in lines if line["label"] == kind] for kind in ("good", "odd")}
        pairs = [(high > low) + (high == low) / 2 for high in errors["odd"] for low in errors["good"]]
        assert said["auroc"] == pytest.approx(np.mean(pairs)) and len(errors["odd"]) == 3


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.slow
def test_a_row_has_the_mean_of_its_own_errors_over_the_windows_that_hold_it(stride: int) -> None:
    trained("--set", f"data.stride={stride}")
    model = tiedae_cli.load("run")
    sums, counts = np.zeros(N), np.zeros(N)
    for start in window_starts(0, N, W, stride):
        window = ROWS[start : start + W]
        seen = torch.from_numpy(model.form.normalize(window.reshape(1, -1)))
        with torch.inference_mode():
            errors = (model.module(seen) - seen).square().view(W, D).sum(1).to(torch.float64).numpy()
        sums[start : start + W] += errors
        counts[start : start + W] += 1
    Path("x.csv").write_text("\n".join(f"{a!r},{b!r}" for a, b in ROWS.tolist()))
    for found in (scores("x.npy"), scores("-", text=Path("x.csv").read_text())):
        assert [line["item"] for line in found] == list(range(N))
        assert np.allclose([line["squared_error"] for line in found], sums / counts, rtol=1e-5)
    assert np.allclose(model.score(ROWS), sums / counts, rtol=1e-5)
    assert np.allclose([line["mse_per_value"] for line in found], sums / counts / D, rtol=1e-5)


def test_codes_and_reconstructions_are_of_windows() -> None:
    trained("--set", "data.stride=4")
    model = tiedae_cli.load("run")
    starts = window_starts(0, N, W, 4)
    assert model.encode(ROWS).shape == (len(starts), 4)
    assert model.reconstruct(ROWS).shape == (len(starts), W, D)
    result = CliRunner().invoke(app, ["encode", "-q", "run", "x.npy", "--format", "jsonl"])
    assert [json.loads(line)["item"] for line in result.stdout.splitlines()] == starts


def test_a_row_that_is_left_out_tears_the_series() -> None:
    trained()
    gaps = ROWS.copy()
    gaps[[40, 43]] = np.nan
    np.save("gaps.npy", gaps)
    result = CliRunner().invoke(app, ["score", "run", "gaps.npy"])
    assert result.exit_code == 1
    assert [json.loads(line)["item"] for line in result.stdout.splitlines()] == [*range(40), *range(44, N)]
    assert "row 41 holds NaN" in result.stderr and "from row 42 on only 2 rows follow each other" in result.stderr


def test_two_files_are_two_series() -> None:
    trained()
    np.save("y.npy", ROWS[:W])
    found = scores("x.npy", "y.npy")
    alone = scores("y.npy")
    assert len(found) == N + W
    assert [line["squared_error"] for line in found[N:]] == [line["squared_error"] for line in alone]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data.stride": 9}, "data.stride: must be at most data.window (8); a larger stride skips rows"),
        ({"data.missing": "forward_fill"}, "data.missing: x.npy: forward_fill is only for tables"),
        ({"data.split_seed": 3}, "data.split_seed: has no effect with data.window, whose splits are ranges of rows; remove it"),
        ({"data.window": 200}, "x.npy: train: 83 rows; data.window asks for 200 that follow each other"),
        ({"data.validation": 3}, "x.npy: validation: 3 rows; data.window asks for 8 that follow each other"),
        ({"data.dataset": "images.npy"}, "data.window: images.npy: is only for rows of numbers"),
    ],
)
def test_what_windows_cannot_be_made_of_is_refused(settings: dict[str, object], message: str) -> None:
    np.save("images.npy", np.zeros((30, 4, 4), np.uint8))
    given = {"data.dataset": "x.npy", "data.window": W, **settings}
    options = [text for key, value in given.items() for text in ("--set", f"{key}={value}")]
    result = CliRunner().invoke(app, ["train", "--config", "vectors", *options, "--run-dir", "run"])
    assert result.exit_code == 2 and message in result.stderr, result.stderr


def test_a_model_of_windows_needs_as_many_rows() -> None:
    trained()
    with pytest.raises(DataError, match="from row 1 on only 5 rows follow each other; this model takes windows of 8"):
        tiedae_cli.load("run").score(ROWS[:5])


@pytest.mark.slow
def test_the_other_commands_know_windows() -> None:
    trained()
    for command in ("eval", "inspect"):
        result = CliRunner().invoke(app, [command, "-q", "run"])
        assert result.exit_code == 0, result.output
        assert "windows of 8 rows of 2 features" in result.stdout or command == "eval"
    Path("code.csv").write_text("0,0,0,0\n")
    result = CliRunner().invoke(app, ["decode", "-q", "run", "code.csv", "--format", "npy", "-o", "back.npy"])
    assert result.exit_code == 0 and np.load("back.npy").shape == (1, W, D), result.output
    result = CliRunner().invoke(app, ["reconstruct", "run"])
    assert result.exit_code == 2 and "takes windows of 8 rows of 2 features" in result.stderr
