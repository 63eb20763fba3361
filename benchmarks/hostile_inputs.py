"""Attacks of ``hostile.py`` by what data and configs hold: odd cells, files of two kinds, shapes beyond reason, YAML's extras."""

import bz2
import gzip
import io
import json
import lzma
import os
import shutil
import socket
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from attack import RUN, Attack, forge
from PIL import Image

from tiedae_cli.runs import checkpoint

TRAIN = ("--set", "training.epochs=1", "--set", "model.hidden_sizes=[4]", "-q")
MADE = ("runs/*/*", "out*")
ROWS = "".join(f"{index},{index * index % 7},{index % 5}\n" for index in range(40))
HEADED = "a,b,c\n" + ROWS


def put(name: str, content: str | bytes) -> None:
    """Write a file as it stands, without changing its line breaks."""
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())


# Cells and headings

BAD_CELLS = (
    "1e400", "0x10", "1_000", "\u0661\u0662\u0663", "\uff11\uff12", "1\x002", "-Infinity", "nan", "1d5", "--5", "5-", "1e", "#REF!",
    "=1+1", "1\u200b2", "\u22125", "\u00bd", "\u2167", "2\u00b2", "\ufeff5", "9" * 400, "1e308", "5%", '"', "yes",
)  # fmt: skip
GOOD_CELLS = (
    "5e-324",
    "-9223372036854775808",
    "18446744073709551616",
    "+5",
    "1.",
    ".5",
    "-0",
    "true",
    " 5 ",
    "0." + "1" * 5000,
)
TEXTS: dict[str, tuple[str | bytes, int]] = {  # the text of a table, and the exit code of training on it
    **{f"{mark!a} in a heading": (f"a{mark}x,b,c\n{ROWS}", 0) for mark in "\x0b\x0c\x1c\x85\u2028\u2029"},
    "a heading with a line break": (f'"a\nx",b,c\n{ROWS}', 0),
    "titles that end with CR": (("# x\r# y\r" + HEADED).replace("\n", "\r"), 0),
    "two byte order marks": ("\ufeff\ufeff" + HEADED, 0),
    "a byte order mark within": (HEADED + "\ufeff" + HEADED, 2),
    "UTF-16 without a mark": (HEADED.encode("utf-16-le"), 0),
    "UTF-32": (HEADED.encode("utf-32"), 0),
    "Latin-1": (("\u00e4,b,c\n" + ROWS).encode("latin-1"), 2),
    "repeated names": ("a,a,a\n" + ROWS, 0),
    "names that differ in case": ("a,A,b\n" + ROWS, 0),
    "names that differ in composition": ("\u00e9,e\u0301,b\n" + ROWS, 0),
    "a header alone": ("a,b,c\n", 2),
    "one row": ("a,b,c\n1,2,3\n", 2),
    "line breaks alone": ("\n" * 100, 2),
    "commas alone": (",,,\n" * 100, 2),
    "zeros alone": (b"\0" * 1000, 2),
    "a quotation mark without an end": (HEADED + '"' + ROWS, 2),
    "1.7e308 of both signs": ("".join(f"{index},{'-' if index % 2 else ''}1.7e308\n" for index in range(40)), 2),
    "the extremes of 64 bits": ("".join(f"{index},{(-1) ** index * 2**63 - index % 2}\n" for index in range(40)), 0),
    "10,000 columns": (("1," * 9999 + "1\n") * 3 + ("2," * 9999 + "1\n") * 3, 0),
}


