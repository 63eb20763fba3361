"""The data sets: the bundled digits, and MNIST's format on small files that these tests write."""

import bz2
import hashlib
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from log_capture import captured_log, silently

from tiedae_cli.config import DataConfig
from tiedae_cli.data.item_set import ItemForm, ItemSet, Splits, check_split, choose
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.data.sources.downloads import DOWNLOADS, default_root
from tiedae_cli.errors import ConfigError, DataError, InputError

WriteIdx = Callable[[Path, np.ndarray], None]
WriteMnist = Callable[..., Path]
RANDOM = np.random.default_rng(5)


def load(name: str, root: Path, validation: int | None = 5) -> Splits:
    return load_splits(DataConfig(dataset=name, root=str(root), validation=validation))


def error_of(name: str, root: Path, validation: int | None = 5) -> str:
    with pytest.raises(DataError) as caught:
        load(name, root, validation)
    assert caught.value.exit_code == 2
    return str(caught.value)


# The bundled digits


@pytest.mark.parametrize(
    ("split", "images", "checksum"),
    [
        ("train", 1297, "8eb09e2324f4599da26ac08e40916bd1e06bec1b5a0c694d9d9411a5aa05d447"),
        ("validation", 200, "1d47767a2d0ec024682dc20b190a8b1cf27641c981db420c94a46394869993d6"),
        ("test", 300, "d5f75447a9d8c31c769c93dd46c513520b5cea3d9a6ce920449a100731aac063"),
    ],
)
def test_the_digits_never_change(split: str, images: int, checksum: str) -> None:
    digits = load_splits(DataConfig()).get(split)
    assert digits.values.shape == (images, 1, 8, 8) and digits.values.dtype == np.uint8
    assert digits.labels is not None and digits.labels.shape == (images,) and digits.labels.dtype == np.int64
    content = digits.values.tobytes() + digits.labels.tobytes()
    assert hashlib.sha256(content).hexdigest() == checksum


def test_the_digits_are_the_1797_of_the_source() -> None:
    """Counts of the ten classes as the UCI repository lists its test half; grey values in 17 steps from 0 to 255."""
    splits = load_splits(DataConfig())
    labels = np.concatenate([splits.get(name).labels for name in ("train", "validation", "test")])
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    images = np.concatenate([splits.get(name).values for name in ("train", "validation", "test")])
    assert set(np.unique(images).tolist()) == {round(step * 255 / 16) for step in range(17)}
    assert len(np.unique(images.reshape(1797, 64), axis=0)) == 1797  # no image is in two splits


# MNIST's format


@pytest.mark.slow
@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST"), ("kmnist", "KMNIST")])
def test_idx_files(write_mnist: WriteMnist, name: str, folder: str) -> None:
    root = write_mnist(train=30, test=10, folder=folder)
    raw = root / folder / "raw"
    train = np.frombuffer((raw / "train-images-idx3-ubyte").read_bytes(), np.uint8, offset=16).reshape(30, 28, 28)
    test = np.frombuffer((raw / "t10k-images-idx3-ubyte").read_bytes(), np.uint8, offset=16).reshape(10, 28, 28)
    labels = np.frombuffer((raw / "train-labels-idx1-ubyte").read_bytes(), np.uint8, offset=8)
    splits = load(name, root, 5)
    assert splits.source == name and splits.form.shape == (1, 28, 28) and splits.form.scale == 1 / 255
    np.testing.assert_array_equal(splits.validation.values[:, 0], train[:5])  # the first ones, as TensorFlow's reader had it
    np.testing.assert_array_equal(splits.train.values[:, 0], train[5:])
    np.testing.assert_array_equal(splits.test.values[:, 0], test)
    np.testing.assert_array_equal(splits.train.labels, labels[5:])
    np.testing.assert_array_equal(splits.validation.labels, labels[:5])


def test_values_are_scaled_to_one_per_batch(write_mnist: WriteMnist) -> None:
    images = load("mnist", write_mnist()).test
    batch = images.batch(2, 7)
    assert images.values.dtype == np.uint8 and batch.dtype == np.float32 and batch.shape == (5, 784)
    np.testing.assert_allclose(batch, images.values[2:7].reshape(5, 784) / 255, rtol=1e-6)


