"""Data that does not fit into memory is refused before it is unpacked, and no file makes the program read another one."""

import gzip
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import Tiedae

from tiedae_cli.errors import InputError
from tiedae_cli.system import memory_limits

pytestmark = pytest.mark.slow

FREE = 40_000_000  # bytes


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that the machine has little memory left."""
    for module in ("system.memory_limits", "data.training_sets"):
        monkeypatch.setattr(f"tiedae_cli.{module}.available_memory", lambda: FREE)


def gzipped_csv() -> str:
    with gzip.open("x.csv.gz", "wt") as file:
        file.write("a,b,c,d,e,f,g,h,i,j\n" + "1,2,3,4,5,6,7,8,9,0\n" * 1_500_000)
    return "x.csv.gz"


def parquet() -> str:
    import pyarrow
    import pyarrow.parquet

    column = pyarrow.array(np.full(6_000_000, 1.0))
    pyarrow.parquet.write_table(pyarrow.table({"a": column, "b": column}), "x.parquet")
    return "x.parquet"


def labels_in_an_archive() -> str:
    with zipfile.ZipFile("x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, shape in (("x", (100, 4)), ("y", (100_000_000,))):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": shape})
                for _ in range(max(1, int(np.prod(shape)) // 1_000_000)):
                    file.write(bytes(min(int(np.prod(shape)), 1_000_000) * 8))
    return "x.npz"


def matlab() -> str:
    scipy_io = pytest.importorskip("scipy.io")
    scipy_io.savemat("x.mat", {"x": np.zeros((1_000_000, 6))}, do_compression=True)
    return "x.mat"


def one_text_many_times() -> str:
    import pyarrow
    import pyarrow.parquet

    word = pyarrow.DictionaryArray.from_arrays(pyarrow.array(np.zeros(3000, np.int32)), pyarrow.array(["x" * 100_000]))
    pyarrow.parquet.write_table(pyarrow.table({"a": word.cast(pyarrow.string()), "b": np.arange(3000.0)}), "texts.parquet")
    return "texts.parquet"


def spreadsheet(cells: str) -> str:
    openpyxl = pytest.importorskip("openpyxl")
    pytest.importorskip("python_calamine")
    openpyxl.Workbook().save("x.xlsx")
    with zipfile.ZipFile("x.xlsx") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    start, _, end = members["xl/worksheets/sheet1.xml"].decode().partition("<sheetData/>")
    if not end:
        start, _, end = members["xl/worksheets/sheet1.xml"].decode().partition("<sheetData></sheetData>")
    members["xl/worksheets/sheet1.xml"] = f"{start}<sheetData>{cells}</sheetData>{end}".encode()
    with zipfile.ZipFile("x.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return "x.xlsx"


def two_cells_far_apart() -> str:
    return spreadsheet('<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>2</v></c></row>')


def blanks_in_a_spreadsheet() -> str:
    return spreadsheet('<row r="1"><c r="A1"><v>1</v></c></row>' + " " * 30_000_000)


def compressed_feather() -> str:
    import pyarrow
    import pyarrow.feather

    pyarrow.feather.write_feather(pyarrow.table({"a": np.full(6_000_000, 1.0)}), "x.feather", "zstd", chunksize=6_000_000)
    return "x.feather"


def one_text_many_times_in_feather() -> str:
    import pyarrow
    import pyarrow.feather

    word = pyarrow.DictionaryArray.from_arrays(pyarrow.array(np.zeros(3000, np.int32)), pyarrow.array(["x" * 100_000]))
    pyarrow.feather.write_feather(pyarrow.table({"a": word, "b": np.arange(3000.0)}), "x.feather", "uncompressed")
    return "x.feather"


def matrix_of_many_columns() -> str:
    pytest.importorskip("scipy.io")
    Path("x.mtx").write_text("%%MatrixMarket matrix coordinate real general\n60 1000000 1\n1 1 1.0\n")
    return "x.mtx"


def wide_csv() -> str:
    Path("x.csv").write_text("1," * 100_000 + "1\n")
    return "x.csv"


def wide_jsonl() -> str:
    Path("x.jsonl").write_text("[" + "1," * 100_000 + "1]\n")
    return "x.jsonl"


def long_lists() -> str:
    import pyarrow
    import pyarrow.parquet

    values = pyarrow.ListArray.from_arrays(pyarrow.array([0, 100_000], pyarrow.int32()), pyarrow.array(np.zeros(100_000)))
    pyarrow.parquet.write_table(pyarrow.table({"a": values}), "x.parquet")
    return "x.parquet"


BOMBS = [
    gzipped_csv, parquet, labels_in_an_archive, matlab, one_text_many_times, two_cells_far_apart, blanks_in_a_spreadsheet,
    compressed_feather, one_text_many_times_in_feather, matrix_of_many_columns, wide_csv, wide_jsonl, long_lists,
]  # fmt: skip


@pytest.mark.parametrize("make", BOMBS)
def test_every_source_is_refused_before_it_fills_the_memory(
    make: Callable[[], str], little_memory: None, tiedae: Tiedae
) -> None:
    name = make()
    result = tiedae("train", name, "-q", "--set", "training.epochs=1")
    assert result.code == 2 and name in result.err and "unexpected" not in result.err
    assert "memory" in result.err or "labels are 100" in result.err


def test_the_limit_of_the_address_space_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``ulimit -v`` sets it."""
    used = psutil.Process().memory_info().vms
    monkeypatch.setattr("tiedae_cli.system.memory_limits.address_space_limit", lambda: used + 50_000_000)
    assert memory_limits.available_memory() <= 50_000_000


