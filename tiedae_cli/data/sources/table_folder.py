"""A folder of tables, or several files: read as one table, or as one per split where files or folders are named so."""

import contextlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from tiedae_cli.config import DataConfig
from tiedae_cli.data.image_files import Selection
from tiedae_cli.data.sources.compression import plain_suffix
from tiedae_cli.data.sources.joined_tables import joined, open_tables
from tiedae_cli.data.sources.named_arrays import split_of_name
from tiedae_cli.data.sources.part import Part, stop
from tiedae_cli.data.sources.source import TABLE, ReadOptions, Source
from tiedae_cli.data.sources.table import Table, TableOptions
from tiedae_cli.data.sources.table_columns import match_columns
from tiedae_cli.data.sources.table_files import ENOUGH, NOTES, TableFile, folder_files, partition_keys
from tiedae_cli.data.sources.table_kinds import FIELDS, TABLES, part_of, report_notes, table_options
from tiedae_cli.data.sources.tables import open_table
from tiedae_cli.errors import ConfigError, DataError
from tiedae_cli.system.portability import quoted

log = logging.getLogger(__name__)

KINDS = {suffix: source.name for source in TABLES for suffix in source.suffixes}
LISTED_FILES = 3  # that a message names


def tables_below(folder: Path, config: DataConfig) -> list[TableFile]:
    """Return the tables in a folder and its subfolders, in natural order.

    Raises:
        ConfigError: no table matches ``data.include``.
        DataError: there are images too, or tables of several kinds; the message says what to type.
    """
    found = folder_files(folder, tuple(KINDS), Selection(config.include, config.exclude))
    if not found.tables:
        raise ConfigError(f"{folder}: no table matches {'; '.join(found.unmatched) or 'data.exclude'}")
    for pattern in found.unmatched:
        log.warning(f"{folder}: no table matches {pattern}")
    kinds = found.suffixes()
    counted = ", ".join(f"{count:,} {suffix}" for suffix, count in (kinds + found.images).most_common())
    if found.images or len(kinds) > 1:
        pattern = quoted(f"{folder}/**/*{kinds.most_common(1)[0][0]}")
        raise DataError(
            f"{folder}: holds files of several kinds ({counted}): which of them are the data? For example: {pattern}"
        )
    if found.others:
        log.info(f"{folder}: skipped: {', '.join(f'{count:,} {reason}' for reason, count in found.others.most_common())}")
    return [TableFile(folder / name, KINDS[plain_suffix(name)], partition_keys(name.split("/")[:-1])) for name in found.tables]


def by_split(files: Sequence[TableFile], folder: Path) -> dict[str, list[TableFile]]:
    """Return the files of a folder by the split that their names, or the folders in it, mean; all as ``train`` if none means one.

    Raises:
        DataError: some files belong to no split, or none to ``train``.
    """
    groups: dict[str | None, list[TableFile]] = {}
    for file in files:
        below = file.path.relative_to(folder)
        top = below.parts[0] if len(below.parts) > 1 else below.name.partition(".")[0]
        groups.setdefault(split_of_name(top), []).append(file)
    others = groups.pop(None, [])
    if not groups:
        return {"train": others}
    named = ", ".join(str(files[0].path.relative_to(folder)) for files in groups.values())
    if others or "train" not in groups:
        problem = f"{others[0].path.relative_to(folder)} is named like none" if others else "none is named train"
        raise DataError(
            f"{folder}: {named}: named like splits, but {problem}; name the files to train on one by one, or move the others"
        )
    return {str(split): files for split, files in groups.items()}


def table_parts(files: Mapping[str, Sequence[TableFile]], name: str, options: ReadOptions) -> dict[str, Part]:
    """Return files of tables as one part per split; the columns are those that the training files show.

    Args:
        files: by split.
        name: of the whole, for messages.
        options: how to read them.

    Raises:
        DataError: a file cannot be read, or lacks a column.
    """
    parts: dict[str, Part] = {}
    columns = None
    for split, own in files.items():
        table = _one_table(own, name if len(files) == 1 else f"{name}: {split}", options)
        report_notes(table)
        columns = options.choose(table) if columns is None else match_columns(table, columns)
        parts[split] = part_of(table, columns, options)
    return parts


def _one_table(files: Sequence[TableFile], name: str, options: ReadOptions) -> Table:
    tables = open_tables(files, table_options(options), stop)
    if len(tables) == 1:
        return tables[0]
    paths = [str(file.path) for file in files]
    shown = ", ".join(paths) if len(paths) <= LISTED_FILES else f"{', '.join(paths[: LISTED_FILES - 1])} ... {paths[-1]}"
    log.info(f"{name}: {len(paths):,} files are read as one table, in this order: {shown}")
    return joined(tables, name)


def _parts(folder: Path, options: ReadOptions) -> dict[str, Part]:
    splits = by_split(tables_below(folder, options.data), folder)
    order = sorted(splits, key=lambda split: split != "train")
    return table_parts({split: splits[split] for split in order}, str(folder), options)


def _holds_tables(folder: Path, head: bytes) -> bool:
    found = folder_files(folder, tuple(KINDS), enough=ENOUGH)
    if not found.are_tables or plain_suffix(found.tables[0]) not in NOTES:
        return found.are_tables
    with contextlib.suppress(DataError):
        return len(open_table(folder / found.tables[0], "csv", TableOptions()).names) > 1
    return False


TABLE_FOLDER = Source(
    "tables",
    TABLE,
    _parts,
    recognizes=_holds_tables,
    fields=(*FIELDS, "include", "exclude"),
    is_folder=True,
)
