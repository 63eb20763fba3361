"""Shell completion of configs, runs, keys and values. It imports no torch, to answer at once."""

import os
from collections.abc import Iterator
from pathlib import Path


def samples(incomplete: str) -> list[str]:
    """Return the names of sample configs."""
    from tiedae_cli.config.samples import sample_configs

    return [name for name in sample_configs() if name.startswith(incomplete)]


def configs(incomplete: str) -> list[str]:
    """Return the names of sample configs, and YAML files."""
    return [name for name in (*samples(incomplete), *_paths(incomplete, (".yaml", ".yml"))) if name.startswith(incomplete)]


def runs(incomplete: str) -> list[str]:
    """Return the runs under ``runs/``, newest first, then paths."""
    from tiedae_cli.runs.run_list import RUNS, run_folders

    names = [folder.name for folder in run_folders(RUNS)]
    return [name for name in (*names, *_paths(incomplete)) if name.startswith(incomplete)]


def splits(incomplete: str) -> list[str]:
    """Return the names of the splits."""
    return [name for name in ("train", "validation", "test") if name.startswith(incomplete)]


def devices(incomplete: str) -> list[str]:
    """Return the names of devices."""
    return [name for name in ("auto", "cpu", "cuda", "cuda:0", "mps") if name.startswith(incomplete)]


def training_words(args: list[str], incomplete: str) -> list[str]:
    """Return what can follow ``tiedae train``: a value for the option before it, ``KEY=``, ``KEY=VALUE``, a config, data or a run."""
    from tiedae_cli.config import keys

    before = args[-1] if args else ""
    if before.startswith("--") and "=" not in before:
        key = keys.find_key(before[2:])
        if key is not None:
            return [value for value in _values(key, args) if value.startswith(incomplete)]
    name, equals, value = incomplete.partition("=")
    if equals:
        key = keys.find_key(name)
        return [] if key is None else [f"{name}={v}" for v in _values(key, args) if v.startswith(value)]
    if "--resume" in args:
        return runs(incomplete)
    names = [f"{last}=" for _, last in keys.properties()]
    offered = [*configs(incomplete), *(name for name in names if incomplete), *_paths(incomplete)]
    return list(dict.fromkeys(name for name in offered if name.startswith(incomplete)))


def _values(key: tuple[str, str], args: list[str]) -> list[str]:
    """Return the choices of a key."""
    from tiedae_cli.config import keys

    if key in (("data", "label"), ("data", "columns"), ("data", "ignore")):
        return list(_columns(args))
    found: list[str] = []
    for kind in keys.kinds(key):
        found += ["true", "false"] if kind.get("type") == "boolean" else map(str, kind.get("enum", []))
    return found


def _columns(args: list[str]) -> Iterator[str]:
    """Yield the column names of the table on the command line."""
    for word in args:
        path = Path(word.rpartition("=")[2])
        if path.suffix.lower() in (".csv", ".tsv", ".txt") and path.is_file():
            with path.open(encoding="utf-8-sig", errors="replace") as file:
                head = file.readline(100_000).strip()
            delimiter = max(",;\t|", key=head.count)
            yield from (cell.strip().strip('"') for cell in head.split(delimiter))


def _paths(incomplete: str, suffixes: tuple[str, ...] = ()) -> list[str]:
    """Return the folders and files that start with a text; if suffixes are given, only files with one of them."""
    folder = os.path.dirname(incomplete)
    try:
        entries = sorted(os.scandir(folder or "."), key=lambda entry: entry.name)
    except OSError:
        return []
    found = []
    for entry in entries:
        name = os.path.join(folder, entry.name) if folder else entry.name
        if not entry.name.startswith(".") and name.startswith(incomplete):
            if entry.is_dir():
                found.append(f"{name}{os.sep}")
            elif not suffixes or name.lower().endswith(suffixes):
                found.append(name)
    return found
