"""``encode`` and ``decode`` give the model's numbers, in every format and through real pipes."""

import gzip
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import torch
from conftest import Tiedae, idx_bytes
from PIL import Image
from tiny_models import COLOR, DIGITS, VECTORS, random_bytes, save_run
from typer.testing import CliRunner

import tiedae_cli
from tiedae_cli.cli.app import app
from tiedae_cli.config import DataConfig
from tiedae_cli.data.item_reader import ItemReader
from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.output import figures
from tiedae_cli.runs import checkpoint

PIXELS = random_bytes(11, 8, 8)
X = torch.from_numpy(DIGITS.normalize(PIXELS.reshape(11, 64).numpy()))


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TiedAutoencoder:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", PIXELS.numpy())
    return save_run(Path("runs"), "digits", DIGITS)


def run(*arguments: str, stdin: bytes = b"", code: int = 0) -> tuple[bytes, str]:
    """Run a command in this process; return stdout and stderr."""
    result = CliRunner().invoke(app, list(arguments), input=stdin)
    assert result.exit_code == code, result.stderr
    return result.stdout_bytes, result.stderr


def codes_of(model: TiedAutoencoder, x: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        return model.encode(x).numpy()


def load(content: bytes) -> np.ndarray:
    return np.load(io.BytesIO(content), allow_pickle=False)


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    return found.shape == expected.shape and np.allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_encode_writes_the_models_codes(model: TiedAutoencoder) -> None:
    stdout, _ = run("encode", "digits", "x.npy")
    codes = load(stdout)
    assert codes.dtype == np.float32
    assert close(codes, codes_of(model, X))
    assert np.array_equal(load(run("encode", "x.npy")[0]), codes)  # without MODEL


@pytest.fixture(autouse=True)
def newest(tmp_path: Path, model: TiedAutoencoder) -> None:
    os.link("runs/digits/best.safetensors", "runs/digits/last.safetensors")  # the newest run is the last one saved


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_encode_takes_a_split(model: TiedAutoencoder, split: str) -> None:
    arguments = [] if split == "test" else ["--split", split]
    images = load_splits(DataConfig()).get(split)
    assert close(load(run("encode", *arguments)[0]), codes_of(model, torch.from_numpy(images.batch(0, len(images)))))


def test_small_blocks_give_the_same_codes_as_one_large_block(model: TiedAutoencoder, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load(run("encode", "x.npy")[0])
    monkeypatch.setattr("tiedae_cli.model.inference.LEAST_WIDTH", 1)
    monkeypatch.setattr("tiedae_cli.model.inference.BATCH_VALUES", 3 * 64)  # blocks of three items
    assert close(load(run("encode", "x.npy")[0]), whole)
    assert close(load(run("encode", "-", stdin=Path("x.npy").read_bytes())[0]), whole)


@pytest.mark.slow
def test_every_format_holds_the_same_codes(model: TiedAutoencoder) -> None:
    codes = load(run("encode", "x.npy")[0])
    for name in ("codes.npy", "codes.csv", "codes.jsonl"):
        stdout, stderr = run("encode", "x.npy", "-o", name)
        assert stdout.decode() == name + "\n"
        assert stderr == "11 codes of 4 numbers\n"
    assert np.array_equal(np.load("codes.npy"), codes)
    lines = Path("codes.csv").read_text().splitlines()
    assert lines[0] == "item,code_0,code_1,code_2,code_3"
    assert [line.split(",")[0] for line in lines[1:]] == [str(row) for row in range(11)]
    assert np.array_equal(np.loadtxt("codes.csv", delimiter=",", skiprows=1, dtype=np.float32)[:, 1:], codes)
    objects = [json.loads(line) for line in Path("codes.jsonl").read_text().splitlines()]
    assert [value["item"] for value in objects] == list(range(11))
    assert np.array_equal(np.array([value["code"] for value in objects], np.float32), codes)
    assert run("encode", "x.npy", "--format", "csv")[0] == Path("codes.csv").read_bytes()
    assert run("encode", "x.npy", "--json")[0] == Path("codes.jsonl").read_bytes()
    arrays = [run("decode", name, "--float")[0] for name in ("codes.npy", "codes.csv", "codes.jsonl")]
    assert arrays[0] == arrays[1] == arrays[2]
    stdout, _ = run("encode", "x.npy", "-o", "codes.npy", "--json")
    assert json.loads(stdout) == {"output": "codes.npy", "items": 11, "code_size": 4}


@pytest.mark.parametrize("name", ["t.csv", "-"])
def test_an_array_of_unknown_length_gets_the_right_header(model: TiedAutoencoder, name: str) -> None:
    rows = "\n".join(",".join(f"{value:.9g}" for value in row) for row in X.tolist())
    Path("t.csv").write_text(rows)
    content = rows.encode() if name == "-" else b""
    run("encode", name, "-o", "codes.npy", stdin=content)
    assert close(np.load("codes.npy"), codes_of(model, X))
    stdout, _ = run("encode", name, stdin=content)
    assert stdout == Path("codes.npy").read_bytes()


def test_decoding_codes_equals_the_models_reconstruction(model: TiedAutoencoder) -> None:
    run("encode", "x.npy", "-o", "codes.npy")
    with torch.inference_mode():
        expected = model(X).reshape(11, 8, 8)
    floats, pixels = load(run("decode", "digits", "codes.npy", "--float")[0]), load(run("decode", "codes.npy")[0])
    assert floats.dtype == np.float32
    assert close(floats, expected.numpy())
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, (floats * 255).round().astype(np.uint8))
    again = load(run("decode", "-", stdin=Path("codes.npy").read_bytes())[0])
    assert np.array_equal(again, pixels)
    run("decode", "codes.npy", "-o", "values.csv", "--float")
    assert close(load(run("encode", "values.csv", "--format", "npy")[0]), codes_of(model, expected.reshape(11, 64)))


def test_color_images_are_decoded_to_a_grid(tmp_path: Path) -> None:
    pixels = random_bytes(3, 3, 5, 4)
    color = save_run(Path("runs"), "color", COLOR, code=50, dataset="nowhere")
    np.save("c.npy", pixels.numpy())
    run("encode", "color", "c.npy", "-o", "codes.npy")
    arrays = load(run("decode", "color", "codes.npy")[0])
    seen = torch.from_numpy(COLOR.normalize(pixels.reshape(3, 60).numpy()))
    with torch.inference_mode():
        expected = (color(seen) * 255).round().to(torch.uint8).reshape(3, 3, 5, 4)
    assert np.abs(arrays.astype(int) - expected.numpy().astype(int)).max() <= 1
    assert run("decode", "color", "codes.npy", "-o", "out.png")[0] == b"out.png\n"
    grid = np.asarray(Image.open("out.png").convert("RGB"))
    factor = 96 // 5  # pixels of 5 x 4 images enlarged as far as 96 allows, with gaps of one of them
    assert grid.shape == (5 * factor + 2 * factor, 3 * 4 * factor + 4 * factor, 3)
    for index in range(3):
        left = factor + index * 5 * factor
        cell = grid[factor : 6 * factor, left : left + 4 * factor].reshape(5, factor, 4, factor, 3)
        assert (cell == cell[:, :1, :, :1]).all()  # every pixel is a square of one color
        drawn = cell[:, 0, :, 0].transpose(2, 0, 1).astype(int)
        assert np.abs(drawn - arrays[index].astype(int)).max() <= 1
    assert run("decode", "color", "codes.npy", "--format", "png")[0] == Path("out.png").read_bytes()


def test_vectors_are_decoded_in_the_datas_units() -> None:
    vectors = save_run(Path("runs"), "vectors", VECTORS, dataset="nowhere", output="linear")
    rows = torch.randn(5, 6, generator=torch.Generator().manual_seed(1)) * 3 + 2
    np.save("v.npy", rows.numpy())
    run("encode", "vectors", "v.npy", "-o", "codes.npy")
    with torch.inference_mode():
        expected = torch.from_numpy(VECTORS.denormalize(vectors(torch.from_numpy(VECTORS.normalize(rows.numpy()))).numpy()))
    found = load(run("decode", "vectors", "codes.npy")[0])
    assert found.dtype == np.float32
    assert close(found, expected.numpy())
    _, stderr = run("decode", "vectors", "codes.npy", "-o", "v.png", code=2)
    assert stderr.startswith("error: this model's items are vectors of 6 features: write them to .npy")


def test_encode_stops_at_an_unreadable_item_and_keeps_the_old_file(model: TiedAutoencoder) -> None:
    Path("photos").mkdir()
    for index in range(3):
        Image.fromarray(PIXELS[index].numpy()).save(f"photos/{index}.png")
    assert close(load(run("encode", "digits", "photos")[0]), codes_of(model, X[:3]))
    assert run("encode", "photos", "--format", "csv")[0].decode().splitlines()[1].startswith("photos/0.png,")
    Path("photos/1.png").write_bytes(b"no image")
    Path("codes.npy").write_bytes(b"before")
    _, stderr = run("encode", "photos", "-o", "codes.npy", code=2)
    assert stderr == "error: photos/1.png: not an image that can be decoded (unknown format)\n"
    assert Path("codes.npy").read_bytes() == b"before"
    assert sorted(path.name for path in Path().iterdir()) == ["codes.npy", "photos", "runs", "x.npy"]
    assert run("encode", "photos", code=2)[0] == b""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["encode", "x.npy", "-o", "codes.txt"],
            "--output codes.txt: unknown suffix; use npy, csv, jsonl or parquet, or choose a format with --format",
        ),
        (["encode", "x.npy", "--format", "png"], "--format png: unknown format; choose npy, csv, jsonl or parquet"),
        (
            ["encode", "x.npy", "--format", "csv", "--json"],
            "--json and --format csv: both would go to stdout; write the csv with --output FILE",
        ),
        (["encode", "nothing", "x.npy"], "nothing: no such checkpoint or run folder"),
        (["encode", "digits", "nothing.npy"], "nothing.npy: no such file or folder"),
        (["encode", "--split", "tset"], "--split tset: no such split"),
        (["decode", "digits"], "expected one file of codes, or - for stdin, not 0"),
        (["decode", "digits", "x.npy", "x.npy"], "expected one file of codes, or - for stdin, not 2"),
        (["decode", "digits", "x.npy"], "x.npy: an array of shape 11 x 8 x 8, uint8; this model's codes have 4 numbers"),
        (["decode", "digits", "wide.npy"], "wide.npy: an array of shape 3 x 5, float32; this model's codes have 4 numbers"),
        (["decode", "digits", "wide.csv"], "wide.csv: an array of shape N x 5, float64; this model's codes have 4 numbers"),
        (["decode", "digits", "nan.npy"], "nan.npy: row 2 holds NaN"),
        (["decode", "digits", "picture.png"], "picture.png: an image file; this model's codes have 4 numbers"),
        (["decode", "digits", "none.npy", "-o", "out.png"], "there are no codes to draw"),
        (["decode", "digits", "many.npy", "-o", "out.png"], "10,001 codes are more than the 10,000 8x8 gray images that one"),
        (["decode", "digits", "many.csv", "-o", "out.png"], "more than the 10,000 8x8 gray images that one picture holds"),
    ],
)
def test_wrong_input_is_reported_in_one_line(arguments: list[str], message: str) -> None:
    np.save("wide.npy", np.zeros((3, 5), np.float32))
    np.savetxt("wide.csv", np.zeros((3, 5)), delimiter=",")
    np.save("nan.npy", np.array([[0, 0, 0, 0], [0, np.nan, 0, 0]]))
    np.save("none.npy", np.zeros((0, 4)))
    np.save("many.npy", np.zeros((10_001, 4), np.float32))
    Path("many.csv").write_text("0,0,0,0\n" * 10_001)
    Image.new("L", (8, 8)).save("picture.png")
    stdout, stderr = run(*arguments, code=2)
    assert stdout == b""
    assert stderr.startswith(f"error: {message}")
    assert stderr.count("\n") == 1
    assert not Path("out.png").exists()


