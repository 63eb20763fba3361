"""How commands scale with what people have many of: images in a folder, runs under ``runs/``, rows from a pipe.

    python benchmarks/many.py            (--images 30000 --runs 3000 --rows 1000000)

Each line is a command in a process of its own: its seconds with start-up, and the largest memory that it took. A small number of the
same comes first, so that the difference is what the many cost.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

SMALL = ("--set", "model.hidden_sizes=[16, 4]", "--set", "training.epochs=1", "--set", "training.batch_size=500")
FEW = 100


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=30_000, help="in a folder")
    parser.add_argument("--runs", type=int, default=3_000, help="under runs/")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of 64 numbers, from a pipe")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        os.environ["XDG_CACHE_HOME"] = str(Path(name, "cache"))
        measure("train on the digits", "train", "-q", *SMALL)
        many_images(options.images)
        many_runs(options.runs)
        for count in (options.rows // 100, options.rows // 10, options.rows):
            for command, output in (("score", "scores.csv"), ("encode", "codes.npy")):
                with rows(count) as pipe:
                    measure(
                        f"{command} {count:,} rows from a pipe", command, "runs/digits", "-", "-q", "-o", output, stdin=pipe
                    )
        os.chdir("/")


def measure(what: str, *arguments: str, stdin: "subprocess.Popen[bytes] | None" = None) -> None:
    """Run a command, and print its seconds and its memory."""
    began = time.perf_counter()
    source = None if stdin is None else stdin.stdout
    process = subprocess.Popen([sys.executable, "-m", "tiedae_cli", *arguments], stdin=source, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{what}: exit code {process.returncode}")
    print(f"{what:45} {time.perf_counter() - began:7.1f} s  {usage.ru_maxrss >> 10:6,} MB", flush=True)


def many_images(count: int) -> None:
    """Train twice on a folder of few and of many images of 16 x 16 pixels, in 30 classes."""
    generator = np.random.default_rng(0)
    for folder, images in (("few", FEW), ("many", count)):
        for index in range(images):
            path = Path(folder, str(index % 30), f"{index}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (16, 16), dtype=np.uint8)).save(path)
        for start in ("first", "second"):
            measure(f"train on {images:,} images, {start} start", "train", "-q", "--set", f"data.dataset={folder}", *SMALL[:4])


def many_runs(count: int) -> None:
    """Find the newest run and make a new one, beside few and many runs."""
    for runs in (1, count):
        for number in range(2, runs + 1):
            shutil.copytree("runs/digits", f"runs/digits-{number}", dirs_exist_ok=True)
        measure(f"inspect the newest of {runs:,} runs", "inspect", "-q")
        measure(f"train beside {runs:,} runs", "train", "-q", *SMALL)


def rows(count: int) -> "subprocess.Popen[bytes]":
    """Return a process that writes so many rows."""
    line = ",".join(str(index * 7 % 17) for index in range(64)) + "\n"
    code = f"import sys\nblock = {line!r} * 100\nfor _ in range({count // 100}): sys.stdout.write(block)"
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)


if __name__ == "__main__":
    main()
