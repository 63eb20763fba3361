"""Arrays as data sets: forms, conversions, statistics in the checkpoint, memory mapping, and what is refused."""

import io
import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from log_capture import captured_log
from typer.testing import CliRunner

from tiedae_cli.cli.app import app
from tiedae_cli.config import Config, DataConfig
from tiedae_cli.config.yaml_reader import dump_config, parse_config
from tiedae_cli.data.item_set import ItemForm, ItemSet, Splits
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.data.partition import partition
from tiedae_cli.data.scaling import scaled
from tiedae_cli.errors import CheckpointError, ConfigError, DataError
from tiedae_cli.model import inference as evaluation
from tiedae_cli.model.pca import fit
from tiedae_cli.runs import checkpoint
from tiedae_cli.runs.training_state import EpochReport
from tiedae_cli.system.devices import Place
from tiedae_cli.training.trainer import Trainer
from tiedae_cli.training.training_set import training_set

CPU = torch.device("cpu")
NAMES = ("train", "validation", "test")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def random() -> np.random.Generator:
    return np.random.default_rng(0)


def load(array: np.ndarray, **fields: object) -> tuple[Splits, list[str]]:
    np.save("x.npy", array)
    with captured_log() as notes:
        return load_splits(DataConfig(dataset="x.npy", **fields)), notes


def everything(splits: Splits) -> np.ndarray:
    return np.concatenate([splits.get(name).raw(0, 1 << 30) for name in NAMES])


def by_row(rows: np.ndarray) -> np.ndarray:
    flat = rows.reshape(len(rows), -1)
    return flat[np.lexsort(flat.T)]


def vectors(count: int = 300, features: int = 6) -> np.ndarray:
    scales = np.logspace(-3, 4, features)
    return (random().normal(size=(count, 2)) @ random().normal(size=(2, features)) * scales + 5 * scales).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "form"),
    [((50, 4, 3), (1, 4, 3)), ((50, 1, 4, 3), (1, 4, 3)), ((50, 3, 4, 5), (3, 4, 5)), ((50, 2, 4, 5), (2, 4, 5))],
)
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_images_of_each_form_keep_their_values(shape: tuple[int, ...], form: tuple[int, ...], kind: type) -> None:
    array = random().integers(0, 256, shape).astype(kind) if kind is np.uint8 else random().random(shape, dtype=np.float32)
    splits, notes = load(array)
    assert notes == []
    assert (splits.form.shape, splits.form.kind) == (form, "images")
    assert [len(splits.get(name)) for name in NAMES] == [40, 5, 5]
    assert np.array_equal(by_row(everything(splits)), by_row(array))
    largest = 255 if kind is np.uint8 else 1
    expected = by_row(array).astype(np.float64) / largest
    seen = np.concatenate([splits.get(name).batch(0, 99) for name in NAMES])
    assert seen.dtype == np.float32
    np.testing.assert_allclose(by_row(seen), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("array", "expected", "kind"),
    [
        (random().random((20, 3, 2)), None, np.float32),
        (random().random((20, 3, 2)).astype(np.float16), None, np.float32),
        (random().random((20, 3, 2)).astype(">f4"), None, np.float32),
        (np.asfortranarray(random().random((20, 3, 2), dtype=np.float32)), None, np.float32),
        (random().integers(0, 256, (20, 3, 2)), None, np.uint8),
        (random().random((20, 3, 2)) > 0.5, 255, np.uint8),
        (random().integers(-5, 900, (20, 7)), None, np.float64),
        (random().normal(size=(20, 7)).astype(">f8"), None, np.float64),
        (random().normal(size=(20, 7)).astype(np.float16), None, np.float32),
    ],
)
def test_other_types_are_converted_and_it_is_said(array: np.ndarray, expected: int | None, kind: type) -> None:
    splits, notes = load(array)
    assert len(notes) == 1 and notes[0].startswith(f"x.npy: {array.dtype}") and f"converted to {np.dtype(kind)}" in notes[0]
    assert everything(splits).dtype == kind
    wanted = array.astype(kind) * (1 if expected is None else kind(expected))
    assert np.array_equal(by_row(everything(splits)), by_row(wanted))


