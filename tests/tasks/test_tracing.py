"""A series in bins: whatever blocks it arrives in, each bin holds the lowest and highest values and the highest score of its rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiedae_cli.tasks import tracing
from tiedae_cli.tasks.tracing import Trace


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.integers(0, 3))
def test_bins(sizes: list[int], columns: int) -> None:
    random = np.random.default_rng(sum(sizes))
    values, scores = random.normal(size=(sum(sizes), columns)), random.normal(size=sum(sizes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracing, "MOST_BINS", 8)
        trace = Trace(columns)
        for end, size in zip(np.cumsum(sizes), sizes, strict=True):
            trace.add(values[end - size : end], scores[end - size : end])
    found = trace.envelope()
    assert found.rows == len(values) and len(found.top) == -(-len(values) // found.width) <= 8
    assert found.width == 1 or len(values) > 8 * found.width // 2
    for index in range(len(found.top)):
        own = slice(index * found.width, (index + 1) * found.width)
        assert (found.low[index] == values[own].min(0)).all() and (found.high[index] == values[own].max(0)).all()
        assert found.top[index] == scores[own].max()
