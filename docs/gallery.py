"""Make the pictures of the README and of docs/ again: train the models on real MNIST and draw with the tool's own commands.

    TIEDAE_DATA=... python docs/gallery.py [--runs runs/gallery] [--only denoising]
    python docs/gallery.py --list

A training that was finished or interrupted before is resumed, so a second call only draws. The pictures are written beside this file;
the noise and the models follow from fixed seeds. Without --only, the terminal is recorded and the tutorials are executed too, by the
scripts that do so. `--list` prints every picture of the docs with the command that makes it, and says which are older than their code.
"""

import argparse
import base64
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pictures
import torch
from PIL import Image

from tiedae_cli.data.load_data import load_splits
from tiedae_cli.model.corruption import NOISE, corrupted
from tiedae_cli.model.denoising import measure_denoising
from tiedae_cli.model.inference import batch_size
from tiedae_cli.output import figures
from tiedae_cli.runs import checkpoint
from tiedae_cli.system.random_streams import EVALUATION_NOISE, seeded

DOCS = Path(__file__).resolve().parent
LARGEST_PALETTE = 256  # colors of a picture here: enough for the eye, a third of the bytes
STROKES = {"training.l2": "0.02"}  # clears the border, which no digit touches, and smooths the strokes
FULL_COLOR = ("photographs",)
SHOWN = 10  # digits of the denoising picture
NINTH = """for (let i = 0; i < 18; i++) { document.querySelector('.next').click(); tiedae.bench.frame(); }
    scrollTo(0, 0)"""  # a nine on the board
TWO_NUMBERS = {  # mnist-best as a deep net with a code of two numbers
    "model.hidden_sizes": "[500, 250, 2]",
    "model.activation": "silu",
    "training.learning_rate": "0.002",
}


