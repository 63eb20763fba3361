"""Reads YAML and ``--set`` options into a ``Config``, and reports all problems at once, with file:line, key and suggestion."""

import contextlib
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from tiedae_cli.config import keys
from tiedae_cli.config.contradictions import contradictions
from tiedae_cli.config.core_schema import construct_float, construct_int, use_core_schema
from tiedae_cli.config.problems import KeyPath, dotted, in_order_of_reading, line_of, place_of, short
from tiedae_cli.config.samples import STDIN
from tiedae_cli.config.schema import Config
from tiedae_cli.errors import ConfigError

LARGEST_FILE = 32_768  # bytes; a config is about a page; PyYAML reads roughly 100 kB per second
LARGEST_WRITTEN = 1 << 20  # bytes of a config that a training wrote: it may list thousands of columns
DEEPEST = 8  # nesting levels; the schema has three
MOST_PROBLEMS = 50  # reported at once
HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]"
)  # control characters, line breaks, lone surrogates
EDITORS = "# yaml-language-server: $schema=tiedae.schema.json  (written by: tiedae schema > tiedae.schema.json)\n"


STANDARD_TAGS = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, with YAML 1.2's core schema and a limit of nesting."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Return the next node; refuse deep nesting here, before it costs time."""
        if self.depth > DEEPEST:
            raise ValueError("nested too deeply; a config has sections and keys")
        self.depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        if node is not None and not node.tag.startswith(STANDARD_TAGS):
            raise yaml.constructor.ConstructorError(None, None, f"unknown tag {node.tag!r}", node.start_mark)
        return node


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper; it quotes strings that ``_Loader`` or a YAML 1.1 reader would not read back as strings."""


use_core_schema(_Loader)
_Loader.add_constructor("tag:yaml.org,2002:int", construct_int)
_Loader.add_constructor("tag:yaml.org,2002:float", construct_float)
use_core_schema(_Dumper)


def load_config(path: Path, assignments: Sequence[str] = ()) -> Config:
    """Read a YAML file and apply ``KEY=VALUE`` assignments.

    Args:
        path: the YAML file; ``-`` is stdin.
        assignments: ``section.key=value`` texts; the value is read as YAML.

    Raises:
        ConfigError: with one line per problem; the config is returned only if all of it is valid.
    """
    return parse_config(_read_text(path), "stdin" if path == STDIN else str(path), assignments)


def load_run_config(path: Path) -> Config:
    """Read the ``config.yaml`` that a training wrote, which may be longer than one that people write.

    Raises:
        ConfigError: as ``load_config``.
    """
    return parse_config(_read_text(path, LARGEST_WRITTEN), str(path))


def parse_config(text: str, source: str, assignments: Sequence[str] = ()) -> Config:
    """Parse a config from text, like ``load_config``; ``source`` replaces the file name in messages."""
    values, places = _parse(text, source)
    return _assigned(values, places, assignments)


def with_assignments(config: Config, assignments: Sequence[str]) -> Config:
    """Return a config with ``KEY=VALUE`` assignments applied.

    Raises:
        ConfigError: with one line per problem, each with its assignment.
    """
    values = config.model_dump(mode="json")
    if config.training.steps is not None:
        del values["training"]["epochs"]  # steps replace it
    return _assigned(values, {}, assignments)


def _assigned(values: dict[Any, Any], places: dict[KeyPath, str], assignments: Sequence[str]) -> Config:
    problems: list[str] = []
    assigned: set[keys.Key] = set()
    for assignment in assignments:
        try:
            _assign(values, places, assignment, assigned)
        except ConfigError as error:
            problems.append(str(error))
    try:
        config = Config.model_validate(values)
        problems += [f"{place_of(places, key)}: {message}" for key, message in contradictions(config)]
    except ValidationError as error:
        items = in_order_of_reading(error.errors(include_url=False), values, places)
        problems += [line_of(item, values, places) for item in items[:MOST_PROBLEMS]]
        if len(items) > MOST_PROBLEMS:
            problems.append(f"and {len(items) - MOST_PROBLEMS:,} more like these")
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))
    return config


def validate_config(values: object, source: str) -> Config:
    """Validate a config read from a checkpoint.

    Raises:
        ConfigError: with one line per problem.
    """
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(line_of(item, values, {(): source}) for item in error.errors(include_url=False))) from None
    problems = [f"{source}: {message}" for _, message in contradictions(config)]
    if problems:
        raise ConfigError("\n".join(problems))
    return config


def dump_config(config: Config) -> str:
    """Return the config as YAML; ``load_config`` reads it back to an equal config."""
    values = config.model_dump(mode="json")
    if config.training.steps is not None:
        del values["training"]["epochs"]  # steps replace it
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


def _read_text(path: Path, most: int = LARGEST_FILE) -> str:
    try:
        if path == STDIN and sys.stdin is None:
            raise ConfigError("--config -: stdin is closed")
        with contextlib.nullcontext(sys.stdin.buffer) if path == STDIN else path.open("rb") as file:
            raw = file.read(most + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    if len(raw) > most:
        raise ConfigError(f"{path}: larger than {most // 1024} KiB, so not a tiedae config")
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
        escape = "escape" in str(error.problem)
        advice = "; in double quotes a backslash starts an escape: write a Windows path in single quotes" if escape else ""
        raise ConfigError(
            f"{source}:{mark.line + 1 if mark else 1}: not valid YAML: {error.problem or error.context}{advice}"
        ) from None
    except (ValueError, OverflowError) as error:  # includes invalid escapes and versions
        raise ConfigError(f"{source}:{loader.line + 1}: not valid YAML: {str(error)[:70]}") from None
    finally:
        loader.dispose()
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"{source}:1: expected a mapping with the sections {', '.join(Config.model_fields)}")
    return values, builder.places


def _refuse_control_characters(text: str, source: str) -> None:
    """Refuse control characters, naming their line, before PyYAML parses the text."""
    found = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if found:
        line = text.count("\n", 0, found.start()) + 1
        raise ConfigError(f"{source}:{line}: the character U+{ord(found.group()):04X} is not allowed in YAML")


class _Builder:
    """Build plain values from YAML nodes and record their lines; refuse YAML features that configs do not use."""

    def __init__(self, loader: _Loader, source: str) -> None:
        self.loader = loader
        self.source = source
        self.places: dict[KeyPath, str] = {}
        self._seen: set[int] = set()  # ids of nodes, which the document keeps alive

    def build(self, node: yaml.Node, path: KeyPath = ()) -> Any:
        """Return the value of a node and record its location under the key path."""
        place = self.places.setdefault(path, self._place(node))  # the location of its key, if it has one
        if id(node) in self._seen:  # an alias is the same node again
            raise ConfigError(f"{place}: {dotted(path)}: YAML aliases (*name) are not supported in configs; repeat the value")
        if isinstance(node, yaml.MappingNode):
            self._seen.add(id(node))
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            self._seen.add(id(node))
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        try:
            value = self.loader.construct_object(node)
        except (
            ValueError,
            OverflowError,
            TypeError,
            KeyError,
            IndexError,
            AttributeError,
        ) as error:  # all can come from PyYAML
            raise ConfigError(
                f"{place}: {dotted(path)}: {short(node.value)} is not a valid value ({short(str(error), 70)})"
            ) from None
        hidden = HIDDEN.search(value) if isinstance(value, str) else None
        if hidden:  # "\0" and the like cannot be part of a name
            raise ConfigError(f"{place}: {dotted(path)}: contains the character U+{ord(hidden.group()):04X}")
        return value

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[Any, Any]:
        values: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            place = self._place(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigError(f"{place}: keys must be plain text")
            key = key_node.value
            if key in values:
                raise ConfigError(f"{place}: {dotted((*path, key))}: duplicate key; first given at {self.places[(*path, key)]}")
            self.places[(*path, key)] = place
            values[key] = self.build(value_node, (*path, key))
        return values

    def _place(self, node: yaml.Node) -> str:
        return f"{self.source}:{node.start_mark.line + 1}"


def _assign(values: dict[Any, Any], places: dict[KeyPath, str], text: str, assigned: set[keys.Key]) -> None:
    """Apply one ``KEY=VALUE`` to the values and record its key as assigned."""
    source = short(text, 80).strip("'")
    pair = keys.assignment(text)
    if pair is None:
        raise ConfigError(f"{source}: expected KEY=VALUE, for example training.epochs=10")
    name, value_text = pair
    keys.refuse_layer_count(name, value_text)
    path = keys.resolve(name, value_text.strip())
    value = _assigned_value(path, value_text, source)
    section = values.setdefault(path[0], {})
    if section is None:
        section = values[path[0]] = {}
    if isinstance(section, dict):
        section[path[1]] = value
        other = keys.INSTEAD.get(path)
        if other is not None and value is not None and other not in assigned:
            section.pop(other[1], None)
    assigned.add(path)
    for known in [key for key in places if key[: len(path)] == path]:
        del places[known]
    places[path] = source
    places.setdefault(path[:1], source)


def _assigned_value(path: keys.Key, text: str, source: str) -> Any:
    """Return an assignment's value: verbatim for text keys, split at commas for list keys, otherwise parsed as YAML."""
    plain = text.strip()
    if any(text in kind.get("enum", ()) for kind in keys.kinds(path)):
        return text  # such as a comma, which YAML would not read
    if plain[:1] not in ("[", "{", "'", '"'):
        if plain in keys.NULLS:
            return None
        hidden = HIDDEN.search(plain)
        if hidden:
            raise ConfigError(f"{source}: contains the character U+{ord(hidden.group()):04X}")
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
        raise ConfigError(f"{source}: expected a single YAML value")
    return parsed["value"]