@pytest.mark.parametrize("validation", [0, 1, 29])
def test_how_many_images_validate(write_mnist: WriteMnist, validation: int) -> None:
    splits = load("mnist", write_mnist(train=30), validation)
    assert (len(splits.train), len(splits.validation)) == (30 - validation, validation)


@pytest.mark.parametrize(("validation", "asked"), [(30, "30"), (None, "5000")])
def test_validation_must_leave_something_to_train(write_mnist: WriteMnist, validation: int | None, asked: str) -> None:
    message = error_of("mnist", write_mnist(train=30), validation)
    assert message == f"data.validation: {asked} images are asked for, but mnist has 30 training images"


def test_mnist_keeps_5000_for_validation_by_itself(write_mnist: WriteMnist) -> None:
    splits = load("mnist", write_mnist(train=5003, size=4), None)
    assert (len(splits.train), len(splits.validation)) == (3, 5000)


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_normal_labels_alone_are_trained_on(name: str, write_mnist: WriteMnist) -> None:
    """Of a set with fixed splits too: training and validation hold them alone, and the test split is as it was."""
    fixed = {} if name == "digits" else {"root": str(write_mnist(train=60)), "validation": 20}
    everything, some, none = (
        DataConfig.model_validate({"dataset": name, **fixed, "normal": labels}) for labels in ([], [1, 3], [11])
    )
    with pytest.raises(ConfigError, match=r"no item has the label 11 \(it has 0, 1, "):
        load_splits(none)
    whole, usual = load_splits(everything), load_splits(some)
    for split in ("train", "validation"):
        of, found = whole.get(split), usual.get(split)
        assert of.labels is not None and found.labels is not None
        kept = np.isin(of.labels, [1, 3])
        assert 0 < len(found) < len(of)
        assert np.array_equal(found.labels, of.labels[kept])
        assert np.array_equal(found.raw(0, len(found)), of.raw(0, len(of))[kept])
    assert np.array_equal(usual.test.raw(0, len(usual.test)), whole.test.raw(0, len(whole.test)))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST"), ("kmnist", "KMNIST")])
