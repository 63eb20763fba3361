"""With Ray, the program in ``docs/scale-out.md`` and the benchmark give the scores of ``tiedae score`` row by row."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parent.parent.parent
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra ray"),
]


def python(*arguments: object, folder: Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, arguments)]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_page(tmp_path: Path) -> None:
    (code,) = [block.removeprefix("python\n") for block in (ROOT / "docs" / "scale-out.md").read_text().split("```")[1::2]]
    (tmp_path / "scale.py").write_text(code)
    (tmp_path / "parts").mkdir()
    random = np.random.default_rng(0)
    for number in range(2):
        columns = {name: random.normal(size=300) for name in ("b", "a", "c")}
        columns["row"] = np.arange(300) + 300 * number
        pq.write_table(pa.table(columns), tmp_path / "parts" / f"{number}.parquet")
    trained = tmp_path / "train.csv"
    trained.write_text("a,b,c\n" + "\n".join(",".join(map(str, row)) for row in random.normal(size=(200, 3))))
    command = ("train", "-q", "--config", "vectors", "--set", f"data.dataset={trained}", "--set", "model.hidden_sizes=[2]")
    python("-m", "tiedae_cli", *command, "--set", "training.epochs=2", "--run-dir", "run", folder=tmp_path)
    files = [tmp_path / "parts" / f"{number}.parquet" for number in range(2)]
    lines = python("-m", "tiedae_cli", "score", "run", *files, "-q", folder=tmp_path).splitlines()
    python("scale.py", tmp_path / "parts", tmp_path / "run", tmp_path / "out", folder=tmp_path)
    found = pa.concat_tables(pq.read_table(path) for path in sorted((tmp_path / "out").iterdir())).sort_by("row")
    assert found.column_names == ["b", "a", "c", "row", "score"]
    assert found["score"].to_numpy() == pytest.approx([json.loads(line)["squared_error"] for line in lines], rel=1e-5)


def test_the_benchmark(tmp_path: Path) -> None:
    script = ROOT / "benchmarks" / "scale_out.py"
    results = json.loads(python(script, "--rows", "4000", "--files", "2", "--json", folder=tmp_path))["results"]
    assert [result["rows"] for result in results] == [4000] * 3
    assert [result.get("same") for result in results] == [None, True, True]
