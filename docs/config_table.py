"""Print the table of all keys for docs/config.md, made from the schema's fields and docstrings.

    python docs/config_table.py

``tests/promises/test_readme.py`` holds the page to it.
"""

import json
from typing import Any

from tiedae_cli.config.keys import alternatives, properties

HEAD = "| key | default | values | meaning |\n|---|---|---|---|"


def main() -> None:
    """Print the table."""
    print(table())


def table() -> str:
    """Return the table as Markdown: a row a field, each with its key path."""
    rows = [row(".".join(key), field) for key, field in properties().items()]
    return "\n".join([HEAD, *rows])


def row(key: str, field: dict[str, Any]) -> str:
    """Return one line of the table."""
    default = json.dumps(field["default"])  # which is YAML as well
    meaning = " ".join(field["description"].split()).replace("|", "\\|")
    return f"| `{key}` | `{default.strip(chr(34))}` | {values(field)} | {meaning} |"


def values(field: dict[str, Any]) -> str:
    """Return which values a field takes, in words."""
    kinds = alternatives(field)
    if [kind.get("type") for kind in kinds] == ["integer", "number"]:
        return "a count, or a fraction below 1"
    if [kind.get("type") for kind in kinds] == ["string", "array"]:
        return "text, or a list of text"
    (kind,) = kinds
    if "enum" in kind:
        return ", ".join(f"`{choice}`" for choice in kind["enum"])
    if kind["type"] == "object":
        return "a name, or names by role"
    if kind["type"] == "array" and "enum" in kind.get("items", {}):
        return "a list of " + values(kind["items"])
    if kind["type"] == "array" and "items" in kind and kind["items"].get("type") == "string":
        examples = " or ".join(f"`{example}`" for example in kind["items"].get("examples", []))
        return f"a list, each as {examples}" if examples else "a list of text"
    if kind["type"] == "array":
        length = f"{kind['minItems']} to {kind['maxItems']}" if kind["minItems"] != kind["maxItems"] else kind["minItems"]
        inner = values((kind.get("prefixItems") or [kind["items"]])[0])
        return f"{length} numbers" + (f", each {inner}" if inner else "")
    return {"boolean": "`true`, `false`", "string": "text"}.get(kind["type"]) or _range(kind)


def _range(kind: dict[str, Any]) -> str:
    """Return the bounds of a number."""
    bounds = {
        name: f"{int(bound) if bound == int(bound) else bound:,}" for name, bound in kind.items() if "imum" in name.lower()
    }
    if kind.get("exclusiveMaximum") == 2**32:
        return f"{bounds['minimum']} to 2^32 - 1"
    if {"minimum", "maximum"} <= bounds.keys():
        return f"{bounds['minimum']} to {bounds['maximum']}"
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    return ", ".join(f"{word} {bounds[name]}" for name, word in words.items() if name in bounds)


if __name__ == "__main__":
    main()
