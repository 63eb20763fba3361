"""The data sets that torchvision knows: downloaded once if they are absent, and read into memory."""

import contextlib
import io
import logging
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tiedae_cli.data.data_errors import first_line
from tiedae_cli.data.item_set import ItemSet, Splits, gray_or_color
from tiedae_cli.data.partition import portion_count
from tiedae_cli.data.sources.idx import read_idx_header
from tiedae_cli.errors import DataError
from tiedae_cli.system.cache import cache_folder
from tiedae_cli.system.progress import progress_is_drawn

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Download:
    """One data set of torchvision."""

    class_name: str
    """Its class in ``torchvision.datasets``."""
    validation: int
    """Images at the start of the training split that are kept for validation."""
    files: str
    """The files below the root, for the message if they are missing."""
    options: tuple[tuple[str, Any], ...] = ()
    """Further arguments of the class."""
    transposed: bool = False
    """Its files hold each image with rows and columns exchanged."""


IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def _idx_files(folder: str) -> str:
    """Name the four IDX files of an MNIST-like set."""
    return f"{folder}/raw/{{{', '.join(IDX_FILES)}}} (or the same with .gz)"


def _emnist(split: str) -> Download:
    files = f"EMNIST/raw/emnist-{split}-{{train,test}}-{{images-idx3,labels-idx1}}-ubyte"
    return Download("EMNIST", 5000, files, (("split", split),), transposed=True)


DOWNLOADS = {
    "mnist": Download("MNIST", 5000, _idx_files("MNIST")),
    "fashion-mnist": Download("FashionMNIST", 5000, _idx_files("FashionMNIST")),
    "kmnist": Download("KMNIST", 5000, _idx_files("KMNIST")),
    "qmnist": Download("QMNIST", 5000, "QMNIST/raw/{qmnist-train,qmnist-test}-{images-idx3-ubyte,labels-idx2-int}"),
    **{f"emnist-{split}": _emnist(split) for split in ("byclass", "bymerge", "balanced", "letters", "digits", "mnist")},
    "usps": Download("USPS", 700, "usps.bz2 and usps.t.bz2"),
    "cifar10": Download("CIFAR10", 5000, "cifar-10-batches-py/{data_batch_1, ..., data_batch_5, test_batch, batches.meta}"),
}


def default_root() -> Path:
    """Return the folder of downloaded data: ``$TIEDAE_DATA``, else the user's cache folder."""
    return Path(os.environ["TIEDAE_DATA"]) if os.environ.get("TIEDAE_DATA") else cache_folder()


def files_of(name: str, root: str | None) -> Iterator[Path]:
    """Yield the files that lie where a data set of ``DOWNLOADS`` has its own."""
    folder = Path(root) if root else default_root()
    top, slash, _ = DOWNLOADS[name].files.partition("/")
    for part in [top] if slash else ["usps.bz2", "usps.t.bz2"]:
        yield from (folder / part).rglob("*") if (folder / part).is_dir() else [folder / part]


def load_download(name: str, root: str | None, validation: float | None, may_fill_root: bool = True) -> Splits:
    """Load one of ``DOWNLOADS``, downloading it if it is absent.

    Args:
        name: a key of ``DOWNLOADS``.
        root: folder of the data; None for ``default_root()``.
        may_fill_root: whether a download may go to ``root``; otherwise to ``default_root()``.
        validation: images of the training split for validation, or a fraction of them; None for the data set's own number.

    Raises:
        DataError: the data is absent and cannot be downloaded, or it is damaged.
    """
    source = DOWNLOADS[name]
    folder = Path(root) if root else default_root()
    if root and not may_fill_root and not any(path.is_file() for path in files_of(name, root)):
        log.info(f"{name}: not in {folder}, which a checkpoint names; looked for in {default_root()}")
        folder = default_root()
    train, test = (_read(name, source, folder, train) for train in (True, False))
    count = portion_count(source.validation if validation is None else validation, len(train))
    if count >= len(train):
        raise DataError(f"data.validation: {count} images are asked for, but {name} has {len(train)} training images")
    if train.form.shape != test.form.shape:
        forms = f"{train.form.describe()} for training, {test.form.describe()} for the test"
        raise DataError(f"{name}: the files in {folder} hold {forms}")
    return Splits(train.slice(count, len(train)), train.slice(0, count), test, name)


