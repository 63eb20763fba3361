"""The text of a CSV in pieces of whole rows, and the line of the file at which each row begins, as an editor counts.

A quoted cell may hold line breaks, and blank lines are not rows. As in pyarrow's parser, a quotation mark opens a quoted cell only where
the cell begins, and inside of it two of them stand for one.
Shapes: R rows of a piece.
"""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tiedae_cli.system.memory_limits import require_line

PIECE_BYTES = 1 << 22
LINE_BREAK, BLANK = re.compile(rb"\r\n?|\n"), re.compile(rb"\n[\r\n]")
QUOTED_CELL_OR_BREAK = re.compile(r'"(?<![^,;\t|\r\n]")[^"]*(?:""[^"]*)*"|(?P<end>\r\n?|\n)')


@dataclass(frozen=True)
class Piece:
    """Some whole rows."""

    text: memoryview
    lines: np.ndarray
    """(R,) int64: the line at which each row begins, from 1."""


def first_lines(text: str, most: int) -> list[str]:
    """Return the first lines of a text with any delimiter, with their line breaks; a line break within a quoted cell ends no line."""
    lines, start = list[str](), 0
    for token in QUOTED_CELL_OR_BREAK.finditer(text):
        if len(lines) == most:
            return lines
        if token["end"]:
            lines.append(text[start : token.end()])
            start = token.end()
    return [*lines, text[start:]][:most] if start < len(text) else lines


class Bytes(Protocol):
    """Where text comes from."""

    @property
    def ended(self) -> bool:
        """Whether what was read last is the end."""

    def read(self, size: int) -> bytes:
        """Return the next bytes, about so many of them; none at the end."""


class RowText:
    """Reads the rows of a CSV.

    Args:
        source: its bytes.
        name: of the file, for messages.
        delimiter: one character.
        line: the line at which the bytes begin, from 1.
        size: bytes of a piece, about.
    """

    def __init__(self, source: Bytes, name: str, delimiter: str, line: int = 1, size: int = PIECE_BYTES) -> None:
        self.source, self.name, self.line, self.size = source, name, line, size
        mark = re.escape(delimiter.encode())
        opening = rb'"(?<![^%b\r\n]")' % mark  # the mark comes first, because a literal is found much faster than a position
        self._quoted_break = re.compile(opening + rb'[^"\r\n]*(?:""[^"\r\n]*)*[\r\n]')
        self._token = re.compile(opening + rb'[^"]*(?:""[^"]*)*"?|\r\n?|\n')

    def pieces(self, skip: int = 0) -> Iterator[Piece]:
        """Yield the rows, without the first ``skip`` of them, as soon as they are read.

        Raises:
            DataError: a row is too long.
        """
        rest, first = b"", True
        while True:
            more = self.source.read(self.size)
            final = self.source.ended
            text, first = (more.removeprefix(codecs.BOM_UTF8) if first else rest + more), False
            if skip:
                dropped, start = self._scan(text, final, skip)
                skip, text = skip - len(dropped), text[start:]
            lines, end = self._all_lines(text, final) if self._is_plain(text) else self._scan(text, final)
            if len(lines) and not skip:
                yield Piece(memoryview(text)[:end], lines)
            if final:
                return
            rest = text[end:]
            require_line(self.name, self.line, len(rest))

    def _is_plain(self, text: bytes) -> bool:
        """Return whether each line of a text is a row."""
        if b"\r" in text and text.count(b"\r") != text.count(b"\r\n"):
            return False
        has_blank = text.startswith((b"\n", b"\r")) or BLANK.search(text) is not None
        return not has_blank and (b'"' not in text or self._quoted_break.search(text) is None)

    def _all_lines(self, text: bytes, final: bool) -> tuple[np.ndarray, int]:
        """Return the line of each whole row of a plain text, (R,), and where the last one ends."""
        end = len(text) if final else text.rfind(b"\n") + 1
        count = text.count(b"\n", 0, end) + (final and text != b"" and not text.endswith(b"\n"))
        lines = np.arange(self.line, self.line + count)
        self.line += count
        return lines, end

    def _scan(self, text: bytes, final: bool, most: int | None = None) -> tuple[np.ndarray, int]:
        """Return the line of each whole row of any text, (R,), and where the next one begins; of the first ``most`` rows."""
        lines: list[int] = []
        start, line = 0, self.line  # of the row; ``line`` counts on within it
        for token in self._token.finditer(text):
            if len(lines) == most:
                break
            if text.startswith(b'"', token.start()):
                line += len(LINE_BREAK.findall(text, *token.span()))
                continue
            if token.end() == len(text) and token.group() == b"\r" and not final:
                break  # the first half of a line break, perhaps
            if token.start() > start:
                lines.append(self.line)
            line += 1
            start, self.line = token.end(), line
        if final and start < len(text) and len(lines) != most:
            lines.append(self.line)
            start = len(text)
        return np.array(lines, np.int64), start
