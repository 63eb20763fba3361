"""Items from files, arrays and stdin: the same values whatever the container and the block size; what is wrong is named."""

import io
import json
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from log_capture import captured_log
from PIL import Image
from tiny_models import COLOR, DIGITS, VECTORS, random_bytes

from tiedae_cli.data.item_reader import ItemReader, Items, raw_array, split_items
from tiedae_cli.data.item_set import ItemForm, gray_or_color
from tiedae_cli.data.sources.detection import is_input, recognized
from tiedae_cli.errors import DataError, InputError
from tiedae_cli.runs.trained_run import separate_model

PIXELS = random_bytes(11, 8, 8)
EXPECTED = PIXELS.reshape(11, 64).numpy().astype(np.float32) * np.float32(1 / 255)


class Dribble(io.RawIOBase):
    """A pipe: it cannot seek, and gives a few bytes at a time."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.place = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        part = self.content[self.place : self.place + min(len(buffer), 1 + self.place % 7)]
        self.place += len(part)
        buffer[: len(part)] = part
        return len(part)


class Stdin:
    def __init__(self, content: bytes) -> None:
        self.buffer = io.BufferedReader(Dribble(content))


def npy(array: np.ndarray, **options: bool) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def values(items: Items) -> np.ndarray:
    return np.concatenate([block.values for block in items.blocks])


def names(items: Items) -> list[str | int]:
    return [item for block in items.blocks for item in block.items]


def test_split_items_are_the_set_in_blocks() -> None:
    blocks = list(split_items(gray_or_color(PIXELS.numpy(), None), 4).blocks)
    assert [len(block.values) for block in blocks] == [4, 4, 3]
    assert [list(block.items) for block in blocks] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    assert np.array_equal(np.concatenate([block.values for block in blocks]), EXPECTED)


@pytest.mark.parametrize(
    "array",
    [
        PIXELS.numpy(),
        PIXELS[:, None].numpy(),
        PIXELS[..., None].numpy(),
        PIXELS.reshape(11, 64).numpy(),
        np.asfortranarray(PIXELS.numpy()),
        PIXELS.numpy()[::-1][::-1],
    ],
    ids=["N H W", "N C H W", "N H W C", "N D", "Fortran", "strided"],
)
@pytest.mark.parametrize("size", [1, 4, 11, 100])
def test_array_file(tmp_path: Path, array: np.ndarray, size: int) -> None:
    np.save(tmp_path / "x.npy", array)
    items = ItemReader(DIGITS, size).open([str(tmp_path / "x.npy")])
    assert items.count == 11
    blocks = list(items.blocks)
    assert max(len(block.values) for block in blocks) == min(size, 11)
    assert np.array_equal(np.concatenate([block.values for block in blocks]), EXPECTED)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2"])
def test_float_images_are_fractions(tmp_path: Path, dtype: str) -> None:
    fractions = (np.arange(128).reshape(2, 8, 8) / 128).astype(dtype)  # exact in every one of these types
    np.save(tmp_path / "x.npy", fractions)
    found = values(ItemReader(DIGITS, 8).open([str(tmp_path / "x.npy")]))
    assert np.array_equal(found, torch.arange(128.0).reshape(2, 64) / 128)


def test_float_images_of_0_to_255_are_refused_with_their_row(tmp_path: Path) -> None:
    array = np.zeros((3, 8, 8), np.float32)
    array[2, 4, 4] = 200
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(DataError, match=r"row 3 holds 200; images of floats must be in \[0, 1\]"):
        values(ItemReader(DIGITS, 2).open([str(tmp_path / "x.npy")]))


def test_color_arrays_channels_first_and_last(tmp_path: Path) -> None:
    pixels = random_bytes(6, 3, 5, 4)
    np.save(tmp_path / "first.npy", pixels.numpy())
    np.save(tmp_path / "last.npy", pixels.permute(0, 2, 3, 1).numpy())
    for name in ("first.npy", "last.npy"):
        found = values(ItemReader(COLOR, 4).open([str(tmp_path / name)]))
        assert np.array_equal(found, COLOR.normalize(pixels.reshape(6, 60).numpy()))


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.uint8, np.bool_])
def test_vectors_are_standardized(tmp_path: Path, dtype: type) -> None:
    rows = np.arange(18).reshape(3, 6).astype(dtype)
    np.save(tmp_path / "x.npy", rows)
    found = values(ItemReader(VECTORS, 2).open([str(tmp_path / "x.npy")]))
    assert np.array_equal(found, VECTORS.normalize(rows.astype(np.float32)))


@given(st.integers(1, 40), st.integers(0, 30), st.integers(0, 2**31))
def test_blocks_of_any_size_are_the_whole(size: int, count: int, seed: int) -> None:
    array = np.random.default_rng(seed).standard_normal((count, 6)).astype(np.float32)
    before, sys.stdin = sys.stdin, Stdin(npy(array))  # type: ignore[assignment]
    try:
        items = ItemReader(VECTORS, size).open(["-"])
        assert items.count == count
        found = [block.values for block in items.blocks]
    finally:
        sys.stdin = before
    assert all(len(block) == size for block in found[:-1])
    whole = VECTORS.normalize(array)
    assert np.array_equal(np.concatenate([np.zeros((0, 6)), *found]), whole)


def test_npz_with_one_array(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", images=PIXELS.numpy())
    assert np.array_equal(values(ItemReader(DIGITS, 3).open([str(tmp_path / "x.npz")])), EXPECTED)
    np.savez(tmp_path / "two.npz", a=PIXELS.numpy(), b=PIXELS.numpy())
    with pytest.raises(DataError, match=r"holds a .*, b .*: which are the items"):
        ItemReader(DIGITS, 3).open([str(tmp_path / "two.npz")])
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[200] ^= 0xFF
    (tmp_path / "damaged.npz").write_bytes(content)
    with pytest.raises(DataError, match="damaged.npz: .*damaged"):
        values(ItemReader(DIGITS, 3).open([str(tmp_path / "damaged.npz")]))


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    yield lambda content: monkeypatch.setattr(sys, "stdin", Stdin(content))


TABLES = {
    "csv": "0.5,1,2,3,4,5\n1,1,1,1,1,-1e-3\n",
    "csv with a header row": 'item,a,b,c,d,e,f\nphotos/x,0.5,1,2,3,4,5\n"a,b",1,1,1,1,1,-1e-3\n',
    "csv with a mark and CRLF": "\ufeff0.5,1,2,3,4,5\r\n\r\n1,1,1,1,1,-1e-3\r\n",
    "lists": "[0.5,1,2,3,4,5]\n\n[1,1,1,1,1,-1e-3]",
    "objects": '{"item": "x", "values": [0.5,1,2,3,4,5]}\n{"values": [1,1,1,1,1,-1e-3]}\n',
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
@pytest.mark.parametrize("size", [1, 5])
def test_tables_from_files_and_stdin(tmp_path: Path, stdin, table: str, size: int) -> None:
    expected = VECTORS.normalize(np.array([[0.5, 1, 2, 3, 4, 5], [1, 1, 1, 1, 1, -1e-3]]))
    path = tmp_path / ("x.jsonl" if table[0] in "[{" else "x.csv")
    path.write_bytes(table.encode())
    items = ItemReader(VECTORS, size).open([str(path)])
    assert items.count is None
    assert np.array_equal(values(items), expected)
    stdin(table.encode())
    assert np.array_equal(values(ItemReader(VECTORS, size).open(["-"])), expected)


def test_bad_rows_are_named_and_the_rest_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("1,2,3,4,5,6\n1,2,3\n1,2,x,4,5,6\n1,2,nan,4,5,6\n2,2,2,2,2,2\n")
    told: list[str] = []
    reader = ItemReader(VECTORS, 2, lambda problem: told.append(str(problem).removeprefix(f"{tmp_path}/")))
    assert names(reader.open([str(tmp_path / "x.csv")])) == [0, 4]
    assert told == [
        "x.csv: row 2 (line 2) has 3 cells, not 6",
        "x.csv: row 3 (line 3), column 2: 'x' is not a number (text, columns by ',', decimal '.', without a header row)",
        "x.csv: row 4 (line 4), column 2 holds NaN",
    ]
    (tmp_path / "x.jsonl").write_text('[1,2,3,4,5,6]\n{"code": []}\nnull\n[[[\n["1",2,3,4,5,6]\n[2,2,2,2,2,2]')
    told.clear()
    assert names(reader.open([str(tmp_path / "x.jsonl")])) == [0, 5]
    assert [text.split(":")[1] for text in told] == [f" row {row} (line {row})" for row in (2, 3, 4, 5)]


def test_nan_and_infinity_are_named_by_row(tmp_path: Path) -> None:
    array = np.ones((5, 6))
    array[1, 0], array[3, 5], array[4, 0] = np.nan, -np.inf, 1e300  # the last is infinite as a float32
    np.save(tmp_path / "x.npy", array)
    told: list[str] = []
    found = ItemReader(VECTORS, 2, lambda problem: told.append(str(problem))).open([str(tmp_path / "x.npy")])
    assert names(found) == [0, 2]
    problems = {1: "NaN", 3: "infinity", 4: "1e+300, which float32 cannot hold; rescale that feature"}
    assert told == [f"{tmp_path}/x.npy: row {row + 1} holds {problem}" for row, problem in problems.items()]
    with pytest.raises(DataError, match=r"row 2 holds NaN"):
        names(ItemReader(VECTORS, 2).open([str(tmp_path / "x.npy")]))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 9, 9), np.uint8), r"shape 3 x 9 x 9, uint8; this model takes 8x8 gray images, in one .* N x 8 x 8,"),
        (np.zeros((8, 8), np.uint8), "shape 8 x 8, uint8; this model takes 8x8 gray"),
        (np.full((3, 8, 8), 300), "holds 300; images of whole numbers must be in 0..255"),
        (np.zeros((), np.uint8), "expected items along the first dimension"),
        (np.zeros((3, 8, 8), np.complex64), "its type is complex64, not numbers"),
        (np.zeros(3, [("a", "f4")]), "not numbers"),
        (np.array(["a"]), "not numbers"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(DataError, match=message):
        list(ItemReader(DIGITS, 4).open([str(tmp_path / "x.npy")]).blocks)


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("unpickled",)


def test_object_arrays_are_refused_and_not_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stdin) -> None:
    monkeypatch.chdir(tmp_path)
    content = npy(np.array([Hostile()], dtype=object), allow_pickle=True)
    assert b"unpickled" in pickle.dumps(Hostile())
    Path("x.npy").write_bytes(content)
    stdin(content)
    for name in ("x.npy", "-"):
        with pytest.raises(DataError, match="holds Python objects, which are never unpickled"):
            ItemReader(DIGITS, 4).open([name])
    assert not Path("unpickled").exists()


def test_streams_that_end_too_early_or_too_late(stdin) -> None:
    content = npy(PIXELS.numpy())
    stdin(content[:-100])
    items = ItemReader(DIGITS, 4).open(["-"])
    seen = []
    with pytest.raises(DataError, match="-: cut off after 9 of the 11 rows"):
        for block in items.blocks:
            seen.append(block.values)
    assert np.array_equal(np.concatenate(seen), EXPECTED[:9])
    stdin(content + b"more")
    with pytest.raises(DataError, match="longer than the 11 rows"):
        values(ItemReader(DIGITS, 4).open(["-"]))
    stdin(content[:40])
    with pytest.raises(DataError, match="damaged in its header"):
        ItemReader(DIGITS, 4).open(["-"])
    stdin(b"")
    with pytest.raises(DataError, match="-: empty"):
        ItemReader(DIGITS, 4).open(["-"])


def test_fortran_order_on_stdin_is_refused_before_anything_is_read(stdin) -> None:
    stdin(npy(np.asfortranarray(PIXELS.numpy())))
    with pytest.raises(DataError, match="np.ascontiguousarray"):
        ItemReader(DIGITS, 4).open(["-"])


def picture(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def test_folders_are_read_with_their_sub_folders(tmp_path: Path) -> None:
    order = ["a/1.png", "a/b/0.png", "c.bmp"]
    for index, name in enumerate(order):
        picture(tmp_path / name, PIXELS[index].numpy())
    picture(tmp_path / ".hidden/x.png", PIXELS[9].numpy())
    picture(tmp_path / "a/._1.png", PIXELS[9].numpy())
    (tmp_path / "a/notes.txt").write_text("no image")
    items = ItemReader(DIGITS, 2).open([str(tmp_path)])
    assert items.count == 3
    blocks = list(items.blocks)
    assert [str(Path(item).relative_to(tmp_path)) for block in blocks for item in block.items] == order
    assert np.array_equal(np.concatenate([block.values for block in blocks]), EXPECTED[:3])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: no image files in this folder"):
        ItemReader(DIGITS, 2).open([str(tmp_path / "empty")])


def test_a_bad_image_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    for index in range(5):
        picture(tmp_path / f"{index}.png", PIXELS[index].numpy())
    (tmp_path / "2.png").write_bytes(b"no image")
    told: list[str] = []
    items = ItemReader(DIGITS, 2, lambda problem: told.append(str(problem))).open([str(tmp_path)])
    assert np.array_equal(values(items), EXPECTED[[0, 1, 3, 4]])
    assert told == [f"{tmp_path}/2.png: not an image that can be decoded (unknown format)"]


def test_several_inputs_keep_their_order_and_say_where_rows_are_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", PIXELS[:2].numpy())
    picture(Path("y.png"), PIXELS[2].numpy())
    np.save("z.npy", PIXELS[3:5].numpy())
    items = ItemReader(DIGITS, 10).open(["z.npy", "y.png", "x.npy"])
    assert items.count == 5
    blocks = list(items.blocks)
    assert [item for block in blocks for item in block.items] == ["z.npy[0]", "z.npy[1]", "y.png", "x.npy[0]", "x.npy[1]"]
    assert np.array_equal(np.concatenate([block.values for block in blocks]), EXPECTED[[3, 4, 2, 0, 1]])


def test_an_image_on_stdin(tmp_path: Path, stdin) -> None:
    picture(tmp_path / "x.png", PIXELS[5].numpy())
    stdin((tmp_path / "x.png").read_bytes())
    items = ItemReader(DIGITS, 10).open(["-"])
    assert items.count == 1
    assert np.array_equal(values(items), EXPECTED[5:6])


def test_few_conversions_are_told_and_the_others_counted(tmp_path: Path) -> None:
    for index in range(5):
        picture(tmp_path / f"{index}.png", np.zeros((4, 4), np.uint8))
    with captured_log() as said:
        values(ItemReader(DIGITS, 10).open([str(tmp_path)]))
    assert len(said) == 4
    assert said[-1] == "and 2 more files converted to the model's size and colors"


def test_inputs_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing.png: no such file or folder"):
        ItemReader(DIGITS, 4).open(["nothing.png"])
    with pytest.raises(InputError, match="only once"):
        ItemReader(DIGITS, 4).open(["-", "-"])
    picture(tmp_path / "x.png", PIXELS[0].numpy())
    with pytest.raises(DataError, match="x.png: an image file; this model takes vectors of 6 features"):
        ItemReader(VECTORS, 4).open([str(tmp_path / "x.png")])


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (npy(np.zeros(3)), "npy"),
        (b"PK\3\4\x14\0\0\0", "npz"),
        (b"\x89PNG\r\n\x1a\n", "image"),
        (b"\xff\xd8\xff\xe0", "image"),
        (b"GIF89a\x01\x00\x01\x00", "image"),
        (b"P5\n8 8\n255\n", "image"),
        (b"1,2,3", "csv"),
        (b"-0.5,2", "csv"),
        (b"item,code_0,code", "csv"),
        (b"P1,P2,P3\n1,2,3", "csv"),
        (b"\xef\xbb\xbf1,2,3", "csv"),
        (b'  {"code": [', "jsonl"),
        (b"[1, 2]", "jsonl"),
    ],
)
def test_sniff(head: bytes, kind: str) -> None:
    assert recognized(Path("-"), head[:16]).name == kind


def test_raw_array_is_what_the_reader_reads_back(tmp_path: Path) -> None:
    for form, pixels in ((DIGITS, PIXELS.reshape(11, 64).numpy()), (COLOR, random_bytes(4, 60).numpy())):
        model_values = form.normalize(pixels)
        for as_float in (False, True):
            raw = raw_array(model_values, form, as_float)
            assert raw.dtype == (np.float32 if as_float else np.uint8)
            assert raw.shape[1:] == form.raw_shape
            np.save(tmp_path / "x.npy", raw)
            assert np.array_equal(values(ItemReader(form, 3).open([str(tmp_path / "x.npy")])), model_values)
        assert np.array_equal(raw_array(model_values, form, False).reshape(len(pixels), -1), pixels)
    beyond = np.array([[-0.5, 1.5, 0.5, 0.25, 0.0, 1.0]], np.float32)
    assert raw_array(beyond, ItemForm((1, 2, 3), scale=1 / 255), False).tolist() == [[[0, 255, 128], [64, 0, 255]]]
    rows = np.arange(12, dtype=np.float32).reshape(2, 6)
    assert np.array_equal(raw_array(VECTORS.normalize(rows), VECTORS, False), rows)


def test_denormalize_undoes_normalize() -> None:
    raw = np.array([[3.0, 4.0, 5.0, 6.0, 7.0, 8.0]])
    assert np.array_equal(VECTORS.denormalize(VECTORS.normalize(raw)), raw)
    assert np.allclose(DIGITS.denormalize(DIGITS.normalize(np.array([[0, 1, 254, 255]]))), [[0.0, 1, 254, 255]])


def test_what_the_first_argument_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("runs/mnist", "runs/photos", "other-run"):
        Path(folder).mkdir(parents=True)
        Path(folder, "best.safetensors").touch()
    picture(Path("photos/1.png"), PIXELS[0].numpy())
    picture(Path("holiday/1.png"), PIXELS[0].numpy())
    runs = Path("runs")
    assert separate_model(None, [], runs) == (None, [])
    for name in ("-", "x.png", "X.JPG", "x.npy", "x.npz", "x.csv", "x.jsonl", "holiday", "photos/"):
        assert separate_model(name, ["y.npy"], runs) == (None, [name, "y.npy"])
    for name in ("mnist", "runs/mnist", "other-run", "other-run/best.safetensors", "nothing"):
        assert separate_model(name, ["y.npy"], runs) == (name, ["y.npy"])
    assert separate_model("photos", [], runs) == ("photos", [])
    assert not is_input("runs/mnist")
    assert json.dumps(is_input("-")) == "true"