def test_a_conversion_that_memory_has_no_room_for_is_refused_with_a_line_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    array = random().random((20, 3, 2))
    monkeypatch.setattr("tiedae_cli.data.training_sets.available_memory", lambda: 900)
    with pytest.raises(DataError, match="float64: as float32 it would take") as caught:
        load(array)
    line = str(caught.value).splitlines()[-1]
    assert line.startswith('python -c "') and line.endswith('"')
    exec(line.removeprefix('python -c "').removesuffix('"'))
    assert np.array_equal(np.load("x-float32.npy"), array.astype(np.float32))
    assert load_splits(DataConfig(dataset="x-float32.npy")).form.shape == (1, 3, 2)


def at(array: np.ndarray, value: float) -> np.ndarray:
    array = array.copy()
    array[7, ..., 1] = value
    return array


images = random().random((9, 3, 2), dtype=np.float32)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (at(images, np.nan), r"x\.npy: row 8 holds NaN"),
        (at(images, np.inf), r"x\.npy: row 8 holds infinity"),
        (at(images, 255), r"row 8.* holds 255; images of floats must be in \[0, 1\]: --set 'data.range=\[0, 255\]'"),
        (at(images, -1), r"row 8.* holds -1; .*data\.range=\[-1, 1\]"),
        (at(images, 1.5), r"row 8.* holds 1\.5; .*np\.clip"),
        (at(images, 1e9), r"row 8.* holds 1e\+09; .*divide by the range"),
        (at(images.astype(np.int32), 70_000), r"row 8.* holds 70000; images of whole numbers must be in 0\.\.255"),
        (at(vectors(9), np.nan), r"x\.npy: row 8 holds NaN"),
        (at(vectors(9), -np.inf), r"x\.npy: row 8 holds infinity"),
        (at(vectors(9).astype(np.float64), 1e39), r"row 8.* holds 1e\+39, which float32 cannot hold"),
        (np.zeros(5), r"x\.npy: a series of 5 numbers; a window of them is an item"),
        (np.float32(3), "a single number: 0 dimensions"),
        (np.zeros((2, 2, 2, 2, 2)), "2 x 2 x 2 x 2 x 2: 5 dimensions"),
        (np.zeros((0, 28, 28), np.uint8), "0 x 28 x 28: empty"),
        (np.zeros((9, 0), np.uint8), "9 x 0: empty"),
        (np.zeros((9, 3), complex), "its type is complex128, not numbers"),
        (np.array(["a", "b"]), "its type is <U1, not numbers"),
        (np.zeros(3, [("a", int)]), "not numbers; expected uint8 or float32"),
        (np.zeros((2, 3), np.uint8), "data: x.npy has 2 items; with 1 for test and 1 for validation none is left"),
    ],
)
def test_arrays_of_no_use_are_refused(array: np.ndarray, message: str) -> None:
    with pytest.raises((DataError, ConfigError), match=message):
        load(array)


def test_values_are_checked_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiedae_cli.data.training_sets.BLOCK_BYTES", 100)
    array = np.zeros((1000, 3, 2), np.float32)
    array[777, 2, 1] = np.nan
    array[900] = 3
    with pytest.raises(DataError, match=r"row 778 holds NaN"):
        load(array)
    array[777] = 0
    with pytest.raises(DataError, match=r"row 901 holds 3"):
        load(array)


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_objects_are_never_unpickled(suffix: str) -> None:
    harmful = np.array([Harmful()], dtype=object)
    np.save("x.npy", harmful, allow_pickle=True)
    with zipfile.ZipFile("x.npz", "w") as archive:
        archive.write("x.npy", "x.npy")
    with pytest.raises(DataError, match=r"x.*: holds Python objects, which are never unpickled"):
        load_splits(DataConfig(dataset=f"x.{suffix}"))
    assert not Path("executed").exists()


def _header(text: str, version: bytes = b"\x01\x00") -> bytes:
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a .npy array"),
        (_header("{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2)}\n") + b"12345", "longer than its header says"),
        (b"PK\x03\x04", "not a .npy array"),
        (b"\x93NUMPY\x01\x00", "not a .npy array"),
        (_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2"), "not a .npy array"),
        (_header("__import__('os').mkdir('executed')\n"), "not a .npy array"),
        (_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2)}\n", b"\x09\x00"), "not a .npy array"),
        (_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-2, -2)}\n"), "-2 x -2: cut off, or an impossible size"),
        (_header("{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999, 9999999999)}\n"), "cut off"),
        (
            _header("{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2)}\n") + b"123",
            r"cut off: 71 bytes, its header says 72",
        ),
    ],
)
def test_damaged_arrays_are_refused(content: bytes, message: str) -> None:
    Path("x.npy").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_splits(DataConfig(dataset="x.npy"))
    assert not Path("executed").exists()


