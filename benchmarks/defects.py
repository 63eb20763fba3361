"""How well the recipe ``defects`` finds small defects in images of parts, beside principal components and nearest neighbours.

    python benchmarks/defects.py [--seeds 3] [--json]

The parts are three kinds of Fashion-MNIST (T-shirts, sneakers, bags), each on its own: 4,000 good training images, then 500 good test
images against 500 others with a defect drawn into each, of three kinds: a scratch (a line of 8 to 14 pixels, one wide, black on light
parts, white on dark ones), a missing piece (5 x 5 pixels black) and a stain (a soft spot, half of them darker, half lighter). AUROC in
percent. A row ``region`` ranks by the worst region of the same reconstructions, the others by their whole error. Needs the extra ``bench``.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

import tiedae_cli as tiedae
from tiedae_cli.config import DataConfig
from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.scoring.rankers import Region

KINDS = {0: "T-shirts", 7: "sneakers", 8: "bags"}
TRAINING, GOOD = 4000, 500
COMPONENTS = 32
PART = 40  # a brighter pixel belongs to the part, not to the background
FORM = ItemForm((1, 28, 28), scale=1 / 255)
Scorer = Callable[[np.ndarray], np.ndarray]
Defect = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def place_on(image: np.ndarray, random: np.random.Generator) -> tuple[int, int]:
    """Return a random pixel of the part."""
    rows, columns = np.nonzero(image > PART)
    chosen = random.integers(len(rows))
    return int(rows[chosen]), int(columns[chosen])


def scratch(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Draw a thin line."""
    made = image.copy()
    y, x = place_on(image, random)
    angle, length = random.uniform(0, np.pi), random.integers(8, 15)
    for step in np.linspace(-length / 2, length / 2, 4 * length):
        row, column = round(y + step * np.sin(angle)), round(x + step * np.cos(angle))
        if 0 <= row < 28 and 0 <= column < 28:
            made[row, column] = 255 if image[y, x] < 128 else 0
    return made


def missing(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Take a piece away."""
    made = image.copy()
    y, x = place_on(image, random)
    top, left = np.clip((y - 2, x - 2), 0, 23)
    made[top : top + 5, left : left + 5] = 0
    return made


def stain(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Add a soft spot, darker or lighter."""
    y, x = place_on(image, random)
    rows, columns = np.mgrid[:28, :28]
    spot = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 8)
    return np.asarray(np.clip(image + (120 if random.random() < 0.5 else -120) * spot, 0, 255).astype(np.uint8))


DEFECTS: dict[str, Defect] = {"scratch": scratch, "missing piece": missing, "stain": stain}


def flat(images: np.ndarray) -> np.ndarray:
    """Return images, (N, 28, 28) uint8, as the detectors see them, (N, 784) in [0, 1]."""
    return images.reshape(len(images), -1).astype(np.float32) / 255


def detectors(train: np.ndarray, seed: int) -> dict[str, Scorer]:
    """Return what ranks images, trained on good ones, (N, 28, 28)."""
    pca = PCA(COMPONENTS, random_state=seed).fit(flat(train))
    near = NearestNeighbors(n_neighbors=5).fit(flat(train))
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "good.npy", train)
        began = time.perf_counter()
        run = tiedae.train(
            "defects", run_dir=Path(folder) / "run", quiet=True, dataset=str(Path(folder) / "good.npy"), test=0, seed=seed
        )
        print(f"  trained in {time.perf_counter() - began:.0f} s")
        model = tiedae.load(run.best)

    def whole(residuals: np.ndarray) -> np.ndarray:
        return np.asarray((residuals**2).sum(1))

    def worst(residuals: np.ndarray) -> np.ndarray:
        rest = torch.from_numpy(residuals.astype(np.float32))
        return Region(FORM).scores(torch.zeros_like(rest), rest).numpy()

    def ours(images: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(flat(images))
        with torch.inference_mode():
            return np.asarray((model.module(x) - x).numpy())

    def theirs(images: np.ndarray) -> np.ndarray:
        return np.asarray(pca.inverse_transform(pca.transform(flat(images))) - flat(images))

    return {
        "defects (tied convolutions, region)": lambda images: np.asarray(model.score(images)),
        "the same, whole error": lambda images: whole(ours(images)),
        f"PCA of {COMPONENTS}, region": lambda images: worst(theirs(images)),
        f"PCA of {COMPONENTS}": lambda images: whole(theirs(images)),
        "kNN (k = 5)": lambda images: np.asarray(near.kneighbors(flat(images))[0].mean(1)),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one JSON object at the end")
    options = parser.parse_args()
    splits = load_splits(DataConfig(dataset="fashion-mnist", validation=1))
    images = {name: splits.get(name) for name in ("train", "test")}
    found: dict[str, dict[str, list[float]]] = {}
    for seed in range(options.seeds):
        random = np.random.default_rng(seed)
        for kind, title in KINDS.items():
            print(f"{title}, seed {seed}")
            train, test = (
                part.raw(0, len(part))[torch.as_tensor(part.labels == kind)].numpy().reshape(-1, 28, 28)
                for part in images.values()
            )
            train, test = random.permutation(train)[:TRAINING], random.permutation(test)
            good, others = test[:GOOD], test[GOOD : 2 * GOOD]
            spoilt = {name: np.stack([draw(image, random) for image in others]) for name, draw in DEFECTS.items()}
            labels = np.repeat([0, 1], [len(good), len(others)])
            for name, scorer in detectors(train, seed).items():
                usual = scorer(good)
                for defect, bad in spoilt.items():
                    area = 100 * roc_auc_score(labels, np.concatenate([usual, scorer(bad)]))
                    found.setdefault(name, {}).setdefault(f"{title}, {defect}", []).append(float(area))
    means = {name: {case: float(np.mean(areas)) for case, areas in cases.items()} for name, cases in found.items()}
    for name, cases in means.items():
        print(
            f"{name:36} mean {np.mean(list(cases.values())):5.1f}  "
            + "  ".join(f"{case} {area:.1f}" for case, area in cases.items())
        )
    if options.json:
        print(json.dumps(means))


if __name__ == "__main__":
    main()
