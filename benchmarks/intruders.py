"""Show what `score --against` detects: intruders among MNIST's digits, or among the bundled ones by rank and by size of the code.

    TIEDAE_DATA=... python benchmarks/intruders.py [RUN] [--json]
    python benchmarks/intruders.py --digits [--json]

Without a run, `mnist-best` is trained first. The intruders are drawn by numpy alone (filled silhouettes like garments, smooth random
textures; 2,000 each, a fixed seed) or made from the test digits themselves (black and white exchanged; turned by 180 degrees).

With `--digits`, `digits` is trained with each rank and several sizes of the code, and scores its test digits against changed ones. Then
each digit in turn is excluded from the training and has to be detected. It makes 37 short trainings and needs no data.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import recipes

from tiedae_cli.config.samples import sample_configs
from tiedae_cli.config.yaml_reader import load_config
from tiedae_cli.data.load_data import load_splits

COUNT, SIDE = 2_000, 28
RANKS = ("squared_error", "region", "neighbours")
CODE_SIZES = (2, 4, 8, 32)  # beside the 16 of `digits`


def textures(generator: np.random.Generator) -> np.ndarray:
    """Return white noise, blurred over 1.5 pixels, each image stretched to the full range: (COUNT, SIDE, SIDE) uint8."""
    frequencies = np.fft.fftfreq(SIDE)
    blur = np.exp(-2 * (np.pi * 1.5) ** 2 * (frequencies[:, None] ** 2 + frequencies**2))
    smooth = np.fft.ifft2(np.fft.fft2(generator.standard_normal((COUNT, SIDE, SIDE))) * blur).real
    low, high = (limit(smooth, axis=(1, 2), keepdims=True) for limit in (np.min, np.max))
    images: np.ndarray = ((smooth - low) / (high - low) * 255).round().astype(np.uint8)
    return images


def silhouettes(generator: np.random.Generator, cloth: np.ndarray) -> np.ndarray:
    """Return symmetric outlines, filled with a grey and a little of a texture: (COUNT, SIDE, SIDE) uint8."""
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    drawn = np.empty(cloth.shape, np.uint8)
    for index, texture in enumerate(cloth):
        knots = generator.uniform(3, 13, 6)
        half_width = np.interp(np.arange(SIDE), np.linspace(0, SIDE - 1, len(knots)), knots)
        top, bottom = generator.integers(0, 6), generator.integers(22, SIDE)
        inside = (np.abs(columns - 13.5) < half_width[:, None]) & (rows >= top) & (rows <= bottom)
        grey = generator.uniform(90, 230) + 60 * (texture / 255 - 0.5)
        drawn[index] = (inside * np.clip(grey, 0, 255)).round()
    return drawn


def write_intruders(folder: Path) -> dict[str, Path]:
    """Write an array of each kind of intruder; return them by name."""
    generator = np.random.default_rng(0)
    cloth = textures(generator)
    digits = load_splits(load_config(sample_configs()["mnist-best"]).data).test.values[:, 0]
    kinds = {
        "silhouettes": silhouettes(generator, cloth),
        "textures": cloth,
        "inverted digits": 255 - digits,
        "upside-down digits": digits[:, ::-1, ::-1],
    }
    paths = {name: folder / f"{name.replace(' ', '-')}.npy" for name in kinds}
    for name, path in paths.items():
        np.save(path, kinds[name])
    return paths


def changed_digits() -> dict[str, np.ndarray]:
    """Return the bundled test digits, changed in ways that keep their pixels or their strokes: (300, 8, 8) each."""
    digits = load_splits(load_config(sample_configs()["digits"]).data).test.values[:, 0]
    mixed = np.random.default_rng(0).permuted(digits.reshape(len(digits), -1), axis=1).reshape(digits.shape)
    return {
        "pixels shuffled": mixed,
        "turned by 90 degrees": np.rot90(digits, axes=(1, 2)),
        "black and white exchanged": digits.max() - digits,
        "mirrored": digits[:, :, ::-1],
        "upside down": digits[:, ::-1, ::-1],
    }


def among_bundled_digits(folder: Path) -> dict[str, dict[str, float]]:
    """Return the AUROC of each kind of change by model, and of each excluded digit by rank."""

    def trained(name: str, *settings: str) -> str:
        recipes.tiedae("train", "--quiet", "digits", "--run-dir", str(folder / name), *settings)
        return str(folder / name)

    models = {rank: trained(rank, f"score.rank={rank}") for rank in RANKS}
    models |= {f"code of {size}": trained(f"code-{size}", f"code_size={size}") for size in CODE_SIZES}
    found: dict[str, dict[str, float]] = {}
    for kind, images in changed_digits().items():
        np.save(folder / "changed.npy", images)
        found[kind] = {
            name: json.loads(recipes.tiedae("score", "--quiet", run, "--against", str(folder / "changed.npy")))["auroc"]
            for name, run in models.items()
        }
    for digit in range(10):
        normal = "data.normal=" + ",".join(str(other) for other in range(10) if other != digit)
        runs = {rank: trained(f"{rank}-without-{digit}", f"score.rank={rank}", normal) for rank in RANKS}
        found[f"{digit} excluded"] = {
            rank: json.loads(recipes.tiedae("score", "--quiet", run, "--summary"))["auroc"] for rank, run in runs.items()
        }
    return found


def main() -> None:
    """Draw, score, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="a run trained on MNIST (default: mnist-best is trained now)")
    parser.add_argument("--digits", action="store_true", help="the bundled digits, with several models")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.digits:
        with tempfile.TemporaryDirectory(prefix="tiedae-intruders-") as name:
            by_model = among_bundled_digits(Path(name))
        for kind, values in by_model.items():
            shown = [f"{auroc:.3f} {model}" for model, auroc in values.items()]
            print(json.dumps({"change": kind, **values}) if arguments.json else f"{kind:>26}  {'  '.join(shown)}")
        return
    reason = recipes.why_not("mnist-best")
    if reason:
        parser.error(reason)
    if arguments.run is not None and not arguments.run.exists():
        parser.error(f"{arguments.run}: no such run")
    with tempfile.TemporaryDirectory(prefix="tiedae-intruders-") as name:
        folder = Path(name)
        intruders = write_intruders(folder)
        run = arguments.run or folder / "run"
        if arguments.run is None:
            recipes.tiedae("train", "--quiet", "--config", "mnist-best", "--run-dir", str(run))
        found = {
            kind: json.loads(recipes.tiedae("score", "--quiet", str(run), "--against", str(path)))
            for kind, path in intruders.items()
        }
    if arguments.json:
        print(json.dumps(found))
        return
    for kind, values in found.items():
        shown = [f"{values[rate]:.4f} {rate}" for rate in ("auroc", "detection_rate", "false_alarm_rate")]
        print(f"{kind:>20}  {'  '.join(shown)}")


if __name__ == "__main__":
    main()