def cells() -> Iterator[Attack]:
    """Yield attacks by cells, headings and encodings of tables."""
    for number, cells in ((2, BAD_CELLS), (0, GOOD_CELLS)):
        for cell in cells:
            text = HEADED + f"1,2,{cell}\n" + ROWS
            yield Attack(
                "cells",
                f"a cell {cell[:20]!a}",
                ("train", "t.csv", *TRAIN),
                number,
                partial(put, "t.csv", text),
                may_change=MADE,
            )
    for what, (content, code) in TEXTS.items():
        yield Attack("cells", what, ("train", "t.csv", *TRAIN), code, partial(put, "t.csv", content), may_change=MADE)
    for what, line in {
        "deep lists": "[" * 100_000, "deep objects": '{"a":' * 10_000 + "1" + "}" * 10_000, "NaN": '{"a":NaN,"b":1}',
        "1e400": '{"a":1e400,"b":1}', "5,000 digits": '{"a":' + "9" * 5000 + ',"b":1}', "a repeated key": '{"a":1,"a":2}',
        "numbers": "1", "empty objects": "{}",
    }.items():  # fmt: skip
        yield Attack(
            "cells", f"JSON Lines of {what}", ("train", "t.jsonl", *TRAIN), 2, partial(put, "t.jsonl", (line + "\n") * 20)
        )


# Archives and files of two kinds


def in_memory(save: Callable[[io.BytesIO], object]) -> bytes:
    """Return what a function saves."""
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()


def zipped(*members: tuple[str, str | bytes]) -> bytes:
    """Return a zip archive."""

    def save(buffer: io.BytesIO) -> None:
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members:
                archive.writestr(name, content)

    return in_memory(save)


def nested(depth: int) -> bytes:
    """Return an archive in an archive in an archive ..."""
    content, name = HEADED.encode(), "a.csv"
    for level in range(depth):
        content, name = zipped((name, content)), f"{level}.zip"
    return content


def archives() -> Iterator[Attack]:
    """Yield attacks by compressed files, nested ones, and files that are of two kinds."""
    array = in_memory(lambda buffer: np.save(buffer, np.random.default_rng(0).random((40, 4))))
    image = in_memory(lambda buffer: Image.new("L", (8, 8)).save(buffer, "PNG"))
    table = zipped(("a.csv", HEADED))
    text = HEADED.encode()
    files: dict[str, tuple[str, bytes, int | tuple[int, ...]]] = {
        **{f"an array and an archive, {name}": (name, array + table, 2) for name in ("p.npy", "p.csv", "p.zip", "p.npz")},
        **{f"an image and an archive, {name}": (name, image + table, 2) for name in ("p.png", "p.csv", "p.zip", "p.npy")},
        "an archive in an archive": ("n.zip", nested(2), 2),
        "50 archives in each other": ("n.zip", nested(50), 2),
        "a member above the folder": ("n.zip", zipped(("../../evil.csv", HEADED)), 0),
        "a member at an absolute path": ("n.zip", zipped(("/tmp/evil.csv", HEADED)), 0),
        "a member with a title": ("n.zip", zipped(("\x1b]0;owned\x07.csv", HEADED)), 0),
        "an empty archive": ("n.zip", zipped(), 2),
        "folders alone": ("n.zip", zipped(("a/", ""), ("b/", "")), 2),
        "gzip in gzip": ("t.csv.gz", gzip.compress(gzip.compress(text)), 2),
        "gzip with garbage after it": ("t.csv.gz", gzip.compress(text) + b"garbage" * 9, 2),
        "gzip with a wrong checksum": ("t.csv.gz", gzip.compress(text)[:-8] + bytes(8), 2),
        "gzip of two members": ("t.csv.gz", gzip.compress(text) + gzip.compress(ROWS.encode()), 0),
        "gzip, cut off": ("t.csv.gz", gzip.compress(text)[:-12], 2),
        "xz, cut off": ("t.csv.xz", lzma.compress(text)[:-12], 2),
        "bzip2, cut off": ("t.csv.bz2", bz2.compress(text)[:-12], 2),
        "a header that calls a function": (
            "t.npy",
            b"\x93NUMPY\x01\x00v\x00" + b"{'descr': __import__('os').system('touch trapped')}".ljust(117) + b"\n" + bytes(64),
            2,
        ),
        "a header of a gigabyte": ("t.npy", b"\x93NUMPY\x02\x00" + (10**9).to_bytes(4, "little") + b"{" * 1000, 2),
        "a structured array": ("t.npy", in_memory(lambda buffer: np.save(buffer, np.zeros(40, [("a", "f8"), ("b", "i4")]))), 2),
        "random bytes": ("t.bin", np.random.default_rng(0).bytes(3000), 2),
    }
    for what, (name, content, code) in files.items():
        yield Attack("archives", what, ("train", name, *TRAIN), code, partial(put, name, content), may_change=MADE)