def test_large_pictures_have_a_smaller_limit() -> None:
    assert figures.most_pictures(ItemForm((1, 28, 28))) == 10_000
    assert figures.most_pictures(ItemForm((3, 1000, 1000))) == 33
    assert figures.most_pictures(ItemForm((3, 9000, 9000))) == 1


@pytest.mark.slow
def test_an_output_device_is_written_to_and_not_replaced() -> None:
    before = os.stat("/dev/null").st_rdev
    run("encode", "x.npy", "--format", "npy", "-o", "/dev/null")
    run("reconstruct", "-o", "/dev/null")
    assert os.stat("/dev/null").st_rdev == before


@pytest.mark.slow
def test_reconstruct_takes_folders() -> None:
    Path("photos").mkdir()
    for index in range(3):
        Image.fromarray(PIXELS[index].numpy()).save(f"photos/{index}.png")
    stdout, _ = run("reconstruct", "photos", "--json", "-q")
    assert json.loads(stdout)["items"] == 3


def tool(*arguments: str, **options: object) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", "tiedae_cli", *arguments], **options)  # type: ignore[call-overload,no-any-return]


@pytest.mark.slow
def test_encode_and_decode_work_in_a_real_pipe() -> None:
    encoder = tool("encode", "digits", "x.npy", "-o", "-", stdout=subprocess.PIPE)
    decoder = tool(
        "decode", "digits", "-", "-o", "out.png", stdin=encoder.stdout, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert encoder.stdout is not None
    encoder.stdout.close()
    assert decoder.communicate() == (b"out.png\n", b"")
    assert (encoder.wait(), decoder.returncode) == (0, 0)
    run("encode", "x.npy", "-o", "codes.npy")
    run("decode", "codes.npy", "-o", "same.png")
    assert Path("out.png").read_bytes() == Path("same.png").read_bytes()


@pytest.mark.slow
def test_a_closed_pipe_ends_quietly() -> None:
    np.save("big.npy", random_bytes(60_000, 8, 8).numpy())
    encoder = tool("encode", "digits", "big.npy", "--format", "csv", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert encoder.stdout is not None and encoder.stderr is not None
    assert encoder.stdout.readline() == b"item,code_0,code_1,code_2,code_3\n"
    encoder.stdout.close()
    assert encoder.stderr.read() == b""
    encoder.stderr.close()
    assert encoder.wait() == 141


# Data that trains can be encoded and scored from the same path


def write_folder(x: np.ndarray, names: Callable[[int], str]) -> str:
    for index, pixels in enumerate(x):
        path = Path("pictures") / names(index)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return "pictures"


def write_linked_folder(x: np.ndarray) -> str:
    write_folder(x, lambda index: f"{'ab'[index % 2]}/{index:03}.png")
    Path("pictures/b").rename("elsewhere")
    Path("pictures/b").symlink_to(Path("elsewhere").absolute())
    return "pictures"


def write_npz(**arrays: np.ndarray) -> str:
    np.savez("x.npz", **arrays)
    return "x.npz"


def write_npy(array: np.ndarray) -> str:
    np.save("x.npy", array)
    return "x.npy"


def write_lines(name: str, x: np.ndarray, line: Callable[[list[float]], str]) -> str:
    Path(name).write_text("".join(line(row) + "\n" for row in x.reshape(len(x), -1).astype(float).tolist()))
    return name


def csv_line(row: list[float]) -> str:
    return ",".join(map(repr, row))


def write_idx_file(name: str, x: np.ndarray) -> str:
    content = idx_bytes(x)
    Path(name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return name


def write_hdf5(arrays: dict[str, np.ndarray]) -> str:
    with h5py.File("x.h5", "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return "x.h5"


def write_matlab(**arrays: np.ndarray) -> str:
    scipy.io.savemat("x.mat", arrays)
    return "x.mat"


def write_matlab_73(x: np.ndarray) -> str:
    """Write HDF5 as MATLAB does: after a block of text, with reversed dimensions."""
    with h5py.File("x.mat", "w", userblock_size=512) as file:
        file["X"] = x.reshape(40, -1).astype(float).T
        file["y"] = LABELS[None].astype(float)
    with open("x.mat", "r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file".ljust(116) + bytes(8) + b"\x00\x02IM")
    return "x.mat"


LABELS = np.arange(40) % 3
FORMS: dict[str, Callable[[np.ndarray], str]] = {
    "uint8": write_npy,
    "int64": lambda x: write_npy(x.astype(np.int64)),
    "big-endian int32": lambda x: write_npy(x.astype(">i4")),
    "Fortran order": lambda x: write_npy(np.asfortranarray(x)),
    "float16": lambda x: write_npy((x // 128).astype(np.float16)),
    "float32": lambda x: write_npy(x.astype(np.float32) / 255),
    "float64": lambda x: write_npy(x / 255),
    "bool": lambda x: write_npy(x > 127),
    "one channel": lambda x: write_npy(x[:, None]),
    "one channel, last": lambda x: write_npy(x[..., None]),
    "color": lambda x: write_npy(np.stack([x, 255 - x, x // 2], 1)),
    "color, channels last": lambda x: write_npy(np.stack([x, 255 - x, x // 2], -1)),
    "vectors": lambda x: write_npy(x.reshape(len(x), -1).astype(np.float64)),
    "uint8 vectors": lambda x: write_npy(x.reshape(len(x), -1)),
    "npz": lambda x: write_npz(images=x),
    "npz of any name": lambda x: write_npz(arr_0=x),
    "npz with labels": lambda x: write_npz(images=x, labels=LABELS),
    "npz of x and y": lambda x: write_npz(x=x, y=LABELS.astype(np.float64)),
    "npz of splits": lambda x: write_npz(x_train=x[:30], y_train=LABELS[:30], x_test=x[30:], y_test=LABELS[30:]),
    "npz in Fortran order": lambda x: write_npz(images=np.asfortranarray(x)),
    "Keras' npz": lambda x: write_npz(x_train=x[:30], y_train=LABELS[:30], x_test=x[30:], y_test=LABELS[30:]),
    "a medical npz": lambda x: write_npz(
        train_images=x[:20],
        val_images=x[20:30],
        test_images=x[30:],
        train_labels=LABELS[:20, None],
        val_labels=LABELS[20:30, None],
        test_labels=LABELS[30:, None],
    ),
    "npz of X and y": lambda x: write_npz(X=x.reshape(40, -1).astype(float), y=LABELS),
    "npz of data and labels": lambda x: write_npz(data=x, labels=LABELS, mean=x[:1].astype(float)),
    "IDX": lambda x: write_idx_file("images-idx3-ubyte", x),
    "IDX in gzip": lambda x: write_idx_file("images-idx3-ubyte.gz", x),
    "HDF5": lambda x: write_hdf5({"data": x}),
    "HDF5 in groups": lambda x: write_hdf5({"train/data": x[:30], "train/label": LABELS[:30], "test/data": x[30:]}),
    "MATLAB 5": lambda x: write_matlab(X=x.reshape(40, -1).astype(float), y=LABELS[:, None].astype(float)),
    "MATLAB 7.3": write_matlab_73,
    "csv": lambda x: write_lines("x.csv", x, csv_line),
    "json lines": lambda x: write_lines("x.jsonl", x, str),
    "folder": lambda x: write_folder(x, lambda index: f"{index:03}.png"),
    "folder of classes": lambda x: write_folder(x, lambda index: f"{['a', 'a-b', 'a.b', 'B'][index % 4]}/{index:03}.png"),
    "folder of splits": lambda x: write_folder(x, lambda index: f"{'test' if index % 4 == 3 else 'train'}/{index:03}.png"),
    "linked folder": write_linked_folder,
}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_data_that_trains_can_be_encoded_and_scored_from_the_same_path(form: str, empty_folder: Path, tiedae: Tiedae) -> None:
    """Training and the reader of inputs give the same items in the same order."""
    x = np.random.default_rng(3).integers(0, 256, (40, 5, 4), dtype=np.uint8)
    path = FORMS[form](x)
    run = tiedae_cli.train({"data": {"dataset": path}}, epochs=1, batch_size=10, hidden_sizes=[6, 3], quiet=True)
    trained = checkpoint.load(run.best)
    splits = load_splits(trained.config.data).for_model(trained.form, "it")
    gathered = np.concatenate([splits.get(name).batch(0, 99) for name in ("train", "validation", "test")])
    read = np.concatenate([block.values for block in ItemReader(trained.form, 7).open([path]).blocks])
    assert len(read) == len(gathered) == 40
    assert sorted(read.tolist()) == sorted(gathered.tolist())
    train = splits.train.batch(0, 99).tolist()
    places = [read.tolist().index(row) for row in train]
    assert places == sorted(places)  # training keeps the source's order
    for command in (("encode", "-o", "codes.npy"), ("score", "-o", "scores.jsonl", "--threshold", "1")):
        result = tiedae(command[0], str(run.folder), path, *command[1:])
        assert result.code == 0, result.err
    with torch.inference_mode():
        model = trained.model(torch.device("cpu"))
        seen = torch.from_numpy(read)
        codes, errors = model.encode(seen), (model(seen) - seen).square().sum(1)
    np.testing.assert_allclose(np.load("codes.npy"), codes, rtol=1e-4, atol=1e-5)
    scores = [json.loads(line)["squared_error"] for line in Path("scores.jsonl").read_text().splitlines()]
    np.testing.assert_allclose(scores, errors, rtol=1e-4, atol=1e-5)


# Training, encode and score refuse each of these alike
REFUSED: dict[str, Callable[[np.ndarray], str]] = {
    "floats of 0 to 255": lambda x: write_npy(x.astype(np.float32)),
    "floats a little above 1": lambda x: write_npy(x.astype(np.float32) / 200),
    "floats below 0": lambda x: write_npy(x.astype(np.float32) / 127.5 - 1),
    "whole numbers above 255": lambda x: write_npy(x.astype(np.int64) * 1000),
    "NaN": lambda x: write_npy(np.where(x == x.max((1, 2), keepdims=True), np.nan, x / 255)),
    "infinity in float16": lambda x: write_npy(np.where(x == x.max((1, 2), keepdims=True), np.inf, x / 255).astype(np.float16)),
    "objects": lambda x: write_npy(np.array([None] * 40)),
    "complex numbers": lambda x: write_npy(x.astype(complex)),
    "two arrays": lambda x: write_npz(a=x, b=x),
}


@pytest.mark.slow
@pytest.mark.parametrize("form", REFUSED)
def test_every_command_refuses_bad_data_with_the_same_message(form: str, empty_folder: Path, tiedae: Tiedae) -> None:
    x = np.random.default_rng(3).integers(0, 256, (40, 5, 4), dtype=np.uint8)
    run = tiedae_cli.train({"data": {"dataset": write_npy(x)}}, run_dir="run", epochs=1, batch_size=10, quiet=True)
    path = REFUSED[form](x)
    commands = (["train", "--set", f"data.dataset={path}"], ["encode", str(run.folder), path], ["score", str(run.folder), path])
    told = []
    for command in commands:
        result = tiedae(command[0], "-q", *command[1:])
        assert result.code == 2, result.err
        told.append(result.err)
    assert told[0] == told[1] == told[2]
