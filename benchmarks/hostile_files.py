"""Attacks of ``hostile.py`` by files that change, lie elsewhere or are damaged, by names, and by the surroundings of the process."""

import contextlib
import csv
import os
import resource
import shutil
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from attack import RUN, Attack, forge, limit, variables

from tiedae_cli.config import DataConfig
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.data.sources import table as tables
from tiedae_cli.runs import checkpoint

TRAIN = ("--set", "training.epochs=1", "--set", "model.hidden_sizes=[4]")
MADE = ("runs/*/*", "*.png", "*.html", "*.onnx", "*.npy", "*.csv", "out*")


def chain(*steps: Callable[[], object]) -> None:
    """Do one thing after the other."""
    for step in steps:
        step()


# HDF5


def external(where: str) -> None:
    """Write x.h5 with values in another file."""
    import h5py

    if where == "pipe":
        os.mkfifo("pipe")
    with h5py.File("x.h5", "w") as file:
        target = "/etc/passwd" if where == "passwd" else os.path.abspath("pipe")
        file.create_dataset("x", (60, 4), "f8", external=[(target, 0, h5py.h5f.UNLIMITED)])


def virtual(source: str) -> None:
    """Write x.h5 with values in a data set of another HDF5 file."""
    import h5py

    with h5py.File("../other.h5", "w") as file:
        file["x"] = np.random.default_rng(0).normal(size=(60, 4))
    layout = h5py.VirtualLayout((60, 4), "f8")
    layout[:] = h5py.VirtualSource(source, "x", (60, 4))
    with h5py.File("x.h5", "w") as file:
        file.create_virtual_dataset("x", layout)


def linked(kind: str) -> None:
    """Write x.h5 with a link to another file, or one to itself."""
    import h5py

    virtual("../other.h5")
    with h5py.File("x.h5", "w") as file:
        file["x"] = h5py.ExternalLink("../other.h5", "x") if kind == "external" else h5py.SoftLink("/x")


def hdf5() -> Iterator[Attack]:
    """Yield attacks by HDF5 files that open others."""
    makers = {
        "external storage on /etc/passwd": partial(external, "passwd"),
        "external storage on a pipe": partial(external, "pipe"),
        "a virtual source outside": partial(virtual, "../other.h5"),
        "a virtual source that is missing": partial(virtual, "absent.h5"),
        "an external link": partial(linked, "external"),
        "a link to itself": partial(linked, "itself"),
    }
    for name, make in makers.items():
        for words in (("train", "x.h5", *TRAIN), ("score", RUN, "x.h5"), ("encode", RUN, "x.h5"), ("eval", RUN, "x.h5")):
            codes = 2 if words[0] != "score" else (1, 2)
            yield Attack("hdf5", f"{words[0]} {name}", words, code=codes, prepare=make, after=quotes_nothing)


def quotes_nothing(out: str, err: str) -> list[str]:
    """Return a problem if a line of /etc/passwd is shown."""
    return ["it shows what a file that the user did not name holds"] if "root:" in out + err else []


# Caches


def write_table() -> None:
    """Write t.csv."""
    Path("t.csv").write_text("\n".join(["p,q,r,label", *(f"{i},{i * i % 7},{i % 3},{'ab'[i % 2]}" for i in range(60))]))


def fill_cache(name: str) -> None:
    """Read data once, so that it lies in the cache."""
    before, large = os.environ.get("XDG_CACHE_HOME"), tables.LARGE
    os.environ["XDG_CACHE_HOME"], tables.LARGE = os.path.abspath("cache"), 1
    try:
        load_splits(DataConfig(dataset=os.path.abspath(name), label="label" if name == "t.csv" else None))
    finally:
        tables.LARGE = large
        os.environ.pop("XDG_CACHE_HOME")
        if before is not None:
            os.environ["XDG_CACHE_HOME"] = before


def flip(path: Path) -> None:
    """Change one bit."""
    raw = bytearray(path.read_bytes())
    raw[-5] ^= 1
    path.write_bytes(raw)


