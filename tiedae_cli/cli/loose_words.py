"""Suggests the right line for assignments with blanks or colons: ``epochs = 3``, ``epochs:3``, ``hidden_sizes=300 150``."""

import os
import re
from collections.abc import Sequence

from tiedae_cli.config import keys
from tiedae_cli.errors import InputError
from tiedae_cli.system.portability import quoted

NUMBER = re.compile(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?")


def refuse_loose_words(words: Sequence[str], known: Sequence[str], others: Sequence[str], command: str) -> None:
    """Refuse words that are parts of ``KEY=VALUE``.

    Args:
        words: after the command, without options.
        known: names of configs and data sets, which are words of their own.
        others: options to repeat in the suggested line.
        command: ``train``, or ``tune``, which takes several values of any key.

    Raises:
        InputError: some words belong together; the message has the line to type.
    """
    joined = join_words(words, known, several=command == "tune")
    if joined != list(words):
        wrong = " ".join(word for word in words if word not in joined)
        line = " ".join(quoted(word) for word in (*joined, *others))
        raise InputError(f"{wrong}: write KEY=VALUE without blanks, and lists with commas; type: tiedae {command} {line}")


def join_words(words: Sequence[str], known: Sequence[str] = (), *, several: bool = False) -> list[str]:
    """Join the words that form one ``KEY=VALUE``; with ``several`` any key may have several values."""
    rest, joined = list(words), list[str]()
    while rest:
        word = rest.pop(0)
        name, sign, value = re.fullmatch(r"([^=:]*)([=:]?)(.*)", word, re.DOTALL).groups()  # type: ignore[union-attr]
        key = None if os.path.exists(word) or word.lower() in known else keys.find_key(name)
        if key is None:
            joined.append(word)
            continue
        if not sign and rest and rest[0][:1] in ("=", ":"):
            sign, value = rest[0][0], rest.pop(0)[1:]
        follows = bool(rest) and _is_value(rest[0], known)
        if follows and not value and (sign or NUMBER.fullmatch(rest[0])):
            sign, value = "=", rest.pop(0)
        while value and (several or keys.is_list(key)) and rest and NUMBER.fullmatch(rest[0]) and not os.path.exists(rest[0]):
            value = f"{value.rstrip(',')},{rest.pop(0)}"
        joined.append(f"{name}={value}" if sign else word)
    return joined


def _is_value(word: str, known: Sequence[str]) -> bool:
    return not os.path.exists(word) and word.lower() not in known and keys.assignment(word) is None
