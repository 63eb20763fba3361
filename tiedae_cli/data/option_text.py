"""Options of the command line as text, for messages that offer the line to type."""

import json
import re
from collections.abc import Sequence

from tiedae_cli.system.portability import quoted

PLAIN_TEXT = re.compile(r"[^\W\d]([\w .%/()+-]*[\w.%/()+-])?")  # YAML reads it as this text, also in a list
YAML_WORDS = ("null", "true", "false")  # in any case


def set_option(key: str, value: str | Sequence[str]) -> str:
    """Return the option that sets a key to a text or to a list of texts, as it is typed into a shell."""
    text = _in_yaml(value) if isinstance(value, str) else f"[{', '.join(map(_in_yaml, value))}]"
    return f"--set {quoted(f'{key}={text}')}"


def _in_yaml(text: str) -> str:
    plain = PLAIN_TEXT.fullmatch(text) and text.lower() not in YAML_WORDS
    return text if plain else json.dumps(text, ensure_ascii=False)
