"""AnnData and MatrixMarket: dense and sparse matrices by rows and columns, with names; the values are those that h5py and scipy read."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Tiedae
from log_capture import captured_log

from tiedae_cli.config import DataConfig
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.errors import ConfigError, DataError

h5py = pytest.importorskip("h5py")
sparse = pytest.importorskip("scipy.sparse")
GENES, CELLS = [f"ENSG{place}" for place in range(6)], [f"cell{place}" for place in range(40)]
KINDS = ["B" if place % 3 else "T" for place in range(40)]


def counts() -> np.ndarray:
    return np.random.default_rng(1).poisson(0.7, (40, 6)).astype(np.float32)


def write_anndata(x: np.ndarray, kind: str, **more: np.ndarray) -> str:
    """Write what anndata 0.8 and later write."""
    with h5py.File("x.h5ad", "w") as file:
        for name, values in {"X": x, **more}.items():
            if kind == "dense":
                file[name] = values
                continue
            matrix = getattr(sparse, f"{kind}_matrix")(values)
            group = file.create_group(name)
            group.attrs["encoding-type"], group.attrs["shape"] = f"{kind}_matrix", matrix.shape
            for part in ("data", "indices", "indptr"):
                group[part] = getattr(matrix, part)
        for name, index in (("var", GENES), ("obs", CELLS)):
            group = file.create_group(name)
            group.attrs["_index"] = "_index"
            group["_index"] = np.array(index, dtype="S")
        words, codes = np.unique(KINDS, return_inverse=True)
        file["obs/kind/categories"], file["obs/kind/codes"] = words.astype("S"), codes.astype(np.int8)
        file["obs/total"] = x.sum(1)
        file["obsm/X_pca"] = x[:, :2] - 1
    return "x.h5ad"


def load(dataset: str, **fields: Any) -> Any:
    return load_splits(DataConfig.model_validate({"dataset": dataset, "validation": 0, "test": 0, **fields})).train


@pytest.mark.parametrize("kind", ["dense", "csr", "csc"])
def test_anndata_has_named_values_and_labels(kind: str) -> None:
    with captured_log() as log:
        found = load(write_anndata(counts(), kind), label="kind", normal=["B"])
    np.testing.assert_array_equal(found.raw(0, 99), counts()[[place for place, word in enumerate(KINDS) if word == "B"]])
    assert found.form.columns.values == tuple(GENES)
    said = "\n".join(log)
    assert "ignored: obsm/X_pca" in said and "ignored, from obs: total; data.columns feeds them" in said


def test_layers_and_embeddings_are_chosen_by_name() -> None:
    path = write_anndata(counts(), "csr", **{"layers/counts": counts() * 3})
    with captured_log():
        np.testing.assert_array_equal(load(path, arrays="layers/counts").raw(0, 99), counts() * 3)
        found = load(path, arrays="obsm/X_pca")
        fed = load(path, columns=["ENSG2", "total"])
    np.testing.assert_array_equal(found.raw(0, 99), counts()[:, :2] - 1)
    assert found.form.columns.values == ("X_pca[0]", "X_pca[1]")
    np.testing.assert_array_equal(fed.raw(0, 99), np.stack([counts()[:, 2], counts().sum(1)], 1))
    with captured_log(), pytest.raises(ConfigError, match=r"has no matrix layers/raw \(it has X \(40 x 6\), layers/counts"):
        load(path, arrays="layers/raw")


def write_market(folder: str, compressed: bool = False) -> str:
    """Write what 10x writes: genes x cells, with the names beside it."""
    scipy_io = pytest.importorskip("scipy.io")
    Path(folder).mkdir()
    scipy_io.mmwrite(f"{folder}/matrix.mtx", sparse.coo_matrix(counts().T.astype(int)))
    names = "".join(f"id{place}\t{gene}\tGene Expression\n" for place, gene in enumerate(GENES))
    Path(f"{folder}/features.tsv").write_text(names)
    Path(f"{folder}/barcodes.tsv").write_text("\n".join(CELLS) + "\n")
    for path in list(Path(folder).iterdir()) if compressed else []:
        Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    return folder


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("alone", [False, True])
def test_a_folder_of_10x_is_cells_with_named_genes(compressed: bool, alone: bool) -> None:
    name = write_market("filtered", compressed)
    name = f"{name}/matrix.mtx{'.gz' * compressed}" if alone else name
    with captured_log() as log:
        found = load(name)
    np.testing.assert_array_equal(found.raw(0, 99), counts())
    assert found.form.columns.values == tuple(GENES) and "40 cells (items) x 6 genes" in "\n".join(log)
    Path("filtered/barcodes.tsv").write_text("one\n")
    with captured_log(), pytest.raises(DataError, match="6 x 40, but features.tsv.* has 6 lines and barcodes.tsv 1"):
        load(name)


@pytest.mark.parametrize("dense", [False, True])
def test_a_matrix_alone_is_items_by_values_which_is_reported(dense: bool) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    scipy_io.mmwrite("x.mtx", counts() if dense else sparse.coo_matrix(counts()))
    with captured_log() as log:
        found = load("x.mtx")
    np.testing.assert_array_equal(found.raw(0, 99), counts())
    assert "40 items x 6 values (MatrixMarket)" in "\n".join(log)


@pytest.mark.slow
def test_a_model_of_genes_takes_every_form_and_names_them(tiedae: Tiedae) -> None:
    write_market("filtered")
    made = tiedae("train", "filtered", "--transform", "log1p_per_10k", "epochs=1", "hidden_sizes=2", "-q", "--run-dir", "run")
    assert made.code == 0, made.err
    first = tiedae("score", "run", "filtered", "--explain", 1, "--threshold", 0, "-q").lines
    assert {line["because"][0]["column"] for line in first} <= set(GENES)
    for kind in ("dense", "csr", "csc"):
        again = tiedae("score", "run", write_anndata(counts(), kind), "--explain", 1, "--threshold", 0, "-q").lines
        assert again == first
    frame = "\n".join([",".join(reversed(GENES)), *(",".join(map(str, row[::-1])) for row in counts().astype(int).tolist())])
    Path("x.csv").write_text(frame)
    lines = tiedae("score", "run", "x.csv", "--explain", 1, "--threshold", 0, "-q").lines
    assert [line.pop("line") for line in lines] == list(range(2, 2 + len(lines))) and lines == first
