"""The one durable file: config, form of the data, weights and everything that training needs to go on; believed only when whole.

A checkpoint is a ``torch.save`` file that ``torch.load(..., weights_only=True)`` opens. Before anything of it is believed, in this order:
the archive's structure and checksums, the names that its pickle mentions, the format version, its extent, a SHA-256 over all contents,
the config through the schema, the shapes against the model that the config describes. Reading takes about twice the file's size.
"""

import hashlib
import io
import json
import math
import pickletools
import re
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from tiedae_cli import __version__
from tiedae_cli.config import Config
from tiedae_cli.config.yaml_reader import validate_config
from tiedae_cli.data.image_set import KINDS, DataForm
from tiedae_cli.errors import CheckpointError, ConfigError
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.system.storage import replacing

FORMAT = "tiedae checkpoint"
VERSION = 1
CONTENTS = ("config", "form", "weights", "training", "run")
STORAGES = {
    torch.float32: "FloatStorage",
    torch.float64: "DoubleStorage",
    torch.int64: "LongStorage",
    torch.uint8: "ByteStorage",
}
# All that torch.save writes for dicts of plain values and tensors.
PICKLE_NAMES = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2", *(f"torch {name}" for name in STORAGES.values())}
OBJECT_OPCODES = {"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "BUILD", "PERSID"}
RECORD = re.compile(r"[^/]+/(data\.pkl|data/\d+|byteorder|version|\.[a-z_/]+)")  # the archive's members that torch reads
LARGEST_ITEM = 1 << 40  # values of one image; more is no image


@dataclass(frozen=True)
class Checkpoint:
    """What one file holds."""

    config: Config
    form: DataForm
    weights: dict[str, Tensor]
    """The model's ``state_dict``, each tied weight once, on the CPU."""
    training: dict[str, Any]
    """Position, history, optimizer: see ``training.Trainer.state``."""
    run: str
    """The name of the run that wrote it."""

    def model(self, device: torch.device) -> TiedAutoencoder:
        """Return the trained model on a device."""
        model = TiedAutoencoder(self.form.pixels, self.config.model)
        model.load_state_dict(self.weights)
        return model.to(device).eval()

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            StorageError: it cannot be written; what was there before is intact.
        """
        with replacing(path) as file:
            self.write(file)

    def write(self, file: IO[bytes]) -> None:
        """Write the checkpoint to an open file.

        Raises:
            TypeError: it holds something that ``load`` would not read.
        """
        form = {
            "shape": list(self.form.shape),
            "kind": self.form.kind,
            "offset": self.form.offset,
            "scale": self.form.scale,
        }
        parts = (self.config.model_dump(mode="json"), form, self.weights, self.training, self.run)
        contents = _own_storage(dict(zip(CONTENTS, parts, strict=True)))
        header = {"format": FORMAT, "version": VERSION, "tiedae": __version__, "sha256": _digest(contents)}
        buffer = io.BytesIO()
        torch.save({**header, **contents}, buffer)
        file.write(buffer.getbuffer())


def load(path: Path | str) -> Checkpoint:
    """Read a checkpoint and believe it only when everything holds.

    Raises:
        CheckpointError: the file is missing, damaged, hostile, another tool's or from a newer version; one line that says which.
    """
    path = Path(path)
    archive = _verified_archive(path)
    size = len(archive.getbuffer())
    try:
        with warnings.catch_warnings(action="ignore"):  # torch warns of odd pickles, which are refused below
            contents = torch.load(archive, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # torch raises whatever its unpickler meets: KeyError, RuntimeError, UnpicklingError, ...
        raise CheckpointError(f"{path}: damaged: {_first_line(error)}") from None
    _check_version(path, contents)
    try:
        parts = {key: contents[key] for key in CONTENTS}
        _check_extent(parts, size)
        if _digest(parts) != contents.get("sha256"):
            raise CheckpointError(f"{path}: damaged: its contents do not match their checksum")
        return _believe(path, parts)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError, RuntimeError) as error:
        raise CheckpointError(f"{path}: damaged: a part is missing or of the wrong type ({_first_line(error)})") from None


def _verified_archive(path: Path) -> io.BytesIO:
    """Return an archive of the parts that torch reads, each checked on its way, so that torch sees nothing else of the file."""
    try:
        if not path.exists():
            raise CheckpointError(f"{path}: no such file")
        if not path.is_file():  # a pipe would be waited for, a device read without end
            raise CheckpointError(f"{path}: {'a folder' if path.is_dir() else 'a device or a pipe'}, not a checkpoint")
        if not path.stat().st_size:
            raise CheckpointError(f"{path}: empty file")
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            return _copy_verified(path, archive)
    except (CheckpointError, MemoryError):
        raise
    except zipfile.BadZipFile as error:
        reason = ", or not a tiedae checkpoint" if "zip file" in str(error) else f": {_first_line(error)}"
        raise CheckpointError(f"{path}: damaged{reason}") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # zipfile meets damaged headers with RuntimeError, NotImplementedError, struct.error, ...
        raise CheckpointError(f"{path}: damaged: {_first_line(error)}") from None


def _copy_verified(path: Path, archive: zipfile.ZipFile) -> io.BytesIO:
    """Check structure, sizes, checksums and the pickle's names, without unpacking or unpickling anything."""
    members = archive.infolist()
    stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
    if not stored or sum(member.file_size for member in members) > path.stat().st_size:
        raise CheckpointError(f"{path}: refused: it claims to hold more than its own size")
    if len({member.filename for member in members}) != len(members):
        raise CheckpointError(f"{path}: damaged: two parts have the same name")
    pickles = [member for member in members if member.filename.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise CheckpointError(f"{path}: not a tiedae checkpoint")
    _check_pickle(path, archive.read(pickles[0]))
    copy = io.BytesIO()
    with zipfile.ZipFile(copy, "w") as verified:
        for member in members:
            content = archive.read(member)  # raises where the checksum does not hold
            if RECORD.fullmatch(member.filename):
                verified.writestr(member.filename, content)
    copy.seek(0)
    return copy


def _check_pickle(path: Path, pickle: bytes) -> None:
    """Refuse a pickle that mentions any name but those of plain tensors, or that torch would not have written."""
    try:
        for opcode, argument, _ in pickletools.genops(pickle):
            if opcode.name in OBJECT_OPCODES:
                raise CheckpointError(f"{path}: refused: its pickle builds objects ({opcode.name}), not a tiedae checkpoint")
            if opcode.name == "GLOBAL" and argument not in PICKLE_NAMES:
                raise CheckpointError(f"{path}: refused: its pickle names {argument!r}; not a tiedae checkpoint")
    except CheckpointError:
        raise
    except Exception as error:  # pickletools meets garbage with ValueError, UnicodeDecodeError, struct.error, ...
        raise CheckpointError(f"{path}: damaged: {_first_line(error)}") from None


def _check_version(path: Path, contents: Any) -> None:
    if not isinstance(contents, dict) or contents.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a tiedae checkpoint (another tool's file?)")
    version = contents.get("version")
    if not isinstance(version, int):
        raise CheckpointError(f"{path}: damaged: it has no format version")
    if version > VERSION:
        by = contents.get("tiedae")
        raise CheckpointError(
            f"{path}: format version {version}, written by tiedae {by}; this is {__version__}: upgrade tiedae"
        )


def _check_extent(contents: Any, size: int) -> None:
    """Refuse contents that are larger in memory than in the file, which shared or overlapping parts can make them.

    Raises:
        ValueError: a part stands for more than its own bytes, or there are more parts than bytes.
    """
    waiting, count, storages = [contents], 0, set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, (dict, list, tuple)):
            count += len(value)
            if count > size:
                raise ValueError("it refers to its own parts again and again")
            waiting += value.values() if isinstance(value, dict) else value
        elif isinstance(value, Tensor):
            storage = value.untyped_storage()
            whole = value.is_contiguous() and storage.nbytes() == value.numel() * value.element_size()
            if not whole or value.numel() and storage.data_ptr() in storages:
                raise ValueError("a tensor is not exactly what it stores")
            storages.add(storage.data_ptr())


def _believe(path: Path, contents: dict[str, Any]) -> Checkpoint:
    """Build the checkpoint from verified contents; config and shapes are still checked, for a checksum is not a signature."""
    try:
        config = validate_config(contents["config"], str(path))
    except ConfigError as error:
        raise CheckpointError(str(error)) from None
    form = _believe_form(path, contents["form"])
    with torch.device("meta"):
        expected = TiedAutoencoder(form.pixels, config.model).state_dict()
    weights = contents["weights"]
    if _kinds(weights) != _kinds(expected):
        raise CheckpointError(f"{path}: damaged: its weights do not have the shapes that its config describes")
    training, run = contents["training"], contents["run"]
    if not isinstance(training, dict) or not isinstance(training["history"], list) or not isinstance(run, str):
        raise CheckpointError(f"{path}: damaged: its record of the training is not one")
    return Checkpoint(config, form, weights, training, run)


def _believe_form(path: Path, form: dict[str, Any]) -> DataForm:
    shape = tuple(form["shape"])
    numbers = all(type(size) is int and size >= 1 for size in shape)
    if len(shape) != 3 or not numbers or math.prod(shape) > LARGEST_ITEM or form["kind"] not in KINDS:
        raise CheckpointError(f"{path}: damaged: its data has an impossible form")
    for name in ("offset", "scale"):
        value = form[name]
        plain = value is None if name == "offset" else isinstance(value, (int, float)) and math.isfinite(value)
        statistics = isinstance(value, Tensor) and value.shape == (math.prod(shape),) and value.dtype == torch.float32
        possible = plain or (statistics and bool(value.isfinite().all()))
        if not possible or (name == "scale" and not bool(torch.as_tensor(value).gt(0).all())):
            raise CheckpointError(f"{path}: damaged: the {name} of its data is impossible")
    return DataForm(shape, form["kind"], form["offset"], form["scale"])


def _kinds(weights: dict[str, Tensor]) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    return {name: (weight.dtype, tuple(weight.shape)) for name, weight in weights.items()}


def _own_storage(value: Any) -> Any:
    """Return contents whose tensors are on the CPU and share nothing, so that each is written once and whole."""
    if isinstance(value, Tensor):
        return value.detach().cpu().clone(memory_format=torch.contiguous_format)
    if isinstance(value, dict):
        return {key: _own_storage(item) for key, item in value.items()}
    return [_own_storage(item) for item in value] if isinstance(value, (list, tuple)) else value


def _digest(contents: dict[str, Any]) -> str:
    """Return the SHA-256 over all values and all tensors' bytes, with their names and shapes.

    Raises:
        TypeError: a value is of a type that a checkpoint does not hold.
    """
    digest = hashlib.sha256()

    def plain(value: Any) -> Any:
        if isinstance(value, Tensor):
            if value.dtype not in STORAGES:
                raise TypeError(f"a checkpoint holds no {value.dtype}")
            digest.update(value.contiguous().view(-1).view(torch.uint8).numpy().data)
            return [str(value.dtype), list(value.shape)]
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value

    digest.update(json.dumps(plain(contents), sort_keys=True).encode())
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
