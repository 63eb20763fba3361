"""The one durable file: config, form of the data, weights and everything that training needs to go on; believed only when whole.

A checkpoint is a ``torch.save`` file that ``torch.load(..., weights_only=True)`` opens. Before anything of it is believed, in this order:
the archive's structure and checksums, the names that its pickle mentions, the format version, a SHA-256 over all contents, the
config through the schema, the shapes against the model that the config describes.
"""

import hashlib
import io
import json
import math
import pickletools
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tiedae_cli import __version__
from tiedae_cli.config import Config
from tiedae_cli.config_file import validate_config
from tiedae_cli.data.image_set import DataForm
from tiedae_cli.errors import CheckpointError, ConfigError
from tiedae_cli.model import TiedAutoencoder
from tiedae_cli.storage import replacing

FORMAT = "tiedae checkpoint"
VERSION = 1
PICKLE_NAMES = {  # all that torch.save writes for dicts of plain values and tensors
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch FloatStorage",
    "torch DoubleStorage",
    "torch LongStorage",
}


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
        on_cpu = self.form.to(torch.device("cpu"))
        contents = {
            "config": self.config.model_dump(mode="json"),
            "form": {
                "shape": list(self.form.shape),
                "kind": self.form.kind,
                "offset": on_cpu.offset,
                "scale": on_cpu.scale,
            },
            "weights": {name: weight.detach().cpu().clone() for name, weight in self.weights.items()},
            "training": self.training,
            "run": self.run,
        }
        header = {"format": FORMAT, "version": VERSION, "tiedae": __version__, "sha256": _digest(contents)}
        buffer = io.BytesIO()
        torch.save({**header, **contents}, buffer)
        with replacing(path) as file:
            file.write(buffer.getbuffer())


def load(path: Path) -> Checkpoint:
    """Read a checkpoint and believe it only when everything holds.

    Raises:
        CheckpointError: the file is missing, damaged, hostile, another tool's or from a newer version; one line that says which.

    """
    raw = _read(path)
    _check_archive(path, raw)
    try:
        contents = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its unpickler meets: KeyError, RuntimeError, UnpicklingError, ...
        raise CheckpointError(f"{path}: damaged: {_first_line(error)}") from None
    _check_version(path, contents)
    try:
        if _digest({key: contents[key] for key in ("config", "form", "weights", "training", "run")}) != contents.get("sha256"):
            raise CheckpointError(f"{path}: damaged: its contents do not match their checksum")
        return _believe(path, contents)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged: a part is missing or of the wrong type ({_first_line(error)})") from None


def _read(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise CheckpointError(f"{path}: a folder, not a checkpoint")
        return path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None


def _check_archive(path: Path, raw: bytes) -> None:
    """Check structure, sizes, checksums and the pickle's names, without unpacking or unpickling anything."""
    if not raw:
        raise CheckpointError(f"{path}: empty file")
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            members = archive.infolist()
            stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
            if not stored or sum(member.file_size for member in members) > len(raw):
                raise CheckpointError(f"{path}: refused: it claims to hold more than its own size")
            if len({member.filename for member in members}) != len(members):
                raise CheckpointError(f"{path}: damaged: two parts have the same name")
            damaged = archive.testzip()
            pickles = [archive.read(member) for member in members if member.filename.endswith("data.pkl")]
    except CheckpointError:
        raise
    except zipfile.BadZipFile:
        raise CheckpointError(f"{path}: damaged, or not a tiedae checkpoint") from None
    except Exception as error:  # zipfile meets damaged headers with RuntimeError, NotImplementedError, struct.error, ...
        raise CheckpointError(f"{path}: damaged: {_first_line(error)}") from None
    if damaged is not None:
        raise CheckpointError(f"{path}: damaged: the checksum of its part {damaged} does not hold")
    if len(pickles) != 1:
        raise CheckpointError(f"{path}: not a tiedae checkpoint")
    _check_pickle(path, pickles[0])


def _check_pickle(path: Path, pickle: bytes) -> None:
    """Refuse a pickle that mentions any name but those of plain tensors, or that torch would not have written."""
    try:
        for opcode, argument, _ in pickletools.genops(pickle):
            if opcode.name in ("STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "BUILD"):
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


def _believe(path: Path, contents: dict[str, Any]) -> Checkpoint:
    """Build the checkpoint from verified contents; config and shapes are still checked, for a checksum is not a signature."""
    try:
        config = validate_config(contents["config"], str(path))
    except ConfigError as error:
        raise CheckpointError(str(error)) from None
    data_form = _believe_form(path, contents["form"])
    with torch.device("meta"):
        expected = TiedAutoencoder(data_form.pixels, config.model).state_dict()
    shapes = {name: tuple(weight.shape) for name, weight in contents["weights"].items()}
    if shapes != {name: tuple(weight.shape) for name, weight in expected.items()}:
        raise CheckpointError(f"{path}: damaged: its weights do not have the shapes that its config describes")
    return Checkpoint(config, data_form, contents["weights"], contents["training"], str(contents["run"]))


def _believe_form(path: Path, form: dict[str, Any]) -> DataForm:
    """Build the data's form; statistics of another shape would broadcast, and be wrong without a word."""
    shape = tuple(int(size) for size in form["shape"])
    if len(shape) != 3 or min(shape) < 1 or form["kind"] not in ("images", "vectors"):
        raise CheckpointError(f"{path}: damaged: impossible image shape {shape} or kind {form['kind']}")
    found = DataForm(shape, form["kind"], form["offset"], form["scale"])

    def whole(value: object) -> bool:
        if isinstance(value, Tensor):
            return value.shape == (found.pixels,) and value.dtype == torch.float32 and bool(value.isfinite().all())
        return isinstance(value, float) and math.isfinite(value)

    if not (found.offset is None or whole(found.offset)) or not whole(found.scale):
        raise CheckpointError(f"{path}: damaged: its data's statistics are not {found.pixels} finite float32 numbers")
    if not torch.as_tensor(found.scale).gt(0).all():
        raise CheckpointError(f"{path}: damaged: a scale of its data is not positive")
    return found


def _digest(contents: dict[str, Any]) -> str:
    """Return the SHA-256 over all values and all tensors' bytes, with their names and shapes."""
    digest = hashlib.sha256()

    def plain(value: Any) -> Any:
        if isinstance(value, Tensor):
            digest.update(value.contiguous().view(-1).view(torch.uint8).numpy().data)
            return [str(value.dtype), list(value.shape)]
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value

    digest.update(json.dumps(plain(contents), sort_keys=True).encode())
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
