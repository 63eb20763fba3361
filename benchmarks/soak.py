"""Kill a training with SIGKILL at random instants, resume it, repeat until it is done, and compare the result to the bit.

    python benchmarks/soak.py --kills 100          (add --json for one line of JSON, --short for epochs of a few milliseconds)

Each process is ``python -m tiedae_cli train --resume --config FILE --run-dir DIR``, the one command line that a scheduler would restart.
The training saves about ten times a second and at the end of each epoch, so that many kills fall into the middle of saving; every
eighth falls into the start of the process. With ``--short`` it saves once a second, many epochs at a time. When a training is done,
weights, optimizer, best model and history must equal those of a training that was never interrupted; then the next one begins, until
there were enough kills. Exit code 1 if one differs.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from tiedae_cli.runs import checkpoint
from tiedae_cli.system.storage import TEMPORARY_PREFIX

CONFIG = """\
data: {{dataset: digits}}
model: {{hidden_sizes: [512, 256, 16], activation: silu, code_activation: linear, output: sigmoid}}
training: {{epochs: {epochs}, batch_size: 10, learning_rate: 0.002, schedule: one_cycle, l2: 0, loss: squared_error,
           corruption: masking, pretraining_epochs: 2, checkpoint_every: 0.001}}
"""
SHORT = """\
data: {{dataset: digits}}
model: {{hidden_sizes: [64, 16], activation: silu, code_activation: linear, output: sigmoid}}
training: {{epochs: {epochs}, batch_size: 600, learning_rate: 0.01, l2: 0, loss: squared_error, corruption: masking, pretraining_epochs: 2}}
"""
LONGEST = 2.0  # seconds after the start of training in which a kill falls
TIMINGS = ("seconds", "items_per_second")  # of an epoch: the only things that may differ


@dataclass
class Tally:
    """What happened so far."""

    kills: int = 0
    survived: int = 0
    while_saving: int = 0
    """Kills that left a half-written temporary file behind."""
    at_start: int = 0
    """Kills before training went on."""
    trainings: int = 0


def main() -> None:
    """Run the soak and print how many kills were survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="how many times to kill")
    parser.add_argument("--epochs", type=int, help="of each training; 30, and 1,000 short ones")
    parser.add_argument("--short", action="store_true", help="epochs of two steps, of which about one a second is saved")
    parser.add_argument("--seed", type=int, default=1, help="of the instants")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    chance, tally = random.Random(options.seed), Tally()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = folder / "soak.yaml"
        config.write_text((SHORT if options.short else CONFIG).format(epochs=options.epochs or (1000 if options.short else 30)))
        finish(begin(config, folder / "whole"))
        reference = result(folder / "whole")
        while tally.kills < options.kills:
            before = tally.kills
            run = folder / f"killed-{tally.trainings}"
            train_with_kills(config, run, chance, tally, options.kills)
            different = differences(reference, result(run))
            tally.survived += 0 if different else tally.kills - before
            tally.trainings += 1
            verdict = f"DIFFERENT: {', '.join(different)}" if different else "bit-identical"
            print(f"training {tally.trainings}: {tally.kills - before} kills, {verdict}", file=sys.stderr)
    if options.json:
        values = {"kills": tally.kills, "bit_identical": tally.survived, "while_saving": tally.while_saving}
        print(json.dumps({**values, "at_start": tally.at_start, "trainings": tally.trainings}))
    else:
        print(f"{tally.survived} of {tally.kills} kills survived: every training ended bit-identical to one never interrupted")
        print(f"{tally.while_saving} fell into the middle of saving, {tally.at_start} into the start of the process")
    sys.exit(tally.survived < tally.kills)


def begin(config: Path, run: Path) -> subprocess.Popen[str]:
    """Start or resume the training in a process of its own."""
    command = [sys.executable, "-m", "tiedae_cli", "train", "--resume", "--config", str(config), "--run-dir", str(run)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, "--device", "cpu"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    )


def finish(process: subprocess.Popen[str]) -> None:
    """Wait for a training that must succeed."""
    _, errors = process.communicate()
    if process.returncode:
        sys.exit(f"the training failed with exit code {process.returncode}:\n{errors}")


def train_with_kills(config: Path, run: Path, chance: random.Random, tally: Tally, most: int) -> None:
    """Train to the end, killed again and again."""
    startup = 3.0
    while tally.kills < most:
        began = time.monotonic()
        process = begin(config, run)
        assert process.stderr is not None
        early = chance.random() < 1 / 8
        if early:
            time.sleep(chance.uniform(0, startup))
        elif process.stderr.readline():  # training goes on from here
            startup = time.monotonic() - began
            time.sleep(chance.uniform(0, LONGEST))
        process.kill()
        _, errors = process.communicate()
        if process.returncode == 0:  # it was done before the kill
            return
        if process.returncode != (1 if sys.platform == "win32" else -signal.SIGKILL):
            sys.exit(f"resuming failed with exit code {process.returncode}:\n{errors}")
        tally.kills += 1
        tally.at_start += early
        tally.while_saving += bool(list(run.glob(f"{TEMPORARY_PREFIX}*")))
        if (run / "last.safetensors").exists():
            checkpoint.load(run / "last.safetensors")  # whole at every instant
    finish(begin(config, run))


def result(run: Path) -> dict[str, Any]:
    """Return all of a finished run that must not depend on interruptions."""
    last, best = checkpoint.load(run / "last.safetensors"), checkpoint.load(run / "best.safetensors")
    history = [{key: value for key, value in asdict(report).items() if key not in TIMINGS} for report in last.training.history]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    metrics = [{key: value for key, value in line.items() if key not in TIMINGS} for line in lines]
    tensors = {f"last {name}": value for name, value in last.weights.items()}
    tensors |= {f"best {name}": value for name, value in best.weights.items()}
    return {"history": history, "metrics": metrics, **tensors, **last.training.optimizer}


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return the names of what is not the same to the bit."""
    if one.keys() != other.keys():
        return ["what was saved"]
    pairs = ((name, value, other[name]) for name, value in one.items())
    return [name for name, a, b in pairs if not (torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b)]


if __name__ == "__main__":
    main()