def become(path: Path, make: Callable[[Path], object]) -> None:
    """Put something else in the place of a file."""
    path.unlink()
    make(path)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a flipped bit": flip,
    "half of its rows": lambda path: os.truncate(path, path.stat().st_size // 2 // 64 * 64),
    "three bytes less": lambda path: os.truncate(path, path.stat().st_size - 3),
    "nothing in it": lambda path: os.truncate(path, 0),
    "a pipe in its place": partial(become, make=os.mkfifo),
    "a folder in its place": partial(become, make=lambda path: path.mkdir()),
    "a link to itself in its place": partial(become, make=lambda path: path.symlink_to(path.name)),
    "garbage in it": lambda path: path.write_bytes(bytes(range(256)) * 9),
}


def damage(name: str, pattern: str, how: Callable[[Path], object]) -> None:
    """Fill the cache and damage its files of a pattern."""
    write_table()
    fill_cache(name)
    found = list(Path("cache").rglob(pattern))
    assert found, pattern
    for path in found:
        how(path)


def cached() -> Iterator[Attack]:
    """Yield attacks by damaged caches."""
    for name, patterns in (("photos", ("*.npy", "seal.json")), ("t.csv", ("values.raw", "labels.npy", "seal.json"))):
        for pattern in patterns:
            for what, how in DAMAGES.items():
                yield Attack(
                    "cached",
                    f"{name}: {pattern} with {what}",
                    ("train", name, *TRAIN, *(("--set", "data.label=label") if name == "t.csv" else ())),
                    code=0,
                    prepare=partial(damage, name, pattern, how),
                    enter=partial(setattr, tables, "LARGE", 1),
                    may_change=MADE,
                )


# Files that change


def series() -> np.ndarray:
    """Return images, (3000, 8, 8) uint8."""
    return np.random.default_rng(0).integers(0, 256, (3000, 8, 8), dtype=np.uint8)


def overwrite() -> None:
    """Write other values into the same file."""
    np.lib.format.open_memmap("big.npy", "r+")[:] = 7
    os.utime("big.npy", ns=(0, 10**18))


def exchange() -> None:
    """Put another file in the place of the data."""
    np.save("other.npy", series()[::-1])
    os.replace("other.npy", "big.npy")


def become_pipe() -> None:
    """Put a pipe in the place of the data."""
    os.unlink("big.npy")
    os.mkfifo("big.npy")


CHANGES: dict[str, Callable[[], object]] = {
    "truncated": lambda: os.truncate("big.npy", 1000),
    "emptied": lambda: os.truncate("big.npy", 0),
    "extended": lambda: os.truncate("big.npy", 10**6),
    "overwritten": overwrite,
    "replaced": exchange,
    "removed": lambda: os.unlink("big.npy"),
    "a pipe": become_pipe,
}


def trained_on_big() -> None:
    """Train a run on big.npy in a process of its own."""
    np.save("big.npy", series())
    process = os.fork()
    if not process:
        with open(os.devnull, "w") as null:
            os.dup2(null.fileno(), 1)
            os.dup2(null.fileno(), 2)
        import torch

        from tiedae_cli.config import Config
        from tiedae_cli.system.devices import Ranks
        from tiedae_cli.tasks import train

        values = {"data": {"dataset": "big.npy"}, "training": {"epochs": 1}, "model": {"hidden_sizes": [4]}}
        with train.start(Config.model_validate(values), "big", Path("runs/big"), torch.device("cpu"), Ranks()) as training:
            training.train()
        os._exit(0)
    assert os.waitpid(process, 0)[1] == 0


def few_bytes() -> None:
    """Let the process believe that it shares the memory with many."""
    os.environ["LOCAL_WORLD_SIZE"] = str(10**9)


