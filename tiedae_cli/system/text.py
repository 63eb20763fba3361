r"""Text from outside (names of files and runs, what is in a file) is data: it commands no terminal, and typed it means itself.

Control characters, line breaks, marks that turn the direction of writing, and bytes that are not UTF-8 (which Python keeps as half
characters) are shown escaped: ``\x1b``, ``\n``, ``\u202e``, ``\xff``.
"""

import os
import re
from collections.abc import Iterable

HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
HIDDEN_IN_LINES = re.compile(HIDDEN.pattern.replace("\x00-\x1f", "\x00-\t\x0b-\x1f"))  # a message may have several lines
_broken: set[str] = set()  # parts of names that hold a line break, and would make one line of a message look like two


def shown(text: str) -> str:
    """Return a name or another text of one line as it can be shown."""
    return HIDDEN.sub(_escaped, text) if HIDDEN.search(text) else text


def shown_lines(text: str) -> str:
    """Return a message as it can be shown: its own lines stay, and line breaks in the names that it tells of are escaped."""
    for part in sorted(_broken, key=len, reverse=True):
        text = text.replace(part, shown(part))
    return HIDDEN_IN_LINES.sub(_escaped, text)


def note_names(names: Iterable[str]) -> None:
    """Note names as they come in (arguments, files of a folder), for messages that will tell of them."""
    for name in names:
        if "\n" in name:
            _broken.update(part for part in name.split(os.sep) if "\n" in part and part.strip("\n"))


def _escaped(found: re.Match[str]) -> str:
    number = ord(found.group())
    if 0xDC80 <= number <= 0xDCFF:  # how Python keeps a byte that is not UTF-8
        number -= 0xDC00
    short = {10: "\\n", 13: "\\r", 9: "\\t"}.get(number)
    return short or (f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}")
