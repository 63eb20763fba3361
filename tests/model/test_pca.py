"""PCA, the baseline, against numpy's singular value decomposition and a published number."""

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch

from tiedae_cli.data.item_set import ItemSet
from tiedae_cli.data.sources.downloads import load_download
from tiedae_cli.model import pca
from tiedae_cli.model.inference import error_sum
from tiedae_cli.system.progress import progress_drawn_by

MakeSet = Callable[[np.ndarray], ItemSet]
CPU = torch.device("cpu")


def correlated(items: int, values: int, rank: int | None = None) -> np.ndarray:
    """Return data whose principal components fall off, around a mean far from zero."""
    generator = np.random.default_rng(11)
    strengths = 0.8 ** np.arange(values) * (np.arange(values) < (rank or values))
    rotation, _ = np.linalg.qr(generator.normal(size=(values, values)))
    return (generator.normal(size=(items, values)) * strengths @ rotation + generator.normal(size=values) + 3).astype(
        np.float32
    )


def svd(data: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean, singular values and right singular vectors, in float64."""
    mean = data.astype(np.float64).mean(0)
    _, strengths, vectors = np.linalg.svd(data - mean, full_matrices=False)
    return mean, strengths, vectors


@pytest.mark.parametrize("count", [1, 3, 20])
def test_components_match_numpys_svd(make_set: MakeSet, count: int) -> None:
    data = correlated(50, 20)
    fitted = pca.fit(make_set(data), count)
    mean, strengths, vectors = svd(data)
    assert fitted.components.shape == (20, count) and fitted.components.dtype == torch.float64
    np.testing.assert_allclose(fitted.mean.numpy(), mean, rtol=1e-12)
    np.testing.assert_allclose(fitted.components.T @ fitted.components, np.eye(count), atol=1e-12)
    cosines = (fitted.components.numpy() * vectors[:count].T).sum(0)
    np.testing.assert_allclose(np.abs(cosines), 1, atol=1e-9)


@pytest.mark.parametrize("count", [0, 1, 5, 19, 20])
def test_the_error_is_the_sum_of_the_dropped_eigenvalues(make_set: MakeSet, count: int) -> None:
    """Eckart & Young 1936: the squared error of K components is the sum of the other singular values' squares."""
    data = correlated(50, 20)
    x = torch.tensor(data, dtype=torch.float64)
    fitted = pca.fit(make_set(data), 20).truncated(count)
    left_out = (svd(data)[1][count:] ** 2).sum()
    assert (fitted.reconstruct(x) - x).square().sum().item() == pytest.approx(left_out, rel=1e-9, abs=1e-9)
    torch.testing.assert_close(fitted.codes(x), (x - fitted.mean) @ fitted.components)
    if count == 0:
        torch.testing.assert_close(fitted.reconstruct(x), fitted.mean.expand(50, 20))


def test_codes_and_reconstructions_keep_the_dtype(make_set: MakeSet) -> None:
    fitted = pca.fit(make_set(correlated(50, 20)), 4)
    x = torch.zeros(3, 20, dtype=torch.float32)
    assert fitted.codes(x).dtype == fitted.reconstruct(x).dtype == torch.float32
    assert fitted.codes(x).shape == (3, 4) and fitted.reconstruct(x).shape == (3, 20)


def test_no_more_components_than_items_or_values(make_set: MakeSet) -> None:
    assert pca.fit(make_set(correlated(50, 20)), 100).components.shape == (20, 20)
    few = correlated(7, 20)
    fitted = pca.fit(make_set(few), 100)
    assert fitted.components.shape == (20, 7)
    assert error_sum(fitted.reconstruct, make_set(few), CPU).squared_error < 1e-8


def test_components_do_not_depend_on_the_block_size(make_set: MakeSet, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_set(correlated(50, 20))
    whole = pca.fit(data, 3)
    monkeypatch.setattr(pca, "BLOCK_BYTES", 8 * 20 * 7)  # 7 items, and a last block of one
    parts = pca.fit(data, 3)
    torch.testing.assert_close(parts.mean, whole.mean, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close((parts.components * whole.components).sum(0).abs(), torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize(("items", "values"), [(300, 60), (25, 60)])
def test_subspace_iteration_gives_the_same_components(
    make_set: MakeSet, monkeypatch: pytest.MonkeyPatch, items: int, values: int
) -> None:
    data = correlated(items, values)
    monkeypatch.setattr(pca, "LARGEST_EXACT", 10)
    monkeypatch.setattr(pca, "BLOCK_BYTES", 8 * values * 64)
    fitted = pca.fit(make_set(data), 8)
    _, strengths, vectors = svd(data)
    np.testing.assert_allclose(fitted.components.T @ fitted.components, np.eye(8), atol=1e-10)
    np.testing.assert_allclose(np.abs((fitted.components.numpy() * vectors[:8].T).sum(0)), 1, atol=1e-6)
    x = torch.tensor(data, dtype=torch.float64)
    assert (fitted.reconstruct(x) - x).square().sum().item() == pytest.approx((strengths[8:] ** 2).sum(), rel=1e-9)


def ill_conditioned(items: int, values: int) -> np.ndarray:
    """Return data with singular values from 1 to 1e-12 of the largest, around a mean far from zero."""
    generator = np.random.default_rng(5)
    rank = min(items, values)
    left, _ = np.linalg.qr(generator.normal(size=(items, rank)))
    right, _ = np.linalg.qr(generator.normal(size=(values, rank)))
    return (left * np.logspace(2, -10, rank) @ right.T + 5).astype(np.float32)


@pytest.mark.parametrize(("items", "values"), [(400, 60), (60, 400), (60, 60)])
@pytest.mark.parametrize("block_items", [16, 1000])
def test_singular_values_of_ill_conditioned_data_match_numpys(
    make_set: MakeSet, monkeypatch: pytest.MonkeyPatch, items: int, values: int, block_items: int
) -> None:
    data = ill_conditioned(items, values)
    for name in ("BLOCK_BYTES", "GRAM_BLOCK_BYTES"):
        monkeypatch.setattr(pca, name, 8 * values * block_items)
    fitted = pca.fit(make_set(data), min(items, values))
    mean, strengths, _ = svd(data)
    count = min(items, values)
    np.testing.assert_allclose(fitted.components.T @ fitted.components, np.eye(count), atol=1e-12)
    found = np.linalg.norm((data - mean) @ fitted.components.numpy(), axis=0)
    np.testing.assert_allclose(found, strengths[:count], atol=1e-6 * strengths[0])
    for kept in (1, 5, 20):
        x = torch.tensor(data, dtype=torch.float64)
        error = (fitted.truncated(kept).reconstruct(x) - x).square().sum().item()
        assert error**0.5 == pytest.approx((strengths[kept:] ** 2).sum() ** 0.5, abs=1e-6 * strengths[0])


def test_fewer_items_than_values_take_the_memory_of_the_items(make_set: MakeSet) -> None:
    """The covariance of 20,000 values would take 3.2 GB; the Gram matrix of 12 items has 144 numbers."""
    data = np.random.default_rng(0).random((12, 20_000), dtype=np.float32)
    fitted = pca.fit(make_set(data), 3)
    _, strengths, vectors = svd(data)
    np.testing.assert_allclose(np.abs((fitted.components.numpy() * vectors[:3].T).sum(0)), 1, atol=1e-9)


def test_subspace_iteration_logs_its_residual(
    make_set: MakeSet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pca, "LARGEST_EXACT", 10)
    with caplog.at_level("INFO"):
        pca.fit(make_set(correlated(60, 40)), 3)
    assert re.search(r"3 components by subspace iteration; largest residual \d\.\de-\d+ of the largest variance", caplog.text)


def test_progress_is_reported_for_slow_fits(make_set: MakeSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pca, "QUIET", -1.0)
    monkeypatch.setattr(pca, "BLOCK_BYTES", 8 * 20 * 25)
    calls: list[tuple[str, int, int]] = []
    with progress_drawn_by(lambda *call: calls.append(call)):
        pca.fit(make_set(correlated(50, 20)), 3)
    assert calls == [("PCA, mean", 25, 50), ("PCA, mean", 50, 50), ("PCA, covariance", 25, 50), ("PCA, covariance", 50, 50)]


def test_subspace_iteration_on_data_of_lower_rank(make_set: MakeSet, monkeypatch: pytest.MonkeyPatch) -> None:
    data = correlated(200, 40, rank=5)
    monkeypatch.setattr(pca, "LARGEST_EXACT", 10)
    fitted = pca.fit(make_set(data), 9)
    assert fitted.components.isfinite().all()
    assert error_sum(fitted.reconstruct, make_set(data), CPU).squared_error < 1e-6


def test_constant_data_gives_finite_components(make_set: MakeSet) -> None:
    fitted = pca.fit(make_set(np.full((30, 6), 0.25, dtype=np.float32)), 2)
    torch.testing.assert_close(fitted.reconstruct(torch.full((1, 6), 0.25)), torch.full((1, 6), 0.25))


@pytest.mark.slow
def test_pca_30_of_mnist_matches_the_published_error(mnist_root: str) -> None:
    """Hinton & Salakhutdinov 2006, figure 2: 13.87 per image, fitted to all 60,000 training images."""
    splits = load_download("mnist", mnist_root, 0)
    assert (len(splits.train), len(splits.test)) == (60_000, 10_000)
    found = error_sum(pca.fit(splits.train, 30).reconstruct, splits.test, CPU)
    assert found.squared_error_per_item == pytest.approx(13.866, abs=0.01)
    assert found.mse_per_value == pytest.approx(0.01769, abs=1e-5)


@pytest.mark.parametrize(("items", "values"), [(60, 12), (12, 60)])
def test_a_shared_decomposition_gives_bit_identical_components(make_set: MakeSet, items: int, values: int) -> None:
    data, others = make_set(correlated(items, values)), make_set(correlated(items, values) + 1)
    alone = [pca.fit(data, count) for count in (1, 5, 12)]
    with pca.decomposed_once():
        pca.fit(others, 3)
        together = [pca.fit(data, count) for count in (1, 5, 12)]
        other = pca.fit(others, 3)
    for one, another in zip(alone, together, strict=True):
        assert one.components.equal(another.components) and one.mean.equal(another.mean)
    assert other.components.equal(pca.fit(others, 3).components)


def test_the_error_curve_is_the_error_of_each_number_of_components(make_set: MakeSet) -> None:
    data = correlated(80, 9)
    train, held = make_set(data[:60]), make_set(data[60:])
    components = pca.fit(train, 9)
    curve = pca.error_curve(held, components).tolist()
    mean, _, vectors = svd(data[:60])
    centered = data[60:].astype(np.float64) - mean
    expected = [np.square(centered - centered @ vectors[:k].T @ vectors[:k]).mean() for k in range(10)]
    assert curve == pytest.approx(expected, rel=1e-9, abs=1e-13)
    assert curve[4] == pytest.approx(error_sum(components.truncated(4).reconstruct, held, CPU).mse_per_value, rel=1e-5)