def changed() -> Iterator[Attack]:
    """Yield attacks by data that changes during and after a training."""
    train = ("train", "big.npy", "--run-dir", "long", "--set", "training.epochs=100000", "--set", "model.hidden_sizes=[16, 4]")
    for name, change in CHANGES.items():
        yield Attack(
            "changed",
            f"{name} during a training that has read it",
            train,
            code=143,
            prepare=partial(np.save, "big.npy", series()),
            meanwhile=("long/best.safetensors", change),
            stop=("long/previous.safetensors", (signal.SIGTERM,)),
            may_change=("long/*", "big.npy"),
            after=partial(whole_checkpoint, "long"),
        )
        yield Attack(
            "changed",
            f"{name} during a training that maps it",
            train,
            code=(2, -signal.SIGBUS),
            prepare=partial(np.save, "big.npy", series()),
            enter=few_bytes,
            says="changed while it was trained on",
            meanwhile=("long/best.safetensors", change),
            may_change=("long/*", "big.npy"),
            after=partial(whole_checkpoint, "long"),
        )
        yield Attack(
            "changed",
            f"resume after it was {name}",
            ("train", "--resume", "runs/big", "epochs=3"),
            prepare=partial(chain, trained_on_big, change),
            says="big.npy",
            may_change=("runs/big/*",),
        )
        for command in ("eval", "score", "reconstruct", "report", "compare"):
            readable = name in ("overwritten", "replaced")
            yield Attack(
                "changed",
                f"{command} after it was {name}",
                (command, "runs/big"),
                code=0 if readable else 2,
                prepare=partial(chain, trained_on_big, change),
                says="the data has changed since this run was trained" if readable else "big.npy",
                may_change=MADE,
            )


def whole_checkpoint(folder: str, out: str, err: str) -> list[str]:
    """Return a problem if the last checkpoint is not whole."""
    checkpoint.load(Path(folder, "last.safetensors"))
    return []


# What is given away

HOME = "home-of-ann"


def train_in_home() -> None:
    """Train a run on data in a folder with a telling name."""
    trained_on_big()
    os.mkdir(HOME)
    os.rename("big.npy", f"{HOME}/big.npy")
    config = Path("runs/big/config.yaml")
    config.write_text(config.read_text().replace("/big.npy", f"/{HOME}/big.npy"))


def tells_nothing(out: str, err: str) -> list[str]:
    """Return the files that hold the name of the folder."""
    files = [path for path in Path().rglob("*") if path.is_file() and path.name != "config.yaml"]
    return [f"{path} tells the folder" for path in files if HOME.encode() in path.read_bytes()]


def names_passwd() -> None:
    """Write a checkpoint that names /etc/passwd as its data."""
    config = checkpoint.load(f"{RUN}/best.safetensors").config
    forge(config=config.model_copy(update={"data": config.data.model_copy(update={"dataset": "/etc/passwd"})}))
    os.mkdir("forged")
    shutil.copy("forged.safetensors", "forged/last.safetensors")


def given() -> Iterator[Attack]:
    """Yield attacks by what files tell of their maker, and by what a checkpoint names."""
    for words in (
        "reconstruct runs/big -o out.png", "compare runs/big runs/big -o out.png", "inspect runs/big --codes out.png",
        "inspect runs/big --features out.png", "report runs/big -o out.html", "report runs/big runs/big -o out.html",
        "export runs/big -o out.onnx", "export runs/big --format safetensors -o out.st", "score runs/big --contact-sheet out.png",
        "encode runs/big -o out.csv", "score runs/big -o out.csv", "train --resume runs/big epochs=2",
    ):  # fmt: skip
        yield Attack("given", words, tuple(words.split()), code=0, prepare=train_in_home, after=tells_nothing, may_change=MADE)
    for words in (
        "eval forged.safetensors", "score forged.safetensors", "reconstruct forged.safetensors", "report forged.safetensors",
        "compare forged.safetensors", "inspect forged.safetensors --codes out.png", "encode forged.safetensors -o out.csv",
        "eval forged.safetensors --components 9",
        "train --resume forged",
    ):  # fmt: skip
        yield Attack(
            "given",
            f"{words} of /etc/passwd",
            tuple(words.split()),
            prepare=names_passwd,
            after=quotes_nothing,
            may_change=("forged/.*",),
        )
    for words in ("eval", "score", "reconstruct", "report", "compare", "train --resume"):
        yield Attack(
            "given",
            f"{words} with a config of another run",
            (*words.split(), RUN),
            prepare=partial(Path(RUN, "config.yaml").write_text, "data: {dataset: digits, split_seed: 9}"),
            code=0 if words != "train --resume" else 0,
            may_change=MADE,
        )


# Names in data


FORGED = "two\nFORGED: line"


def named_npz() -> None:
    """Write arrays with a line break in their names."""
    arrays: dict[str, Any] = {FORGED: np.zeros((30, 4)), f"y{FORGED}": np.zeros((30, 5))}
    np.savez("n.npz", **arrays)


