"""Data in memory: arrays, tensors, tables, sparse matrices and lists of images, read by the rules of files of the same kind.

Shapes: N items, B items per block, D values per item, C channels, H x W pixels.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tiedae_cli.config import DataConfig
from tiedae_cli.data.columns import Columns
from tiedae_cli.data.image_files import is_color, is_wide, pixels_of
from tiedae_cli.data.item_set import SPLITS, ValueRange, range_of
from tiedae_cli.data.sources.cells import label_text, numbered
from tiedae_cli.data.sources.named_arrays import NUMBERS
from tiedae_cli.data.sources.number_format import NumberFormat
from tiedae_cli.data.sources.part import Bad, Part, RawBlock, array_part
from tiedae_cli.data.sources.source import VALUE_FIELDS
from tiedae_cli.data.sources.table import HEAD_ROWS, Table, TableBlock
from tiedae_cli.data.sources.table_columns import all_columns, choose_columns, match_columns
from tiedae_cli.data.sources.table_values import table_part
from tiedae_cli.errors import DataError, InputError
from tiedae_cli.system.mapped_files import mapped_file_of

IN_MEMORY = "<memory>"  # data.dataset of a model that was trained on data in memory; no path on any system
NAME = "X"  # of the data, for messages
BLOCK_ROWS = 1 << 14  # of a table that are converted in one go
FIELDS = {  # keys of the data section by kind of data
    "array": VALUE_FIELDS,
    "table": (*VALUE_FIELDS, "label", "columns", "ignore", "categories"),
    "images": ("size", "mode", "range"),
}
ABSENT = ("nan", "<NA>", "None", "NaT")  # texts of pandas' and Python's missing values


@dataclass(frozen=True)
class MemoryData:
    """What a caller from Python trains on, as it was given."""

    train: Any
    """The items: an array, tensor, table, sparse matrix or list of images."""
    others: Mapping[str, Any] = field(default_factory=dict)
    """Items of the same kind by the name of their split: ``validation``, ``test``."""
    labels: Mapping[str, Any] = field(default_factory=dict)
    """The labels of a split's items, (N,) each, by the name of the split."""

    @property
    def kind(self) -> str:
        """``array``, ``table`` or ``images``."""
        return kind_of(self.train)

    def splits(self) -> dict[str, Any]:
        """Return the items by the name of their split, in the order of ``SPLITS``."""
        given = {"train": self.train, **self.others}
        return {split: collected(given[split]) for split in SPLITS if split in given}


def kind_of(data: Any) -> str:
    """Return what data in memory is: ``array``, ``table`` or ``images``."""
    if _is_table(data):
        return "table"
    return "images" if _is_image(data) or _are_images(data) else "array"


def collected(data: Any) -> Any:
    """Return the rows of a lazy DataFrame of polars; any other data as it is."""
    return data.collect() if hasattr(data, "collect_schema") and not hasattr(data, "to_arrow") else data


def memory_parts(data: MemoryData, config: DataConfig) -> dict[str, Part]:
    """Return data in memory as the splits that the caller named; nothing is copied that can be used as it is.

    Args:
        data: what the caller gave.
        config: columns, categories and labels of a table; size, mode and range of images.

    Raises:
        DataError: it has no form that a model could take, or labels do not fit the items.
        ConfigError: the config names a column that is missing.
        InputError: two splits are of different kinds.
    """
    parts: dict[str, Part] = {}
    unknown = [name for name in data.labels if name not in data.splits()]
    if unknown:
        raise InputError(f"labels: no {unknown[0]} items were given")
    columns: Columns | None = None
    target: _Pixels | None = None
    for split, items in data.splits().items():
        name = NAME if split == "train" else split
        if kind_of(items) != data.kind:
            raise InputError(f"{name}: {describe(items)}, but {NAME} is {describe(data.train)}; give both as the same kind")
        if data.kind == "table":
            table = open_memory_table(items, name)
            own = config.model_copy(update={"normal": ()}) if data.labels else config
            columns = choose_columns(table, own) if columns is None else match_columns(table, columns)
            part = replace(table_part(table, columns, in_order=config.window > 1), count=row_count(items))
        elif data.kind == "images":
            images = list(items) if isinstance(items, (list, tuple)) else [items]
            target = target or _pixels_of_all(images, name, config)
            part = array_part(target.stacked(images, name), name)
        else:
            part = array_or_sparse_part(items, name)
        parts[split] = _with_labels(part, data.labels.get(split), "labels" if split == "train" else f"labels of {split}")
    return parts


