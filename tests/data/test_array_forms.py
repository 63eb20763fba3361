"""Tensors of torch, safetensors, Zarr, compressed HDF5, Arrow streams and 1-D series are read to the value, by every command."""

import importlib
import json
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from conftest import Tiedae
from log_capture import captured_log

from tiedae_cli.config import DataConfig
from tiedae_cli.data.item_reader import ItemReader
from tiedae_cli.data.item_set import ItemSet
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.errors import DataError

X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
LABELS = np.arange(40) % 3


def load(path: str, **fields: object) -> ItemSet:
    with captured_log():
        return load_splits(DataConfig.model_validate({"dataset": path, "validation": 0, "test": 0, **fields})).train


def zarr_folder(version: int) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        zarr = pytest.importorskip("zarr", reason="needs the extra zarr")
        group = zarr.open_group(str(folder / "x.zarr"), mode="w", zarr_format=version)
        array = group.create_array("images/data", shape=X.shape, chunks=(7, 4), dtype="f4")
        array[:] = X
        group.create_array("images/other", shape=(3,), dtype="f4")[:] = 1
        return "x.zarr"

    return write


def hdf5_blosc(folder: Path) -> str:
    plugin = pytest.importorskip("hdf5plugin", reason="needs hdf5plugin")
    with h5py.File(folder / "x.h5", "w") as file:
        file.create_dataset("data", data=X, **plugin.Blosc())
    return "x.h5"


def arrow_stream(folder: Path) -> str:
    table = pyarrow.table({f"c{place}": X[:, place] for place in range(6)})
    with pyarrow.OSFile(str(folder / "x.arrow"), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table, max_chunksize=17)
    return "x.arrow"


def saved(name: str, content: Callable[[], object]) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        torch.save(content(), folder / name)
        return name

    return write


def tensors(folder: Path) -> str:
    safetensors.numpy.save_file({"data": X, "labels": LABELS}, folder / "x.safetensors", {"made by": "a test"})
    return "x.safetensors"


FORMS: dict[str, Callable[[Path], str]] = {
    "tensor": saved("x.pt", lambda: torch.from_numpy(X)),
    "pair": saved("x.pth", lambda: (torch.from_numpy(X), torch.from_numpy(LABELS))),
    "dict": saved("x.pt", lambda: {"train": {"x": torch.from_numpy(X), "y": torch.from_numpy(LABELS)}, "epoch": 3}),
    "view": saved(
        "x.pt", lambda: torch.from_numpy(np.concatenate([X.T, X.T], 1)).t()[40:]
    ),  # not contiguous, not from the start
    "parameter": saved("x.pt", lambda: {"data": torch.nn.Parameter(torch.from_numpy(X))}),
    "safetensors": tensors,
    "zarr 2": zarr_folder(2),
    "zarr 3": zarr_folder(3),
    "blosc": hdf5_blosc,
    "arrow stream": arrow_stream,
}


@pytest.mark.parametrize("form", FORMS)
def test_arrays_are_read_to_the_value_by_training_and_by_the_reader_of_the_other_commands(form: str) -> None:
    path = FORMS[form](Path())
    train = load(path)
    np.testing.assert_array_equal(train.raw(0, 40), X)
    if form in ("pair", "dict", "safetensors"):
        assert train.labels is not None and train.labels.tolist() == LABELS.tolist()
    read = np.concatenate([block.values for block in ItemReader(train.form, 7).open([path]).blocks])
    np.testing.assert_array_equal(read, train.batch(0, 40))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["pair", "safetensors", "zarr 3", "arrow stream", "series"])
def test_each_form_trains_scores_and_encodes_as_npy_does(form: str, tiedae: Tiedae) -> None:
    np.save("plain.npy", X if form != "series" else X.reshape(-1))
    if form == "series":
        torch.save(torch.from_numpy(X.reshape(-1)), "x.pt")
    path, window = (FORMS[form](Path()), []) if form != "series" else ("x.pt", ["window=6", "stride=6"])
    for name, data in (("a", path), ("b", "plain.npy")):
        ran = tiedae("train", data, "epochs=1", "hidden_sizes=4,2", "normal=[]", *window, "-q", "--run-dir", name)
        assert ran.code == 0, ran.err
    scores = [[line["squared_error"] for line in tiedae("score", "-q", name, path).lines] for name in ("a", "b")]
    again = [line["squared_error"] for line in tiedae("score", "-q", "a", "plain.npy").lines]
    if form == "arrow stream":  # a table is standardized in float64, an array of float32 in float32
        assert scores[0] == pytest.approx(scores[1], rel=1e-2) and scores[0] == pytest.approx(again, rel=1e-2)
        return
    assert scores[0] == scores[1] == again
    codes = [
        [line["code"] for line in tiedae("encode", "-q", "a", data, "--format", "jsonl").lines] for data in (path, "plain.npy")
    ]
    assert codes[0] == codes[1] and len(codes[0]) == 40


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "int64", "int16", "uint8", "bool"])
def test_tensors_of_every_type_are_those_of_torch(dtype: str) -> None:
    values = (torch.from_numpy(X) * 10).abs().to(getattr(torch, dtype))
    torch.save(values, "x.pt")
    safetensors.torch.save_file({"data": values}, "x.safetensors")
    for path in ("x.pt", "x.safetensors"):
        np.testing.assert_array_equal(load(path).raw(0, 40), values.float().numpy() if dtype == "bfloat16" else values.numpy())