# Shapes beyond reason


def sheet() -> None:
    """Write a sheet with two cells at its ends into x.xlsx."""
    import openpyxl  # type: ignore[import-untyped]

    book = openpyxl.Workbook()
    book.active["A1"] = book.active["XFD1048576"] = 1
    book.save("x.xlsx")


def feather() -> None:
    """Write 2.4 GB in 200 KB into x.feather."""
    import pyarrow
    import pyarrow.feather

    zeros = pyarrow.array(np.zeros(10**8))
    pyarrow.feather.write_feather(pyarrow.table({"a": zeros, "b": zeros, "c": zeros}), "x.feather", "zstd", chunksize=10**8)


def lists() -> None:
    """Write a list of 30 million numbers into x.parquet."""
    import pyarrow
    import pyarrow.parquet

    values = pyarrow.ListArray.from_arrays(pyarrow.array([0, 3 * 10**7], pyarrow.int32()), pyarrow.array(np.zeros(3 * 10**7)))
    pyarrow.parquet.write_table(pyarrow.table({"a": values}), "x.parquet", compression="zstd")


def holes() -> None:
    """Write a data set whose 10^12 rows were never written into x.h5."""
    import h5py

    with h5py.File("x.h5", "w") as file:
        file.create_dataset("x", (10**12, 10), "f8", chunks=(1000, 10))


def little_memory() -> None:
    """Let the process believe that 600 MB are free."""
    from tiedae_cli.data import training_sets
    from tiedae_cli.system import memory_limits

    for module in (memory_limits, training_sets):
        vars(module)["available_memory"] = lambda: 600_000_000


def shapes() -> Iterator[Attack]:
    """Yield attacks by a few bytes that promise an enormous table."""
    market = "%%MatrixMarket matrix coordinate real general\n{} 1\n1 1 1.0\n"
    header = json.dumps({"x": {"dtype": "F32", "shape": [2**32, 2**32], "data_offsets": [0, 64]}}).encode()
    files: dict[str, tuple[str, Callable[[], object]]] = {
        "two cells far apart": ("x.xlsx", sheet),
        "a compressed batch": ("x.feather", feather),
        "long lists": ("x.parquet", lists),
        "rows that were never written": ("x.h5", holes),
        "10^9 x 10^9": ("x.mtx", partial(put, "x.mtx", market.format("1000000000 1000000000"))),
        "60 x 10^9": ("x.mtx", partial(put, "x.mtx", market.format("60 1000000000"))),
        "2^64 values": ("x.safetensors", partial(put, "x.safetensors", len(header).to_bytes(8, "little") + header + bytes(64))),
        "10^12 x 4 of one value": ("x.pt", lambda: torch.save(torch.zeros(1).expand(10**12, 4), "x.pt")),
        "a line of 30 million cells": ("x.csv", partial(put, "x.csv", "1," * 30_000_000 + "1\n")),
        "a row of 30 million numbers": ("x.jsonl", partial(put, "x.jsonl", "[" + "1," * 30_000_000 + "1]\n")),
        "2^93 pixels": (
            "x-images-idx3-ubyte",
            partial(put, "x-images-idx3-ubyte", b"\0\0\x08\x03" + b"\x7f\0\0\0" * 3 + bytes(100)),
        ),
    }
    for what, (name, make) in files.items():
        for words in (("train", name, *TRAIN), ("score", RUN, name)):
            yield Attack("shapes", f"{words[0]} {name}: {what}", words, (1, 2), make, enter=little_memory, may_change=MADE)


# YAML