def named_csv() -> None:
    """Write a heading with a line break, as Excel does."""
    rows = "\n".join(f"{i},{i * i % 7}" for i in range(30))
    Path("n.csv").write_text(f'"a","{FORGED}"\n{rows}\n3,{{}}\n')


def named_parquet() -> None:
    """Write columns with a line break in their names, one of them constant and one with gaps."""
    import pyarrow
    import pyarrow.parquet

    columns = {FORGED: [None, *range(29)], f"c{FORGED}": [1.0] * 30, "b": [float(i % 7) for i in range(30)]}
    pyarrow.parquet.write_table(pyarrow.table(columns), "n.parquet")


def named_labels() -> None:
    """Write labels with a line break."""
    rows = "\n".join(f'{i},{i * i % 7},"{FORGED if i % 3 else "good"}"' for i in range(30))
    Path("n.csv").write_text(f"a,b,label\n{rows}\n")


def named_jsonl() -> None:
    """Write keys with a line break."""
    import json

    Path("n.jsonl").write_text("".join(json.dumps({FORGED: i, "b": "x" if i == 29 else i % 7}) + "\n" for i in range(30)))


def formula_photos() -> None:
    """Give photographs names that a spreadsheet runs."""
    for start in ("=1+1", "+2", "-3", "@x", "=cmd|' /C calc'!A0"):
        shutil.copy("photos/0.png", "photos/" + start.replace("/", "") + ".png")
    os.chdir("photos")


def no_formula(out: str, err: str) -> list[str]:
    """Return the cells that a spreadsheet would run."""
    cells = [cell for row in csv.reader(out.splitlines()) for cell in row]
    return [f"a formula: {cell}" for cell in cells if cell[:1] in ("=", "+", "@") or (cell[:1] == "-" and not number(cell))]


def number(cell: str) -> bool:
    """Return whether a cell is a number."""
    with contextlib.suppress(ValueError):
        return float(cell) is not None
    return False


def names() -> Iterator[Attack]:
    """Yield attacks by names in data."""
    for make, name in (
        (named_npz, "n.npz"), (named_csv, "n.csv"), (named_parquet, "n.parquet"), (named_labels, "n.csv"), (named_jsonl, "n.jsonl"),
    ):  # fmt: skip
        for more in ((), ("--set", "data.missing=mean"), ("--set", "data.label=absent"), ("--set", "data.normal=absent")):
            words = ("train", name, *TRAIN, *more)
            yield Attack("names", f"{make.__name__} {' '.join(more)}", words, (0, 1, 2), make, may_change=MADE)
        yield Attack("names", f"{make.__name__} scored", ("score", RUN, name), (1, 2), make)
    for command in ("score", "encode"):
        words = (command, RUN, "photos", "--format", "csv", "--spreadsheet")
        yield Attack("names", f"{command} --spreadsheet", words, 0, partial(in_photos), after=no_formula)
        for kind in ("jsonl", "parquet"):
            words = (command, RUN, "x.npy", "--format", kind, "--spreadsheet", "-o", "out")
            yield Attack("names", f"{command} --spreadsheet as {kind}", words, 2, says="--spreadsheet: for CSV only")


def in_photos() -> None:
    """Make photographs with names that a spreadsheet runs, and return to the folder."""
    here = os.getcwd()
    formula_photos()
    os.chdir(here)


# Modes and kinds of outputs

WRITERS = (
    f"score {RUN} x.npy --format csv -o", f"encode {RUN} x.npy --format csv -o", f"decode {RUN} codes.npy --format csv -o",
    f"reconstruct {RUN} --no-preview -o", f"compare {RUN} {RUN} -o", f"report {RUN} -o", f"inspect {RUN} --features",
    f"inspect {RUN} --codes", f"export {RUN} --format safetensors -o", f"score {RUN} x.npy --contact-sheet",
)  # fmt: skip


def secret() -> None:
    """Make an output that only its owner may read."""
    Path("out.x").touch()
    os.chmod("out.x", 0o600)


def stays_secret(out: str, err: str) -> list[str]:
    """Return a problem if others may read the output."""
    mode = stat.S_IMODE(os.stat("out.x").st_mode)
    return [] if mode == 0o600 and os.stat("out.x").st_size else [f"mode {mode:o}"]