def _read(name: str, source: Download, folder: Path, train: bool) -> ItemSet:
    with _damaged_files(name, source, folder):
        _check_idx_headers(folder, source.class_name)
        return _from_idx_files(source, folder, train) or _from_torchvision(name, source, folder, train)


def _from_idx_files(source: Download, folder: Path, train: bool) -> ItemSet | None:
    """Read a split of an MNIST-like set without importing torchvision, which takes over a second; None if a file is absent."""
    raw = folder / source.class_name / "raw"
    plain = source.files == _idx_files(source.class_name) and not (raw.parent / "processed").exists()
    if not plain or not all((raw / name).is_file() for name in IDX_FILES):
        return None
    images, labels = (_idx_values(raw / name) for name in (IDX_FILES[:2] if train else IDX_FILES[2:]))
    return _image_set(images, labels, source)


def _idx_values(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        header = read_idx_header(file, path)
        return np.fromfile(file, header.dtype).reshape(header.shape)


def _from_torchvision(name: str, source: Download, folder: Path, train: bool) -> ItemSet:
    import torchvision.datasets

    make: Callable[..., Any] = getattr(torchvision.datasets, source.class_name)
    options = dict(source.options)
    if source.class_name == "QMNIST":
        options["what"] = "train" if train else "test"
    else:
        options["train"] = train
    try:
        data = make(str(folder), download=False, **options)
    except (RuntimeError, FileNotFoundError) as error:  # the second from USPS, which does not look before it opens
        if isinstance(error, RuntimeError) and "not found" not in str(error).lower():
            raise
        log.info(f"{name}: not in {folder}; downloading it once")
        data = _download(make, name, source, folder, options)
    return _image_set(np.asarray(data.data), np.asarray(data.targets), source)


def _download(make: Callable[..., Any], name: str, source: Download, folder: Path, options: dict[str, Any]) -> Any:
    """Download with torchvision; what it prints goes to stderr, because stdout is data, or nowhere."""
    shown = sys.stderr if progress_is_drawn() else io.StringIO()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
            return make(str(folder), download=True, **options)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{name}: not in {folder}, and the download failed ({first_line(error)})\n"
            f"Put {source.files} into {folder}, or name another folder with data.root or TIEDAE_DATA.\n"
            "The data set `digits` needs no download: tiedae train --config digits"
        ) from None


def _image_set(images: np.ndarray, labels: np.ndarray, source: Download) -> ItemSet:
    if images.ndim == 4:
        images = images.transpose(0, 3, 1, 2)  # (N, H, W, C) -> (N, C, H, W)
    if source.transposed:
        images = images.swapaxes(-1, -2)
    if labels.ndim == 2:  # QMNIST: the class is the first of eight columns
        labels = labels[:, 0]
    if len(images) != len(labels):
        raise ValueError(f"{len(images)} images but {len(labels)} labels")
    return gray_or_color(images, labels.astype(np.int64))


@contextlib.contextmanager
def _damaged_files(name: str, source: Download, folder: Path) -> Iterator[None]:
    """Turn whatever a damaged file makes torchvision raise into a message that names the folder."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # torchvision reads with asserts, numpy, pickle and struct: they have no common error
        raise DataError(
            f"{name}: the files in {folder} cannot be read ({first_line(error)}); expected {source.files}. "
            "Remove the damaged ones, and they are downloaded again."
        ) from None


def _check_idx_headers(folder: Path, class_name: str) -> None:
    """Compare each IDX file's header with its name and its size, and so name the one that is damaged (torchvision would not)."""
    for path in sorted((folder / class_name / "raw").glob("*-idx[1-4]-*"), key=Path.as_posix):
        if path.suffix == ".gz" or not path.is_file():
            continue
        with path.open("rb") as file:
            header = read_idx_header(file, path)
        wanted, dimensions = (8 if path.name.endswith("ubyte") else 12), int(path.name.rpartition("-idx")[2][0])
        if (header.type, len(header.shape)) != (wanted, dimensions):
            found = f"type {header.type} with {len(header.shape)} dimensions"
            raise DataError(f"{path}: {found}; its name asks for type {wanted} with {dimensions}")
        if 0 in header.shape:
            raise DataError(f"{path}: holds nothing: its header says {' x '.join(map(str, header.shape))}")
        header.check_size(path, path.stat().st_size)
