"""From YAML text and ``--set`` options to a ``Config``: every problem at once, each with file:line, key path and a suggestion."""

import contextlib
import difflib
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from tiedae_cli.config import keys
from tiedae_cli.config.contradictions import contradictions
from tiedae_cli.config.core_schema import OLD_BOOLS, construct_float, construct_int, use_core_schema
from tiedae_cli.config.schema import Config
from tiedae_cli.errors import ConfigError

LARGEST_FILE = 32_768  # bytes; a config is a page of text, and PyYAML reads about 100 kB a second
STDIN = Path("-")
DEEPEST = 8  # levels of nesting; the schema has three
MOST_PROBLEMS = 50  # that are told at once
HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")  # controls, line breaks, half characters
EDITORS = "# yaml-language-server: $schema=tiedae.schema.json  (written by: tiedae schema > tiedae.schema.json)\n"
KeyPath = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, with YAML 1.2's core schema and a limit of nesting."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Return the next node; here, where the text is still being read, nested brackets have cost no time yet."""
        if self.depth > DEEPEST:
            raise ValueError("nested too deeply; a config has sections and keys")
        self.depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper, which quotes the strings that ``_Loader`` would read as something else, also those of YAML 1.1."""


use_core_schema(_Loader)
_Loader.add_constructor("tag:yaml.org,2002:int", construct_int)
_Loader.add_constructor("tag:yaml.org,2002:float", construct_float)
use_core_schema(_Dumper)


def sample_configs() -> dict[str, Path]:
    """Return the sample configs that travel with the package, by name."""
    package = Path(__file__).parent.parent
    folder = next(f for f in (package / "sample_configs", package.parent / "sample_configs") if f.is_dir())
    return {path.stem: path for path in sorted(folder.glob("*.yaml"), key=Path.as_posix)}


def find_config(name: str) -> Path:
    """Return the path that ``--config`` means: a file, ``-`` for stdin, the name of a sample config, or a run folder (its config).

    Raises:
        ConfigError: nothing of that name; the message says what to type.
    """
    if name == "-":
        return STDIN
    samples = sample_configs()
    path = Path(os.path.expanduser(name))
    if path.is_dir() and (path / "config.yaml").is_file():
        return path / "config.yaml"
    if path.exists() and not (name in samples and path.is_dir()):  # a folder digits/ does not hide the sample
        if path.is_dir():
            raise ConfigError(f"--config {name}: a folder, not a YAML file; to train on what it holds: tiedae train {name}")
        return path
    if name.lower() in samples:
        return samples[name.lower()]
    raise ConfigError(f"--config {name}: no such file, and no sample config has that name{suggestion(name.lower(), samples)}")


def run_name(path: Path) -> str:
    """Return the name that a run of this config file gets: the file's, or its folder's for a saved ``config.yaml``."""
    if path == STDIN:
        return "stdin"
    return path.resolve().parent.name if path.name == "config.yaml" else path.stem


def suggestion(name: object, known: Sequence[str] | dict[str, Any]) -> str:
    """Return " (did you mean ...?)" for a close name, else the list of the known ones."""
    close = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else f" (known: {', '.join(known)})"


def load_config(path: Path, assignments: Sequence[str] = ()) -> Config:
    """Read a YAML file and apply ``KEY=VALUE`` assignments.

    Args:
        path: the YAML file; ``-`` is stdin.
        assignments: ``section.key=value`` texts; the value is read as YAML.

    Raises:
        ConfigError: with one line per problem; nothing is believed unless everything is right.
    """
    return parse_config(_read_text(path), "stdin" if path == STDIN else str(path), assignments)


def parse_config(text: str, source: str, assignments: Sequence[str] = ()) -> Config:
    """Do what ``load_config`` does with text that is already read; ``source`` stands for the file in messages."""
    values, places = _parse(text, source)
    problems: list[str] = []
    for assignment in assignments:
        try:
            _assign(values, places, assignment)
        except ConfigError as error:
            problems.append(str(error))
    try:
        config = Config.model_validate(values)
        problems += [f"{_place(places, key)}: {message}" for key, message in contradictions(config)]
    except ValidationError as error:
        items = _in_order_of_reading(error.errors(include_url=False), values, places)
        problems += [_line(item, values, places) for item in items[:MOST_PROBLEMS]]
        if len(items) > MOST_PROBLEMS:
            problems.append(f"and {len(items) - MOST_PROBLEMS:,} more like these")
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))
    return config


def validate_config(values: object, source: str) -> Config:
    """Validate a config that came out of a checkpoint.

    Raises:
        ConfigError: with one line per problem.
    """
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(_line(item, values, {(): source}) for item in error.errors(include_url=False))) from None
    problems = [f"{source}: {message}" for _, message in contradictions(config)]
    if problems:
        raise ConfigError("\n".join(problems))
    return config


def dump_config(config: Config) -> str:
    """Return the whole config as YAML that ``load_config`` reads back to an equal config."""
    values = config.model_dump(mode="json")
    text: str = yaml.dump(values, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)
    return EDITORS + text


def changed_fields(old: Config, new: Config) -> list[str]:
    """Return ``section.key: old -> new`` for every field that differs."""
    before, after = (dict(_flatten(config.model_dump(mode="json"))) for config in (old, new))
    return [f"{key}: {before[key]} -> {after[key]}" for key in before if before[key] != after[key]]


def _flatten(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for section, fields in values.items():
        for key, value in fields.items():
            yield f"{section}.{key}", value


def _read_text(path: Path) -> str:
    try:
        if path == STDIN and sys.stdin is None:
            raise ConfigError("--config -: stdin is closed: there is nothing to read")
        with contextlib.nullcontext(sys.stdin.buffer) if path == STDIN else path.open("rb") as file:
            raw = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    if len(raw) > LARGEST_FILE:
        raise ConfigError(f"{path}: larger than {LARGEST_FILE // 1024} KiB; this is no tiedae config")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 text") from None


def _parse(text: str, source: str) -> tuple[dict[Any, Any], dict[KeyPath, str]]:
    """Return the document's values and, for each key path, its ``file:line``."""
    _refuse_control_characters(text, source)
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        builder = _Builder(loader, source)
        values = None if node is None else builder.build(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ConfigError(
            f"{source}:{mark.line + 1 if mark else 1}: not valid YAML: {error.problem or error.context}"
        ) from None
    except (ValueError, OverflowError) as error:  # also an escape or a version that is no character or number
        raise ConfigError(f"{source}:{loader.line + 1}: not valid YAML: {str(error)[:70]}") from None
    finally:
        loader.dispose()
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"{source}:1: a config is a mapping with the sections {', '.join(Config.model_fields)}")
    return values, builder.places


