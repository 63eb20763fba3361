"""Keys with several values to try, as typed after ``tiedae tune``, and the configs of all their combinations.

For a key that holds one value a comma separates values. For a key that holds a list the whole word is one value, and the word is
repeated for more. A key with one value is fixed.
"""

import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tiedae_cli.config import keys
from tiedae_cli.config.schema import Config
from tiedae_cli.config.yaml_reader import with_assignments
from tiedae_cli.errors import ConfigError, InputError

SEED = ("training", "seed")
CODE_SIZE = ("model", "code_size")
MOST = 10_000  # combinations
LONGEST_NAME = 100  # characters of a folder


@dataclass(frozen=True)
class Grid:
    """The words of a command line, sorted into keys with one value and keys with several."""

    fixed: tuple[str, ...]
    """``KEY=VALUE``"""
    varied: Mapping[keys.Key, tuple[str, ...]]
    """The values to try as typed, by key."""


@dataclass(frozen=True)
class Combination:
    """One value of each varied key, and the config with them."""

    settings: Mapping[str, Any]
    """The values, by ``section.key``; as the config holds them, except for the number of ``model.code_size``."""
    config: Config

    @property
    def name(self) -> str:
        """Name of its run folder."""
        text = ",".join(f"{key.rpartition('.')[2]}={plain(value)}" for key, value in self.settings.items())
        safe = re.sub(r"[^\w.,+=-]+", "-", text)
        if len(safe) <= LONGEST_NAME and safe == text:
            return safe
        return f"{safe[:LONGEST_NAME]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def plain(value: Any) -> str:
    """Return a value as people type it: ``64-8`` for a list."""
    if isinstance(value, (list, tuple)):
        return "-".join(map(plain, value))
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def parse_grid(assignments: Sequence[str]) -> Grid:
    """Sort ``KEY=V1,V2`` and ``KEY=VALUE`` into varied and fixed keys.

    Raises:
        ConfigError: a word is not an assignment, no key has its name, or its key cannot vary.
    """
    values: dict[keys.Key, list[str]] = {}
    texts: dict[keys.Key, str] = {}
    for text in assignments:
        pair = keys.assignment(text)
        if pair is None:
            raise ConfigError(f"{text}: expected KEY=VALUE, or KEY=V1,V2 for several values; for example code_size=2,4,8")
        name, given = pair
        keys.refuse_layer_count(name, given)
        key = keys.resolve(name, given)
        texts[key] = text
        values.setdefault(key, []).extend(_values(key, given))
    found = {key: tuple(dict.fromkeys(given)) for key, given in values.items()}
    varied = {key: given for key, given in found.items() if len(given) > 1}
    for key in varied:
        if key[0] == "output" or key in (("data", "dataset"), ("data", "root")):
            raise ConfigError(f"{texts[key]}: {'.'.join(key)} cannot vary; give one value")
    return Grid(tuple(text for key, text in texts.items() if key not in varied), varied)


def _values(key: keys.Key, text: str) -> list[str]:
    """Return the values of one word."""
    if keys.is_list(key) or text.strip()[:1] in ("[", "{", '"', "'") or not text.strip(", "):
        return [text]
    if key == ("data", "dataset"):  # a path may hold a comma
        return [text]
    return [part.strip() for part in text.split(",") if part.strip()]


def combinations(base: Config, varied: Mapping[keys.Key, Sequence[str]]) -> list[Combination]:
    """Return the config of each combination of values; those of one data section, then those of one seed follow each other.

    Args:
        base: the config with all fixed keys.
        varied: values as typed, by key.

    Raises:
        ConfigError: a value is wrong, or two keys contradict each other; the message names the combination.
        InputError: there are more than ``MOST``.
    """
    count = 1
    for given in varied.values():
        count *= len(given)
    if count > MOST:
        raise InputError(f"{count:,} combinations of values; expected at most {MOST:,}")
    order = sorted(varied, key=lambda key: (key[0] != "data", key != SEED))  # one data set at a time, then one whole curve
    found: list[Combination] = []
    seen: set[str] = set()
    for values in itertools.product(*(varied[key] for key in order)):
        chosen = dict(zip(order, values, strict=True))
        config = with_assignments(base, [f"{'.'.join(key)}={chosen[key]}" for key in varied])
        text = config.model_dump_json()
        if text not in seen:
            seen.add(text)
            found.append(Combination({".".join(key): _value(config, key) for key in varied}, config))
    return found


def _value(config: Config, key: keys.Key) -> Any:
    return config.model.encoder[-1].size if key == CODE_SIZE else getattr(getattr(config, key[0]), key[1])
