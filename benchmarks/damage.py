"""Damage real checkpoints in every way that disks, networks and people do, and load each of them.

    python benchmarks/damage.py --files 3000       (add --json for one line of JSON)

Each damaged file must be refused with one line, or hold exactly what it held before (the damage hit padding). Anything else, another
exception or different contents, is a failure: exit code 1.
"""

import argparse
import collections
import hashlib
import io
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tiedae_cli.errors import CheckpointError
from tiedae_cli.runs import checkpoint

TABLE = "table.npy"  # 600 rows of six features
TRAININGS = (
    ["--set", "training.epochs=2"],
    ["--set", "training.epochs=1", "--set", "model.tied=false", "--set", "model.hidden_sizes=[32,8]"],
    ["--set", "training.epochs=1", "--set", "training.pretraining_epochs=1", "--set", "model.hidden_sizes=[16]"],
    [TABLE, "training.epochs=1", "score.rank=neighbours", "model.hidden_sizes=[4]"],
    [TABLE, "training.epochs=1", "data.window=5", "model.hidden_sizes=[8]"],
)
PARTS = ("pca.", "calibration.", "score.", "reference.")  # tensors that the end of a training adds
STRUCTURE = 4096  # bytes at the start and at the end, where the file's own structure and the last tensors are
Damage = Callable[[bytes, random.Random], bytes]


def flip_a_bit(raw: bytes, chance: random.Random) -> bytes:
    """Flip one bit, anywhere."""
    return _flip(raw, chance.randrange(len(raw)), chance)


def flip_a_bit_of_the_structure(raw: bytes, chance: random.Random) -> bytes:
    """Flip one bit near the start or the end."""
    place = chance.randrange(min(STRUCTURE, len(raw)))
    return _flip(raw, place if chance.random() < 0.5 else len(raw) - 1 - place, chance)


def flip_many_bits(raw: bytes, chance: random.Random) -> bytes:
    """Flip 2 to 100 bits, anywhere."""
    for _ in range(chance.randrange(2, 100)):
        raw = _flip(raw, chance.randrange(len(raw)), chance)
    return raw


def cut_off(raw: bytes, chance: random.Random) -> bytes:
    """Keep the start, as of a download that broke off."""
    return raw[: chance.randrange(len(raw))]


def lose_the_start(raw: bytes, chance: random.Random) -> bytes:
    """Keep the end only."""
    return raw[chance.randrange(1, len(raw)) :]


def append_garbage(raw: bytes, chance: random.Random) -> bytes:
    """Write bytes after the end."""
    return raw + chance.randbytes(chance.randrange(1, 5000))


def zero_a_range(raw: bytes, chance: random.Random) -> bytes:
    """Leave a block unwritten, as a power cut does."""
    size = chance.choice((16, 512, 4096))
    start = chance.randrange(len(raw)) // size * size
    return raw[:start] + bytes(len(raw[start : start + size])) + raw[start + size :]


