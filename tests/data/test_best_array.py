"""The likely array of a file is read or is the error: never another one, never values that are not there."""

import json
from pathlib import Path

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import scipy.io
import scipy.sparse
from log_capture import captured_log, silently

from tiedae_cli.config import DataConfig
from tiedae_cli.data.item_reader import ItemReader
from tiedae_cli.data.item_set import ItemSet
from tiedae_cli.data.load_data import load_memory, load_splits
from tiedae_cli.data.sources.memory import MemoryData
from tiedae_cli.errors import ConfigError, DataError

X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
SPARSE = np.where(abs(X) > 1, X, 0).astype(np.float32)
OTHER = np.random.default_rng(1).normal(size=(30, 3))


def load(path: str, **fields: object) -> ItemSet:
    return load_splits(DataConfig.model_validate({"dataset": path, "validation": 0, "test": 0, **fields})).train


@pytest.mark.parametrize("kind", ["csr", "csc"])
def test_sparse_matrices_become_dense_rows(kind: str) -> None:
    matrix = getattr(scipy.sparse, f"{kind}_matrix")(SPARSE)
    scipy.sparse.save_npz("x.npz", matrix)
    scipy.io.savemat("x.mat", {"X": scipy.sparse.csc_matrix(SPARSE)})
    with h5py.File("x.h5ad", "w") as file:
        group = file.create_group("X")
        group.attrs["encoding-type"], group.attrs["shape"] = f"{kind}_matrix", SPARSE.shape
        group["data"], group["indices"], group["indptr"] = matrix.data, matrix.indices, matrix.indptr
        file["obsm/X_pca"] = OTHER
    for path in ("x.npz", "x.mat", "x.h5ad"):
        with captured_log():
            found = load(path)
        np.testing.assert_array_equal(found.raw(0, 99), SPARSE)
        blocks = list(ItemReader(found.form, 7).open([path]).blocks)
        np.testing.assert_array_equal(np.concatenate([block.values for block in blocks]), found.batch(0, 99))


def unreadable(path: str) -> None:
    if path.endswith(".mat"):
        cells = np.array([X[i : i + 1] for i in range(40)], dtype=object).reshape(-1, 1)
        scipy.io.savemat(path, {"X": cells if path == "cell.mat" else X.astype("c8"), "W": OTHER})
        return
    with h5py.File(path, "w") as file:
        if path == "link.h5":
            file["data"] = h5py.ExternalLink("gone.h5", "/x")
        else:
            file["data"] = X.astype("c8") if path == "complex.h5" else np.zeros(40, [("a", "f4"), ("b", "f4")])
        file["aux"] = OTHER


REASONS = {
    "cell.mat": "X is a cell array",
    "complex.mat": "X has values of type complex",
    "link.h5": "data is a link to gone.h5: /x, which does not exist",
    "complex.h5": "data has values of type complex64",
    "compound.h5": r"data has values of type compound \(a, b\)",
}


@pytest.mark.parametrize("path", REASONS)
def test_a_likely_array_that_cannot_be_read_is_the_error(path: str) -> None:
    unreadable(path)
    other = "W" if path.endswith(".mat") else "aux"
    with pytest.raises(DataError, match=rf"{REASONS[path]}.*; to read another array: --set data\.arrays={other}$"):
        load(path)
    np.testing.assert_array_equal(silently(load, path, arrays=other).raw(0, 99), OTHER)


def test_matrices_in_a_struct_are_read_and_the_others_are_named() -> None:
    scipy.io.savemat("x.mat", {"data": {"X": X}, "proj": OTHER})
    with captured_log() as said:
        np.testing.assert_array_equal(load("x.mat").raw(0, 99), X)
    assert said == ["x.mat: the items are data/X; ignored: proj"]


def absent(path: str) -> str:
    """Write a file with values that are not there; return what the message says of them."""
    with h5py.File(path, "w") as file:
        if path == "chunks.h5":
            file.create_dataset("data", (40, 6), "f4", chunks=(10, 6))[:10] = X[:10]
            return "3 of 4 chunks were never written"
        if path == "contiguous.h5":
            file.create_dataset("data", (40, 6), "f4")
            return "its values were never written"
        layout = h5py.VirtualLayout((40, 6), "f4")
        layout[:] = h5py.VirtualSource("gone.h5", "x", (40, 6))
        file.create_virtual_dataset("data", layout)
        return "its source gone.h5 are missing"


@pytest.mark.parametrize("path", ["chunks.h5", "contiguous.h5", "virtual.h5"])
def test_missing_parts_of_a_file_are_an_error_unless_the_fill_value_is_meant(path: str) -> None:
    part = absent(path)
    with pytest.raises(DataError, match=rf"{path}: data: .*{part}.*--set data\.missing=fill"):
        load(path)
    with captured_log():
        assert load(path, missing="fill").raw(39, 40).tolist() == [[0.0] * 6]


def test_only_hdf5_files_have_a_fill_value() -> None:
    np.save("x.npy", X)
    with pytest.raises(ConfigError, match=r"data\.missing: x\.npy: fill is only for HDF5 files"):
        load("x.npy", missing="fill")


