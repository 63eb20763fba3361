"""Write the types of the keyword arguments of ``tiedae.train`` from the schema: ``python docs/config_keys.py``."""

import json
from pathlib import Path
from typing import Any

from tiedae_cli.config import keys

FILE = Path(__file__).parent.parent / "tiedae_cli" / "api" / "config_keys.py"
PARAMETERS = ("validation", "test")  # of ``train`` itself
LABELS = "str | int | bool"
SPECIAL = {  # what is accepted beyond the JSON schema
    "normal": f"{LABELS} | Sequence[{LABELS}]",
    "dataset": "str | PathLike[str] | Sequence[str | PathLike[str]]",
    "runs": "str | PathLike[str]",
    **dict.fromkeys(("root", "init_from"), "str | PathLike[str] | None"),
}
TYPES = {"integer": "int", "number": "float", "boolean": "bool", "string": "str", "null": "None"}
HEAD = '''"""The keyword arguments of ``tiedae.train``: the keys of the config by their last part.

Made by ``python docs/config_keys.py``; do not edit.
"""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Literal, TypedDict


class ConfigKeys(TypedDict, total=False):
    """Keys of the config; ``tiedae schema`` and docs/config.md say what each means."""

'''


def type_of(field: dict[str, Any]) -> str:
    """Return the Python type of what a key may hold, from its JSON schema."""
    if "anyOf" in field:
        return " | ".join(dict.fromkeys(type_of(kind) for kind in field["anyOf"]))
    if "enum" in field or "const" in field:
        words = field["enum"] if "enum" in field else [field["const"]]
        return f"Literal[{', '.join(map(json.dumps, words))}]"
    if field.get("type") == "array":
        items = field.get("items") or {"anyOf": field.get("prefixItems", [{"type": "string"}])}
        one = type_of(items)
        return f"{one} | Sequence[{one}]"
    if field.get("type") == "object":
        return "str | Mapping[str, str]"
    return TYPES[field["type"]]


def text() -> str:
    """Return the whole file."""
    properties = keys.properties()
    lines = [
        f"    {key}: {SPECIAL.get(key) or type_of(field)}" for (_, key), field in properties.items() if key not in PARAMETERS
    ]
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
