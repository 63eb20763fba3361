"""Errors over a split: closed forms, short last batches, and what stands beside the model."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from tiedae_cli.config import ModelConfig
from tiedae_cli.data.item_set import ItemForm, ItemSet
from tiedae_cli.data.sources.digits import load_digits
from tiedae_cli.model import inference as evaluation
from tiedae_cli.model import pca
from tiedae_cli.model.autoencoder import build_autoencoder
from tiedae_cli.system.random_streams import seeded

MakeSet = Callable[[np.ndarray], ItemSet]
CPU = torch.device("cpu")


def test_errors_in_closed_form(make_set: MakeSet) -> None:
    """Items 0, 1, 2, 3 times a row of ones, each answered with 1: errors 4, 0, 4, 16 over 4 values."""
    images = make_set(np.arange(4.0)[:, None] * np.ones((1, 4)))
    errors = evaluation.item_errors(lambda x: torch.ones_like(x), images, CPU)
    assert errors.dtype == torch.float64 and errors.tolist() == [4.0, 0.0, 4.0, 16.0]
    total = evaluation.error_sum(lambda x: torch.ones_like(x), images, CPU)
    assert (total.squared_error, total.items, total.values) == (24.0, 4, 4)
    assert total.mse_per_value == 1.5 and total.squared_error_per_item == 6.0


def test_raw_values_are_scaled() -> None:
    raw = torch.full((3, 1, 2, 2), 51, dtype=torch.uint8)  # 0.2
    images = ItemSet(raw.numpy(), None, ItemForm((1, 2, 2), scale=1 / 255))
    assert evaluation.error_sum(torch.zeros_like, images, CPU).mse_per_value == pytest.approx(0.04, rel=1e-6)


def test_squares_beyond_float32_do_not_overflow(make_set: MakeSet) -> None:
    images = make_set(np.array([[1e25, 3.0], [0.0, 1.0]], np.float32))
    expected = [float(np.float32(1e25)) ** 2, 1.0]
    assert evaluation.item_errors(torch.zeros_like, images, CPU).tolist() == expected
    assert evaluation.error_sum(torch.zeros_like, images, CPU).squared_error == sum(expected)


@pytest.mark.parametrize("size", [1, 7, 19, 20, 21])
def test_a_short_last_batch_is_weighted_by_its_items(make_set: MakeSet, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    values = np.random.default_rng(2).random((20, 3))
    sizes = []

    def halve(x: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        return x / 2

    monkeypatch.setattr(evaluation, "LEAST_WIDTH", 1)
    monkeypatch.setattr(evaluation, "BATCH_VALUES", 3 * size)
    total = evaluation.error_sum(halve, make_set(values), CPU)
    assert sum(sizes) == total.items == 20 and max(sizes) == min(size, 20)
    assert total.mse_per_value == pytest.approx((values**2).mean() / 4, rel=1e-6)


def test_a_batch_holds_at_least_one_item(make_set: MakeSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "BATCH_VALUES", 2)
    assert evaluation.error_sum(torch.zeros_like, make_set(np.ones((2, 5))), CPU).squared_error == 10.0


def test_model_pca_and_mean_item_side_by_side() -> None:
    digits = load_digits()
    model = build_autoencoder(64, ModelConfig(hidden_sizes=(20, 5)), seeded(1))
    found = evaluation.evaluate(model, pca.fit(digits.train, 5), digits.test, "test", CPU)
    train = torch.from_numpy(digits.train.values).reshape(-1, 64).double() / 255
    test = torch.from_numpy(digits.test.values).reshape(-1, 64).double() / 255
    mean = train.mean(0)
    components = torch.linalg.svd(train - mean, full_matrices=False).Vh[:5]
    with torch.no_grad():
        own = (model(test.float()).double() - test).square().sum().item()
    linear = ((test - mean) @ components.T @ components + mean - test).square().sum().item()
    assert (found.split, found.components, found.model.items, found.model.values) == ("test", 5, 300, 64)
    assert found.model.squared_error == pytest.approx(own, rel=1e-5)
    assert found.pca.squared_error == pytest.approx(linear, rel=1e-5)
    assert found.mean_item.squared_error == pytest.approx((test - mean).square().sum().item(), rel=1e-5)
    assert found.mean_item.explained_variance(found.mean_item) == 0.0


def test_reconstruct_items() -> None:
    digits = load_digits()
    model = build_autoencoder(64, ModelConfig(hidden_sizes=(20, 5)), seeded(1))
    originals, reconstructions, errors = evaluation.reconstruct_items(model, digits.test.slice(0, 3), CPU)
    torch.testing.assert_close(originals, torch.from_numpy(digits.test.values[:3]).reshape(3, 64).float() / 255)
    with torch.no_grad():
        assert torch.equal(reconstructions, model(originals))
    assert errors == pytest.approx((reconstructions - originals).square().sum(1).tolist())
    assert not reconstructions.requires_grad
