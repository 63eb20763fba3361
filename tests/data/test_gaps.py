"""Gaps in time series: filled from earlier rows of the same series, as pandas does, or the end of a window; also in ``score``."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Tiedae
from log_capture import captured_log

import tiedae_cli
from tiedae_cli.config import DataConfig
from tiedae_cli.config.yaml_reader import parse_config
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.errors import ConfigError

pd: Any = pytest.importorskip("pandas", reason="compares with pandas")

WINDOW = 3


def rows(seed: int = 0, count: int = 40) -> Any:
    """Rows of two series after each other, with gaps: one at the start of each series, single ones and a run."""
    chance = np.random.default_rng(seed)
    found = pd.DataFrame(chance.normal(size=(count, 2)).round(4), columns=["a", "b"])
    found["machine"] = ["m1"] * (count // 2) + ["m2"] * (count // 2)
    for place, column in [
        (0, "a"),
        (5, "a"),
        (6, "a"),
        (6, "b"),
        (11, "b"),
        (count // 2, "b"),
        (count // 2 + 1, "b"),
        (30, "a"),
    ]:
        found.loc[place, column] = np.nan
    return found


def load(**fields: Any) -> np.ndarray:
    keys = {"dataset": "x.csv", "validation": 0, "test": 0, "window": WINDOW, **fields}
    return np.asarray(load_splits(DataConfig.model_validate(keys)).train.raw(0, 999).reshape(-1, WINDOW, 2))


def windows_of(parts: list[np.ndarray]) -> np.ndarray:
    return np.array([part[start : start + WINDOW] for part in parts for start in range(len(part) - WINDOW + 1)])


def test_gaps_are_filled_from_earlier_rows_of_the_same_series() -> None:
    rows().to_csv("x.csv", index=False)
    filled = rows().groupby("machine")[["a", "b"]].ffill()
    parts = [filled[rows().machine == name].dropna().to_numpy() for name in ("m1", "m2")]
    with captured_log() as log:
        found = load(series="machine", missing="forward_fill")
    np.testing.assert_array_equal(found, windows_of(parts))
    assert (
        "5 missing values filled from earlier rows (data.missing: forward_fill); 3 rows before a column's first value skipped"
        in ("\n".join(log))
    )


@pytest.mark.parametrize("kind", ["table", "array"])
def test_dropping_a_row_ends_a_window_there(kind: str) -> None:
    values = rows()[["a", "b"]]
    whole = values.notna().all(axis=1).to_numpy()
    runs = np.split(np.arange(40), np.flatnonzero(~whole))
    parts = [values.to_numpy()[run[whole[run]]] for run in runs]
    if kind == "table":
        values.to_csv("x.csv", index=False)
    else:
        np.save("x.npy", values.to_numpy())
    with captured_log():
        found = load(dataset="x.csv" if kind == "table" else "x.npy", missing="drop")
    np.testing.assert_array_equal(found, windows_of(parts))


def test_no_gap_is_filled_from_another_file() -> None:
    Path("days").mkdir()
    for name, seed in (("1", 1), ("2", 2)):
        rows(seed).drop(columns="machine").to_csv(f"days/{name}.csv", index=False)
    parts = [rows(seed)[["a", "b"]].ffill().dropna().to_numpy() for seed in (1, 2)]
    with captured_log():
        np.testing.assert_array_equal(load(dataset="days", missing="forward_fill"), windows_of(parts))


def test_only_series_have_earlier_rows(tiedae: Tiedae) -> None:
    with pytest.raises(ConfigError, match="forward_fill is for time series, with data.window above 1"):
        parse_config("data: {dataset: x.csv, missing: forward_fill}", "x.yaml")
    np.save("x.npy", np.zeros((20, 2)))
    with pytest.raises(ConfigError, match="forward_fill is only for tables"):
        load(dataset="x.npy", missing="forward_fill")
    with pytest.raises(ConfigError, match=r"fill in the gaps first, in pandas with X\.ffill\(\)"):
        tiedae_cli.train(np.zeros((20, 2)), missing="forward_fill", window=3, quiet=True)


@pytest.mark.slow
def test_scores_of_filled_rows_are_those_of_a_table_without_gaps(tiedae: Tiedae) -> None:
    gaps = rows().drop(columns="machine")
    gaps.to_csv("x.csv", index=False)
    gaps.ffill().to_csv("filled.csv", index=False)
    keys = ["window=3", "missing=forward_fill", "hidden_sizes=2", "epochs=1", "-q", "--run-dir", "run"]
    made = tiedae("train", "x.csv", *keys)
    assert made.code == 0, made.err
    scored = tiedae("score", "run", "x.csv", "--no-threshold")
    assert scored.code == 0 and "missing values filled from earlier rows" in scored.err
    assert scored.lines == tiedae("score", "run", "filled.csv", "--no-threshold").lines
    piped = tiedae("score", "run", "-", "--no-threshold", stdin=Path("x.csv").read_bytes())
    assert piped.lines == scored.lines