CONFIGS: dict[str, tuple[str | bytes, int | tuple[int, ...]]] = {
    "aliases that multiply": ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", 2),
    "an alias to itself": ("training: &t\n  x: *t\n", 2),
    "an object of Python": ("training: !!python/object/apply:os.system ['touch trapped']\n", 2),
    "a tag of its own": ("training: !own {epochs: 1}\n", 2),
    "a set": ("training: !!set {epochs}\n", 2),
    "a repeated key": ("training: {epochs: 1, epochs: 2}\n", 2),
    "a repeated section": ("training: {epochs: 1}\ntraining: {epochs: 2}\n", 2),
    "tabs": ("training:\n\tepochs: 1\n", 2),
    "two documents": ("training: {epochs: 1}\n---\ntraining: {epochs: 2}\n", 2),
    "a byte order mark": ("\ufefftraining: {epochs: 1}\nmodel: {hidden_sizes: [4]}\n", 0),
    "Latin-1": ("# \u00e4\n".encode("latin-1"), 2),
    "a zero byte": (b"training: {epochs: 1}\n\0", 2),
    "a list": ("- 1\n", 2),
    "20,000 brackets": ("[" * 20_000, 2),
    "5,000 digits": ("training: {epochs: " + "9" * 5000 + "}\n", 2),
    "a key that is a list": ("? [a, b]\n: 1\n", 2),
    "full-width digits": ("training: {epochs: \uff11}\n", 2),
    "10^18 weights": ("model: {hidden_sizes: [1000000000, 1000000000]}\n", (1, 2)),
    "a negative seed": ("training: {seed: -1}\n", 2),
    "a seed of 70 bits": ("training: {seed: 1180591620717411303424}\n", 2),
    "a title as data": ('data: {dataset: "\\e]0;owned\\a"}\n', 2),
}


def configs() -> Iterator[Attack]:
    """Yield attacks by configs."""
    for what, (content, code) in CONFIGS.items():
        yield Attack(
            "configs", what, ("train", "--config", "c.yaml", "-q"), code, partial(put, "c.yaml", content), may_change=MADE
        )


# Devices, links and twins


def folder_of(*names: str) -> None:
    """Make a folder of photographs with these names, six of each."""
    os.mkdir("d")
    for name in names:
        for index in range(6):
            shutil.copy(f"photos/{index}.png", f"d/{name}{index}.png")


def with_loop() -> None:
    """Put a link to the folder itself into it."""
    folder_of("a", "b")
    os.symlink("../d", "d/d")


def with_socket() -> None:
    """Put a socket into the folder."""
    folder_of("a", "b")
    socket.socket(socket.AF_UNIX).bind("d/s.png")


WEIGHTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "transposed": lambda weight: weight.T.contiguous() if weight.ndim == 2 else weight,
    "without values": lambda weight: weight[:0],
    "single numbers": lambda weight: weight.sum(),
    "whole numbers": lambda weight: weight.long(),
    "of twice the precision": lambda weight: weight.double(),
}


def forge_all(change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Write a checkpoint with changed weights."""
    forge(weights={name: change(weight) for name, weight in checkpoint.load(f"{RUN}/best.safetensors").weights.items()})


def special() -> Iterator[Attack]:
    """Yield attacks by devices as data, loops, twins, and weights of other shapes."""
    folders: dict[str, Callable[[], object]] = {
        "a link to itself": with_loop, "a socket": with_socket, "names that differ in case": partial(folder_of, "a", "A"),
        "names that differ in composition": partial(folder_of, "\u00e9", "e\u0301"),
    }  # fmt: skip
    for what, make in folders.items():
        yield Attack("special", f"a folder with {what}", ("train", "d", *TRAIN), 0, make, may_change=MADE)
    for name in ("/dev/null", "/dev/urandom", "/proc/self/mem", "/proc/self/environ", "/proc/self/fd"):
        for words in (("train", name, *TRAIN), ("score", RUN, name)):
            yield Attack("special", f"{words[0]} {name}", words, (1, 2), may_change=MADE)
    for what, change in WEIGHTS.items():
        for command in ("eval", "inspect"):
            yield Attack(
                "special", f"{command} with weights {what}", (command, "forged.safetensors"), 1, partial(forge_all, change)
            )


INPUT_KINDS: dict[str, Callable[[], Iterator[Attack]]] = {
    "cells": cells,
    "archives": archives,
    "shapes": shapes,
    "configs": configs,
    "special": special,
}
