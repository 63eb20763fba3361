"""What docs/deploy.md shows works: the script and the service answer as ``tiedae score`` does."""

import io
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Tiedae
from test_exported_models import assert_alike, trained_and_exported

PAGE = (Path(__file__).parent.parent.parent / "docs" / "deploy.md").read_text()
BLOCKS = dict(re.findall(r"^```[a-z]+ (\S+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))


def run_script(data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    monkeypatch.setattr(sys, "argv", ["score.py", "model.onnx"])
    monkeypatch.setattr(sys, "stdin", io.StringIO(data.read_text()))
    capsys.readouterr()
    exec(compile(BLOCKS["score.py"], "score.py", "exec"), {"__name__": "__main__"})  # noqa: S102
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mixed table", "neighbours"])
def test_the_script_prints_what_tiedae_prints(
    kind: str, tiedae: Tiedae, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Path(trained_and_exported(kind, tiedae))
    if data.suffix == ".npy":  # a model of an array names no columns: the script takes a CSV without a header
        data = Path("x.csv")
        np.savetxt(data, np.load("x.npy"), delimiter=",")
    expected = [
        {key: value for key, value in row.items() if key not in ("line", "id")}
        for row in tiedae("score", "m", data.with_suffix(".npy") if kind == "neighbours" else data, "-q").lines
    ]
    assert_alike(run_script(data, monkeypatch, capsys), expected)


@pytest.mark.slow
def test_the_script_refuses_an_unknown_category(
    tiedae: Tiedae, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained_and_exported("mixed table", tiedae)
    Path("new.csv").write_text("a,b,color,c\n1,2,violet,3\n")
    with pytest.raises(AssertionError, match="color: violet was not among the training data"):
        run_script(Path("new.csv"), monkeypatch, capsys)


@pytest.mark.slow
def test_the_service_scores_items(tiedae: Tiedae) -> None:
    fastapi = pytest.importorskip("fastapi", reason="fastapi is not installed")
    trained_and_exported("vectors", tiedae)
    values: dict[str, Any] = {}
    exec(compile(BLOCKS["service.py"], "service.py", "exec"), values)  # noqa: S102
    assert {route.path for route in values["app"].routes} >= {"/", "/score"}

    def answer(items: object, threshold: float | None = None) -> list[dict[str, object]]:
        found: list[dict[str, object]] = json.loads(json.dumps(values["score"](items, threshold), allow_nan=False))
        return found

    rows = np.load("x.npy")[:7].tolist()
    expected = tiedae("score", "m", "x.npy", "-q").lines[:7]
    assert [one["score"] for one in answer(rows)] == pytest.approx([row["squared_error"] for row in expected], rel=1e-5)
    assert [one["outlier"] for one in answer(rows)] == [row["outlier"] for row in expected]
    assert all(one["outlier"] for one in answer(rows, 0.0))
    assert answer([]) == []
    assert answer([[None] * 6]) == [{"score": None, "outlier": True}]
    with pytest.raises(fastapi.HTTPException) as caught:
        answer([[1, 2]])
    assert caught.value.status_code == 422
    assert values["model"]()["inputs"][0]["shape"] == ["batch", 6]


def test_the_page_names_every_input_and_output() -> None:
    from tiedae_cli.data.item_set import ItemForm
    from tiedae_cli.runs.export_document import tensor_facts

    inputs, outputs = tensor_facts(ItemForm((1, 1, 3), "vectors"), 2, "squared_error")
    named = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert named == ["input", "threshold", *(one.name for one in outputs if one.name != "threshold")]
    assert [one.name for one in inputs] == named[:2] and math.prod(inputs[1].shape) == 1


def test_the_script_fits_a_screen() -> None:
    for name in ("score.py", "service.py"):
        assert sum(bool(line.strip()) for line in BLOCKS[name].splitlines()) <= 30
