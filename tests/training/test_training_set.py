"""The set of tensors that a training reads: the same bits as the arrays, without a copy on the CPU."""

import numpy as np
import pytest
import torch

from tiedae_cli.data.item_set import ItemForm, ItemSet
from tiedae_cli.training.training_set import training_set

CPU = torch.device("cpu")
D = 5
RANDOM = np.random.default_rng(1)
OFFSET, SCALE = RANDOM.standard_normal(D) + 1e4, RANDOM.random(D) * 3


def with_gaps(values: np.ndarray) -> np.ndarray:
    values[::3, 1] = np.nan
    return values


CASES: dict[str, tuple[np.ndarray, ItemForm]] = {
    "bytes": (RANDOM.integers(0, 256, (40, D), dtype=np.uint8), ItemForm((1, 1, D), scale=1 / 255)),
    "floats": (RANDOM.random((40, D), dtype=np.float32), ItemForm((1, 1, D))),
    "bytes of vectors": (RANDOM.integers(0, 256, (40, D), dtype=np.uint8), ItemForm((1, 1, D), "vectors", OFFSET, SCALE)),
    "float32": (RANDOM.random((40, D), dtype=np.float32), ItemForm((1, 1, D), "vectors", OFFSET, SCALE)),
    "float64": (RANDOM.standard_normal((40, D)) + 1e4, ItemForm((1, 1, D), "vectors", OFFSET, SCALE)),
    "gaps": (with_gaps(RANDOM.standard_normal((40, D))), ItemForm((1, 1, D), "vectors", OFFSET, SCALE, OFFSET)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("chosen", [None, np.array([30, 2, 2, 17, 5])], ids=["all", "some"])
def test_batches_are_bit_identical_to_those_of_the_arrays(case: str, chosen: np.ndarray | None) -> None:
    values, form = CASES[case]
    items = ItemSet(values.reshape(40, 1, 1, D), None, form, chosen)
    tensors = training_set(items, CPU)
    assert len(tensors) == len(items)
    batch = tensors.batch(1, 5)
    assert batch.dtype == torch.float32
    assert np.array_equal(batch.numpy(), items.batch(1, 5))
    exact = np.where(np.isnan(values), OFFSET, values).astype(np.float64)[np.arange(40) if chosen is None else chosen][1:5]
    offset = 0 if form.offset is None else form.offset
    rounding = 1e-12 if values.dtype == np.float64 else 1e-2 if form.offset is not None else 1e-7
    np.testing.assert_allclose(batch, (exact - offset) * form.scale, rtol=1e-6, atol=rounding)


def test_the_tensors_share_the_memory_of_the_arrays() -> None:
    values, form = CASES["bytes"]
    items = ItemSet(values.reshape(40, 1, 1, D), None, form)
    assert training_set(items, CPU).rows.data_ptr() == values.ctypes.data


def test_a_set_and_its_copy_on_another_device_have_the_same_items() -> None:
    values, form = CASES["float64"]
    chosen = np.array([7, 3, 19])
    moved = training_set(ItemSet(values.reshape(40, 1, 1, D), None, form, chosen), torch.device("meta"))
    assert moved.rows.shape == (3, D) and moved.indices is None and moved.batch(0, 2).shape == (2, D)