def part_for_model(data: Any, name: str, columns: Columns | None) -> Part:
    """Return data in memory as a part for a trained model; the columns of a table are matched by name.

    Args:
        data: an array, tensor, table or sparse matrix.
        name: for messages.
        columns: those of the model; None if it was trained on an array.

    Raises:
        DataError: it is not numbers, or a column is missing.
    """
    data = collected(data)
    if not _is_table(data):
        return array_or_sparse_part(data, name)
    table = open_memory_table(data, name)
    chosen = match_columns(table, columns) if columns is not None else all_columns(table)
    return replace(table_part(table, replace(chosen, label=None)), count=row_count(data))


def describe(data: Any) -> str:
    """Return what data in memory is, in words."""
    return {"table": "a table", "images": "a list of images", "array": "an array"}[kind_of(data)]


def row_count(data: Any) -> int:
    """Return N of a table, array or sparse matrix."""
    return int(data.shape[0]) if hasattr(data, "shape") else int(data.num_rows) if hasattr(data, "num_rows") else len(data)


# Arrays


def as_array(data: Any, name: str) -> np.ndarray:
    """Return an array or tensor as a numpy array, without a copy if its numbers can be used as they are.

    Raises:
        DataError: it does not hold numbers, or rows have different lengths.
    """
    other = _other_form(data, name)
    if other is not None:
        raise DataError(f"{name}: {other}")
    if hasattr(data, "detach"):
        data = _tensor_values(data, name)
    if isinstance(data, np.ma.MaskedArray) and data.mask is not np.ma.nomask and data.dtype.kind in NUMBERS:
        data = np.ma.filled(data.astype(data.dtype if data.dtype.kind == "f" else np.float64), np.nan)
    try:
        array = np.asarray(data)
        if array.dtype.kind == "O":
            array = array.astype(np.float64)
    except (TypeError, ValueError):
        kind = type(data).__name__
        raise DataError(f"{name}: {kind}: not an array of numbers; items of different shapes cannot be one array") from None
    if array.dtype.kind not in NUMBERS:
        raise DataError(f"{name}: its type is {array.dtype}, not numbers")
    if not array.ndim:
        raise DataError(f"{name}: a single number; expected items along the first dimension")
    return array


def _tensor_values(tensor: Any, name: str) -> np.ndarray:
    try:
        values = tensor.detach().cpu()
        if str(values.dtype) == "torch.bfloat16":
            values = values.float()
        values = values.to_dense() if str(values.layout) != "torch.strided" else values
        found: np.ndarray = values.resolve_conj().resolve_neg().numpy()
    except (TypeError, RuntimeError) as error:  # a quantized tensor, one without values, a type that numpy lacks
        reason = str(error).splitlines()[0]
        raise DataError(f"{name}: a tensor of {tensor.dtype} that cannot become an array: {reason}") from None
    return found


def _other_form(data: Any, name: str) -> str | None:
    """Return what data is that holds arrays without being one, and the expression that makes it one; None for all else."""
    if any(kind.__module__.startswith("torch.utils.data") for kind in type(data).__mro__):
        join = "stack" if hasattr(data, "__getitem__") else "cat"
        lines = f"tensors as torch.{join}([first for first, *_ in {name}]), images as [first for first, *_ in {name}]"
        return f"{type(data).__name__}: give what it holds: {lines}"
    if isinstance(data, Iterator):
        return f"{type(data).__name__}: can be read only once; give its items as np.stack(list({name}))"
    if isinstance(data, Mapping) and any(getattr(value, "ndim", 1) != 1 for value in data.values()):  # as np.load of an .npz
        names = list(data)
        return f"{type(data).__name__}: several arrays ({', '.join(map(str, names))}); give one of them, such as {name}[{names[0]!r}]"
    rows = list(data[:1]) if isinstance(data, (list, tuple)) else []
    if isinstance(data, Mapping) or (rows and isinstance(rows[0], Mapping)):
        return f"{type(data).__name__}: values by name; give a table: pandas.DataFrame({name})"
    if isinstance(data, tuple) and len(data) == 2 and all(hasattr(part, "shape") for part in data):
        first, second = (tuple(part.shape) for part in data)
        if first != second and first[:1] == second[:1]:
            return f"two arrays, {first} and {second}; if these are items and labels, give {name}[0] and labels={name}[1]"
    return None


