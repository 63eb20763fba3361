"""The rows of a CSV in pieces of any size are those that pyarrow reads at once, and each begins at the line that an editor shows."""

import io
import random
import re

import pyarrow
import pyarrow.csv
import pytest

from tiedae_cli.data.sources.arriving import Arriving
from tiedae_cli.data.sources.text_rows import RowText
from tiedae_cli.errors import DataError
from tiedae_cli.system import memory_limits

NAMES = ["a", "b"]


class Crumbs(Arriving):
    """A file that is read a few bytes at a time."""

    def __init__(self, text: bytes, size: int) -> None:
        super().__init__(io.BytesIO(text))
        self.size = size

    def read(self, size: int, pause: float = 0) -> bytes:
        return super().read(self.size)


def parsed(text: bytes) -> tuple[list[tuple[str, str]], int]:
    """Return the rows of two cells, and how many rows there are in all, by pyarrow's parser."""
    wrong = []
    found = pyarrow.csv.read_csv(
        pyarrow.BufferReader(text),
        pyarrow.csv.ReadOptions(column_names=NAMES, use_threads=False, block_size=len(text) + 1),
        pyarrow.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=lambda row: wrong.append(row) or "skip"),  # type: ignore[func-returns-value]
        pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(NAMES, pyarrow.string()), strings_can_be_null=False),
    )
    return list(zip(*found.to_pydict().values(), strict=True)), found.num_rows + len(wrong)


@pytest.mark.slow
def test_pieces_of_any_size_hold_the_rows_that_a_parser_finds_in_the_whole_text() -> None:
    generator = random.Random(5)
    for _ in range(400):
        text = "".join(generator.choice('a1,,""\n\r\n') for _ in range(generator.randrange(1, 16))).encode()
        pieces = list(RowText(Crumbs(text, generator.randrange(1, 6)), "x.csv", ",").pieces())
        rows: list[tuple[str, str]] = []
        for piece in pieces:
            found, count = parsed(bytes(piece.text))
            rows += found
            assert count == len(piece.lines), text
        assert (rows, sum(len(piece.lines) for piece in pieces)) == parsed(text), text


def test_each_row_begins_at_the_line_that_an_editor_shows() -> None:
    generator = random.Random(6)
    for _ in range(800):
        cells = [generator.choice(["1", "", '"x"', '"two\nlines"', '"a ""b""\r\nc"', '5" pipe']) for _ in range(16)]
        text, starts = "\ufeff", []
        for first, second in zip(cells[::2], cells[1::2], strict=True):
            text += generator.choice(["", "", "\n", "\r\n"])
            starts.append(len(text))
            text += f"{first},{second}" + generator.choice(["\n", "\r\n"])
        expected = [1 + len(re.findall("\r\n|\n", text[:start])) for start in starts]
        source = Crumbs(text.encode(), generator.randrange(3, 40))
        skip = generator.randrange(3)
        assert [line for piece in RowText(source, "x.csv", ",").pieces(skip) for line in piece.lines] == expected[skip:]


def test_a_row_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_limits, "LONGEST_LINE", 100)
    source = Crumbs(b'1,2\n"' + b"x" * 200, 30)
    with pytest.raises(DataError, match=r"x\.csv: line 2 is longer"):
        list(RowText(source, "x.csv", ",").pieces())
