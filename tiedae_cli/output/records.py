"""Objects of the same keys to JSON Lines or CSV, many at a time: a million scores are written in seconds.

Shapes: N objects a block.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tiedae_cli.output.output_targets import opened_output
from tiedae_cli.system.json_text import json_text, sayable
from tiedae_cli.system.text import shown


@dataclass(frozen=True)
class Records:
    """N objects, key by key."""

    columns: Mapping[str, Sequence[Any]]
    """The N values of each key."""
    optional: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Those of keys that come last, and that an object lacks where the value is None; JSON Lines alone have them."""

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    @classmethod
    def one(cls, values: Mapping[str, Any]) -> "Records":
        """Return a single object."""
        return cls({key: [value] for key, value in values.items()})


def write_records(target: str, kind: str, blocks: Iterable[Records]) -> int:
    """Write objects of the same keys, each block as it comes, to a file, whole or not at all, or to stdout; return how many.

    Args:
        target: a path or ``-``.
        kind: ``jsonl``, or ``csv``, whose heading is the first block's keys.
        blocks: the objects.

    Raises:
        StorageError: the file cannot be written.
    """
    count = 0
    with opened_output(target) as file:
        for block in blocks:
            if kind == "csv":
                heading = ",".join(map(_csv_text, block.columns)) + "\n" if count == 0 and len(block) else ""
                text = heading + _lines([_csv_column(values) for values in block.columns.values()], ",".join, "\n")
            else:
                text = json_lines(block)
            file.write(text.encode())
            count += len(block)
    return count


def json_lines(block: Records) -> str:
    """Return objects as JSON Lines; what JSON cannot say (NaN, infinity) becomes null."""
    if len(block) == 1 and not block.optional:
        return json_text({key: values[0] for key, values in block.columns.items()}) + "\n"
    keys = [json.dumps(key).replace("%", "%%") for key in block.columns]
    template = "{" + ", ".join(f"{key}: %s" for key in keys) + "%s" * len(block.optional) + "}\n"
    texts = [_json_column(values) for values in block.columns.values()]
    for key, values in block.optional.items():
        name = json.dumps(key)
        texts.append(["" if value is None else f", {name}: {json.dumps(sayable(value), allow_nan=False)}" for value in values])
    return "".join(map(template.__mod__, zip(*texts, strict=True)))


def _lines(texts: Sequence[Sequence[str]], joined: Callable[[Iterable[str]], str], end: str) -> str:
    return "".join(joined(cells) + end for cells in zip(*texts, strict=True))


def _json_column(values: Sequence[Any]) -> list[str]:
    """Return each value as JSON, most of them without a call of Python each."""
    kinds = set(map(type, values))
    if kinds <= {float}:
        texts = _numbers(values)
        return ["null" if "n" in text else text for text in texts] if any("n" in text for text in texts) else texts
    if kinds <= {int}:
        return list(map(str, values))
    if kinds <= {bool}:
        return ["true" if value else "false" for value in values]
    if kinds <= {str}:
        return list(map(json.encoder.encode_basestring_ascii, values))
    return [json.dumps(sayable(value), allow_nan=False) for value in values]


def _numbers(values: Sequence[float]) -> list[str]:
    """Return floats as text that gives the same floats back; one that stands in every row, as a threshold does, is written once."""
    alike = len(set(map(id, values))) == 1
    return [repr(values[0])] * len(values) if alike else list(map(repr, values))


def _csv_column(values: Sequence[Any]) -> list[str]:
    kinds = set(map(type, values))
    if kinds <= {float}:
        return _numbers(values)
    if kinds <= {bool}:
        return ["true" if value else "false" for value in values]
    return list(map(str if kinds <= {int} else _csv_text, values))


def _csv_text(value: object) -> str:
    """Return a cell, quoted where it must be."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    text = shown(value) if isinstance(value, str) else str(value)
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\r\n') else text
