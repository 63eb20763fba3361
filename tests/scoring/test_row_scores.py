"""A model of windows has a row score and a window score: each has its own name and its own threshold."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Tiedae

import tiedae_cli
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
    assert "above the threshold for whole windows" in page and "score</code> has another threshold, for rows" in page
