"""The score ``neighbours`` is its formula, written out in numpy."""

import numpy as np
import pytest
import torch

from tiedae_cli.config import Config, ScoreConfig
from tiedae_cli.data.item_set import ItemForm, ItemSet
from tiedae_cli.runs.calibration import calibrate
from tiedae_cli.scoring.neighbours import SHRINKAGE, Neighbours
from tiedae_cli.scoring.rankers import open_ranker
from tiedae_cli.scoring.threshold import threshold_of

N, D, K = 40, 5, 3
CPU = torch.device("cpu")
FORM = ItemForm((1, 1, D), "vectors")
CONFIG = Config(score=ScoreConfig(rank="neighbours", neighbours=K))


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
    monkeypatch.setattr("tiedae_cli.scoring.neighbours.DISTANCES", distances)
    train, x = items(N, 0), 2 * items(11, 1)
    images = ItemSet(train.view(N, 1, 1, D).numpy(), None, FORM)
    ranker = Neighbours.fit(halved, images, CONFIG, CPU)
    found = ranker.scores(x, halved(x)).numpy()
    assert found == pytest.approx(expected_scores(train.double().numpy(), x.double().numpy()), rel=1e-4)
    assert len(ranker.scores(x[:0], x[:0])) == 0


def brute_force(ranker: Neighbours, x: torch.Tensor, residuals: torch.Tensor) -> np.ndarray:
    """The formula from a ranker's own statistics, every distance by its differences in float64."""
    white = (residuals.double() - ranker.mean.double()) @ ranker.whitening.double().t()
    pairs, references = torch.cat([x.double(), white], 1).numpy(), ranker.references.double().numpy()
    width = x.shape[1]
    scores = []
    for pair in pairs:
        squares = (references - pair) ** 2
        near = [np.sort(np.sqrt(part.sum(1)))[: ranker.neighbours].mean() for part in (squares[:, :width], squares)]
        scores.append(np.sqrt(near[0] * near[1] / width))
    return np.array(scores)


def fitted(train: torch.Tensor) -> Neighbours:
    return Neighbours.fit(halved, ItemSet(train.view(-1, 1, 1, D).numpy(), None, FORM), CONFIG, CPU)


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
    monkeypatch.setattr("tiedae_cli.scoring.neighbours.GATHERED", gathered)
    train = HARD[kind]
    x = torch.cat([train[:40], train[:40] + 1e-3 * items(min(40, len(train)), 4), 100 * items(20, 5)])
    ranker = fitted(train)
    residuals = halved(x) - x
    whole = ranker.scores(x, halved(x))
    assert whole.numpy() == pytest.approx(brute_force(ranker, x, residuals), rel=1e-9, abs=0)
    alone = torch.cat([ranker.scores(row[None], made[None]) for row, made in zip(x, halved(x), strict=True)])
    assert alone.numpy() == pytest.approx(whole.numpy(), rel=1e-12, abs=0)


def test_what_the_training_items_repeat_is_never_an_outlier() -> None:
    train = (items(500, 2) > 0).float()  # 32 different items at most, each of them many times
    ranker = fitted(train)
    held_out, new = (items(200, 6) > 0).float(), torch.full((1, D), 0.5)
    scores = ranker.scores(held_out, halved(held_out))
    limit = threshold_of(calibrate(scores), 0.01).value
    assert torch.equal(scores, torch.zeros(200, dtype=torch.float64)) and limit == 0
    assert int((scores > limit).sum()) == 0
    assert ranker.scores(new, halved(new)).item() > limit


def test_values_as_large_as_float32_has_them() -> None:
    x = torch.tensor([[3e38, 0, 0, 0, 0], [-1e25, 1e25, 0, 0, 0]])
    ranker = fitted(items(N, 0))
    assert ranker.scores(x, torch.zeros_like(x)).numpy() == pytest.approx(brute_force(ranker, x, -x), rel=1e-9)


def test_no_more_references_than_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiedae_cli.scoring.neighbours.REFERENCES", 7)
    images = ItemSet(items(N, 0).view(N, 1, 1, D).numpy(), None, FORM)
    ranker = Neighbours.fit(halved, images, CONFIG, CPU)
    assert ranker.references.shape == (7, 2 * D)
    known = {tuple(row) for row in items(N, 0).tolist()}
    assert all(tuple(row) in known for row in ranker.references[:, :D].tolist())


def test_items_that_are_all_alike_have_a_score() -> None:
    images = ItemSet(np.zeros((N, 1, 1, D), np.float32), None, FORM)
    ranker = Neighbours.fit(halved, images, CONFIG, CPU)
    scores = ranker.scores(torch.eye(D), 2 * torch.eye(D))
    assert bool(scores.isfinite().all()) and bool((scores > 0).all())


def test_tensors_that_a_checkpoint_cannot_hold() -> None:
    images = ItemSet(items(N, 0).view(N, 1, 1, D).numpy(), None, FORM)
    good = Neighbours.fit(halved, images, CONFIG, CPU).tensors()
    kept = open_ranker(good, FORM, CONFIG)
    assert isinstance(kept, Neighbours) and torch.equal(kept.references, good["references"])
    bad = [{"mean": good["mean"]}, {**good, "mean": good["mean"][1:]}, {**good, "references": good["references"][:, 1:]}]
    bad += [{**good, "whitening": good["whitening"].double()}, {**good, "references": good["references"][:0]}]
    bad += [{}, {**good, "more": good["mean"]}]
    for tensors in bad:
        with pytest.raises(ValueError, match="score"):
            open_ranker(tensors, FORM, CONFIG)