def test_values_keep_their_precision_until_they_are_centered() -> None:
    noise = np.random.default_rng(0).normal(size=(600, 2))
    for name, rows in (("sensor", 1e8 + noise), ("ms", 1709251200000 + np.arange(1200).reshape(600, 2))):
        np.save(f"{name}.npy", rows)
        np.savetxt(f"{name}.csv", rows, "%.17g", delimiter=",", header="p,q", comments="")
        expected = (rows - rows.mean(0)) / rows.std(0)
        for path in (f"{name}.npy", f"{name}.csv"):
            np.testing.assert_allclose(load(path).batch(0, 600), expected, atol=1e-6)
    rows32 = (1e6 + noise).astype(np.float32)
    np.save("single.npy", rows32)
    expected = (rows32.astype(np.float64) - rows32.mean(0, np.float64)) / rows32.std(0, dtype=np.float64)
    np.testing.assert_allclose(load("single.npy").batch(0, 600), expected, atol=1e-5)


@pytest.mark.parametrize("start", [2**60, 1_700_000_000_123_456_789, -(2**62) - 3, 2**63 - 600])
@pytest.mark.parametrize("kind", ["npy", "csv", "tsv", "parquet", "jsonl", "h5", "array", "table"])
def test_whole_numbers_beyond_float64_are_standardized_exactly(kind: str, start: int) -> None:
    """Training and the reader of ``score`` and ``encode`` see what exact arithmetic gives; float64 rounds 512 numbers together."""
    ids = [start + (7 * index) % 600 for index in range(600)]
    values = np.random.default_rng(0).normal(size=600).tolist()
    mean = sum(ids) // 600
    exact = np.array([id - mean for id in ids], np.float64)
    expected = (exact - exact.mean()) / exact.std()
    data, names = (written(kind, ids, values) if kind not in ("array", "table") else None), ("array", "table")
    with captured_log():
        if kind in names:
            given = (
                np.array(ids, np.int64)[:, None].repeat(2, 1) if kind == "array" else pyarrow.table({"key": ids, "v": values})
            )
            train = load_memory(MemoryData(given), DataConfig(validation=0, test=0)).train
            later = ItemReader(train.form, 64).open_memory(given, "X")
        else:
            train = load(str(data))
            later = ItemReader(train.form, 64).open([str(data)])
        np.testing.assert_allclose(train.batch(0, 600)[:, 0], expected, atol=1e-6)
        read = np.concatenate([block.values for block in later.blocks])
    np.testing.assert_array_equal(read, train.batch(0, 600))
    assert train.form.denormalize(read.astype(np.float64))[0, 0] == pytest.approx(ids[0], rel=1e-15)


def written(kind: str, ids: list[int], values: list[float]) -> str:
    """Write two columns, whole numbers and others (alone, the whole numbers twice), and return the file."""
    if kind in ("npy", "h5"):
        rows = np.array([ids, ids], np.int64).T
        if kind == "npy":
            np.save("x.npy", rows)
        else:
            with h5py.File("x.h5", "w") as file:
                file["data"] = rows
    elif kind in ("csv", "tsv"):
        mark = {"csv": ",", "tsv": "\t"}[kind]
        text = f"{{}}{mark}{{}}\n".format
        rows_of_text = [text(id, value) for id, value in zip(ids, values, strict=True)]
        Path(f"x.{kind}").write_text("".join([text("key", "v"), *rows_of_text]))
    elif kind == "jsonl":
        lines = [json.dumps({"key": id, "v": value}) for id, value in zip(ids, values, strict=True)]
        Path("x.jsonl").write_text("\n".join(lines))
    else:
        pyarrow.parquet.write_table(pyarrow.table({"key": ids, "v": values}), "x.parquet")
    return f"x.{kind}"


def test_large_numbers_in_text_lose_no_digits_however_they_are_written() -> None:
    """A missing value, a fraction and an exponent: the column's differences are those of exact arithmetic."""
    cells = ["1700000000123456789", "1700000000123456790.5", "", "17000000001234568e2", "1700000000123456700"]
    Path("x.csv").write_text("k,v\n" + "".join(f"{cells[index % 5]},{index % 7}\n" for index in range(70)))
    with captured_log():
        train = load("x.csv", missing="mean")
    found = train.raw(0, 5)[:, 0]
    np.testing.assert_array_equal(np.delete(found - found[4], 2), [89, 90.5, 100, 0])


def test_a_warning_names_what_float32_rounds_without_scaling() -> None:
    np.save("x.npy", np.stack([2**60 + np.arange(200), np.arange(200)], 1))
    with captured_log() as said:
        assert load("x.npy", scaling="none").batch(0, 1).tolist() == [[float(2**60), 0.0]]
    assert said == [
        "x.npy: feature 0: float32 rounds its values by over 0.1% of their deviation; data.scaling=standard centers them first"
    ]


def test_rounded_numbers_are_refused_if_the_rounding_is_most_of_their_differences() -> None:
    np.save("x.npy", (2**60 + np.arange(1200).reshape(600, 2)).astype(np.float64))
    with pytest.raises(DataError, match=r"differ by less than float64 resolves at 1\.153e\+18"):
        load("x.npy")


@pytest.mark.parametrize("constant", ["0.3", "1700000000123456789", "-987654321098765432", "1.234e30"])
def test_constants_of_any_size_become_zero_exactly(constant: str) -> None:
    Path("x.csv").write_text("k,v\n" + "".join(f"{constant},{index % 7}\n" for index in range(237)))
    with captured_log() as said:
        assert not load("x.csv").batch(0, 237)[:, 0].any()
    assert said == ["constant features (no information): k"]