def test_fields_for_folders_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.size: x\.npy: is only for a folder of images\ndata\.mode: x\.npy: is only"):
        load(images, size=(3, 3), mode="gray")


def test_an_archive_of_one_array_is_split_with_its_labels() -> None:
    labels = random().integers(0, 10, 30)
    array = random().integers(0, 256, (30, 4, 3), dtype=np.uint8)
    np.savez_compressed("x.npz", images=array, labels=labels)
    splits = load_splits(DataConfig(dataset="x.npz", validation=0, test=0.2))
    assert [len(splits.get(name)) for name in NAMES] == [24, 0, 6]
    known = {image.tobytes(): label for image, label in zip(array, labels, strict=True)}
    for name in ("train", "test"):
        part = splits.get(name)
        assert part.labels is not None
        assert [known[row.tobytes()] for row in part.raw(0, 30)] == part.labels.tolist()


@pytest.mark.parametrize("names", [("train", "test"), ("x_train", "x_test"), ("train_images", "test_images")])
def test_an_archive_may_name_its_splits(names: tuple[str, str]) -> None:
    train, test = (random().integers(0, 256, (count, 4, 3), dtype=np.uint8) for count in (20, 5))
    np.savez("x.npz", **{names[0]: train, names[1]: test})
    splits = load_splits(DataConfig(dataset="x.npz"))
    assert [len(splits.get(name)) for name in NAMES] == [18, 2, 5]
    assert np.array_equal(splits.test.values[:, 0], test)
    with pytest.raises(ConfigError, match=r"data\.test: x\.npz has a test split of its own"):
        load_splits(DataConfig(dataset="x.npz", test=3))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"weights": images, "more": images},
            r"holds weights \(9 x 3 x 2\), more \(9 x 3 x 2\): which are the items\? Say it with --set data\.arrays=NAME",
        ),
        ({"images": images, "train": images}, "holds images .*, train .*: which are the items"),
        ({"test": images}, "holds test .*: which are the items"),
        ({}, "x.npz: holds no arrays"),
        ({"images": images, "labels": np.zeros(3, int)}, "x.npz: labels: 3 int64; labels are 9 whole numbers"),
        ({"train": images, "test": images[:, :2]}, "test has 2x2 gray images, train has 3x2 gray images"),
        ({"train": at(images, np.nan)}, r"x\.npz: train: row 8 holds NaN"),
    ],
)
def test_archives_of_no_use_are_refused(arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez("x.npz", **arrays)
    with pytest.raises(DataError, match=message):
        load_splits(DataConfig(dataset="x.npz"))


def test_damaged_archives_and_ones_larger_than_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("x.npz").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"x\.npz: damaged, or not an \.npz archive"):
        load_splits(DataConfig(dataset="x.npz"))
    np.savez("x.npz", images=random().integers(0, 256, (90, 8, 8), dtype=np.uint8))
    content = bytearray(Path("x.npz").read_bytes())
    content[3000] ^= 4
    Path("x.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"damaged, or not an \.npz archive \(Bad CRC-32"):
        load_splits(DataConfig(dataset="x.npz"))
    monkeypatch.setattr("tiedae_cli.data.training_sets.available_memory", lambda: 1000)
    with pytest.raises(DataError, match=r"unpacked, but .* of memory are free; save the images as \.npy"):
        load_splits(DataConfig(dataset="x.npz"))


def test_an_array_that_fits_into_half_of_the_memory_is_read() -> None:
    x = random().integers(0, 256, (400, 28, 28), dtype=np.uint8)
    splits, _ = load(x)
    np.lib.format.open_memmap("x.npy", "r+")[:] = 0
    assert splits.train.mapped is None and (splits.train.values[:, 0] == x).all()


def test_a_memory_mapped_array_is_never_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiedae_cli.data.training_sets.fits_in_memory", lambda needed: False)
    splits, _ = load(random().integers(0, 256, (4000, 28, 28), dtype=np.uint8))
    address = splits.train.values.ctypes.data
    maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith("x.npy")]
    start, end = (int(part, 16) for part in maps[0][0].split("-"))
    assert start <= address < end and maps[0][1] == "r--s"
    assert {splits.get(name).values.ctypes.data for name in NAMES} == {address}
    trainer = Trainer(Config(), splits, Place(CPU))
    assert trainer.phase.train.rows.data_ptr() == address
    assert splits.train.slice(5, 50).subset(np.arange(3)).values.ctypes.data == address


def test_views_of_a_set_agree_with_a_copy() -> None:
    whole = ItemSet(np.arange(60, dtype=np.uint8).reshape(20, 1, 1, 3), np.arange(20), ItemForm((1, 1, 3), scale=1 / 255))
    chosen = np.array([7, 3, 19, 0, 4])
    view, copy = whole.subset(chosen), whole.select(chosen)
    assert copy.indices is None and len(view) == len(copy) == 5
    for one, other in [
        (view, copy),
        (view.slice(1, 4), copy.slice(1, 4)),
        (view.subset(np.array([4, 1])), copy.subset(np.array([4, 1]))),
        (view.select(np.array([4, 1])), copy.select(np.array([4, 1]))),
    ]:
        assert np.array_equal(one.raw(0, 9), other.raw(0, 9))
        assert np.array_equal(one.batch(1, 3), other.batch(1, 3))
        assert np.array_equal(one.rows[one.positions(np.arange(len(one)))], other.raw(0, 9))
        assert one.labels is not None and other.labels is not None and np.array_equal(one.labels, other.labels)


def test_a_set_moves_to_a_device_as_its_items_alone() -> None:
    whole = ItemSet(np.zeros((20, 1, 2, 3), np.uint8), None, ItemForm((1, 2, 3)))
    moved = training_set(whole.subset(np.array([7, 3, 19])), torch.device("meta"))
    assert moved.rows.shape == (3, 6) and moved.indices is None


def reports(splits: Splits) -> list[EpochReport]:
    config = Config.model_validate({"model": {"hidden_sizes": [5]}, "training": {"epochs": 2, "batch_size": 16}})
    found = [report for report in Trainer(config, splits, Place(CPU)).train() if isinstance(report, EpochReport)]
    return [replace(report, seconds=0, items_per_second=0) for report in found]


def test_training_and_pca_on_views_equal_those_on_copies_to_the_bit() -> None:
    splits, _ = load(random().integers(0, 256, (200, 4, 3), dtype=np.uint8))
    copies = Splits(*(splits.get(name).select(np.arange(len(splits.get(name)))) for name in NAMES), source="copies")
    assert splits.train.indices is not None and copies.train.indices is None
    assert reports(splits) == reports(copies)
    assert np.array_equal(fit(splits.train, 3).components, fit(copies.train, 3).components)


def test_statistics_are_those_of_the_training_split_also_beside_a_large_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiedae_cli.data.scaling.BLOCK_BYTES", 700)
    array = vectors()
    array[:, 1] = 3.7  # constant
    array[:, 2] = 1e6 + random().normal(size=300).round(1)  # its deviation is a millionth of its mean
    splits, _ = load(array)
    train = splits.train.raw(0, 300).astype(np.float64)
    form = splits.form
    assert isinstance(form.offset, np.ndarray) and isinstance(form.scale, np.ndarray)
    deviation = train.std(0)
    deviation[1] = 1
    np.testing.assert_allclose(form.offset, train.mean(0), rtol=1e-7)
    np.testing.assert_allclose(form.scale, 1 / deviation, rtol=1e-6)
    seen = splits.train.batch(0, 300)
    assert np.isfinite(seen).all() and np.abs(seen[:, 1]).max() < 1e-6
    raw = splits.test.raw(0, 300)
    np.testing.assert_allclose(form.denormalize(splits.test.batch(0, 300)), raw, rtol=1e-6)


def test_float64_vectors_are_used_where_they_lie_and_time_stamps_keep_their_differences() -> None:
    stamps = 1.7e9 + np.arange(300.0)  # float32 holds every 128th second of these
    splits, notes = load(np.stack([stamps, random().normal(size=300)], 1))
    assert notes == [] and splits.train.values.dtype == np.float64
    seen = splits.train.batch(0, 300)
    assert seen.dtype == np.float32 and len(np.unique(seen[:, 0])) == len(seen)
    train = splits.train.raw(0, 300)
    np.testing.assert_allclose(seen, (train - train.mean(0)) / train.std(0), rtol=1e-5, atol=1e-6)


def test_a_constant_set_of_vectors_has_scale_one() -> None:
    whole = ItemSet(np.full((1000, 1, 1, 2), 0.1, np.float32), None, ItemForm((1, 1, 2), "vectors"))
    form = scaled(partition({"train": whole}, DataConfig(), "x").train, "standard")
    assert isinstance(form.scale, np.ndarray) and form.scale.tolist() == [1, 1]


def trained_vectors() -> dict[str, object]:
    settings = ["data.dataset=x.npy", "model.hidden_sizes=[8, 2]", "model.output=linear", "training.epochs=2"]
    words = [word for setting in settings for word in ("--set", setting)]
    result = CliRunner().invoke(app, ["train", "--config", "digits", "--run-dir", "run", *words])
    assert result.exit_code == 0, result.stderr
    assert not Path("run/reconstructions.png").exists() and Path("run/loss.png").exists()
    return evaluated()


def evaluated() -> dict[str, object]:
    result = CliRunner().invoke(app, ["eval", "run", "--json"])
    assert result.exit_code == 0, result.stderr
    values: dict[str, object] = json.loads(result.stdout)
    return values


def test_vectors_train_and_are_evaluated_in_both_units() -> None:
    load(vectors())
    values = trained_vectors()
    raw, splits = values["raw"], load_splits(DataConfig(dataset="x.npy"))
    assert isinstance(raw, dict)
    test, model = splits.test, checkpoint.load(Path("run/best.safetensors")).model(CPU)
    with torch.inference_mode():
        difference = (model(torch.from_numpy(test.batch(0, 99))) - torch.from_numpy(test.batch(0, 99))).double()
    assert values["psnr_db"] is None
    assert values["squared_error_per_item"] == pytest.approx(difference.square().sum(1).mean().item(), rel=1e-5)
    expected = difference / torch.as_tensor(splits.form.scale)
    assert raw["squared_error_per_item"] == pytest.approx(expected.square().sum(1).mean().item(), rel=1e-5)
    train, rows = (splits.get(name).raw(0, 999).astype(np.float64) for name in ("train", "test"))
    around_mean = np.square(rows - train.mean(0)).mean()
    assert raw["mean_item"]["mse_per_value"] == pytest.approx(around_mean, rel=1e-5)
    table = CliRunner().invoke(app, ["eval", "run"]).stdout
    assert "raw MSE per feature" in table and "mean vector" in table and "PSNR" not in table


@pytest.mark.slow
def test_a_trained_model_keeps_its_own_statistics() -> None:
    array = vectors()
    load(array)
    before = trained_vectors()
    stored = checkpoint.load(Path("run/best.safetensors")).form
    splits = load_splits(DataConfig(dataset="x.npy"))
    assert stored.kind == "vectors" and isinstance(stored.offset, np.ndarray) and isinstance(stored.scale, np.ndarray)
    assert np.array_equal(stored.offset, splits.form.offset)
    assert np.array_equal(stored.scale, splits.form.scale)
    changed, train = array.copy(), splits.train.indices
    assert train is not None
    changed[train] *= 3  # other training items, the same test items
    now, _ = load(changed)
    assert not np.array_equal(now.form.scale, stored.scale)
    assert now.for_model(stored, "run").test.form is stored
    after = evaluated()
    assert after["squared_error_per_item"] == before["squared_error_per_item"]
    assert after["raw"]["squared_error_per_item"] == before["raw"]["squared_error_per_item"]  # type: ignore[index]
    load(vectors(features=5))
    result = CliRunner().invoke(app, ["eval", "run"])
    assert result.exit_code == 2
    assert "made for vectors of 6 features, but x.npy now has vectors of 5 features" in result.stderr


@pytest.mark.slow
def test_vectors_have_no_picture_and_need_a_linear_output() -> None:
    load(vectors())
    trained_vectors()
    result = CliRunner().invoke(app, ["reconstruct", "run"])
    assert result.exit_code == 2
    assert "vectors of 6 features; for its errors: tiedae eval run/best.safetensors" in result.stderr
    result = CliRunner().invoke(app, ["train", "--config", "digits", "--set", "data.dataset=x.npy", "--run-dir", "other"])
    assert result.exit_code == 2 and "model.output: sigmoid stays in [0, 1]" in result.stderr
    assert not Path("other").exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("offset", np.zeros(1)),
        ("offset", np.full(6, np.nan)),
        ("scale", np.ones(6, np.int64)),
        ("scale", np.zeros(6)),
        ("scale", -1.0),
        ("scale", None),
        ("kind", "sounds"),
    ],
)
def test_statistics_of_the_wrong_kind_are_not_believed(field: str, value: object) -> None:
    splits, _ = load(vectors())
    config = Config.model_validate({"model": {"hidden_sizes": [3]}})
    trainer = Trainer(config, splits, Place(CPU))
    form = replace(splits.form, **{field: value})
    checkpoint.Checkpoint(config, form, trainer.model.state_dict(), trainer.state(), "run").save(Path("x.pt"))
    with pytest.raises(CheckpointError, match=r"x\.pt: damaged"):
        checkpoint.load(Path("x.pt"))