def as_socket() -> None:
    """Bind a socket in the place of the output."""
    socket.socket(socket.AF_UNIX).bind("out.x")


def modes() -> Iterator[Attack]:
    """Yield attacks on what lies in the place of an output."""
    for words in WRITERS:
        command = (*words.split(), "out.x")
        yield Attack("modes", f"{words} a private file", command, 0, secret, after=stays_secret, may_change=("out.x",))
        yield Attack("modes", f"{words} a folder", command, (1, 2), partial(os.mkdir, "out.x"), says="out.x")
        yield Attack("modes", f"{words} a socket", command, (1, 2), as_socket, says="out.x")
        missing = (*words.split(), "absent/out.x")
        yield Attack("modes", f"{words} in a missing folder", missing, (1, 2), says="absent/out.x")
        below = (*words.split(), "x.npy/out.x")
        yield Attack("modes", f"{words} below a file", below, (1, 2), says="x.npy/out.x")
        full = (*words.split(), "/dev/full")
        yield Attack("modes", f"{words} a full device", full, 1, says="/dev/full")


# The surroundings of the process

EVERY = (
    "train -q", f"eval {RUN}", f"inspect {RUN}", f"score {RUN} x.npy", f"encode {RUN} x.npy --format csv",
    f"reconstruct {RUN} -o out.png", f"compare {RUN} {RUN}", f"report {RUN} -o out.html", "runs", "configs", "--help",
    f"decode {RUN} codes.npy --format csv", f"export {RUN} --format safetensors -o out.st",
)  # fmt: skip


FEW = (
    "train photos -q --set training.epochs=1 --set model.hidden_sizes=[4]", f"score {RUN} photos", f"report {RUN} -o out.html",
    "configs",
)  # fmt: skip


def deleted_folder() -> None:
    """Work in a folder that is gone."""
    os.mkdir("gone")
    os.chdir("gone")
    os.rmdir("../gone")


def surroundings() -> Iterator[Attack]:
    """Yield attacks by limits, variables and folders of the process."""
    for words in EVERY:
        yield Attack(
            "around", f"{words} in a deleted folder", tuple(words.split()), 2, enter=deleted_folder, says="working directory"
        )
    settings: dict[str, Callable[[], object]] = {
        "no HOME": partial(variables, HOME=None, XDG_CACHE_HOME=None, TIEDAE_DATA=None),
        "HOME is a file": partial(variables, HOME="/etc/passwd", XDG_CACHE_HOME=None, TIEDAE_DATA=None),
        "LANG=C": partial(variables, LANG="C", LC_ALL="C", PYTHONUTF8="0"),
        "TMPDIR is missing": partial(variables, TMPDIR="/absent", TMP=None, TEMP=None),
        "the cache cannot be written": partial(variables, XDG_CACHE_HOME="/proc/self", TIEDAE_DATA="/proc/self"),
        "the cache is a file": partial(variables, XDG_CACHE_HOME="/etc/passwd", TIEDAE_DATA="/etc/passwd"),
        "an absurd terminal": partial(variables, COLUMNS="0", LINES="-1", TERM="no-such-terminal"),
        "umask 000": partial(os.umask, 0),
        "umask 077": partial(os.umask, 0o77),
        "12 open files": partial(limit, resource.RLIMIT_NOFILE, 12),
        "files of 1 kB": partial(limit, resource.RLIMIT_FSIZE, 1024),
        "torchrun's variables, nonsense": partial(variables, LOCAL_WORLD_SIZE="many", LOCAL_RANK="-1", GROUP_RANK="x"),
    }
    for name, enter in settings.items():
        for words in FEW:
            codes = (0,) if "umask" in name or "torchrun" in name or "LANG" in name or "terminal" in name else (0, 1, 2)
            yield Attack("around", f"{words}: {name}", tuple(words.split()), codes, enter=enter, may_change=(*MADE, "gone"))


FILE_KINDS: dict[str, Callable[[], Iterator[Attack]]] = {
    "hdf5": hdf5,
    "cached": cached,
    "changed": changed,
    "given": given,
    "names": names,
    "modes": modes,
    "around": surroundings,
}