def array_or_sparse_part(data: Any, name: str) -> Part:
    """Return an array, a tensor or a sparse matrix, (N, ...), as a part; of a sparse matrix one block at a time is dense.

    Raises:
        DataError: it does not hold numbers.
    """
    if not hasattr(data, "tocsr"):
        array = as_array(data, name)
        return replace(array_part(array, name), mapped=mapped_file_of(array))
    if data.ndim != 2 or data.dtype.kind not in NUMBERS:
        raise DataError(f"{name}: a sparse array of {data.ndim} dimensions, {data.dtype}; expected N x D numbers")
    rows = data.tocsr()
    count = rows.shape[0]

    def read(size: int, bad: Bad) -> Iterator[RawBlock]:
        for start in range(0, count, size):
            end = min(start + size, count)
            yield RawBlock(range(start, end), rows[start:end].toarray())

    return Part(name, (rows.shape[1],), rows.dtype, count, read)


# Tables


def _is_table(data: Any) -> bool:
    if isinstance(data, np.ndarray):
        return data.dtype.names is not None
    if hasattr(data, "collect_schema"):  # of polars; a lazy one warns whoever asks for its columns
        return True
    has_names = hasattr(data, "columns") or hasattr(data, "column_names")
    return has_names and (hasattr(data, "iloc") or hasattr(data, "__arrow_c_stream__"))


def open_memory_table(data: Any, name: str) -> Table:
    """Return a DataFrame (pandas, polars), a pyarrow table or a structured array as a table, which is converted block by block.

    Raises:
        DataError: it has no rows or no columns, or two columns share a name.
    """
    import pyarrow

    if hasattr(data, "iloc"):
        labels = list(data.columns)
        names = [".".join(map(str, label)) if isinstance(label, tuple) else str(label) for label in labels]
        named = labels != list(range(len(labels)))

        def column(place: int, start: int, end: int) -> Any:
            return _cells(data.iloc[start:end, place])

    elif isinstance(data, np.ndarray):
        names, named = list(data.dtype.names or ()), True

        def column(place: int, start: int, end: int) -> Any:
            return _cells(data[start:end][names[place]])

    else:
        table = pyarrow.table(data)
        names, named = list(table.column_names), True

        def column(place: int, start: int, end: int) -> Any:
            return _simple(table.column(place).slice(start, end - start))

    count = row_count(data)
    double = next((one for one in names if names.count(one) > 1), None) if len(set(names)) < len(names) else None
    if double is not None:
        raise DataError(f"{name}: two columns are named {double or '(without a name)'}; column names must be unique")
    if not names or not count:
        raise DataError(f"{name}: {count:,} rows x {len(names):,} columns: empty; expected a table of numbers")

    def block(start: int, end: int) -> TableBlock:
        return TableBlock(np.arange(start, end), {one: column(place, start, end) for place, one in enumerate(names)})

    def read(bad: Bad) -> Iterator[TableBlock]:
        return (block(start, min(start + BLOCK_ROWS, count)) for start in range(0, count, BLOCK_ROWS))

    return Table(name, tuple(names), named, NumberFormat(), block(0, min(HEAD_ROWS, count)), read, "DataFrame")


def _cells(values: Any) -> Any:
    """Return a column of pandas or numpy as a pyarrow array; what has no type of its own there becomes text."""
    import pyarrow

    if getattr(values, "dtype", None) == np.float16:
        values = values.astype(np.float32)
    try:
        return _simple(pyarrow.array(values, from_pandas=True))
    except (pyarrow.ArrowException, TypeError, ValueError):
        texts = [str(value) for value in values]
        return pyarrow.array([None if text in ABSENT else text for text in texts], pyarrow.string())


