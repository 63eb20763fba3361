"""Time whole processes: what the tool adds to the imports that it cannot do without, and to the training itself.

    python benchmarks/startup.py [--rounds 7] [--json]

`tiedae --help` beside `python -c "import typer, rich"`, and `tiedae train` on the bundled digits beside `python -c "import torch"` and
the steps of its epochs. Medians over rounds in turn; the rest of a training is imports, validation, saving after each epoch, pictures.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PYTHON = [sys.executable, "-c"]
TIEDAE = [sys.executable, "-m", "tiedae_cli"]


def seconds(command: list[str]) -> float:
    """Return how long a process takes from its start to its end."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def one_round(folder: Path) -> dict[str, float]:
    """Return the seconds of each process, and what follows from them."""
    found = {
        "import typer, rich": seconds([*PYTHON, "import typer, rich"]),
        "tiedae --help": seconds([*TIEDAE, "--help"]),
        "import torch": seconds([*PYTHON, "import torch"]),
        "tiedae train": seconds([*TIEDAE, "train", "--device", "cpu", "--run-dir", str(folder)]),
    }
    epochs = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    found["steps of its epochs"] = sum(epoch["seconds"] for epoch in epochs)
    found["help over typer and rich, ratio"] = found["tiedae --help"] / found["import typer, rich"]
    found["train beside torch and steps"] = found["tiedae train"] - found["import torch"] - found["steps of its epochs"]
    return found


def main() -> None:
    """Parse, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tiedae-startup-") as name:
        rounds = [one_round(Path(name) / str(number)) for number in range(arguments.rounds)]
    medians = {name: statistics.median(found[name] for found in rounds) for name in rounds[0]}
    if arguments.json:
        print(json.dumps(medians))
        return
    for name, median in medians.items():
        print(f"{name:>32}  {median:6.2f}")


if __name__ == "__main__":
    main()
