"""The score ``neighbours`` is its formula, written out in numpy."""

import numpy as np
import pytest
import torch

from tiedae_cli.data.image_set import DataForm, ImageSet
from tiedae_cli.model.ranking import SHRINKAGE, believed_ranking, fit_ranking

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
    images = ImageSet(train.view(N, 1, 1, D), None, DataForm((1, 1, D), "vectors"))
    ranking = fit_ranking(halved, images, K, seed=0, device=CPU)
    found = ranking.scores(x, halved(x) - x).numpy()
    assert found == pytest.approx(expected_scores(train.double().numpy(), x.double().numpy()), rel=1e-4)
    assert len(ranking.scores(x[:0], x[:0])) == 0


def test_no_more_references_than_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiedae_cli.model.ranking.REFERENCES", 7)
    images = ImageSet(items(N, 0).view(N, 1, 1, D), None, DataForm((1, 1, D), "vectors"))
    ranking = fit_ranking(halved, images, K, seed=0, device=CPU)
    assert ranking.references.shape == (7, 2 * D)
    known = {tuple(row) for row in items(N, 0).tolist()}
    assert all(tuple(row) in known for row in ranking.references[:, :D].tolist())


def test_items_that_are_all_alike_have_a_score() -> None:
    images = ImageSet(torch.zeros(N, 1, 1, D), None, DataForm((1, 1, D), "vectors"))
    ranking = fit_ranking(halved, images, K, seed=0, device=CPU)
    scores = ranking.scores(torch.eye(D), torch.eye(D))
    assert bool(scores.isfinite().all()) and bool((scores > 0).all())


def test_what_a_checkpoint_cannot_hold() -> None:
    images = ImageSet(items(N, 0).view(N, 1, 1, D), None, DataForm((1, 1, D), "vectors"))
    good = fit_ranking(halved, images, K, seed=0, device=CPU).tensors()
    assert believed_ranking({}, D, K) is None
    kept = believed_ranking(good, D, K)
    assert kept is not None and torch.equal(kept.references, good["references"])
    bad = [{"mean": good["mean"]}, {**good, "mean": good["mean"][1:]}, {**good, "references": good["references"][:, 1:]}]
    bad += [{**good, "whitening": good["whitening"] / 0}, {**good, "references": good["references"][:0]}]
    for tensors in bad:
        with pytest.raises(ValueError, match="score"):
            believed_ranking(tensors, D, K)
