"""Number formats: the decimal and thousands marks of a table, detected by evidence in its first rows.

A table has one decimal mark. A mark is the thousands mark only on evidence: the other mark is the decimal one somewhere in the table,
or a cell has two groups (``1.234.567``). Single groups alone (``1.234``) are decimals. A sign of a currency or ``%`` beside a number is
removed: ``12%`` is 12.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from tiedae_cli.data.sources.cells import NO_NUMBER
from tiedae_cli.errors import DataError

EXPONENT = r"([eE][-+]?\d+)?"
BLANKS, APOSTROPHES = " \u00a0\u202f\u2009", "'\u2019"  # how one thousands mark is written
MARKS = (".", ",", "'", " ")
SIGNS = "%$€£¥"  # that may stand beside a number
SIGN_BEFORE, SIGN_AFTER = rf"^([-+]?)[{SIGNS[1:]}][\s\x{{a0}}]?([-+]?)(\d)", rf"(\d)[\s\x{{a0}}]?[{SIGNS}]$"  # also for RE2
ALIKE = {"'": APOSTROPHES, " ": BLANKS}


def bare(cell: str) -> str:
    """Return a number without the sign of a currency or percent: ``-$5`` is -5, ``12 %`` is 12; any other text as it is."""
    if not any(sign in cell for sign in SIGNS):
        return cell
    return _AFTER.sub(r"\1", _BEFORE.sub(r"\1\2\3", cell))


def sign_of(cell: str) -> str:
    """Return the sign of a currency or percent that a number has; empty if it has none."""
    return next((sign for sign in SIGNS if sign in cell), "") if bare(cell) != cell else ""


def _class(mark: str) -> str:
    """Return the character class of a mark in a regular expression."""
    return f"[{re.escape(ALIKE.get(mark, mark))}]"


@dataclass(frozen=True)
class NumberFormat:
    """How a table writes numbers."""

    decimal: str = "."
    thousands: str | None = None

    @property
    def is_plain(self) -> bool:
        """Whether numbers are written as in Python."""
        return self.decimal == "." and self.thousands is None

    @cached_property
    def grouped(self) -> str:
        """A regular expression for numbers with groups of three digits; it fits pyarrow (RE2) too."""
        return rf"^[-+]?\d{{1,3}}({_class(self.thousands or ',')}\d{{3}})+({re.escape(self.decimal)}\d*)?{EXPONENT}$"

    @cached_property
    def separators(self) -> str:
        """A regular expression for the thousands mark."""
        return _class(self.thousands or ",")

    def plain(self, cell: str) -> str:
        """Return a number as Python writes it; a text that is not a number in this format stays one that is not."""
        cell = bare(cell)
        if self.is_plain:
            return cell
        if self.thousands is not None and re.match(self.grouped, cell):
            cell = re.sub(self.separators, "", cell)
        return cell if self.decimal == "." else cell.replace(".", "!").replace(self.decimal, ".")

    def describe(self) -> str:
        """Return the format as text, for messages."""
        return f"decimal {self.decimal!r}" + ("" if self.thousands is None else f", thousands {self.thousands!r}")


@dataclass(frozen=True)
class _Evidence:
    """Cells that show what a mark is; the text of the first one, or None."""

    decimal: str | None = None
    """A cell in which the mark can only be the decimal one: ``0,5``, ``1234.567``."""
    thousands: str | None = None
    """A cell in which it can only separate groups: ``1.234.567``, ``1.234,5``."""
    single: str | None = None
    """A cell with a single group, which may be either: ``1.234``."""


def detect_format(
    columns: Sequence[Sequence[str]], delimiter: str, decimal: str | None, thousands: str | None, name: str
) -> tuple[NumberFormat, str | None]:
    """Return the number format of a table, and a note about it for the user.

    Args:
        columns: the cells of each column in the first rows.
        delimiter: of the table; a comma between cells means a decimal point.
        decimal: the user's choice, or None.
        thousands: the user's choice, or None.
        name: of the table, for messages.

    Raises:
        DataError: two cells contradict each other.
    """
    if delimiter == "," and decimal is None:
        decimal = "."
    cells = [cell for column in columns for cell in _numeric(column)]
    found = {mark: _evidence(cells, mark) for mark in MARKS}
    if decimal is None:
        decimal, doubtful = _decimal_mark(found, thousands, name)
    else:
        doubtful = None
    if thousands is None:
        thousands = _thousands_mark(found, decimal, doubtful)
    if thousands == decimal:
        thousands = None
    form = NumberFormat(decimal, thousands)
    if thousands is not None:
        sample = found[thousands].thousands or found[thousands].single
        return form, None if sample is None else f"{sample!r} is read as {_shown(form, sample)} (data.thousands: {thousands!r})"
    if doubtful is not None and delimiter != ",":
        return form, (
            f"{doubtful!r} is read as {_shown(form, doubtful)}, with decimals; "
            f"if {decimal!r} separates thousands: {_option('thousands', decimal)}"
        )
    return form, None


def _shown(form: NumberFormat, cell: str) -> str:
    return f"{float(form.plain(cell)):,.10g}".replace(",", "")


def _numeric(column: Sequence[str]) -> Iterable[str]:
    """Return the cells of a column that hold numbers in any format, if most of them do."""
    present = [cell for cell in column if cell not in NO_NUMBER]
    numbers = [bare(cell) for cell in present if looks_numeric(cell)]
    return numbers if len(numbers) > len(present) / 2 else ()


_BEFORE, _AFTER = (re.compile(pattern.replace(r"\x{a0}", r"\xa0")) for pattern in (SIGN_BEFORE, SIGN_AFTER))
_PLAIN = re.compile(rf"[-+]?(\d+[.,]?\d*|[.,]\d+){EXPONENT}$")
_GROUPED = re.compile(
    rf"[-+]?\d{{1,3}}(?:(?P<mark>{_class('.')}|{_class(',')}|{_class(chr(39))}|{_class(' ')})\d{{3}})"
    rf"(?:(?P=mark)\d{{3}})*([.,]\d*)?{EXPONENT}$"
)


def looks_numeric(cell: str) -> bool:
    """Return whether a cell is a number in any of the formats."""
    cell = bare(cell)
    return bool(_PLAIN.match(cell) or _GROUPED.match(cell))


def _evidence(cells: Iterable[str], mark: str) -> _Evidence:
    any_mark, other = _class(mark), r"[.,]" if mark not in ".," else re.escape("," if mark == "." else ".")
    single = re.compile(rf"[-+]?[1-9]\d{{0,2}}{any_mark}\d{{3}}$")
    several = re.compile(
        rf"[-+]?\d{{1,3}}({any_mark}\d{{3}}){{2,}}({other}\d*)?$|[-+]?\d{{1,3}}({any_mark}\d{{3}})+{other}\d*$"
    )
    fraction = re.compile(rf"[-+]?\d*{any_mark}\d*{EXPONENT}$")
    after_groups = re.compile(rf"[-+]?\d{{1,3}}((?!{any_mark})[.,{BLANKS}{APOSTROPHES}]\d{{3}})+{any_mark}\d*{EXPONENT}$")
    decimal = thousands = one = None
    for cell in cells:
        if single.match(cell):
            one = one or cell
        elif several.match(cell):
            thousands = thousands or cell
        elif (
            mark in ".," and any(character in cell for character in mark) and (fraction.match(cell) or after_groups.match(cell))
        ):
            decimal = decimal or cell
        if decimal and thousands and one:
            break
    return _Evidence(decimal, thousands, one)


def _decimal_mark(found: dict[str, _Evidence], thousands: str | None, name: str) -> tuple[str, str | None]:
    """Return the decimal mark, and a cell that leaves it in doubt."""
    point, comma = found["."], found[","]
    if thousands in (".", ","):
        return ("," if thousands == "." else "."), None
    for_comma = comma.decimal or point.thousands
    for_point = point.decimal or comma.thousands
    if for_comma and for_point:
        raise _contradiction(name, for_comma, for_point)
    if for_comma or for_point:
        return ("," if for_comma else "."), None
    if point.single and comma.single:
        raise _contradiction(name, comma.single, point.single)
    return ("," if comma.single else "."), comma.single or point.single


def _thousands_mark(found: dict[str, _Evidence], decimal: str, doubtful: str | None) -> str | None:
    for mark in MARKS:
        seen = found[mark].thousands or (doubtful is None or mark not in ".,") and found[mark].single
        if mark != decimal and seen:
            return mark
    return None


def _contradiction(name: str, comma: str, point: str) -> DataError:
    return DataError(
        f"{name}: {comma!r} and {point!r} contradict each other: a table has one decimal mark. "
        f"Decimal comma: {_option('decimal', ',')}; decimal point: {_option('decimal', '.')}"
    )


def _option(key: str, mark: str) -> str:
    return f"--set \"data.{key}='{mark}'\"" if mark != "'" else "--set data.thousands=\\'"
