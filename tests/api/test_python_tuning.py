"""``tiedae.tune``: the runs of the command, as a table and a figure."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiedae

X = np.random.default_rng(0).normal(size=(150, 6)) @ np.random.default_rng(1).normal(size=(6, 6))
SMALL: dict[str, Any] = {"epochs": 2, "hidden_sizes": [8, 2], "batch_size": 20, "quiet": True}


@pytest.mark.slow
def test_values_in_lists_become_runs_in_a_table_with_a_figure(empty_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = tiedae.tune(X, code_size=[2, 4], seed=range(2), **SMALL)
    assert [(one["seed"], one["code_size"]) for one in found.runs] == [(0, 2), (0, 4), (1, 2), (1, 4)]
    run = tiedae.train(X, code_size=4, seed=1, **SMALL)
    assert found.runs[3]["validation_mse_per_value"] == run.results["mse_per_value"]
    assert found.runs[3]["pca_mse_per_value"] == pytest.approx(run.results["pca_mse_per_value"], rel=1e-5)
    best = min(found.runs, key=lambda one: one["validation_mse_per_value"])
    assert [one["chosen"] for one in found.runs].count(True) == 1 and best["chosen"]
    (axes,) = found.figure.axes
    assert list(np.asarray(axes.lines[0].get_xdata())) == [2, 4]
    assert found.statement.startswith("90% of the variance: PCA ") and found.statement in repr(found)
    assert found.model.evaluate(X)["model"]["mse_per_value"] is not None and "<img" in found._repr_html_()
    assert found.config is not None and found.config.model.hidden_sizes == (8, best["code_size"])
    assert os.listdir() == [] and capfd.readouterr() == ("", "")


def test_the_table_is_a_data_frame(empty_folder: Path) -> None:
    pytest.importorskip("pandas", reason="needs pandas")
    frame = tiedae.tune(X, learning_rate=[0.01, 0.001], **SMALL).frame
    assert frame["learning_rate"].tolist() == [0.01, 0.001] and frame["chosen"].sum() == 1


@pytest.mark.slow
def test_a_folder_keeps_the_runs_for_the_next_call(empty_folder: Path) -> None:
    lists: dict[str, Any] = {**SMALL, "hidden_sizes": [[8, 2], [8, 3]]}
    first = tiedae.tune(X, run_dir="kept", **lists)
    times = {path: path.stat().st_mtime_ns for path in Path("kept").glob("*/last.safetensors")}
    again = tiedae.tune(X, run_dir="kept", **lists)
    assert len(times) == 2 and times == {path: path.stat().st_mtime_ns for path in times}
    assert first.config is not None and tiedae.load("kept").config.model == first.config.model
    assert first.runs == again.runs


def test_what_varies_nothing_is_refused() -> None:
    with pytest.raises(tiedae.InputError, match="nothing varies"):
        tiedae.tune(X, code_size=2)
    with pytest.raises(tiedae.InputError, match="code_size: a search chooses values by itself"):
        tiedae.tune(X, code_size=[2, 4], trials=3)
    with pytest.raises(tiedae.InputError, match="figure: all codes have the same size"):
        _ = tiedae.tune(X, seed=[1, 2], **SMALL).figure