def _refuse_control_characters(text: str, source: str) -> None:
    """Refuse control characters with their line before PyYAML meets them."""
    found = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if found:
        line = text.count("\n", 0, found.start()) + 1
        raise ConfigError(f"{source}:{line}: the character U+{ord(found.group()):04X} is not allowed in YAML")


class _Builder:
    """Turns YAML nodes into plain values, noting lines; refuses what a config has no use for."""

    def __init__(self, loader: _Loader, source: str) -> None:
        self.loader = loader
        self.source = source
        self.places: dict[KeyPath, str] = {}
        self._seen: set[int] = set()  # ids of nodes, which the document keeps alive

    def build(self, node: yaml.Node, path: KeyPath = ()) -> Any:
        """Return the values of a node, whose place is noted under its key path."""
        place = self.places.setdefault(path, self._place(node))  # of its key, if it has one
        if id(node) in self._seen:  # an alias is the same node again
            raise ConfigError(f"{place}: {_dotted(path)}: YAML aliases (*name) are not used in a config; write the value out")
        if isinstance(node, yaml.MappingNode):
            self._seen.add(id(node))
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            self._seen.add(id(node))
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        try:
            value = self.loader.construct_object(node)
        except (ValueError, OverflowError, TypeError, KeyError, IndexError, AttributeError) as error:  # all of PyYAML's own
            raise ConfigError(
                f"{place}: {_dotted(path)}: {_short(node.value)} is not a value ({_short(str(error), 70)})"
            ) from None
        hidden = HIDDEN.search(value) if isinstance(value, str) else None
        if hidden:  # "\0" and the like: no name of anything
            raise ConfigError(f"{place}: {_dotted(path)}: holds the character U+{ord(hidden.group()):04X}")
        return value

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[Any, Any]:
        values: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            place = self._place(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigError(f"{place}: a key must be a word")
            key = key_node.value
            if key in values:
                raise ConfigError(f"{place}: {_dotted((*path, key))}: given twice; the first is at {self.places[(*path, key)]}")
            self.places[(*path, key)] = place
            values[key] = self.build(value_node, (*path, key))
        return values

    def _place(self, node: yaml.Node) -> str:
        return f"{self.source}:{node.start_mark.line + 1}"


def _assign(values: dict[Any, Any], places: dict[KeyPath, str], text: str) -> None:
    """Put one ``KEY=VALUE`` into the values."""
    source = _short(text, 80).strip("'")
    pair = keys.assignment(text)
    if pair is None:
        raise ConfigError(f"{source}: expected KEY=VALUE, for example training.epochs=10")
    name, value_text = pair
    path = keys.resolve(name, value_text.strip())
    value = _assigned_value(path, value_text, source)
    if path == keys.CODE_SIZE:
        path, value = _with_code_size(values.get("model"), value, source)
    section = values.setdefault(path[0], {})
    if section is None:
        section = values[path[0]] = {}
    if isinstance(section, dict):
        section[path[1]] = value
    for known in [key for key in places if key[: len(path)] == path]:
        del places[known]
    places[path] = source
    places.setdefault(path[:1], source)


def _assigned_value(path: keys.Key, text: str, source: str) -> Any:
    """Return the value of an assignment: text as it stands where the key holds text, ``a,b`` as a list where it holds one, else YAML."""
    plain = text.strip()
    if path == keys.CODE_SIZE:
        return int(plain) if plain.isdecimal() else plain
    if plain[:1] not in ("[", "{", "'", '"'):
        if plain in keys.NULLS:
            return None
        hidden = HIDDEN.search(plain)
        if hidden:
            raise ConfigError(f"{source}: holds the character U+{ord(hidden.group()):04X}")
        if keys.is_text(path):
            return plain
        if keys.is_list(path):
            numbers = not any(kind.get("items", {}).get("type") == "string" for kind in keys.kinds(path))
            parts = [part.strip() for part in plain.split(",") if part.strip()]
            if not numbers:
                return parts
            if len(parts) > 1:
                text = f"[{plain}]"
    parsed, _ = _parse("value: " + text, source)
    if parsed.keys() != {"value"}:
        raise ConfigError(f"{source}: the value is not one YAML value")
    return parsed["value"]


def _with_code_size(model: object, size: object, source: str) -> tuple[keys.Key, list[Any]]:
    """Return the model's key that holds its layers, and its value with another code."""
    if not isinstance(size, int):
        raise ConfigError(f"{source}: the size of the code is a whole number, the last of model.hidden_sizes")
    given = model if isinstance(model, dict) else {}
    layers, sizes = given.get("layers"), given.get("hidden_sizes")
    if isinstance(layers, (list, tuple)) and layers and "hidden_sizes" not in given:
        kept = layers[:-1] if str(layers[-1]).startswith("dense") else layers
        return ("model", "layers"), [*kept, f"dense {size}"]
    before = sizes if isinstance(sizes, (list, tuple)) else Config().model.hidden_sizes or ()
    return ("model", "hidden_sizes"), [*before[:-1], size]


def _place(places: dict[KeyPath, str], path: KeyPath) -> str:
    """Return the place of the nearest key path that has one."""
    while path and path not in places:
        path = path[:-1]
    return places.get(path, "config")


def _in_order_of_reading(items: Sequence[Any], values: object, places: dict[KeyPath, str]) -> list[Any]:
    """Sort pydantic's errors, which come in the schema's order, as the user wrote what they are about."""
    read = {place: number for number, place in enumerate(dict.fromkeys(places.values()))}
    inside = {tuple(item["loc"])[:-1] for item in items}  # a list of which all items are wrong is not also too short
    items = [item for item in items if item["type"] != "too_short" or tuple(item["loc"]) not in inside]
    return sorted(items, key=lambda item: read.get(_place(places, _given_path(tuple(item["loc"]), values)), len(read)))


def _line(item: Any, values: object, places: dict[KeyPath, str]) -> str:
    """Turn one pydantic error into a line for people."""
    path = _given_path(tuple(item["loc"]), values)
    where = f"{_place(places, path)}: {_dotted(path)}: "
    kind, context = item["type"], item.get("ctx", {})
    if kind == "extra_forbidden":
        return f"{where}unknown key{_home(path, item['input']) or suggestion(path[-1], list(_siblings(path)))}"
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", context["expected"])
        return f"{where}{_short(item['input'])} is not a choice{suggestion(_short(item['input']).strip(chr(39)), choices)}"
    if kind in ("model_type", "model_attributes_type"):
        known = ", ".join(_siblings((*path, "")))
        return f"{where}expected a section with keys ({known}), not {_short(item['input'])}"
    if kind in ("too_short", "too_long"):
        word, limit = ("at least", context["min_length"]) if kind == "too_short" else ("at most", context["max_length"])
        return f"{where}must hold {word} {limit} {'item' if limit == 1 else 'items'}, not {context['actual_length']}"
    if kind == "bool_type" and str(item["input"]).lower() in OLD_BOOLS:
        return f"{where}{item['input']} is a word in YAML 1.2; write {OLD_BOOLS[str(item['input']).lower()]}"
    message = (item["msg"][0].lower() + item["msg"][1:]).replace("input should", "must").replace("a valid tuple", "a list")
    return f"{where}{message}, not {_short(item['input'])}"


def _home(path: KeyPath, value: object) -> str:
    """Return where a key belongs that stands in the wrong place or has another tool's name; empty where nothing is known of it."""
    key = keys.find_key(str(path[-1]))
    if key is None or len(path) > 2:
        return ""
    if key == keys.CODE_SIZE:
        return f"; the code's size is the last of model.hidden_sizes: `model: {{hidden_sizes: [300, {_short(value)}]}}`"
    shown = json.dumps(value) if isinstance(value, (list, bool, int, float)) else str(value)
    return f"; type `{key[0]}: {{{key[1]}: {_short(shown, 60).strip(chr(39))}}}`"


def _given_path(location: KeyPath, values: object) -> KeyPath:
    """Cut pydantic's names of union members and tuples off a location: keep what the user's values hold."""
    path: KeyPath = ()
    for depth, part in enumerate(location):
        if isinstance(values, dict) and (part in values or depth < 2):
            values = values.get(part)
        elif isinstance(values, (list, tuple)) and isinstance(part, int) and part < len(values):
            values = values[part]
        else:
            break
        path = (*path, part)
    return path


def _siblings(path: KeyPath) -> dict[str, Any]:
    """Return the keys that the schema has where the last part of the path stands."""
    model: type[BaseModel] = Config
    for part in path[:-1]:
        field = model.model_fields.get(str(part))
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return {}
        model = field.annotation
    return dict(model.model_fields)


def _dotted(path: KeyPath) -> str:
    return ".".join(_short(part, 60).strip("'") for part in path) or "config"


def _short(value: object, width: int = 40) -> str:
    """Return a value as text that fits a line; containers by their kind only, for they may be huge."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    if isinstance(value, int) and value.bit_length() > 200:
        return "a huge number"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= width else text[: width - 3] + "..."