@pytest.mark.parametrize("kind", ["jsonl", "txt"])
def test_a_line_has_a_limit(kind: str, monkeypatch: pytest.MonkeyPatch, tiedae: Tiedae) -> None:
    monkeypatch.setattr("tiedae_cli.system.memory_limits.LONGEST_LINE", 1_000_000)
    good = "[1, 2, 3]\n" if kind == "jsonl" else "1 2 3\n"
    Path(f"x.{kind}").write_text(good * 20_000 + "[" * (kind == "jsonl") + "1 " * 6_000_000 + "\n")
    result = tiedae("train", f"x.{kind}", "-q")
    assert result.code == 2 and "line 20,001 is longer than" in result.err and memory_limits.LONGEST_LINE == 1_000_000


def test_a_cell_of_text_has_a_limit(monkeypatch: pytest.MonkeyPatch, tiedae: Tiedae) -> None:
    import pyarrow
    import pyarrow.parquet

    monkeypatch.setattr("tiedae_cli.data.sources.columnar.LONGEST_LINE", 1_000_000)
    table = pyarrow.table({"a": ["x" * 9_000_000, "y", "z"], "b": [1.0, 2.0, 3.0]})
    pyarrow.parquet.write_table(table, "x.parquet")
    result = tiedae("train", "x.parquet", "-q")
    assert result.code == 2 and "x.parquet: column a: text of 9 MB; the limit is" in result.err


def test_half_of_a_surrogate_pair_is_refused_before_a_run_begins(tiedae: Tiedae) -> None:
    Path("x.jsonl").write_text("".join(json.dumps({"\ud800": i, "b": i * i % 7}) + "\n" for i in range(50)))
    result = tiedae("train", "x.jsonl", "-q")
    assert result.code == 2 and "not Unicode" in result.err and not Path("runs").exists()


@pytest.mark.parametrize("how", ["external", "virtual", "virtual of external"])
def test_an_hdf5_file_reads_no_file_elsewhere(how: str, tmp_path: Path, tiedae: Tiedae) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.random.default_rng(0).normal(size=(60, 4))
    if how == "external":
        with h5py.File("x.h5", "w") as file:
            file.create_dataset("x", (60, 4), "f8", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])
    else:
        source = str(tmp_path / "other.h5")
        if how != "virtual":
            source = "near.h5"
            with h5py.File(source, "w") as file:
                file.create_dataset("x", (60, 4), "f8", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])
        layout = h5py.VirtualLayout((60, 4), "f8")
        layout[:] = h5py.VirtualSource(source, "x", (60, 4))
        with h5py.File("x.h5", "w") as file:
            file.create_virtual_dataset("x", layout)
    result = tiedae("train", "x.h5", "-q")
    assert result.code == 2 and "in another file" in result.err and "root:" not in result.err


def test_a_virtual_data_set_of_its_own_folder_is_read(tiedae: Tiedae) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File("near.h5", "w") as file:
        file["x"] = np.random.default_rng(0).normal(size=(60, 4))
    layout = h5py.VirtualLayout((60, 4), "f8")
    layout[:] = h5py.VirtualSource("near.h5", "x", (60, 4))
    with h5py.File("x.h5", "w") as file:
        file.create_virtual_dataset("x", layout)
    assert tiedae("train", "x.h5", "-q", "--set", "training.epochs=1").code == 0