class Trap:
    """Creates a file when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, ("trapped", "w")


def test_nothing_in_a_file_of_torch_is_run() -> None:
    torch.save({"data": torch.from_numpy(X), "more": Trap()}, "x.pt")
    with captured_log() as said:
        found = load_splits(DataConfig(dataset="x.pt", validation=0, test=0)).train
    assert re.fullmatch(r"x\.pt: ignored: more is an object of the class \w+\.open, which is never unpickled", "\n".join(said))
    np.testing.assert_array_equal(found.raw(0, 40), X)
    torch.save(Trap(), "x.pt")
    with pytest.raises(DataError, match=r"x\.pt: content is an object of the class .*open, which is never unpickled"):
        load("x.pt")
    torch.save(torch.nn.Linear(3, 2), "x.pt")
    with pytest.raises(DataError, match=r"Linear, which is never unpickled"):
        load("x.pt")
    assert not Path("trapped").exists()


def test_files_of_torch_before_version_1_6_are_named() -> None:
    torch.save(torch.from_numpy(X), "x.pt", _use_new_zipfile_serialization=False)
    for name in ("x.pt", "x.csv"):
        Path("x.pt").rename(name)
        with pytest.raises(DataError, match=rf"{name}: written by torch before version 1\.6; save it again"):
            load(name)
        Path(name).rename("x.pt")


@pytest.mark.parametrize("shape", [(40, 7), (1 << 40, 6)])
def test_a_tensor_that_reaches_beyond_its_storage_is_damaged(shape: tuple[int, int]) -> None:
    torch.save(torch.from_numpy(X), "x.pt")
    with zipfile.ZipFile("x.pt") as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    old = pickle.dumps((40, 6), 2)[2:-3]
    new = pickle.dumps(shape, 2)[2:-3]
    with zipfile.ZipFile("x.pt", "w") as archive:
        for name, content in members.items():
            changed = content.replace(old, new) if name.endswith("data.pkl") else content
            assert changed != content or not name.endswith("data.pkl")
            archive.writestr(name, changed)
    with pytest.raises(DataError, match="damaged: its values are not where the file says|GB"):
        load("x.pt")


def test_a_model_is_not_data() -> None:
    safetensors.numpy.save_file({"layers.0.weight": X}, "model.safetensors", {"tiedae": "{}"})
    with pytest.raises(DataError, match=r"model\.safetensors: a model, not data"):
        load("model.safetensors")


def test_absent_chunks_of_zarr_are_its_fill_value_and_its_unsafe_codecs_are_not_read() -> None:
    zarr = pytest.importorskip("zarr", reason="needs the extra zarr")
    array = zarr.create_array("x.zarr", shape=(40, 6), chunks=(10, 6), dtype="f4", fill_value=2.5)
    array[:10] = X[:10]
    np.testing.assert_array_equal(load("x.zarr").raw(0, 40), np.concatenate([X[:10], np.full((30, 6), 2.5)]))
    path = Path("x.zarr/zarr.json")
    document = json.loads(path.read_text())
    document["codecs"].append({"name": "numcodecs.pickle", "configuration": {}})
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"x\.zarr: data is stored with the codec pickle, which is not read"):
        load("x.zarr")


def test_a_missing_filter_of_hdf5_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    hdf5_blosc(Path())
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda number: number != 32001)
    with pytest.raises(DataError, match=r"x\.h5: data: compressed with the filter .*blosc.*32001.*: pip install hdf5plugin"):
        load("x.h5")


@pytest.mark.parametrize("kind", ["npy", "npz", "h5", "pt"])
def test_a_series_of_numbers_is_read_as_windows(kind: str) -> None:
    series = np.cumsum(np.random.default_rng(0).normal(size=200))
    if kind == "h5":
        with h5py.File("x.h5", "w") as file:
            file["signal"] = series
    elif kind == "pt":
        torch.save(torch.from_numpy(series), "x.pt")
    else:
        np.savez("x.npz", signal=series) if kind == "npz" else np.save("x.npy", series)
    windows = load(f"x.{kind}", window=8, stride=3, scaling="none")
    expected = np.lib.stride_tricks.sliding_window_view(series, 8)[[*range(0, 190, 3), 192]]
    np.testing.assert_allclose(windows.raw(0, 99), expected[: len(windows)])
    assert len(windows) == len(expected)
    rows = np.concatenate([block.values for block in ItemReader(windows.form, 64).open_rows([f"x.{kind}"]).blocks])
    np.testing.assert_array_equal(rows[:, 0], series.astype(np.float32))
    with pytest.raises(DataError, match=r"a series of 200 numbers; .*--set data\.window=24"):
        load(f"x.{kind}")


def test_optional_packages_of_forms_are_named_with_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, *_: object) -> object:
        raise ImportError(name)

    Path("x.zarr").mkdir()
    Path("x.zarr/zarr.json").write_text('{"node_type": "group", "zarr_format": 3}')
    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(Exception, match=r"x\.zarr: reading it needs zarr: pip install 'tiedae\[zarr\]'"):
        load("x.zarr")