def _simple(cells: Any) -> Any:
    """Return a column as one array of a plain type: categories become what they stand for, any text is a string."""
    import pyarrow
    import pyarrow.types as types

    if isinstance(cells, pyarrow.ChunkedArray):
        cells = cells.combine_chunks()
        cells = pyarrow.concat_arrays(cells.chunks) if isinstance(cells, pyarrow.ChunkedArray) else cells
    is_view = getattr(types, "is_string_view", lambda kind: False)
    if isinstance(cells.type, pyarrow.BaseExtensionType):
        period = "period" in cells.type.extension_name
        cells = cells.storage.cast(pyarrow.timestamp("ns")) if period else cells.storage
    if types.is_dictionary(cells.type):
        words = cells.dictionary
        words = words.cast(pyarrow.string()) if is_view(words.type) else words
        cells = pyarrow.DictionaryArray.from_arrays(cells.indices, words).dictionary_decode()
    return cells.cast(pyarrow.string()) if types.is_large_string(cells.type) or is_view(cells.type) else cells


# Images


def _is_image(data: Any) -> bool:
    return hasattr(data, "getbands") and hasattr(data, "convert")


def _are_images(data: Any) -> bool:
    return isinstance(data, (list, tuple)) and bool(data) and all(map(_is_image, data))


def holds_photograph(data: Any, small: int) -> bool:
    """Return whether the first of several images is in color or its longer side has more than ``small`` pixels."""
    first = data[0] if isinstance(data, (list, tuple)) else data
    return is_color(first) or max(first.size) > small


def stacked_images(images: Sequence[Any], shape: tuple[int, int, int], range: ValueRange | None) -> np.ndarray:
    """Return images as one array, (N, C, H, W) uint8, each converted to the form of a model as an image file would be."""
    return _Pixels(shape, range).stacked(list(images), NAME)


@dataclass(frozen=True)
class _Pixels:
    """The form that all images get."""

    shape: tuple[int, int, int]
    """(C, H, W)"""
    range: ValueRange | None
    one_size: bool = False
    """Whether every image must have this size; else it is resized."""

    def stacked(self, images: Sequence[Any], name: str) -> np.ndarray:
        from PIL import ImageOps

        pixels = np.empty((len(images), *self.shape), np.uint8)
        for number, image in enumerate(images):
            upright = ImageOps.exif_transpose(image)
            if image.mode == "F":
                raise DataError(f"{name}: item {number}: floating-point pixels have no known range; give them as an array")
            if self.one_size and (upright.height, upright.width) != self.shape[1:]:
                raise DataError(
                    f"{name}: images of different sizes: item 0 is {self.shape[1]}x{self.shape[2]}, item {number} is "
                    f"{upright.height}x{upright.width} (height x width); data.size chooses one for all"
                )
            pixels[number] = pixels_of(upright, self.shape, self.range)
        return pixels


def _pixels_of_all(images: Sequence[Any], name: str, config: DataConfig) -> _Pixels:
    """Return the form of images that the config asks for; what it leaves open is taken from the images."""
    from PIL import ImageOps

    first = ImageOps.exif_transpose(images[0])
    color = any(map(is_color, images)) if config.mode is None else config.mode == "color"
    height, width = config.size or (first.height, first.width)
    range = None if config.range is None else ValueRange(*config.range, whole=True)
    if range is None:
        range = range_of(max((float(np.asarray(image).max()) for image in images if is_wide(image)), default=0.0))
    return _Pixels((3 if color else 1, height, width), range, one_size=config.size is None)


# Labels


def _with_labels(part: Part, labels: Any, name: str) -> Part:
    if labels is None:
        return part
    texts = label_texts(labels)
    if len(texts) != part.count:
        raise DataError(f"{name}: {len(texts):,} labels for {part.count:,} items")
    numbers, words = numbered(np.array(texts, dtype=object))
    return replace(part, labels=numbers, label_names=words)


def label_texts(labels: Any) -> list[str]:
    """Return the labels of items, (N,) of any type, as texts; a missing one is empty."""
    values = labels.tolist() if hasattr(labels, "tolist") else labels.to_list() if hasattr(labels, "to_list") else list(labels)
    flat = [value[0] if isinstance(value, (list, tuple)) and len(value) == 1 else value for value in values]
    return ["" if str(value) in ABSENT else label_text(str(value)) for value in flat]
