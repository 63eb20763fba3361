"""Validation errors of a config as one-line messages: file and line, key, what is wrong, and what to type instead."""

import difflib
import json
import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from tiedae_cli.config import keys
from tiedae_cli.config.core_schema import OLD_BOOLS
from tiedae_cli.config.schema import Config

KeyPath = tuple[str | int, ...]


def suggestion(name: object, known: Sequence[str] | dict[str, Any]) -> str:
    """Return " (did you mean ...?)" for a close name, else the list of known names."""
    close = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.7)
    return f" (did you mean {close[0]}?)" if close else f" (known: {', '.join(known)})"


def place_of(places: dict[KeyPath, str], path: KeyPath) -> str:
    """Return the location (file:line) of the nearest enclosing key path that has one."""
    while path and path not in places:
        path = path[:-1]
    return places.get(path, "config")


def in_order_of_reading(items: Sequence[Any], values: object, places: dict[KeyPath, str]) -> list[Any]:
    """Sort pydantic's errors, which arrive in schema order, by their position in the user's file."""
    read = {place: number for number, place in enumerate(dict.fromkeys(places.values()))}
    inside = {
        tuple(item["loc"])[:-1] for item in items
    }  # if all items of a list are invalid, do not also report it as too short
    items = [item for item in items if item["type"] != "too_short" or tuple(item["loc"]) not in inside]
    return sorted(items, key=lambda item: read.get(place_of(places, _given_path(tuple(item["loc"]), values)), len(read)))


def line_of(item: Any, values: object, places: dict[KeyPath, str]) -> str:
    """Return the one-line message for a pydantic error."""
    path = _given_path(tuple(item["loc"]), values)
    where = f"{place_of(places, path)}: {dotted(path)}: "
    kind, context = item["type"], item.get("ctx", {})
    if kind == "extra_forbidden":
        return f"{where}unknown key{_home(path, item['input']) or _close_key(path)}"
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", context["expected"])
        return f"{where}{short(item['input'])} is not a valid choice{suggestion(short(item['input']).strip(chr(39)), choices)}"
    if kind in ("model_type", "model_attributes_type"):
        known = ", ".join(_siblings((*path, "")))
        return f"{where}expected a section with keys ({known}), not {short(item['input'])}"
    if kind in ("too_short", "too_long"):
        word, limit = ("at least", context["min_length"]) if kind == "too_short" else ("at most", context["max_length"])
        return f"{where}must hold {word} {limit} {'item' if limit == 1 else 'items'}, not {context['actual_length']}"
    if kind == "bool_type" and str(item["input"]).lower() in OLD_BOOLS:
        return f"{where}{item['input']} is text in YAML 1.2; write {OLD_BOOLS[str(item['input']).lower()]}"
    if kind in ("int_type", "float_type", "int_parsing", "float_parsing") and re.fullmatch(
        r"[-+]?\d+,\d+", str(item["input"]).strip()
    ):
        return f"{where}{short(item['input'])}: write a decimal point: {path[-1]}={item['input'].strip().replace(',', '.')}"
    message = (item["msg"][0].lower() + item["msg"][1:]).replace("input should", "must").replace("a valid tuple", "a list")
    return f"{where}{message}, not {short(item['input'])}"


def _home(path: KeyPath, value: object) -> str:
    """Return a hint for a misplaced key or another tool's key name; empty for an unknown name."""
    name = str(path[-1])
    if name in keys.TRACKERS:
        return f"; type `output: {{trackers: [{name}]}}`"
    if name in keys.NOT_OFFERED:
        return f": {keys.NOT_OFFERED[name]}"
    key = keys.find_key(name)
    if key is None or len(path) > 2:
        return ""
    shown = json.dumps(value) if isinstance(value, (list, bool, int, float)) else str(value)
    return f"; type `{key[0]}: {{{key[1]}: {short(shown, 60).strip(chr(39))}}}`"


def _close_key(path: KeyPath) -> str:
    """Return " (did you mean ...?)" for an unknown key with a close sibling, else the list of keys at that level."""
    known = list(_siblings(path))
    vague = str(path[-1]).lower() in keys.VAGUE
    return f" (known: {', '.join(known)})" if vague else suggestion(path[-1], known)


def _given_path(location: KeyPath, values: object) -> KeyPath:
    """Return a pydantic location without the union and tuple parts that the user's values do not contain."""
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
    """Return the schema's keys at the level of the last part of the path."""
    model: type[BaseModel] = Config
    for part in path[:-1]:
        field = model.model_fields.get(str(part))
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return {}
        model = field.annotation
    return dict(model.model_fields)


def dotted(path: KeyPath) -> str:
    """Return a key path as ``section.key``."""
    return ".".join(short(part, 60).strip("'") for part in path) or "config"


def short(value: object, width: int = 40) -> str:
    """Return a value as short text; containers by their type only, because they may be huge."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    if isinstance(value, int) and value.bit_length() > 200:
        return "a huge number"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= width else text[: width - 3] + "..."
