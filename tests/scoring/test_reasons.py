"""``score --explain``: what carries an item's error is what a plain search over its values, its windows or its regions finds."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Tiedae
from tiny_models import DIGITS, random_bytes, save_run

import tiedae_cli
from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.data.windows import window_starts
from tiedae_cli.runs import checkpoint
from tiedae_cli.scoring.reasons import Explained, evidence
from tiedae_cli.scoring.regions import region_side

N, D, W = 83, 3, 8
ROWS = np.random.default_rng(0).normal(size=(N, D)) * [1, 10, 100] + [5, 0, -7]
SMALL = "--set model.hidden_sizes=[4] --set training.epochs=1 --set training.batch_size=4".split()


def lines(tiedae: Tiedae, *arguments: str, text: str | None = None) -> list[dict[str, object]]:
    result = tiedae(*arguments, stdin=text)
    assert result.code == 0, result.err
    return [json.loads(line) for line in result.out.splitlines() if line.startswith("{")]


@pytest.mark.slow
@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("block", [1 << 21, 5 * 512])
def test_rows_of_a_series(stride: int, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiedae: Tiedae) -> None:
    """The worst window of each row, by the row's own error, and its cells in order of their share."""
    monkeypatch.chdir(tmp_path)
    Path("x.csv").write_text("a,b,c\n" + "\n".join(",".join(map(repr, row)) for row in ROWS.tolist()))
    windows = ["--set", "data.dataset=x.csv", "--set", f"data.window={W}", "--set", f"data.stride={stride}"]
    lines(tiedae, "train", "-q", "--config", "vectors", *windows, *SMALL, "--run-dir", "run")
    model = tiedae_cli.load("run")
    finished = checkpoint.load("run/best.safetensors").finished
    assert finished is not None
    low, high = finished.reference.low.double().numpy(), finished.reference.high.double().numpy()
    worst: list[tuple[float, np.ndarray, np.ndarray, int]] = [(-1.0, np.zeros(0), np.zeros(0), 0)] * N
    for start in window_starts(0, N, W, stride):
        seen = torch.from_numpy(model.form.normalize(ROWS[start : start + W].reshape(1, -1)))
        with torch.inference_mode():
            made = model.module(seen)
        errors = (made - seen).square().to(torch.float64).view(W, D).numpy()
        answer = model.form.denormalize(made.double().numpy()).reshape(W, D)
        for row in range(W):
            if errors[row].sum() > worst[start + row][0] * (1 + 1e-9):
                worst[start + row] = (errors[row].sum(), errors, answer, start)
    monkeypatch.setattr("tiedae_cli.model.inference.BATCH_VALUES", block)
    arguments = ["score", "run", "-q", "--threshold", "-1", "--explain", "4"]
    text = Path("x.csv").read_text()
    for found in (lines(tiedae, *arguments, "x.csv"), lines(tiedae, *arguments, "-", text=text)):
        assert [line["item"] for line in found] == list(range(N))
        for line, (_, errors, answer, start) in zip(found, worst, strict=True):
            because = line["because"]
            assert isinstance(because, list)
            x = model.form.normalize(ROWS[start : start + W].reshape(1, -1)).astype(np.float64).reshape(W, D)
            beyond = np.maximum(np.maximum(low - x, x - high), 0) / (high - low)  # outside the training range
            cells = np.argsort(-np.where(beyond > 0, 1 + beyond, errors / errors.sum()).flatten(), kind="stable")[:4]
            assert ["training_range" in reason for reason in because] == (beyond.flatten()[cells] > 0).tolist()
            assert [(reason["row"], reason["column"]) for reason in because] == [
                (start + cell // D, "abc"[cell % D]) for cell in cells
            ]
            assert [reason["share"] for reason in because] == pytest.approx(errors.flatten()[cells] / errors.sum(), rel=1e-3)
            assert [reason["value"] for reason in because] == pytest.approx(
                [ROWS[start + cell // D, cell % D] for cell in cells], rel=1e-5, abs=1e-4
            )
            assert [reason["expected"] for reason in because] == pytest.approx(answer.flatten()[cells], rel=1e-3, abs=1e-3)
    few = lines(tiedae, *arguments, "--top", "3", "x.csv")
    assert [line["because"] for line in few] == [found[int(str(line["item"]))]["because"] for line in few]


def test_two_series_name_their_own_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiedae: Tiedae) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", ROWS)
    np.save("y.npy", ROWS[:20])
    lines(
        tiedae,
        "train",
        "-q",
        "--config",
        "vectors",
        "--set",
        "data.dataset=x.npy",
        "--set",
        f"data.window={W}",
        *SMALL,
        "--run-dir",
        "r",
    )
    found = lines(tiedae, "score", "r", "x.npy", "y.npy", "-q", "--threshold", "-1", "--explain", "1")
    for line in found:
        name = str(line["item"]).split("[")[0]
        assert str(line["because"][0]["row"]).startswith(f"{name}[")  # type: ignore[index]
    assert [line["because"] for line in found[:12]] != [line["because"] for line in found[N : N + 12]]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 17, 25)])
