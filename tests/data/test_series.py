"""Time series in tables: no window spans two series, a gap in time or rows out of order, in training and in every command."""

import datetime
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from log_capture import captured_log, silently
from typer.testing import CliRunner

from tiedae_cli.cli.app import app
from tiedae_cli.config import DataConfig
from tiedae_cli.data.item_reader import ItemReader
from tiedae_cli.data.item_set import ItemSet, time_texts
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.errors import ConfigError, DataError

START = datetime.datetime(2024, 3, 1, tzinfo=datetime.UTC)


def load(path: str, **fields: object) -> ItemSet:
    values = {"dataset": path, "validation": 0, "test": 0, "window": 4, "scaling": "none", **fields}
    return load_splits(DataConfig.model_validate(values)).train


def firsts(items: ItemSet) -> list[float]:
    """Return the first value of each window."""
    found: list[float] = items.batch(0, len(items))[:, 0].tolist()
    return found


def write(hours: list[float], form: str = "iso", name: str = "x.csv") -> str:
    """Write a series with values that count its rows, at these hours."""
    times: dict[str, Callable[[datetime.datetime], str]] = {
        "iso": lambda when: when.replace(tzinfo=None).isoformat(" "),
        "zone": lambda when: when.isoformat(),
        "german": lambda when: when.strftime("%d.%m.%Y %H:%M"),
        "american": lambda when: when.strftime("%m/%d/%Y %I:%M %p"),
        "s": lambda when: str(int(when.timestamp())),
        "ms": lambda when: str(int(when.timestamp() * 1000)),
        "ns": lambda when: f"{int(when.timestamp())}000000000",
    }
    rows = [f"{times[form](START + datetime.timedelta(hours=hour))},{row}" for row, hour in enumerate(hours)]
    Path(name).write_text("\n".join(["time,v", *rows]))
    return name


HOURS = [*range(300), *range(413, 433)]


@pytest.mark.parametrize("form", ["iso", "zone", "german", "american", "s", "ms", "ns"])
def test_a_gap_ends_a_series_in_training_and_in_every_command(form: str) -> None:
    path = write(list(map(float, HOURS)), form)
    with captured_log() as said:
        items = load(path)
    assert items.form.values_per_item == 4
    assert firsts(items) == [*range(297), *range(300, 317)]
    assert any("1 gap of more than 7200 s ends a series" in line for line in said)
    assert items.times is not None
    assert items.times.tolist() == [(START + datetime.timedelta(hours=hour)).timestamp() for hour in HOURS]
    assert time_texts(items.times[:2]) == ["2024-03-01 00:00:00", "2024-03-01 01:00:00"]
    with captured_log():
        blocks = list(ItemReader(items.form, 50, data=DataConfig(dataset=path, window=4)).open([path]).blocks)
    assert [row for block in blocks for row in block.items] == [*range(297), *range(300, 317)]


@pytest.mark.parametrize("form", ["iso", "s"])
def test_rows_out_of_the_order_of_time_are_refused_and_sorted_on_request(form: str) -> None:
    order = np.random.default_rng(0).permutation(40)
    path = write(order.astype(float).tolist(), form)
    with (
        captured_log(),
        pytest.raises(DataError, match=r"row (\d+) \(line \d+\) is before row \d+; sort the rows: --set data\.time=time"),
    ):
        load(path)
    with captured_log():
        items = load(path, time="time")
    assert firsts(items) == np.argsort(order)[:37].tolist()
    with captured_log():
        reader = ItemReader(items.form, 7, data=DataConfig(dataset=path, window=4, time="time"))
        blocks = list(reader.open([path]).blocks)
    assert [row for block in blocks for row in block.items] == np.argsort(order)[:37].tolist()
    assert items.times is not None and (np.diff(items.times) == 3600).all()
    assert load(path, window=1).form.values_per_item == 1  # single rows need no order


def test_irregular_times_have_no_gaps_and_a_set_gap_ends_a_series() -> None:
    hours = np.cumsum(np.random.default_rng(0).exponential(1, 60)).round(3)
    path = write(hours.tolist())
    with captured_log() as said:
        assert len(load(path)) == 57
    assert sum("irregular: no gap ends a series" in line for line in said) == 1
    with captured_log():
        found = load(path, gap=2.0 * 3600)
    runs = np.split(np.arange(60), np.flatnonzero(np.diff(hours) > 2.0) + 1)
    assert firsts(found) == [row for run in runs for row in run[: max(0, len(run) - 3)].tolist()]


@pytest.mark.parametrize("interleaved", [False, True])
def test_no_window_spans_two_series(interleaved: bool) -> None:
    rows = [(name, value) for name in "AB" for value in range(10)]
    rows = sorted(rows, key=lambda row: row[1]) if interleaved else rows
    Path("x.csv").write_text("id,v\n" + "".join(f"{name},{value + 100 * (name == 'B')}\n" for name, value in rows))
    with (
        captured_log(),
        pytest.raises(DataError, match=r"If it names the series that the rows belong to: --set data\.series=id"),
    ):
        load("x.csv")
    items = silently(load, "x.csv", series="id")
    assert firsts(items) == [*range(7), *range(100, 107)]
    blocks = list(ItemReader(items.form, 6, data=DataConfig(window=4, series="id")).open(["x.csv"]).blocks)
    assert np.concatenate([block.values[:, 0] for block in blocks]).tolist() == [*range(7), *range(100, 107)]


def test_interleaved_series_with_times_are_suggested_as_series() -> None:
    rows = [
        f"{START + datetime.timedelta(hours=hour):%Y-%m-%d %H:%M},{machine},{hour}" for machine in (1, 2) for hour in range(30)
    ]
    Path("x.csv").write_text("\n".join(["time,machine,v", *rows]))
    with captured_log(), pytest.raises(DataError, match=r"if it holds several series: --set data\.series=machine"):
        load("x.csv")
    with captured_log():
        assert len(load("x.csv", series="machine")) == 2 * 27


@pytest.mark.slow
def test_encode_and_score_obey_series_of_files_and_pipes() -> None:
    rows = [f"{name},{np.sin(value / 3):.4f}" for name in "AB" for value in range(100)]
    text = "\n".join(["id,v", *rows])
    Path("x.csv").write_text(text)
    keys = ["epochs=1", "data.window=8", "data.series=id", "-q", "--run-dir", "run"]
    result = CliRunner().invoke(app, ["train", "x.csv", *keys])
    assert result.exit_code == 0, result.output
    for source in ("x.csv", "-"):
        encoded = CliRunner().invoke(app, ["encode", "run", source, "-q", "-o", "codes.npy"], input=text)
        assert encoded.exit_code == 0, encoded.output
        assert len(np.load("codes.npy")) == 2 * 93
        scored = CliRunner().invoke(app, ["score", "run", source, "-q"], input=text)
        assert [json.loads(line)["item"] for line in scored.stdout.splitlines()] == list(range(200))


def test_keys_of_series_are_checked() -> None:
    path = write([0.0, 1, 2, 3, 4, 5])
    with captured_log(), pytest.raises(ConfigError, match=r"data\.series: x\.csv has no column machine"):
        load(path, series="machine")
    Path("y.csv").write_text("a\n1\n2\n3\n4\n5\n")
    with pytest.raises(ConfigError, match=r"data\.gap: y\.csv has no column of times"):
        load("y.csv", gap=1.0)
