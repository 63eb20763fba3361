"""Objects written many at a time are those that json and csv would write one by one."""

import csv
import io
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiedae_cli.data.records import Records
from tiedae_cli.output.item_writer import json_lines, write_records
from tiedae_cli.system.text import shown

CELLS = st.one_of(st.floats(), st.integers(), st.booleans(), st.text(max_size=6), st.none(), st.lists(st.floats(), max_size=2))
COLUMNS = st.dictionaries(
    st.text(min_size=1, max_size=5),
    st.one_of(
        *(st.lists(kind, min_size=4, max_size=4) for kind in (st.floats(), st.integers(), st.booleans(), st.text(), CELLS))
    ),
    min_size=1,
    max_size=4,
)


def plain(value: Any) -> Any:
    if isinstance(value, list):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@given(COLUMNS, st.integers(0, 4), st.lists(st.one_of(st.none(), st.lists(st.floats())), min_size=4, max_size=4))
def test_json_lines(columns: dict[str, list[Any]], count: int, extra: list[Any]) -> None:
    columns = {key: values[:count] for key, values in columns.items()}
    columns.pop("%d more", None)
    rows = [{key: plain(values[row]) for key, values in columns.items()} for row in range(count)]
    assert json_lines(Records(columns)) == "".join(json.dumps(row) + "\n" for row in rows)
    with_more = [
        {**row, "%d more": plain(value)} if value is not None else row for row, value in zip(rows, extra, strict=False)
    ]
    assert json_lines(Records(columns, {"%d more": extra[:count]})) == "".join(json.dumps(row) + "\n" for row in with_more)
    assert json_lines(Records({"item": range(3)})) == '{"item": 0}\n{"item": 1}\n{"item": 2}\n'


@given(columns=COLUMNS)
def test_csv(tmp_path_factory: pytest.TempPathFactory, columns: dict[str, list[Any]]) -> None:
    columns = {"first": [1, 2, 3, 4], **columns}
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(map(shown, columns))
    for row in zip(*columns.values(), strict=True):
        writer.writerow(
            str(value).lower() if isinstance(value, bool) else shown(value) if isinstance(value, str) else value
            for value in row
        )
    target = tmp_path_factory.mktemp("records") / "records.csv"
    assert write_records(str(target), "csv", [Records({key: [] for key in columns}), Records(columns)]) == 4
    assert target.read_text() == buffer.getvalue()
