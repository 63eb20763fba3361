"""The core schema of YAML 1.2.2 (chapter 10.3.2), which types plain words.

PyYAML implements version 1.1, where ``no`` is false, ``010`` is 8, ``1:30`` is 90, ``1_0`` is 10, and ``1e-3`` is text.
"""

import math
import re
from typing import Any

import yaml

NULL = re.compile(r"^(?:~|null|Null|NULL|)$")
BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
INT = re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$")
FLOAT = re.compile(r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$")
TAG = "tag:yaml.org,2002:"
RESOLVERS = (
    ("null", NULL, ["~", "n", "N", ""]),
    ("bool", BOOL, list("tTfF")),
    ("int", INT, list("-+0123456789")),
    ("float", FLOAT, list("-+.0123456789")),
)
OLD_BOOLS = {
    **dict.fromkeys(("yes", "on", "y"), "true"),
    **dict.fromkeys(("no", "off", "n"), "false"),
}  # YAML 1.1's names of true and false


def use_core_schema(side: Any) -> None:
    """Make a loader's or a dumper's class resolve plain words by the core schema."""
    side.yaml_implicit_resolvers = {}
    for name, pattern, first in RESOLVERS:
        side.add_implicit_resolver(TAG + name, pattern, first)


def construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    """Parse a whole number: decimal (leading zeros are allowed), ``0o`` or ``0x``."""
    text = loader.construct_scalar(node)
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


def construct_float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    """Parse a number."""
    text = loader.construct_scalar(node).lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan")) if text[-1].isalpha() else _plain(text)


def _plain(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("too large for a number")
    return value
