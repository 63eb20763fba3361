"""The score ``neighbours`` is its formula, written out in numpy."""

import numpy as np
import pytest
import torch

from tiedae_cli.data.item_set import ItemForm, ItemSet
from tiedae_cli.model.ranking import SHRINKAGE, Ranking, fit_ranking, validated_ranking
from tiedae_cli.model.threshold import threshold_of

N, D, K = 40, 5, 3
CPU = torch.device("cpu")


def items(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, D, generator=torch.Generator().manual_seed(seed))


def halved(x: torch.Tensor) -> torch.Tensor:
    return torch.sin(x) + 0.5 * x.roll(1, 1)


def expected_scores(train: np.ndarray, x: np.ndarray) -> np.ndarray:
    def made(rows: np.ndarray) -> np.ndarray:
        return halved(torch.from_numpy(rows)).numpy() - rows

    residuals = made(train)
    covariance = np.cov(residuals.T, bias=True)
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.trace(covariance) / D * np.eye(D)
    inverse = np.linalg.inv(shrunk)
    scores = []
    for row, residual in zip(x, made(x), strict=True):
        apart = np.sqrt(((train - row) ** 2).sum(1))
        between = residuals - residual
        together = np.sqrt(apart**2 + np.einsum("nd,de,ne->n", between, inverse, between))
        scores.append(np.sqrt(np.sort(apart)[:K].mean() * np.sort(together)[:K].mean() / D))
    return np.array(scores)


@pytest.mark.parametrize("distances", [1 << 22, 100])
def test_the_formula(monkeypatch: pytest.MonkeyPatch, distances: int) -> None:
    monkeypatch.setattr("tiedae_cli.model.ranking.DISTANCES", distances)
    train, x = items(N, 0), 2 * items(11, 1)
    images = ItemSet(train.view(N, 1, 1, D).numpy(), None, ItemForm((1, 1, D), "vectors"))
    ranking = fit_ranking(halved, images, K, seed=0, device=CPU)
    found = ranking.scores(x, halved(x) - x).numpy()
    assert found == pytest.approx(expected_scores(train.double().numpy(), x.double().numpy()), rel=1e-4)
    assert len(ranking.scores(x[:0], x[:0])) == 0


def brute_force(ranking: Ranking, x: torch.Tensor, residuals: torch.Tensor) -> np.ndarray:
    """The formula from a ranking's own statistics, every distance by its differences in float64."""
    white = (residuals.double() - ranking.mean.double()) @ ranking.whitening.double().t()
    pairs, references = torch.cat([x.double(), white], 1).numpy(), ranking.references.double().numpy()
    width = x.shape[1]
    scores = []
    for pair in pairs:
        squares = (references - pair) ** 2
        near = [np.sort(np.sqrt(part.sum(1)))[: ranking.neighbours].mean() for part in (squares[:, :width], squares)]
        scores.append(np.sqrt(near[0] * near[1] / width))
    return np.array(scores)


def fitted(train: torch.Tensor, neighbours: int = K) -> Ranking:
    return fit_ranking(
        halved, ItemSet(train.view(-1, 1, 1, D).numpy(), None, ItemForm((1, 1, D), "vectors")), neighbours, seed=0, device=CPU
    )


HARD = {
    "random": items(500, 2),
    "of zeros and ones, which repeat": (items(500, 2) > 0).float(),
    "far from zero, and near each other": 1e6 + items(500, 2),
    "in a cluster far from the others": torch.cat([items(250, 2), 1000 + 1e-3 * items(250, 3)]),
    "all the same": torch.full((500, D), 0.3),
    "fewer than k": items(2, 2),
}


@pytest.mark.parametrize("kind", HARD)
@pytest.mark.parametrize("gathered", [1 << 20, 1])
def test_every_distance_is_exact_and_no_block_matters(kind: str, gathered: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiedae_cli.model.ranking.GATHERED", gathered)
    train = HARD[kind]
    x = torch.cat([train[:40], train[:40] + 1e-3 * items(min(40, len(train)), 4), 100 * items(20, 5)])
    ranking = fitted(train)
    residuals = halved(x) - x
    whole = ranking.scores(x, residuals)
    assert whole.numpy() == pytest.approx(brute_force(ranking, x, residuals), rel=1e-9, abs=0)
    alone = torch.cat([ranking.scores(row[None], own[None]) for row, own in zip(x, residuals, strict=True)])
    assert alone.numpy() == pytest.approx(whole.numpy(), rel=1e-12, abs=0)


def test_what_the_training_items_repeat_is_never_an_outlier() -> None:
    train = (items(500, 2) > 0).float()  # 32 different items at most, each of them many times
    ranking = fitted(train)
    held_out, new = (items(200, 6) > 0).float(), torch.full((1, D), 0.5)
    scores = ranking.scores(held_out, halved(held_out) - held_out)
    limit = threshold_of(scores, 0.01).value
    assert torch.equal(scores, torch.zeros(200, dtype=torch.float64)) and limit == 0
    assert int((scores > limit).sum()) == 0
    assert ranking.scores(new, halved(new) - new).item() > limit


def test_values_as_large_as_float32_has_them() -> None:
    x = torch.tensor([[3e38, 0, 0, 0, 0], [-1e25, 1e25, 0, 0, 0]])
    ranking = fitted(items(N, 0))
    assert ranking.scores(x, x).numpy() == pytest.approx(brute_force(ranking, x, x), rel=1e-9)


def test_no_more_references_than_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiedae_cli.model.ranking.REFERENCES", 7)
    images = ItemSet(items(N, 0).view(N, 1, 1, D).numpy(), None, ItemForm((1, 1, D), "vectors"))
    ranking = fit_ranking(halved, images, K, seed=0, device=CPU)
    assert ranking.references.shape == (7, 2 * D)
    known = {tuple(row) for row in items(N, 0).tolist()}
    assert all(tuple(row) in known for row in ranking.references[:, :D].tolist())


def test_items_that_are_all_alike_have_a_score() -> None:
    images = ItemSet(np.zeros((N, 1, 1, D), np.float32), None, ItemForm((1, 1, D), "vectors"))
    ranking = fit_ranking(halved, images, K, seed=0, device=CPU)
    scores = ranking.scores(torch.eye(D), torch.eye(D))
    assert bool(scores.isfinite().all()) and bool((scores > 0).all())


def test_what_a_checkpoint_cannot_hold() -> None:
    images = ItemSet(items(N, 0).view(N, 1, 1, D).numpy(), None, ItemForm((1, 1, D), "vectors"))
    good = fit_ranking(halved, images, K, seed=0, device=CPU).tensors()
    assert validated_ranking({}, D, K) is None
    kept = validated_ranking(good, D, K)
    assert kept is not None and torch.equal(kept.references, good["references"])
    bad = [{"mean": good["mean"]}, {**good, "mean": good["mean"][1:]}, {**good, "references": good["references"][:, 1:]}]
    bad += [{**good, "whitening": good["whitening"] / 0}, {**good, "references": good["references"][:0]}]
    for tensors in bad:
        with pytest.raises(ValueError, match="score"):
            validated_ranking(tensors, D, K)
