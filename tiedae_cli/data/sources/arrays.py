"""Arrays of images or of feature vectors: ``.npy`` memory-mapped, ``.npz`` in memory; nothing in them is ever unpickled.

Shapes: N x D feature vectors, N x H x W gray images, N x C x H x W images of C channels.

A memory-mapped array takes no memory of its own: the kernel keeps what was read lately and drops it when memory is short. Training
visits it in a full permutation, newly drawn each epoch (blocks are not shuffled), so an array larger than the memory is read at
random, at the speed of the disk. A file that is overwritten in place while it is mapped ends the process; replace it by renaming.
"""

import contextlib
import math
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from tiedae_cli.data.image_set import BLOCK_BYTES, SPLITS, DataForm, ImageSet
from tiedae_cli.errors import DataError

SUFFIXES = (".npy", ".npz")
WHOLE = ("images", "x", "data")  # names in an .npz of items that are still to be split
SPLIT_NAMES = {name: (name, f"{name}_images", f"x_{name}") for name in SPLITS}
LABEL_NAMES = {"": ("labels", "y"), **{name: (f"{name}_labels", f"y_{name}") for name in SPLITS}}
FORMS = "N x D vectors, N x H x W images or N x C x H x W images"


def load_array(path: Path, say: Callable[[str], None]) -> dict[str, ImageSet]:
    """Open an array file as the splits that it names: ``train`` alone for one array.

    The form of feature vectors has no statistics yet. uint8 and float32 are used as they are; other types are converted in memory.

    Args:
        path: ``.npy`` or ``.npz``.
        say: is told of each conversion.

    Raises:
        DataError: not such a file, cut off, Python objects, another number of dimensions, an empty array, a value that is not
            finite, images outside [0, 1] or 0..255, or too large for memory where it must be converted.
    """
    if path.suffix.lower() == ".npz":
        return _load_npz(path, say)
    return {"train": _image_set(map_npy(path), None, str(path), path, say)}


def map_npy(path: Path) -> np.ndarray:
    """Memory-map a ``.npy`` file, read-only.

    Mode "r": a copy-on-write map ("c") counts as memory that might be needed, so Linux refuses one that is larger than the memory.

    Raises:
        DataError: it cannot be read, is cut off, or is no array of numbers.
    """
    try:
        with path.open("rb") as file:
            shape, fortran, dtype = _header(file, str(path))
            start, actual = file.tell(), os.fstat(file.fileno()).st_size
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    _check_shape(shape, str(path))
    expected = start + dtype.itemsize * math.prod(shape)
    if actual < expected:
        raise DataError(f"{path}: cut off: {actual:,} bytes, its header says {expected:,}")
    return np.memmap(path, dtype, "r", start, shape, "F" if fortran else "C")


