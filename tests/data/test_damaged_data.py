"""Data that no training can use is named before an epoch has been spent; the whole command line answers, in one message."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Tiedae

WriteMnist = Callable[..., Path]
WriteIdx = Callable[[Path, np.ndarray], None]
IMAGES = "train-images-idx3-ubyte"


def refused(tiedae: Tiedae, root: Path) -> str:
    """Return what ``tiedae train`` says of this data; it exits with 2 and makes no run."""
    arguments = ["--set", "data.dataset=mnist", "--set", f"data.root={root}", "--set", "data.validation=5"]
    result = tiedae("train", "-q", "--device", "cpu", *arguments)
    assert result.code == 2, result.err
    assert result.out == ""
    assert not Path("runs").exists()
    return result.err.removeprefix("error: ").strip()


@pytest.mark.slow
def test_whole_data_trains(write_mnist: WriteMnist, tiedae: Tiedae) -> None:
    root = write_mnist()
    arguments = ["--set", "data.dataset=mnist", "--set", f"data.root={root}", "--set", "data.validation=5"]
    assert tiedae("train", "-q", *arguments, "--set", "training.epochs=1").code == 0


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (np.zeros((30, 784), np.uint8), "type 8 with 2 dimensions; its name asks for type 8 with 3"),
        (np.zeros((30, 28, 28), np.int32), "type 12 with 3 dimensions; its name asks for type 8 with 3"),
        (np.zeros((0, 28, 28), np.uint8), "holds nothing: its header says 0 x 28 x 28"),
        (np.zeros((30, 0, 28), np.uint8), "holds nothing: its header says 30 x 0 x 28"),
    ],
)
def test_idx_files_of_another_kind(
    values: np.ndarray, problem: str, write_mnist: WriteMnist, write_idx: WriteIdx, tiedae: Tiedae
) -> None:
    path = write_mnist() / "MNIST" / "raw" / IMAGES
    write_idx(path, values)
    assert refused(tiedae, path.parents[2]) == f"{path}: {problem}"


def test_an_empty_test_split(write_mnist: WriteMnist, write_idx: WriteIdx, tiedae: Tiedae) -> None:
    path = write_mnist() / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    write_idx(path, np.zeros((0, 28, 28), np.uint8))
    assert refused(tiedae, path.parents[2]) == f"{path}: holds nothing: its header says 0 x 28 x 28"


def test_training_and_test_images_of_two_sizes(write_mnist: WriteMnist, write_idx: WriteIdx, tiedae: Tiedae) -> None:
    root = write_mnist()
    write_idx(root / "MNIST" / "raw" / "t10k-images-idx3-ubyte", np.zeros((10, 14, 14), np.uint8))
    assert (
        refused(tiedae, root)
        == f"mnist: the files in {root} hold 28x28 gray images for training, 14x14 gray images for the test"
    )


@pytest.mark.slow
def test_a_truncated_file_and_no_network(write_mnist: WriteMnist, tmp_path: Path, tiedae: Tiedae) -> None:
    path = write_mnist() / "MNIST" / "raw" / IMAGES
    path.write_bytes(path.read_bytes()[:5000])
    assert refused(tiedae, path.parents[2]) == f"{path}: cut off: 5,000 bytes, its header says {16 + 30 * 784:,}"
    assert "the download failed" in refused(tiedae, tmp_path / "nothing")


def test_a_header_alone(write_mnist: WriteMnist, tiedae: Tiedae) -> None:
    path = write_mnist() / "MNIST" / "raw" / IMAGES
    path.write_bytes(struct.pack(">4I", 0x0803, 30, 28, 28))
    assert refused(tiedae, path.parents[2]).startswith(f"{path}: cut off: 16 bytes")


@pytest.mark.slow
def test_pictures_that_do_not_decode(tiedae: Tiedae) -> None:
    arguments = ["--set", "training.epochs=1", "--set", "model.hidden_sizes=[4]", "--run-dir", "run"]
    assert tiedae("train", "-q", *arguments).code == 0
    for content in (b"", b"\x89PNG\r\n\x1a\n" + bytes(50), b"GIF89a" + bytes(3), b"hello", b"BM" + bytes(200)):
        Path("picture.png").write_bytes(content)
        result = tiedae("reconstruct", "-q", "run", "picture.png")
        assert result.code == 2
        assert result.err.startswith("error: picture.png: not an image that can be decoded (")
        assert result.err.count("\n") == 1
