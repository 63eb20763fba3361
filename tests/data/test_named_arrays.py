"""Several arrays in a file: which are the items, which the labels; what is not clear is asked for with the list."""

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from log_capture import captured_log, silently

from tiedae_cli.config import DataConfig
from tiedae_cli.data.item_set import Splits
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.errors import ConfigError, DataError

X = np.random.default_rng(4).integers(0, 256, (30, 5, 4), dtype=np.uint8)
Y = np.arange(30) % 4
NAMES = ("train", "validation", "test")


def load(path: str, **fields: object) -> Splits:
    return load_splits(DataConfig.model_validate({"dataset": path, **fields}))


def sizes(splits: Splits) -> list[int]:
    return [len(splits.get(name)) for name in NAMES]


@pytest.mark.parametrize(
    "names",
    [
        ("x_train", "y_train", "x_test", "y_test"),
        ("X_train", "Y_train", "X_test", "Y_test"),
        ("xtrain", "ytrain", "xtest", "ytest"),
        ("train_x", "train_y", "test_x", "test_y"),
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("trainX", "trainY", "testX", "testY"),
        ("training_data", "training_targets", "testing_data", "testing_targets"),
        ("train", "labels_train", "test", "labels_test"),
    ],
)
def test_names_that_people_give_to_splits(names: tuple[str, str, str, str]) -> None:
    np.savez("x.npz", **dict(zip(names, (X[:20], Y[:20], X[20:], Y[20:]), strict=True)))
    splits = silently(load, "x.npz", validation=0)
    assert sizes(splits) == [20, 0, 10]
    assert splits.train.labels is not None and splits.train.labels.tolist() == Y[:20].tolist()
    assert splits.test.labels is not None and splits.test.labels.tolist() == Y[20:].tolist()


@pytest.mark.parametrize("name", ["val", "valid", "validation", "dev"])
def test_a_validation_split_of_any_name_is_used(name: str) -> None:
    np.savez("x.npz", **{"train_images": X[:20], f"{name}_images": X[20:25], "test_images": X[25:]})
    assert sizes(silently(load, "x.npz")) == [20, 5, 5]


@pytest.mark.parametrize(
    ("items", "labels"), [("X", "y"), ("data", "labels"), ("images", "label"), ("features", "target"), ("foo", "class")]
)
def test_one_array_of_items_and_one_of_labels(items: str, labels: str) -> None:
    np.savez("x.npz", **{items: X, labels: Y[:, None].astype(float)})
    splits = silently(load, "x.npz", validation=0, test=0)
    assert splits.train.labels is not None and splits.train.labels.tolist() == Y.tolist()


def test_what_is_not_used_is_said() -> None:
    np.savez("x.npz", data=X, mean_item=X[:1].astype(float))
    with captured_log() as said:
        load("x.npz")
    assert said == ["x.npz: the items are data; ignored: mean_item"]
    np.savez("o.npz", X=X, y=np.array(["a", None] * 15, dtype=object))
    with captured_log() as said:
        assert load("o.npz").train.labels is None
    assert said[0].startswith("o.npz: y: holds Python objects, which are never unpickled") and said[0].endswith("; ignored")
    with pytest.raises(DataError, match="o.npz: y: holds Python objects, which are never unpickled"):
        load("o.npz", arrays={"train": "X", "labels": "y"})
    np.savez("w.npz", X=X, names=np.array(["a", "b"] * 15))
    with pytest.raises(DataError, match="w.npz: names: its type is <U1, not numbers"):
        load("w.npz", arrays={"train": "names"})
    np.savez("y.npz", X=X, y=np.linspace(0, 1, 30))
    with captured_log() as said:
        assert load("y.npz").train.labels is None
    assert said == ["y.npz: y: 30 float64; labels are 30 whole numbers or words, one per item; ignored"]


@pytest.mark.parametrize(
    "arrays",
    [
        {"a": X, "b": X},
        {"x": X, "data": X},
        {"train": X, "images": X},
        {"test": X},
        {"train": X, "train_images": X},
        {"y": Y},
    ],
)
def test_what_is_not_clear_is_asked_for_with_the_list(arrays: dict[str, np.ndarray]) -> None:
    np.savez("x.npz", **arrays)
    with pytest.raises(DataError, match=r"x\.npz: holds .*: which are the items\? .*data\.arrays=NAME") as caught:
        load("x.npz")
    assert all(name in str(caught.value) for name in arrays)


