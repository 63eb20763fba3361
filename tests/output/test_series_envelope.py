"""The bins of a series hold the extremes of their rows, whatever blocks the rows arrive in."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Tiedae
from hypothesis import given
from hypothesis import strategies as st

from tiedae_cli.output import figures
from tiedae_cli.output import series_envelope as envelope_module
from tiedae_cli.output.figures import Envelope
from tiedae_cli.output.series_envelope import EnvelopeBuilder, RowNumbers


@pytest.mark.slow
@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.integers(0, 3))
def test_each_bin_holds_the_extremes_of_its_rows(sizes: list[int], columns: int) -> None:
    random = np.random.default_rng(sum(sizes))
    values, scores = random.normal(size=(sum(sizes), columns)), random.normal(size=sum(sizes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(envelope_module, "MOST_BINS", 8)
        trace = EnvelopeBuilder(columns)
        for end, size in zip(np.cumsum(sizes), sizes, strict=True):
            trace.add(values[end - size : end], scores[end - size : end], np.arange(end - size, end))
    found = trace.envelope()
    assert found.rows == len(values) and len(found.top) == -(-len(values) // found.width) <= 8
    assert found.width == 1 or len(values) > 8 * found.width // 2
    for index in range(len(found.top)):
        own = slice(index * found.width, (index + 1) * found.width)
        assert (found.low[index] == values[own].min(0)).all() and (found.high[index] == values[own].max(0)).all()
        assert found.top[index] == scores[own].max()


@given(st.lists(st.tuples(st.integers(1, 1000), st.integers(1, 9)), min_size=1, max_size=8), st.integers(0, 50))
def test_skipped_rows_keep_their_numbers(blocks: list[tuple[int, int]], first: int) -> None:
    """Each block of rows follows a gap; a bin is NaN only if it has no rows."""
    places, start = [], first
    for gap, size in blocks:
        places.append(np.arange(start, start + size))
        start += size + gap
    together = np.concatenate(places)
    random = np.random.default_rng(start)
    values, scores = random.normal(size=(len(together), 2)), random.normal(size=len(together))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(envelope_module, "MOST_BINS", 8)
        trace, done = EnvelopeBuilder(2), 0
        for block in places:
            trace.add(values[done : done + len(block)], scores[done : done + len(block)], block)
            done += len(block)
    found = trace.envelope()
    assert (found.first, found.rows) == (first, together[-1] - first + 1) and len(found.top) == -(
        -found.rows // found.width
    ) <= 8
    for index in range(len(found.top)):
        own = (together - first) // found.width == index
        if own.any():
            assert (found.low[index] == values[own].min(0)).all() and found.top[index] == scores[own].max()
            assert (found.high[index] == values[own].max(0)).all()
        else:
            assert np.isnan(found.low[index]).all() and np.isnan(found.high[index]).all() and np.isnan(found.top[index])


def test_rows_are_numbered_across_sources() -> None:
    places = RowNumbers()
    assert places.of([301, 302, 305]).tolist() == [301, 302, 305] and places.of(range(307, 309)).tolist() == [307, 308]
    several = RowNumbers()
    assert several.of(["a.csv[1]", "a.csv[3]", "b.csv[0]", "b.csv[2]", "x.npz:test[4]"]).tolist() == [1, 3, 4, 6, 11]
    assert RowNumbers().of(["a/1.png", "a/2.png"]).tolist() == [0, 1]


@pytest.mark.slow
@pytest.mark.parametrize("window", [1, 4])
def test_a_plot_shows_each_row_at_its_number(window: int, monkeypatch: pytest.MonkeyPatch, tiedae: Tiedae) -> None:
    """For tables and windows, the plot has gaps for skipped rows, and each score is at its row's number."""
    rows = np.random.default_rng(0).normal(size=(120, 2)).cumsum(0)
    np.savetxt("x.csv", rows, delimiter=",", fmt="%.6f")
    drawn: list[Envelope] = []
    series_plot = figures.series_plot
    monkeypatch.setattr(figures, "series_plot", lambda series, *rest: (drawn.append(series), series_plot(series, *rest))[1])
    keys = ["epochs=1", "hidden_sizes=2", f"data.window={window}"]
    assert tiedae("train", "-q", "x.csv", *keys).code == 0
    lines = ["a,b", *Path("x.csv").read_text().splitlines()]
    lines[1] = lines[2] = lines[51] = lines[60] = "nan,1"
    Path("y.csv").write_text("\n".join(lines[1:]) + "\n")
    result = tiedae("score", "x", "y.csv", "--plot", "out.png")
    found = [json.loads(line) for line in result.out.splitlines()]
    assert {item["item"] for item in found} == set(range(120)) - {0, 1, 50, 59}
    (series,) = drawn
    assert (series.first, series.rows, series.width) == (2, 118, 1)
    expected = np.full(118, np.nan)
    expected[[item["item"] - 2 for item in found]] = [item["squared_error"] for item in found]
    np.testing.assert_array_equal(series.top, expected)
    np.testing.assert_allclose(series.low[~np.isnan(expected)], rows[2:][~np.isnan(expected)], atol=1e-4)