LONG = "a" * 300
DEEP = "/".join(["a" * 200] * 30)


@pytest.mark.parametrize("name", [LONG, DEEP, f"{LONG}.npy", f"{LONG}.yaml", f"{DEEP}/x.csv"])
@pytest.mark.parametrize(
    "words",
    [
        "train {}", "train --config {}", "train --run-dir {}", "train --resume {}", "train --set data.dataset={}",
        "train --set data.root={} mnist", "train --set output.runs={}", "train --set training.init_from={}", "eval {}", "inspect {}",
        "score {}", "score digits {}", "score digits x.npy -o {}", "score digits x.npy --contact-sheet {}", "encode digits {}",
        "encode digits x.npy -o {}", "decode digits {}", "reconstruct digits {}", "reconstruct digits -o {}", "compare digits {}",
        "compare digits digits -o {}", "report {}", "report digits -o {}", "export {} -o x.onnx",
        "export digits --format safetensors -o {}",
        "inspect digits --features {}", "inspect digits --codes {}", "runs {}",
    ],
)  # fmt: skip
def test_a_long_name_is_one_line_everywhere(words: str, name: str, digits_run: Path, tiedae: Tiedae) -> None:
    np.save("x.npy", np.zeros((5, 8, 8), np.uint8))
    result = tiedae(*words.format(name).split(), "-q")
    assert result.code in (1, 2) and "unexpected" not in result.err and "Traceback" not in result.err


def test_folders_in_folders_without_end_are_no_traceback(tiedae: Tiedae, monkeypatch: pytest.MonkeyPatch) -> None:
    def nested(*_: object) -> None:
        raise RecursionError

    monkeypatch.setattr("tiedae_cli.tasks.train._new_trainer", nested)
    result = tiedae("train", "digits", "-q")
    assert result.code == 2 and "nested too deeply" in result.err


def test_a_rate_that_is_almost_zero_is_answered(digits_run: Path, tiedae: Tiedae) -> None:
    np.save("x.npy", np.zeros((5, 8, 8), np.uint8))
    assert "unexpected" not in tiedae("score", "digits", "x.npy", "--false-alarms", "1e-320").err


def test_torchrun_without_a_rank_is_one_line(tiedae: Tiedae, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = tiedae("train", "digits", "-q")
    assert result.code == 2 and "WORLD_SIZE=2 is set, but not RANK" in result.err and result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("tune", "digits", "hidden_sizes=16,8"), "tiedae tune digits hidden_sizes=16,8 --jobs 2"),
        (("tune", "digits", "hidden_sizes=16,8", "--jobs", "3"), "tiedae tune digits hidden_sizes=16,8 --jobs 3"),
        (("score", "digits", "new data.csv"), "tiedae score digits 'new data.csv'"),
        (("runs",), "tiedae runs"),
    ],
)
def test_only_train_runs_as_several_processes(
    tiedae: Tiedae, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], line: str
) -> None:
    variables = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29400"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    result = tiedae(*words)
    problem = f"{words[0]} runs in one process, and WORLD_SIZE=2 asks for 2 (torchrun is for train only)"
    assert (result.code, result.out) == (2, "")
    assert result.err == f"error: {problem}; type, without torchrun: {line}\n"


def test_a_masked_value_is_a_missing_one(digits_run: Path) -> None:
    """It is never the number that lies under the mask; digits have no column means to fill it with."""
    import tiedae as package

    model = package.load("digits", device="cpu")
    with pytest.raises(InputError, match="X: row 1 holds NaN"):
        model.score(np.ma.masked_equal(np.zeros((2, 8, 8), np.uint8), 0))


def test_equal_quartiles_do_not_blow_a_column_up(tiedae: Tiedae) -> None:
    values = np.full((200, 2), 0.1)
    values[::2, 0] += 1e-17
    values[:20] = np.random.default_rng(0).normal(size=(20, 2))
    values[40:160:2, 1] = np.nextafter(0.1, 1)
    np.save("x.npy", values)
    result = tiedae("train", "x.npy", "-q", "--set", "data.scaling=robust", "--set", "training.epochs=1", "--json")
    assert result.code == 0 and all(line.get("train_mse_per_value", 0) < 1e6 for line in result.lines)