def test_idx_files_that_are_there_are_read_without_importing_torchvision(
    name: str, folder: str, write_mnist: WriteMnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The values and labels are those that torchvision reads."""
    import torchvision.datasets

    root = write_mnist(train=20, test=5, folder=folder, size=4)
    expected = [getattr(torchvision.datasets, folder)(str(root), train=train) for train in (True, False)]
    monkeypatch.setitem(sys.modules, "torchvision", None)
    splits = load(name, root, 6)
    for items, data, start, stop in ((splits.validation, 0, 0, 6), (splits.train, 0, 6, 20), (splits.test, 1, 0, 5)):
        assert items.labels is not None and items.labels.tolist() == expected[data].targets[start:stop].tolist()
        np.testing.assert_array_equal(items.raw(0, len(items)).reshape(-1, 4, 4), expected[data].data[start:stop].numpy())


def test_qmnist_labels_are_the_first_of_eight_columns(tmp_path: Path, write_idx: WriteIdx) -> None:
    raw = tmp_path / "QMNIST" / "raw"
    for subset, count in (("train", 12), ("test", 6)):
        write_idx(raw / f"qmnist-{subset}-images-idx3-ubyte", RANDOM.integers(0, 256, (count, 3, 3), dtype=np.uint8))
        labels = np.full((count, 8), 77, dtype=np.int32)
        labels[:, 0] = np.arange(count) % 10
        write_idx(raw / f"qmnist-{subset}-labels-idx2-int", labels)
    splits = load("qmnist", tmp_path, 2)
    assert splits.train.labels is not None and splits.train.labels.tolist() == [2, 3, 4, 5, 6, 7, 8, 9, 0, 1]


@pytest.mark.parametrize("split", ["letters", "balanced"])
def test_emnist_is_the_right_way_up(tmp_path: Path, write_idx: WriteIdx, split: str) -> None:
    """EMNIST's files hold every image with rows and columns exchanged; here an L drawn for people."""
    letter = np.zeros((28, 28), dtype=np.uint8)
    letter[4:24, 6], letter[23, 6:18] = 255, 255
    raw = tmp_path / "EMNIST" / "raw"
    for subset, count in (("train", 8), ("test", 3)):
        write_idx(raw / f"emnist-{split}-{subset}-images-idx3-ubyte", np.stack([letter.T] * count))
        write_idx(raw / f"emnist-{split}-{subset}-labels-idx1-ubyte", np.full(count, 12, dtype=np.uint8))
    splits = load(f"emnist-{split}", tmp_path, 2)
    assert splits.train.values.flags.c_contiguous and len(splits.test) == 3
    for name in ("train", "validation", "test"):
        np.testing.assert_array_equal(splits.get(name).values[0, 0], letter)


def test_usps(tmp_path: Path) -> None:
    """A line an image: label (1 for the digit 0) and index:value pairs from -1 to 1."""
    for name, count in (("usps.bz2", 6), ("usps.t.bz2", 3)):
        lines = [
            f"{number % 10 + 1} " + " ".join(f"{pixel + 1}:{-1 if pixel % 2 else 1}" for pixel in range(256))
            for number in range(count)
        ]
        (tmp_path / name).write_bytes(bz2.compress("\n".join(lines).encode()))
    splits = load("usps", tmp_path, 2)
    assert splits.form.shape == (1, 16, 16) and splits.train.labels is not None
    assert splits.train.labels.tolist() == [2, 3, 4, 5]
    assert splits.test.values[0, 0, 0, :4].tolist() == [255, 0, 255, 0]


def test_color_images_have_their_channels_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision gives CIFAR-10 as (N, H, W, C); its files are believed by their checksums, so a stand-in takes its place."""
    import torchvision.datasets

    values = RANDOM.integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)

    class StandIn:
        def __init__(self, root: str, train: bool, download: bool) -> None:
            self.data, self.targets = values, list(range(9))

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", StandIn)
    splits = load("cifar10", tmp_path, 2)
    assert splits.form.shape == (3, 32, 32) and splits.form.describe() == "32x32 color images"
    np.testing.assert_array_equal(splits.validation.values, values[:2].transpose(0, 3, 1, 2))


# Where the data lies


def test_the_folder_of_downloads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TIEDAE_DATA", "/somewhere")
    assert default_root() == Path("/somewhere")
    monkeypatch.setenv("TIEDAE_DATA", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_root() == tmp_path / "tiedae"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_root() == tmp_path / ".cache" / "tiedae"


def test_the_config_goes_before_the_environment(write_mnist: WriteMnist, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_mnist()
    monkeypatch.setenv("TIEDAE_DATA", "/nowhere")
    assert len(load("mnist", root).train) == 25
    monkeypatch.setenv("TIEDAE_DATA", str(root))
    assert len(load_splits(DataConfig(dataset="mnist", validation=5)).train) == 25


# What can be wrong with it


@pytest.mark.parametrize("name", DOWNLOADS)
def test_missing_data_without_a_network_says_which_files_to_put_where(name: str, tmp_path: Path) -> None:
    lines = error_of(name, tmp_path / "new").splitlines()
    assert lines[0].startswith(f"{name}: not in {tmp_path / 'new'}, and the download failed (")
    assert lines[1].startswith(f"Put {DOWNLOADS[name].files} into {tmp_path / 'new'}, or ")
    assert lines[2] == "The data set `digits` needs no download: tiedae train --config digits"


def test_a_data_set_that_nobody_knows(tmp_path: Path) -> None:
    message = error_of("mnits", tmp_path)
    assert message == "data.dataset: mnits: no such data set (did you mean mnist?), and no file or folder has that name"


@pytest.mark.parametrize("file", ["train-images-idx3-ubyte", "t10k-images-idx3-ubyte", "train-labels-idx1-ubyte"])
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: content[:-1], "cut off: "),
        (lambda content: content[:6], "cut off in its header"),
        (lambda content: b"", "not an IDX file"),
        (lambda content: b"\x01" + content[1:], "not an IDX file"),
        (lambda content: content[:2] + b"\x09" + content[3:], "type 9 with "),
        (lambda content: content[:3] + b"\x00" + content[4:], "not an IDX file"),
        (lambda content: content + b"\x00", "longer than its header says: "),
        (lambda content: b"<html>404</html>", "not an IDX file"),
    ],
    ids=["truncated", "short header", "empty", "magic", "type", "no dimensions", "longer", "a web page"],
)
def test_a_damaged_file_is_named(write_mnist: WriteMnist, file: str, damage: Callable[[bytes], bytes], reason: str) -> None:
    root = write_mnist()
    path = root / "MNIST" / "raw" / file
    path.write_bytes(damage(path.read_bytes()))
    assert error_of("mnist", root).startswith(f"{path}: {reason}")


def test_sizes_of_a_truncated_file(write_mnist: WriteMnist) -> None:
    root = write_mnist(train=30)
    path = root / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1000])
    whole = 16 + 30 * 784
    assert error_of("mnist", root) == f"{path}: cut off: {whole - 1000:,} bytes, its header says {whole:,}"


def test_more_images_than_labels(write_mnist: WriteMnist, write_idx: WriteIdx) -> None:
    root = write_mnist()
    write_idx(root / "MNIST" / "raw" / "train-labels-idx1-ubyte", np.zeros(7, dtype=np.uint8))
    assert "30 images but 7 labels" in error_of("mnist", root)


def test_a_header_that_asks_for_more_than_any_memory(write_mnist: WriteMnist) -> None:
    root = write_mnist()
    path = root / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(b"\0\0\x08\x03" + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 2**32 - 1) + b"x")
    assert error_of("mnist", root).startswith(f"{path}: cut off: 17 bytes")


# Splits and sets


def test_splits_by_name() -> None:
    splits = load_splits(DataConfig())
    assert splits.get("test") is splits.test and splits.form is splits.train.form
    assert splits.filled("validation") is splits.validation
    check_split("train")
    with pytest.raises(InputError, match=r"--split tset: no such split \(known: train, validation, test\)"):
        check_split("tset")


def test_a_model_of_another_form_is_told_so() -> None:
    splits = load_splits(DataConfig())
    with pytest.raises(DataError, match=r"x\.pt: made for 28x28 gray images, but digits now has 8x8 gray images"):
        splits.for_model(ItemForm((1, 28, 28)), "x.pt")


def test_an_empty_split_is_told_so(write_mnist: WriteMnist) -> None:
    splits = load("mnist", write_mnist(), 0)
    with pytest.raises(DataError, match="mnist: its validation split is empty"):
        splits.filled("validation")


def test_choose() -> None:
    images = load_splits(DataConfig()).test
    assert np.array_equal(silently(choose, images, 4, None).values, images.values[:4])
    chosen = silently(choose, images, 100, 3)
    assert np.array_equal(chosen.values, choose(images, 100, 3).values)
    assert not np.array_equal(chosen.values, choose(images, 100, 4).values)
    assert len(np.unique(chosen.rows, axis=0)) == 100
    with captured_log() as said:
        assert len(choose(images, 1000, 3)) == 300
    assert said == ["only 300 images in this split; 1,000 were asked for"]


def test_parts_of_a_set_keep_labels_beside_images() -> None:
    images = load_splits(DataConfig()).train
    assert images.labels is not None
    part = images.slice(10, 20).select(np.array([3, 0]))
    assert np.array_equal(part.values, images.values[[13, 10]])
    assert part.labels is not None and part.labels.tolist() == images.labels[[13, 10]].tolist()
    assert images.slice(10, 20).values.ctypes.data == images.values[10].ctypes.data  # no copy


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (ItemForm((1, 28, 28)), "28x28 gray images"),
        (ItemForm((3, 24, 32)), "24x32 color images"),
        (ItemForm((4, 8, 8)), "8x8 4-channel images"),
        (ItemForm((1, 1, 30), "vectors"), "vectors of 30 features"),
    ],
)
def test_forms_in_words(form: ItemForm, words: str) -> None:
    assert form.describe() == words


def test_normalize_subtracts_and_scales() -> None:
    form = ItemForm((1, 1, 2), "vectors", np.array([1.0, 2.0]), np.array([0.5, 10.0]))
    assert form.normalize(np.array([[3, 4], [1, 2]])).tolist() == [[1.0, 20.0], [0.0, 0.0]]
    images = ItemSet(np.array([[[[3.0, 4.0]]]]), None, form)
    assert images.batch(0, 1).tolist() == [[1.0, 20.0]]