def test_arrays_that_are_asked_for() -> None:
    np.savez("x.npz", a=X, b=X[:7], c=Y)
    assert sizes(load("x.npz", arrays="a", validation=0, test=0)) == [30, 0, 0]
    splits = load("x.npz", arrays={"train": "a", "test": "b", "labels": "c"}, validation=0)
    assert sizes(splits) == [30, 0, 7] and splits.train.labels is not None
    with pytest.raises(ConfigError, match=r"data\.arrays: x\.npz has no array d: it holds a \(30 x 5 x 4\), b"):
        load("x.npz", arrays="d")
    with pytest.raises(ConfigError, match="no such role"):
        load("x.npz", arrays={"train": "a", "exam": "b"})
    with pytest.raises(ConfigError, match="no array is named for `train`"):
        load("x.npz", arrays={"test": "b"})
    with pytest.raises(DataError, match="labels are 30 whole numbers"):
        load("x.npz", arrays={"train": "a", "labels": "b"})


def matlab() -> str:
    scipy.io.savemat("x.mat", {"X": X.reshape(30, -1).astype(float), "y": Y[:, None], "info": "text"})
    return "x.mat"


def images_last() -> str:
    scipy.io.savemat("x.mat", {"X": np.moveaxis(X, 0, -1), "y": Y[:, None]})
    return "x.mat"


def hdf5() -> str:
    with h5py.File("x.h5", "w") as file:
        file["group/deep/data"], file["group/deep/label"] = X, Y
        file["text"] = "words"
    return "x.h5"


@pytest.mark.parametrize("write", [matlab, images_last, hdf5])
def test_files_of_other_programs(write: Callable[[], str]) -> None:
    splits = load(write(), validation=0, test=0)
    assert np.array_equal(splits.train.raw(0, 99), X.reshape(30, -1))
    assert splits.train.labels is not None and splits.train.labels.tolist() == Y.tolist()


@pytest.mark.parametrize("write", [matlab, hdf5])
def test_damaged_files_of_other_programs_are_refused(write: Callable[[], str]) -> None:
    path = Path(write())
    raw = path.read_bytes()
    for damaged in (raw[: len(raw) // 2], raw[:40], raw[:100] + bytes(200) + raw[300:]):
        path.write_bytes(damaged)
        with pytest.raises(DataError):
            load(str(path))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    path = hdf5()
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(Exception, match=r"x\.h5: reading it needs h5py: pip install 'tiedae\[hdf5\]'"):
        load(path)


def test_cifars_binary_files() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 3, 32, 32), dtype=np.uint8)
    for before, name in ((1, "data_batch_1.bin"), (2, "train.bin")):
        labels = np.tile(Y[:20, None], before).astype(np.uint8)
        Path(name).write_bytes(np.concatenate([labels, pixels.reshape(20, -1)], 1).tobytes())
        splits = silently(load, name, validation=0, test=0)
        assert np.array_equal(splits.train.values, pixels)
        assert splits.train.labels is not None and splits.train.labels.tolist() == Y[:20].tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\0\0\x08\x03" + bytes(3), "cut off in its header"),
        (b"\0\0\x08\x01\0\0\0\x05abc", "cut off: 11 bytes, its header says 13"),
        (b"\0\0\x08\x01\0\0\0\x02abc", "longer than its header says: 11 bytes, its header says 10"),
    ],
)
def test_damaged_idx_files_are_refused(content: bytes, message: str) -> None:
    Path("x-ubyte").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load("x-ubyte")


def test_mnists_files_by_their_path(mnist_root: str) -> None:
    path = f"{mnist_root}/MNIST/raw/t10k-images-idx3-ubyte"
    splits = silently(load, path, validation=0, test=0)
    assert sizes(splits) == [10_000, 0, 0]
    assert splits.train.labels is not None and splits.train.labels[:5].tolist() == [7, 2, 1, 0, 4]


@pytest.mark.parametrize(("name", "found"), [("breastmnist.npz", [546, 78, 156]), ("vowels.mat", [1164, 146, 146])])
def test_real_files(name: str, found: list[int]) -> None:
    path = Path(os.environ.get("TIEDAE_DATA", "")) / "forms" / name
    if not path.exists():
        pytest.skip("needs the real files under TIEDAE_DATA")
    splits = silently(load, str(path))
    assert sizes(splits) == found and splits.train.labels is not None
