"""The checksum of an array differs after every change of a value and every exchange of rows."""

import numpy as np
import pytest

from tiedae_cli.data.checksum import checksum


@pytest.mark.parametrize("shape", [(0,), (1,), (7, 3), (600, 33), (2000, 512)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_a_change_of_any_single_value_is_noticed(shape: tuple[int, ...], dtype: type) -> None:
    generator = np.random.default_rng(0)
    values: np.ndarray = (generator.random(shape) * 255).astype(dtype)
    before = checksum(values)
    assert checksum(values.copy()) == before == checksum(np.asfortranarray(values))
    flat = values.reshape(-1)
    for place in generator.integers(0, len(flat), 20 if len(flat) else 0).tolist():
        kept = flat[place]
        flat[place] = kept + 1
        assert checksum(values) != before
        flat[place] = kept
    assert checksum(values) == before


def test_an_exchange_of_rows_of_any_length_is_noticed() -> None:
    values = np.random.default_rng(0).integers(0, 9, (4096, 512), np.uint64)
    before = checksum(values)
    for first, second in ((0, 1), (5, 4000), (255, 256)):
        other = values.copy()
        other[[first, second]] = values[[second, first]]
        assert checksum(other) != before
    assert checksum(values[:, ::-1]) != before and checksum(values[1:]) != before
