"""Show `score --against` on MNIST: how well the reconstruction error tells intruders from digits, as AUROC.

    TIEDAE_DATA=... python benchmarks/intruders.py [RUN] [--json]

Without a run, `mnist-best` is trained first. The intruders are drawn by numpy alone (filled silhouettes like garments, smooth random
textures; 2,000 each, a fixed seed) or made from the test digits themselves (black and white exchanged; turned by 180 degrees).
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


def main() -> None:
    """Draw, score, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="a run trained on MNIST (default: mnist-best is trained now)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
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
