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
import zipfile
from collections.abc import Callable
from pathlib import Path

from tiedae_cli.errors import CheckpointError
from tiedae_cli.runs import checkpoint

TRAININGS = (
    ["--set", "training.epochs=2"],
    ["--set", "training.epochs=1", "--set", "model.tied=false", "--set", "model.hidden_sizes=[32,8]"],
    ["--set", "training.epochs=1", "--set", "training.pretraining_epochs=1", "--set", "model.hidden_sizes=[16]"],
)
STRUCTURE = 4096  # bytes at the start and at the end, where the archive's own structure and the pickle are
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


def swap_members(raw: bytes, chance: random.Random) -> bytes:
    """Exchange two parts of the archive, of equal size where there are such; all its own checksums are right."""
    members = _members(raw)
    names = [name for name in members if "/data/" in name]
    pairs = [(a, b) for a in names for b in names if a < b]
    equal = [(a, b) for a, b in pairs if len(members[a]) == len(members[b])]
    a, b = chance.choice(equal or pairs)
    members[a], members[b] = members[b], members[a]
    return _archive(members)


def change_a_member(raw: bytes, chance: random.Random) -> bytes:
    """Flip one bit of one part and make its checksum right."""
    members = _members(raw)
    name = chance.choice([name for name, content in members.items() if content])
    members[name] = _flip(members[name], chance.randrange(len(members[name])), chance)
    return _archive(members)


def drop_a_member(raw: bytes, chance: random.Random) -> bytes:
    """Leave one part out."""
    members = _members(raw)
    del members[chance.choice(list(members))]
    return _archive(members)


KINDS: tuple[Damage, ...] = (
    flip_a_bit,
    flip_a_bit_of_the_structure,
    flip_many_bits,
    cut_off,
    lose_the_start,
    append_garbage,
    zero_a_range,
    swap_ranges,
    swap_members,
    change_a_member,
    drop_a_member,
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
        originals = [train(folder / str(number), arguments) for number, arguments in enumerate(TRAININGS)]
        for number in range(options.files):
            kind = KINDS[number % len(KINDS)]
            path, contents = originals[number // len(KINDS) % len(originals)]
            damaged = folder / "damaged.pt"
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
    return hashlib.sha256(
        b"".join(content for name, content in _members(buffer.getvalue()).items() if "/data" in name)
    ).hexdigest()


def train(run: Path, arguments: list[str]) -> tuple[Path, str]:
    """Train on the digits; return the checkpoint and the digest of its contents."""
    command = [sys.executable, "-m", "tiedae_cli", "train", "-q", "--run-dir", str(run), *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return run / "last.pt", digest(checkpoint.load(run / "last.pt"))


def _flip(raw: bytes, place: int, chance: random.Random) -> bytes:
    return raw[:place] + bytes([raw[place] ^ 1 << chance.randrange(8)]) + raw[place + 1 :]


def _members(raw: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _archive(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