def swap_ranges(raw: bytes, chance: random.Random) -> bytes:
    """Exchange two blocks."""
    size = chance.choice((16, 512, 4096))
    first, second = sorted(chance.sample(range(len(raw) // size), 2))
    a, b = raw[first * size : (first + 1) * size], raw[second * size : (second + 1) * size]
    return raw[: first * size] + b + raw[(first + 1) * size : second * size] + a + raw[(second + 1) * size :]


def swap_tensors(raw: bytes, chance: random.Random) -> bytes:
    """Exchange the bytes of two tensors, of equal size where there are such; the file's own structure holds."""
    header, values = _parts(raw)
    places = [entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"]
    pairs = [(a, b) for a in places for b in places if a < b]
    equal = [(a, b) for a, b in pairs if a[1] - a[0] == b[1] - b[0]]
    (start, stop), (other, end) = chance.choice(equal or pairs)
    size = min(stop - start, end - other)
    first, second = values[start : start + size], values[other : other + size]
    return raw[: len(raw) - len(values)] + _with(_with(values, start, second), other, first)


def change_a_tensor(raw: bytes, chance: random.Random) -> bytes:
    """Flip one bit of one tensor."""
    _, values = _parts(raw)
    return _flip(raw, len(raw) - 1 - chance.randrange(len(values)), chance)


def change_a_part(raw: bytes, chance: random.Random) -> bytes:
    """Flip one bit of PCA, the calibration, the ranker's tensors or the reference statistics."""
    header, values = _parts(raw)
    places = [entry["data_offsets"] for name, entry in header.items() if name.startswith(PARTS)]
    start, stop = chance.choice([(start, stop) for start, stop in places if start < stop])
    return _flip(raw, len(raw) - len(values) + chance.randrange(start, stop), chance)


def drop_a_tensor(raw: bytes, chance: random.Random) -> bytes:
    """Leave one tensor out of the header, its bytes cut out."""
    header, values = _parts(raw)
    name = chance.choice([name for name in header if name != "__metadata__"])
    start, stop = header.pop(name)["data_offsets"]
    for entry in header.values():
        if "data_offsets" in entry and entry["data_offsets"][0] >= stop:
            entry["data_offsets"] = [offset - (stop - start) for offset in entry["data_offsets"]]
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + values[:start] + values[stop:]


KINDS: tuple[Damage, ...] = (
    flip_a_bit,
    flip_a_bit_of_the_structure,
    flip_many_bits,
    cut_off,
    lose_the_start,
    append_garbage,
    zero_a_range,
    swap_ranges,
    swap_tensors,
    change_a_tensor,
    change_a_part,
    drop_a_tensor,
)


def main() -> None:
    """Damage and load, and print the counts by kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=3000, help="how many damaged files to load")
    parser.add_argument("--seed", type=int, default=1, help="of the damage")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    counts: dict[str, collections.Counter[str]] = {kind.__name__: collections.Counter() for kind in KINDS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / TABLE, np.random.default_rng(0).normal(size=(600, 3)) @ np.random.default_rng(1).normal(size=(3, 6)))
        originals = [train(folder / str(number), arguments) for number, arguments in enumerate(TRAININGS)]
        for number in range(options.files):
            kind = KINDS[number % len(KINDS)]
            path, contents = originals[number // len(KINDS) % len(originals)]
            damaged = folder / "damaged.safetensors"
            damaged.write_bytes(kind(path.read_bytes(), chance))
            counts[kind.__name__][outcome(damaged, contents)] += 1
    total = sum(counts.values(), collections.Counter())
    if options.json:
        print(json.dumps({"files": options.files, **{name: total[name] for name in OUTCOMES}, "kinds": counts}))
    else:
        print(f"{'':30}" + "".join(f"{name:>12}" for name in OUTCOMES))
        for name, row in [*counts.items(), ("all", total)]:
            print(f"{name.replace('_', ' '):30}" + "".join(f"{row[outcome]:>12,}" for outcome in OUTCOMES))
    sys.exit(total["traceback"] + total["different"] > 0)


OUTCOMES = ("refused", "unchanged", "different", "traceback")


def outcome(path: Path, contents: str) -> str:
    """Load a damaged file; ``unchanged`` means that all its contents are what they were."""
    try:
        found = checkpoint.load(path)
    except CheckpointError as error:
        return "refused" if str(error).count("\n") == 0 else "traceback"
    except Exception as error:  # what this benchmark looks for
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return "traceback"
    return "unchanged" if digest(found) == contents else "different"


def digest(found: checkpoint.Checkpoint) -> str:
    """Return a digest of all that a checkpoint holds."""
    buffer = io.BytesIO()
    found.write(buffer)
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def train(run: Path, arguments: list[str]) -> tuple[Path, str]:
    """Train on the digits; return the checkpoint and the digest of its contents."""
    command = [sys.executable, "-m", "tiedae_cli", "train", "-q", "--run-dir", str(run), *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=run.parent)
    return run / "best.safetensors", digest(checkpoint.load(run / "best.safetensors"))


def _flip(raw: bytes, place: int, chance: random.Random) -> bytes:
    return raw[:place] + bytes([raw[place] ^ 1 << chance.randrange(8)]) + raw[place + 1 :]


def _with(values: bytes, start: int, part: bytes) -> bytes:
    return values[:start] + part + values[start + len(part) :]


def _parts(raw: bytes) -> tuple[dict[str, Any], bytes]:
    """Return a safetensors file's header and the bytes of its tensors."""
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


if __name__ == "__main__":
    main()
