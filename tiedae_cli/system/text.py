r"""Escaping of untrusted text (file names, run names, cell contents), so that it cannot control the terminal or the shell.

Control characters, line breaks, marks that change the direction of writing, and bytes that are not UTF-8 (which Python keeps as lone
surrogates) are shown escaped: ``\x1b``, ``\n``, ``\u202e``, ``\xff``.
"""

import os
import re
from collections.abc import Iterable

HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
HIDDEN_IN_LINES = re.compile(HIDDEN.pattern.replace("\x00-\x1f", "\x00-\t\x0b-\x1f"))  # a message may have several lines
LONGEST_LINE = 10_000  # characters of a line of a message: more than two of the longest paths
_broken: set[str] = set()  # parts of names that contain a line break, which would split a line of a message


def shown(text: str) -> str:
    """Return a name or another single-line text with its control characters escaped."""
    return HIDDEN.sub(_escaped, text) if HIDDEN.search(text) else text


def shortened(text: str, most: int) -> str:
    """Return a text of at most ``most`` characters, with its middle replaced by an ellipsis if it is longer."""
    return text if len(text) <= most else f"{text[: most // 2]}...{text[len(text) - most // 2 + 3 :]}"


def shown_lines(text: str) -> str:
    """Return a message with control characters escaped; its own line breaks stay, those in noted names are escaped.

    A line of more than ``LONGEST_LINE`` characters is shortened.
    """
    for part in sorted(_broken, key=len, reverse=True):
        text = text.replace(part, shown(part))
    if len(text) > LONGEST_LINE:
        text = "\n".join(shortened(line, LONGEST_LINE) for line in text.split("\n"))
    return HIDDEN_IN_LINES.sub(_escaped, text)


def note_names(names: Iterable[str]) -> None:
    """Record names from outside (arguments, files, arrays, columns, labels) that messages may contain."""
    for name in names:
        if "\n" in name:
            _broken.update(part for part in name.split(os.sep) if "\n" in part and part.strip("\n"))


def _escaped(found: re.Match[str]) -> str:
    number = ord(found.group())
    if 0xDC80 <= number <= 0xDCFF:  # Python's surrogate for a byte that is not UTF-8
        number -= 0xDC00
    short = {10: "\\n", 13: "\\r", 9: "\\t"}.get(number)
    return short or (f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}")
