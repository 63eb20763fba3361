"""Files that are not data which tiedae reads: recognized by their first bytes or suffix, named, with what to do instead."""

from dataclasses import dataclass
from pathlib import Path

from tiedae_cli.data.sources.compression import plain_suffix, zip_members
from tiedae_cli.system.portability import quoted

HEAD_BYTES = 512  # enough for every mark below
AS_TABLE = "save its table as .csv or .parquet"
AS_ARRAY = "save its values as .npy, one row per item"
AS_IMAGES = "save its images as .png files in a folder, or as an array in .npy"
ZIPPED = (".csv", ".tsv", ".txt", ".tab", ".data", ".dat", ".jsonl", ".ndjson")  # suffixes of text that is read from an archive
LISTED_MEMBERS = 3  # of an archive, in a message


@dataclass(frozen=True)
class Foreign:
    """A kind of file that is not read."""

    name: str
    """With its article: ``a SQLite database``."""
    instead: str
    """What to do, as an imperative."""


PICKLE = Foreign(
    "a pickle, which can run any program when it is opened, so it never is",
    "save what is in it with np.save('x.npy', array) or table.to_parquet('x.parquet')",
)
PYTORCH = Foreign(
    "a PyTorch file, which may hold a pickle that runs any program, so it is never opened",
    "save the tensor with np.save('x.npy', tensor.numpy())",
)
DATABASE = Foreign("a database", AS_TABLE)
SQLITE = Foreign("a SQLite database", "export a table: sqlite3 -header -csv FILE 'select * from TABLE' > x.csv")
SPREADSHEET = Foreign("a spreadsheet", "rename it to .xlsx if it is one of Excel, or save the sheet as .csv")
SOUND = Foreign("a sound file", "save its samples as .npy, one row per item")
VIDEO = Foreign("a video", "save its frames as image files in a folder")
DOCUMENT = Foreign("a document", AS_TABLE)
ARCHIVE = Foreign("an archive", "unpack it and name the folder")
MODEL = Foreign("a model, not data", "name the data that it should be trained on")
ORC = Foreign("an ORC table", "convert it: pyarrow.parquet.write_table(pyarrow.orc.read_table('x.orc'), 'x.parquet')")
DICOM = Foreign("a DICOM image", AS_IMAGES)
NIFTI = Foreign("a NIfTI image", "save the volume as .npy: np.save('x.npy', nibabel.load('x.nii').get_fdata())")
FITS = Foreign("a FITS file", AS_ARRAY)
NETCDF = Foreign("a NetCDF 3 file", "convert it to NetCDF 4 (HDF5): nccopy -k nc4 x.nc x.h5")
WEB_PAGE = Foreign("a web page, perhaps of a failed download", "download the data again")
POINTER = Foreign("a Git LFS pointer, not the data itself", "fetch the data: git lfs pull")

SUFFIXES = {
    ".ipynb": Foreign("a Jupyter notebook", "save its data with np.save('x.npy', array)"),
    ".py": Foreign("a Python program", "save its data with np.save('x.npy', array)"),
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), PICKLE),
    **dict.fromkeys((".pt", ".pth"), PYTORCH),
    **dict.fromkeys((".doc", ".docx", ".odt", ".rtf", ".pdf", ".ppt", ".pptx"), DOCUMENT),
    **dict.fromkeys((".xls", ".ods"), SPREADSHEET),
    **dict.fromkeys((".sqlite", ".sqlite3", ".db"), DATABASE),
    **dict.fromkeys((".safetensors", ".onnx"), MODEL),
    **dict.fromkeys((".wav", ".mp3", ".flac", ".ogg"), SOUND),
    **dict.fromkeys((".mp4", ".avi", ".mov", ".mkv"), VIDEO),
    **dict.fromkeys((".tar", ".tgz", ".7z", ".rar"), ARCHIVE),
    ".orc": ORC,
    **dict.fromkeys((".dcm", ".dicom"), DICOM),
    ".nii": NIFTI,
}
MARKS: tuple[tuple[int, bytes, Foreign], ...] = (  # position, bytes there
    (0, b"SQLite format 3\0", SQLITE),
    (0, b"ORC", ORC),
    (8, b"WAVE", SOUND),
    (0, b"fLaC", SOUND),
    (0, b"OggS", SOUND),
    (0, b"ID3", SOUND),
    (8, b"AVI ", VIDEO),
    (4, b"ftypisom", VIDEO),
    (4, b"ftypmp4", VIDEO),
    (4, b"ftypqt", VIDEO),
    (0, b"\x1aE\xdf\xa3", VIDEO),
    (128, b"DICM", DICOM),
    (344, b"n+1\0", NIFTI),
    (344, b"ni1\0", NIFTI),
    (0, b"SIMPLE  =", FITS),
    (0, b"CDF\1", NETCDF),
    (0, b"CDF\2", NETCDF),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Foreign("an old Office file (.xls, .doc, .ppt)", "save the sheet as .csv")),
    (0, b"%PDF", DOCUMENT),
    (0, b"{\\rtf", DOCUMENT),
    (0, b"7z\xbc\xaf\x27\x1c", ARCHIVE),
    (0, b"Rar!", ARCHIVE),
    (257, b"ustar", ARCHIVE),
    (0, b"version https://git-lfs", POINTER),
)


def foreign_file(path: Path, head: bytes) -> Foreign | None:
    """Return what a file is if it is not data that is read; by its first bytes (unpacked), then by its suffix.

    The suffix alone decides if ``head`` is empty.
    """
    return _by_bytes(head) or _in_zip(path, head) or SUFFIXES.get(path.suffix.lower())


def _by_bytes(head: bytes) -> Foreign | None:
    found = next((kind for at, mark, kind in MARKS if head[at : at + len(mark)] == mark), None)
    if found is not None:
        return found
    if head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return PICKLE
    if head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < 1 << 27:
        return Foreign(
            "a safetensors file, a model or bare tensors", "name data, or save a tensor with np.save('x.npy', array)"
        )
    start = head.lstrip()[:15].lower()
    return WEB_PAGE if start.startswith((b"<!doctype html", b"<html")) else None


def _in_zip(path: Path, head: bytes) -> Foreign | None:
    """Return what a zip file is, by its members; None for an ``.npz`` archive and what is not a zip file."""
    if not head.startswith(b"PK\3\4"):
        return None
    names = zip_members(path)
    if not names or any(name.endswith(".npy") for name in names):
        return None
    if any(name.startswith("xl/") for name in names):
        return None if path.suffix.lower() == ".xlsx" else SPREADSHEET
    if any(name.endswith("data.pkl") for name in names):
        return PYTORCH
    if any(name.startswith(("word/", "ppt/")) for name in names) or "mimetype" in names:
        return DOCUMENT
    if len(names) == 1 and plain_suffix(names[0]) in ZIPPED:
        return None
    more = f" and {len(names) - LISTED_MEMBERS} more" if len(names) > LISTED_MEMBERS else ""
    folder = quoted(path.stem)
    unpack = f"unpack it: unzip {quoted(path)} -d {folder}; then name {folder}/ or a file in it"
    return Foreign(f"an archive of {', '.join(names[:LISTED_MEMBERS])}{more}", unpack)