def _header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read a ``.npy`` header, which is evaluated as literals only, and refuse what is no array of numbers."""
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except OSError:
        raise
    except Exception:  # numpy's parser meets garbage with ValueError, TypeError, SyntaxError, struct.error, RecursionError ...
        raise DataError(f"{name}: not a .npy array") from None
    if dtype.hasobject:
        raise DataError(
            f"{name}: holds Python objects, which are never unpickled; save an array of numbers "
            f"(items of different shapes cannot be one array): np.save(file, np.stack(items).astype(np.float32))"
        )
    if dtype.kind not in "buif":
        raise DataError(f"{name}: its type is {dtype}, not numbers; expected uint8 or float32")
    return shape, fortran, dtype


def _check_shape(shape: tuple[int, ...], name: str) -> None:
    size = " x ".join(str(length) for length in shape) or "a single number"
    if len(shape) not in (2, 3, 4):
        raise DataError(f"{name}: {size}: {len(shape)} dimensions; expected {FORMS}")
    if min(shape) < 1:
        raise DataError(f"{name}: {size}: empty; expected {FORMS}")
    if len(shape) == 4 and shape[3] in (1, 3, 4) and shape[1] not in (1, 3, 4):
        raise DataError(f"{name}: {size}: the channels stand last; expected N x C x H x W: np.moveaxis(x, -1, 1)")


def _load_npz(path: Path, say: Callable[[str], None]) -> dict[str, ImageSet]:
    arrays = _read_npz(path)
    found = {split: [name for name in names if name in arrays] for split, names in SPLIT_NAMES.items()}
    whole = [name for name in WHOLE if name in arrays]
    chosen = {split: names[0] for split, names in found.items() if names} or {"train": whole[0] if whole else ""}
    items = [name for names in found.values() for name in names] + whole
    if chosen.get("train", "") == "" or len(items) != len(chosen):
        have = ", ".join(arrays) or "nothing"
        raise DataError(
            f"{path}: holds {have}; expected one array images (or x, data), or arrays train, validation, test "
            "(validation and test may be missing); and labels (or y), or train_labels ..., if there are any"
        )
    sets = {}
    for split, name in chosen.items():
        wanted = LABEL_NAMES["" if name in WHOLE else split]
        labels = next(
            (_labels(arrays[label], len(arrays[name]), f"{path}: {label}") for label in wanted if label in arrays), None
        )
        sets[split] = _image_set(arrays[name], labels, f"{path}: {name}", path, say)
    _check_equal_forms(sets, path)
    return sets


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of an archive after a look at each one's header."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
            needed, available = sum(member.file_size for member in members), available_memory()
            if needed > available:
                raise DataError(
                    f"{path}: {_gigabytes(needed)} unpacked, but {_gigabytes(available)} of memory are free; "
                    "save the images as .npy, which is memory-mapped: np.save(file, x)"
                )
            arrays = {}
            for member in members:
                name = member.filename.removesuffix(".npy")
                arrays[name] = _read_member(archive, member, f"{path}: {name}")
            return arrays
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # zipfile and zlib meet damage with BadZipFile, zlib.error, EOFError, NotImplementedError ...
        raise DataError(f"{path}: not an .npz archive, or damaged ({str(error)[:80] or type(error).__name__})") from None


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> np.ndarray:
    with archive.open(member) as file:
        shape, fortran, dtype = _header(file, name)
        raw = file.read()  # to its end, which is where zipfile compares the checksum
    if len(raw) != dtype.itemsize * math.prod(shape):
        raise DataError(f"{name}: damaged: {len(raw):,} bytes of values, its header says {dtype.itemsize * math.prod(shape):,}")
    return np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")


def _labels(array: np.ndarray, count: int, name: str) -> Tensor:
    if array.dtype.kind not in "bui" or array.size != count or len(array) != count:
        size = " x ".join(str(length) for length in array.shape)
        raise DataError(f"{name}: {size} {array.dtype}; expected {count:,} whole numbers, one an item")
    return torch.from_numpy(array.reshape(-1).astype(np.int64))


def _check_equal_forms(sets: dict[str, ImageSet], path: Path) -> None:
    train = sets["train"]
    for split, images in sets.items():
        if (images.form.shape, images.form.kind) != (train.form.shape, train.form.kind):
            raise DataError(f"{path}: {split} has {images.form.describe()}, train has {train.form.describe()}")


def _image_set(array: np.ndarray, labels: Tensor | None, name: str, path: Path, say: Callable[[str], None]) -> ImageSet:
    """Check an array's values and make it a set, without a copy where its type and order are those that training reads."""
    _check_shape(array.shape, name)
    vectors = array.ndim == 2
    if array.dtype.kind not in "b" and array.dtype != np.uint8:
        _check_values(array, vectors, name)
    whole_numbers = array.dtype.kind in "bui"
    target = np.dtype(np.uint8 if array.dtype == np.uint8 or (whole_numbers and not vectors) else np.float32)
    if array.dtype != target or not array.flags.c_contiguous:
        array = _converted(array, target, vectors, name, path, say)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nothing writes to it
        images = torch.from_numpy(array)
    if vectors:
        form = DataForm((1, 1, array.shape[1]), "vectors")
    else:
        channels = array.shape[1] if array.ndim == 4 else 1
        form = DataForm((channels, *array.shape[-2:]), scale=1 / 255 if target == np.uint8 else 1.0)
    return ImageSet(images.view(len(images), *form.shape), labels, form)