def test_regions_are_the_squares_with_the_largest_errors(shape: tuple[int, int, int]) -> None:
    """Chosen by a search over all places, none touching another one."""
    form = ItemForm(shape, scale=1 / 255)
    x, y = (torch.rand(4, form.values_per_item, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    side = region_side(form)
    assert side == (1 if shape[1] == 8 else 2)
    found = evidence(x, y, Explained(form, 3))
    errors = (y - x).square().view(4, *shape).sum(1).numpy()
    for item in range(4):
        free = [(row, column) for row in range(shape[1] - side + 1) for column in range(shape[2] - side + 1)]
        for reason in found.described(item, form):
            sums = {(r, c): errors[item, r : r + side, c : c + side].sum() for r, c in free}
            row, column = max(sums, key=lambda place: sums[place])
            assert (reason["top"], reason["left"], reason["width"], reason["height"]) == (row, column, side, side)
            assert reason["share"] == pytest.approx(sums[row, column] / errors[item].sum(), rel=1e-4)
            values = [
                255 * part[item].view(*shape)[:, row : row + side, column : column + side].mean().item() for part in (x, y)
            ]
            assert [reason["value"], reason["expected"]] == pytest.approx(values, rel=1e-4)
            free = [place for place in free if abs(place[0] - row) >= side or abs(place[1] - column) >= side]
    everything = evidence(x, y, Explained(form, 10_000))
    assert all(len(everything.described(item, form)) <= everything.shares.shape[1] for item in range(4))
    assert (everything.shares.clamp(min=0).sum(1) <= 1 + 1e-6).all()


@pytest.mark.slow
def test_numbers_are_written_as_the_table_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiedae: Tiedae) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(1)
    rows = np.stack([random.integers(0, 100, 60) / 10, random.integers(0, 9, 60) + 1e6, random.integers(0, 999, 60) * 100], 1)
    Path("x.csv").write_text("a,b,c\n" + "\n".join(",".join(map(repr, row)) for row in rows.tolist()))
    lines(tiedae, "train", "-q", "--config", "vectors", "--set", "data.dataset=x.csv", *SMALL, "--run-dir", "run")
    for line in lines(tiedae, "score", "run", "x.csv", "-q", "--threshold", "-1", "--explain", "3"):
        for reason in line["because"]:  # type: ignore[attr-defined]
            assert reason["value"] == rows[int(str(line["item"])), "abc".index(reason["column"])]


def test_regions_of_image_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiedae: Tiedae) -> None:
    monkeypatch.chdir(tmp_path)
    save_run(Path("runs"), "digits", DIGITS)
    np.save("x.npy", random_bytes(5, 8, 8).numpy())
    found = lines(tiedae, "score", "digits", "x.npy", "-q", "--threshold", "0", "--explain", "2")
    for line in found:
        because = line["because"]
        assert isinstance(because, list) and len(because) == 2
        assert list(because[0]) == ["left", "top", "width", "height", "value", "expected", "share"]


def test_a_value_outside_the_training_range_is_named_first() -> None:
    """The error of the third value is the largest, but the first one is what no training item has."""
    form = ItemForm((1, 1, 3), "vectors", np.array([100.0, 0, 0]), np.array([0.5, 1, 1]))
    x, made = torch.tensor([[-4.0, 0, 2], [0, 0, 2]]), torch.tensor([[-3.9, 0, 0], [0, 0, 0]])
    found = evidence(x, made, Explained(form, 2, (torch.tensor([-1.0, -3, -3]), torch.tensor([1.0, 3, 3]))))
    first, second = (found.described(index, form) for index in (0, 1))
    assert [reason["column"] for reason in first] == [0, 2] and first[0]["training_range"] == [98, 102]
    assert first[0]["value"] == 92 and first[0]["share"] < first[1]["share"] and "training_range" not in first[1]
    assert second[0]["column"] == 2 and "training_range" not in second[0]


@pytest.mark.slow
def test_a_stuck_sensor_is_named_first_with_its_value(tmp_path: Path, tiedae: Tiedae) -> None:
    """A valve closes: the flow falls to 32, while training has 125 +- 1.6; a noisy column carries errors of its own."""
    random = np.random.default_rng(0)

    def rows(count: int) -> np.ndarray:
        noise = random.normal(size=(count, 3)) * [0.3, 3, 0.2]
        values: np.ndarray = noise + np.stack(
            [125 + 1.6 * np.sin(np.arange(count) / 9), np.full(count, 228.0), np.zeros(count)], 1
        )
        return values

    new = rows(120)
    new[60:90, 0] = 32
    for name, values in (("train.csv", rows(500)), ("new.csv", new)):
        np.savetxt(tmp_path / name, values, delimiter=",", header="flow,voltage,pressure", comments="", fmt="%.4f")
    words = ["data.window=10", "epochs=2", "hidden_sizes=[16,6]", "data.validation=100", "--run-dir", tmp_path / "run"]
    assert tiedae("train", "-q", tmp_path / "train.csv", *words).code == 0
    found = tiedae("score", tmp_path / "run", tmp_path / "new.csv", "-q", "--explain", "2").lines
    for line in found[60:90]:
        first = line["because"][0]
        assert line["outlier"] and first["column"] == "flow" and first["value"] == 32
        assert 120 < first["training_range"][0] < first["training_range"][1] < 130