@pytest.mark.slow
def test_an_empty_test_split_is_no_obstacle() -> None:
    load(images.repeat(9, 0))
    words = ["--set", "data.dataset=x.npy", "--set", "data.test=0", "--set", "training.epochs=1", "--run-dir", "run"]
    result = CliRunner().invoke(app, ["train", "--config", "digits", *words])
    assert result.exit_code == 0, result.stderr
    assert Path("run/reconstructions.png").exists()
    result = CliRunner().invoke(app, ["eval", "run"])
    assert result.exit_code == 2 and "x.npy: its test split is empty" in result.stderr


@pytest.mark.slow
def test_resuming_on_other_data_is_refused() -> None:
    load(vectors())
    trained_vectors()
    load(vectors(features=5))
    result = CliRunner().invoke(app, ["train", "--resume", "run", "--set", "training.epochs=3"])
    assert result.exit_code == 2
    assert "made for vectors of 6 features" in result.stderr


def test_portions_are_checked_in_the_config() -> None:
    words = ["data.validation=0.5", "data.test=0.5", "data.size=[2]", "data.mode=grey"]
    result = CliRunner().invoke(app, ["train", *(word for pair in words[:2] for word in ("--set", pair))])
    assert result.exit_code == 2 and "nothing is left for training" in result.stderr
    result = CliRunner().invoke(app, ["train", *(word for pair in words[2:] for word in ("--set", pair))])
    lines = result.stderr.splitlines()
    assert "data.size: must be [height, width], or one number for both, from 1 to 16384" in lines[0]
    assert "data.mode: 'grey' is not a valid choice (did you mean gray?)" in lines[1]
    for value in ("-1", "1.0", "true", "abc", "1e99", ".nan", "[1]"):
        result = CliRunner().invoke(app, ["train", "--set", f"data.validation={value}"])
        assert result.exit_code == 2
        assert result.stderr.count("data.validation: must be a") == 1, (value, result.stderr)