def _check_values(array: np.ndarray, vectors: bool, name: str) -> None:
    """Look at all values in blocks and name the first row that is not finite or out of range."""
    if vectors:
        low, high = -float(np.finfo(np.float32).max), float(np.finfo(np.float32).max)
    else:
        low, high = 0.0, 1.0 if array.dtype.kind == "f" else 255.0
    for start, block in _blocks(array):
        if low <= block.min() and block.max() <= high:  # false for NaN, which min and max pass on
            continue
        values = block.reshape(len(block), -1)
        wrong = ~((values >= low) & (values <= high))
        row = int(wrong.any(1).argmax())
        value = values[row, int(wrong[row].argmax())]
        place = f"{name}: row {start + row:,} (from 0)"
        if not np.isfinite(value):
            raise DataError(f"{place} holds {'NaN' if np.isnan(value) else 'infinity'}; remove or replace such rows")
        if vectors:
            raise DataError(f"{place} holds {value:g}, which float32 cannot hold; rescale that feature")
        raise DataError(f"{place} holds {value:g}; {_range_advice(array.dtype, float(value))}")


def _range_advice(dtype: np.dtype[Any], value: float) -> str:
    if dtype.kind != "f":
        return "images of whole numbers must be in 0..255; divide by the largest possible value and save as float32"
    if 2 <= value <= 255:
        advice = "divide by 255, or save as uint8"
    elif -1 <= value < 0:
        advice = "(x + 1) / 2 where they are in [-1, 1], else np.clip(x, 0, 1)"
    else:
        advice = "np.clip(x, 0, 1) where it is rounding, else subtract the minimum and divide by the range"
    return f"images of floats must be in [0, 1]: {advice}. Feature vectors, N x D, may have any values"


def _converted(
    array: np.ndarray, target: np.dtype[Any], vectors: bool, name: str, path: Path, say: Callable[[str], None]
) -> np.ndarray:
    """Copy to the type and order that training reads, if memory has room for it."""
    needed, available = array.size * target.itemsize, available_memory()
    what = f"{array.dtype}{'' if array.flags.c_contiguous else ' in Fortran order'}"
    if needed > available // 2:
        problem = f"{name}: {what}: as {target} it would take {_gigabytes(needed)} of {_gigabytes(available)} of free memory"
        if path.suffix.lower() == ".npz":
            raise DataError(f"{problem}; save it as a .npy file of {target}, which is memory-mapped")
        new = path.with_name(f"{path.stem}-{target}.npy")
        raise DataError(
            f"{problem}; {target} is memory-mapped. Convert the file once:\n"
            f'python -c "import numpy as np; a = np.load({str(path)!r}, mmap_mode={"r"!r}); '
            f'np.lib.format.open_memmap({str(new)!r}, {"w+"!r}, np.{target}, a.shape)[:] = a"'
        )
    say(f"{name}: {what}, converted to {target} in memory ({_gigabytes(needed)}); {target} would be memory-mapped")
    result = np.empty(array.shape, target)
    for start, block in _blocks(array):
        result[start : start + len(block)] = block
    if array.dtype.kind == "b" and not vectors:
        result *= 255  # black and white
    return result


def _blocks(array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first row, rows) of bounded size."""
    size = max(1, BLOCK_BYTES * len(array) // max(1, array.nbytes))
    for start in range(0, len(array), size):
        yield start, np.asarray(array[start : start + size])


def available_memory() -> int:
    """Return the bytes that can be taken without swapping: Linux's estimate, elsewhere half of what is built in."""
    with contextlib.suppress(OSError, StopIteration, ValueError), open("/proc/meminfo", encoding="ascii") as file:
        return 1024 * int(next(line for line in file if line.startswith("MemAvailable:")).split()[1])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 5e7 else f"{count / 1e6:.1f} MB"
