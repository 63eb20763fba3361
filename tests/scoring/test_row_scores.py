"""A model of windows has a row score and a window score: each has its own name and its own threshold."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Tiedae

import tiedae_cli
from tiedae_cli.data.item_set import Block
from tiedae_cli.data.windows import row_form
from tiedae_cli.runs.trained_run import open_run
from tiedae_cli.scoring.scorer import Scorer

N, D, W, HELD_OUT = 103, 2, 8, 20
ROWS = np.stack([np.arange(N) * 0.5, np.sin(np.arange(N))], 1)
SETTINGS = (f"data.window={W}", f"data.validation={HELD_OUT}", "data.test=25", "model.hidden_sizes=[4]", "training.epochs=1")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiedae: Tiedae) -> Path:
    folder = tmp_path_factory.mktemp("series")
    np.save(folder / "x.npy", ROWS)
    given = [word for setting in (f"data.dataset={folder / 'x.npy'}", *SETTINGS) for word in ("--set", setting)]
    invoke(tiedae, "train", "-q", "--config", "vectors", *given, "--run-dir", str(folder / "run"))
    return folder / "run"


def invoke(tiedae: Tiedae, *arguments: str) -> tuple[str, str]:
    result = tiedae(*arguments)
    assert result.code == 0, result.err
    return result.out, result.err


@pytest.mark.slow
def test_score_judges_rows_by_the_row_scores_of_the_validation_rows(run: Path, tiedae: Tiedae) -> None:
    stdout, stderr = invoke(tiedae, "score", str(run), "--summary", "--false-alarms", "0.1")
    said = json.loads(stdout)
    held_out = tiedae_cli.load(run).score(ROWS[N - 25 - HELD_OUT : N - 25])
    assert held_out.shape == (HELD_OUT,)
    assert said["threshold"] == pytest.approx(np.sort(held_out)[-2], rel=1e-5)  # 2 of 21 places are above it
    assert f"threshold: row score {said['threshold']:.6g} by {HELD_OUT} validation items" in stderr
    assert said["expected_false_alarm_rate"] == pytest.approx(2 / 21)
    assert "false_alarm_rate_interval" not in said and "interval" not in stderr  # rows of a series are not independent


def test_a_report_judges_whole_windows_and_says_so(run: Path, tmp_path: Path, tiedae: Tiedae) -> None:
    invoke(tiedae, "report", str(run), "-o", str(tmp_path / "page.html"), "--quantile", "0.8", "-q")
    page = (tmp_path / "page.html").read_text()
    opened = open_run(run, "cpu")
    windows = opened.splits.validation
    found = Scorer(opened).item_scores(windows)
    model, seen = opened.network, torch.as_tensor(windows.batch(0, len(windows)))
    with torch.inference_mode():
        assert found.tolist() == pytest.approx((model(seen) - seen).square().sum(1).tolist(), rel=1e-5)
    threshold = found.sort().values[-2].item()  # of 13 windows: 2 of 14 places are above it
    assert len(found) == HELD_OUT - W + 1
    assert float(re.findall(r'"threshold": ?([0-9.e-]+)', page)[0]) == pytest.approx(threshold, rel=1e-9)
    assert "are above the threshold of the window score" in page
    by_row = Scorer(opened).threshold(0.2)
    assert by_row is not None
    assert float(re.findall(r'"row_threshold": ?([0-9.e-]+)', page)[0]) == by_row.value
    assert "The threshold of the row score, by which <code>score</code> judges" in page


def test_inspect_and_the_summary_name_both_scores(run: Path, tiedae: Tiedae) -> None:
    scorer = Scorer(open_run(run, "cpu"))
    by_row, by_window = scorer.threshold(0.01), scorer.item_threshold(0.01)
    assert by_row is not None and by_window is not None and by_row.value != by_window.value
    stdout, _ = invoke(tiedae, "inspect", str(run), "--json")
    assert json.loads(stdout)["thresholds"] == {"row score": by_row.value, "window score": by_window.value}
    said, _ = invoke(tiedae, "inspect", str(run))
    assert f"row score {by_row.value:.4g} by {HELD_OUT} rows" in " ".join(said.split())
    assert f"window score {by_window.value:.4g} by {HELD_OUT - W + 1} windows" in " ".join(said.split())
    stdout, _ = invoke(tiedae, "score", str(run), "--summary")
    assert json.loads(stdout)["score"] == "row score" and json.loads(stdout)["threshold"] == by_row.value


@pytest.mark.parametrize("size", [1, 7, 200])
def test_the_reconstruction_of_a_row_is_its_mean_over_the_windows_that_hold_it(run: Path, size: int) -> None:
    opened = open_run(run, "cpu")
    seen = row_form(opened.form).normalize(ROWS)
    blocks = [Block(range(at, min(at + size, N)), seen[at : at + size]) for at in range(0, N, size)]
    found = [scored.reconstructions for scored in Scorer(opened).score(iter(blocks), reconstructs=True)]
    made = torch.cat([block for block in found if block is not None])
    windows = torch.from_numpy(
        np.lib.stride_tricks.sliding_window_view(seen, W, 0).transpose(0, 2, 1).reshape(-1, W * D).copy()
    )
    with torch.inference_mode():
        answers = opened.network(windows).view(-1, W, D).double()
    for row in range(N):
        starts = range(max(0, row - W + 1), min(row, N - W) + 1)
        expected = torch.stack([answers[start, row - start] for start in starts]).mean(0)
        torch.testing.assert_close(made[row], expected, rtol=1e-5, atol=1e-5)