def main() -> None:
    """Draw all pictures, or those asked for; or list them."""
    own: dict[str, Callable[[Path], None]] = {
        "comparison": draw_comparison,
        "reconstructions": draw_reconstructions,
        "loss": draw_loss,
        "features": draw_features,
        "denoising": draw_denoising,
        "photographs": draw_photographs,
        "codes": draw_codes,
        "report": draw_report,
        "tune": draw_tune,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/gallery"), help="folder of the trained models")
    parser.add_argument("--only", choices=own, action="append", help="this picture; may be given again")
    parser.add_argument("--list", action="store_true", help="print all pictures with the commands that make them")
    options = parser.parse_args()
    if options.list:
        for name, drawn in pictures.PICTURES.items():
            print(pictures.state(name) or f"{name}: {drawn.command}")
        return
    for name in options.only or own:
        own[name](options.runs)
        if name not in FULL_COLOR:
            reduce_colors(DOCS / f"{name}.png")
        pictures.record(f"docs/{name}.png")
        print(DOCS / f"{name}.png")
    if not options.only:
        for script in ("terminal_picture.py", "tutorials/run_tutorials.py"):
            subprocess.run([sys.executable, DOCS / script], check=True)


def tiedae(*arguments: str | Path, folder: Path | None = None) -> None:
    """Run a command of the tool that lies beside this file, in a folder; its progress goes to the terminal, its result to no one."""
    path = os.pathsep.join([str(DOCS.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "tiedae_cli", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": path}, cwd=folder)


def train(runs: Path, config: str, name: str | None = None, settings: dict[str, str] | None = None) -> Path:
    """Train a sample config, or go on with it, or leave it where it is finished; return the run folder."""
    assignments = [part for key, value in (settings or {}).items() for part in ("--set", f"{key}={value}")]
    run = runs / (name or config)
    tiedae("train", "--resume", "--config", config, "--run-dir", run, *assignments)
    return run


def draw_reconstructions(runs: Path) -> None:
    """Draw the first 20 test digits over what 150 numbers keep of each."""
    run = train(runs, "mnist-best")
    tiedae("reconstruct", run, "--n", "20", "--no-preview", "--output", DOCS / "reconstructions.png")


def reduce_colors(path: Path) -> None:
    """Store a picture with a palette: a page loads faster."""
    with Image.open(path) as image:
        small = image.convert("RGB").quantize(LARGEST_PALETTE, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    small.save(path, optimize=True)


def draw_comparison(runs: Path) -> None:
    """Draw the same digits by the notebook's settings and by better ones for the same shape."""
    tiedae("compare", train(runs, "mnist"), train(runs, "mnist-best"), "--output", DOCS / "comparison.png")


def draw_photographs(runs: Path) -> None:
    """Draw CIFAR-10's first test images over what PCA and the recipe of convolutions keep of them in 128 numbers each."""
    data = Path(os.environ["TIEDAE_DATA"]).resolve()
    run = train(runs, "cifar10", settings={"data.dataset": str(data / "cifar" / "cifar10-jpeg.npz")}).resolve()
    tiedae("reconstruct", run, "--n", "10", "--no-preview", "--output", DOCS / "photographs.png", folder=data)


def draw_loss(runs: Path) -> None:
    """Take training and validation error by epoch, PCA's as a line: every run folder has this picture."""
    shutil.copyfile(train(runs, "mnist-best") / "loss.png", DOCS / "loss.png")


def draw_features(runs: Path) -> None:
    """Draw the strongest weights of the first layer of the sparse model: strokes."""
    tiedae("inspect", train(runs, "sparse", "strokes", STROKES), "--features", DOCS / "features.png")


def draw_codes(runs: Path) -> None:
    """Draw the test digits as points, by a code of two numbers."""
    run = train(runs, "mnist-best", "two-numbers", TWO_NUMBERS)
    tiedae("inspect", run, "--codes", DOCS / "codes.png")


def draw_tune(runs: Path) -> None:
    """Draw the error by code size on the bundled digits, by the command of docs/tune.md."""
    runs.mkdir(parents=True, exist_ok=True)
    tiedae("tune", "digits", "code_size=2,4,8,16,32", "seed=1,2,3", "--quiet", folder=runs)
    newest = max(runs.glob("runs/digits-tune*/rate.png"), key=lambda path: path.stat().st_mtime)
    shutil.copyfile(newest, DOCS / "tune.png")


def draw_report(runs: Path) -> None:
    """Photograph the top of a report, in Chromium (needs ``pip install -e . --group dev``, chromium and chromium-driver)."""
    from selenium import webdriver
    from selenium.webdriver.support.ui import WebDriverWait

    page = (train(runs, "mnist-best") / "report.html").resolve()
    tiedae("report", page.parent)
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--hide-scrollbars", "--window-size=1160,1000"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        browser.get(page.as_uri())
        WebDriverWait(browser, 60).until(lambda one: one.execute_script("return !!window.tiedae"))
        browser.execute_script(NINTH)
        time.sleep(1)  # until the last frame is painted
        foot = browser.execute_script("return document.querySelector('.sliders').getBoundingClientRect().bottom + 16")
        view = {"x": 0, "y": 0, "width": 1145, "height": foot, "scale": 0.75}
        taken = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": view})
        (DOCS / "report.png").write_bytes(base64.b64decode(taken["data"]))
    finally:
        browser.quit()


@torch.inference_mode()
def draw_denoising(runs: Path) -> None:
    """Draw test digits, the same with noise, and what PCA and the denoising model make of the noisy ones.

    The noise and the errors beside the rows, those of the whole split, are those of ``tiedae eval``.
    """
    run, cpu = train(runs, "denoise"), torch.device("cpu")
    trained = checkpoint.load(run / "best.safetensors")
    model, training = trained.model(cpu), trained.config.training
    splits = load_splits(trained.config.data)
    assert trained.finished is not None  # the training has ended
    components = trained.finished.pca
    measured = measure_denoising(model, components, splits.test, training, cpu)
    assert measured is not None  # the config corrupts
    clean = torch.from_numpy(splits.test.batch(0, batch_size(splits.test)))  # (B, D)
    noise = NOISE[training.corruption](clean.shape, generator=seeded(training.seed, EVALUATION_NOISE, 0))
    noisy = corrupted(clean, training.corruption, training.corruption_level, noise)[:SHOWN]
    answered = (
        ("noisy", noisy, measured.nothing),
        (f"PCA, {components.components.shape[1]} components", components.reconstruct(noisy), measured.pca),
        ("denoised", model(noisy), measured.model),
    )
    rows = [figures.Answers("clean", "", figures.as_pictures(clean[:SHOWN].numpy(), trained.form))]
    for name, images, errors in answered:
        line = f"squared error per image {errors.squared_error_per_item:.1f}"
        own = (images - clean[:SHOWN]).square().sum(1).tolist()
        rows.append(figures.Answers(name, line, figures.as_pictures(images.numpy(), trained.form), own))
    title = (
        f"{trained.run}: pixels under {training.corruption} noise {training.corruption_level:g}",
        f"the first {SHOWN} of {len(splits.test):,} test digits; beside each row the mean over all of them, under each digit its own error",
    )
    (DOCS / "denoising.png").write_bytes(figures.labelled_rows(rows, title))


if __name__ == "__main__":
    main()