def test_the_fields_survive_the_saved_config() -> None:
    values = {"dataset": "pics", "validation": 0.25, "test": 7, "split_seed": 3, "size": 32, "mode": "gray"}
    config = Config.model_validate({"data": values})
    assert config.data.size == (32, 32)
    assert parse_config(dump_config(config), "saved") == config


def test_a_fraction_of_a_named_data_set_is_of_its_training_split(monkeypatch: pytest.MonkeyPatch) -> None:
    sets = [ItemSet(np.zeros((count, 1, 2, 2), np.uint8), None, ItemForm((1, 2, 2))) for count in (60, 10)]
    monkeypatch.setattr(
        "tiedae_cli.data.sources.downloads._read", lambda name, source, folder, train, *_: sets[0 if train else 1]
    )
    splits = load_splits(DataConfig(dataset="mnist", validation=0.25))
    assert [len(splits.get(name)) for name in NAMES] == [45, 15, 10]


@pytest.mark.slow
def test_raw_errors_are_exact_beside_a_large_offset() -> None:
    form = ItemForm((1, 1, 2), "vectors", offset=np.array([1e7, 0.0]), scale=np.array([100.0, 0.5]))
    items = ItemSet(np.array([[1e7, 1.0], [1e7 + 1, 3.0]], np.float32).reshape(2, 1, 1, 2), None, form)
    errors = evaluation.item_errors(lambda x: x + torch.tensor([0.01, 1.0]), items, CPU, raw=True)
    torch.testing.assert_close(errors, torch.full((2,), 1e-8 + 4, dtype=torch.float64), rtol=1e-5, atol=0)


def test_a_saved_array_in_memory_is_read_like_a_file() -> None:
    buffer = io.BytesIO()
    np.save(buffer, images)
    Path("Y.NPY").write_bytes(buffer.getvalue())
    assert load_splits(DataConfig(dataset="Y.NPY")).form.shape == (1, 3, 2)
