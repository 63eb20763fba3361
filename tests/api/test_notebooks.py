"""A notebook: one display per training, results and pictures inline, no words of the shell, no files."""

import os
from pathlib import Path
from typing import Any

import pytest

from tiedae_cli.api.python_words import python_words

CELLS = [
    "import numpy as np, tiedae\nx = np.random.default_rng(0).integers(0, 256, (300, 8, 8), dtype=np.uint8)",
    "run = tiedae.train(x, epochs=8, hidden_sizes=[8, 2])",
    "run",
    "run.model",
    "run.model.evaluate(x)",
    "run.figure('loss')",
    "run.figure('reconstructions')",
    "run.report()",
    "try:\n    tiedae.train(np.full((9, 8, 8), -1.0), quiet=True)\nexcept tiedae.DataError as error:\n    print(error)",
]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> list[list[Any]]:
    """The outputs of each cell."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    folder = tmp_path_factory.mktemp("notebook")
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
    assert os.listdir(folder) == []
    return [cell.outputs for cell in notebook.cells]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the client and its event loop
def test_a_training_has_one_display(outputs: list[list[Any]]) -> None:
    (shown,) = outputs[1]
    text = shown.data["text/plain"]
    assert shown.output_type == "display_data" and "epoch 8/8" in text and "best epoch" in text
    assert "--set" not in text and "tiedae train" not in text and "tmp" not in text and "model = run.model" in text


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_results_and_pictures_are_shown_inline(outputs: list[list[Any]]) -> None:
    kinds = [[kind for output in cell for kind in output.get("data", {})] for cell in outputs]
    assert all(len(cell) == 1 for cell in outputs[1:])
    assert all("text/html" in kinds[number] for number in (2, 3, 4, 7)) and "image/png" in kinds[5] and "image/png" in kinds[6]
    assert outputs[2][0].data["text/html"].count("<img") == 2 and "<script" not in outputs[2][0].data["text/html"]
    assert outputs[8][0].text.startswith("X: row 1 holds -1; images of floats must be in [0, 1]: range=[-1, 1]")


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("Leave out the rows with --set data.missing=drop, or", "Leave out the rows with missing='drop', or"),
        ("--set 'data.range=[0, 255]'; or divide", "range=[0, 255]; or divide"),
        (
            "try: tiedae train '/a b/config.yaml' epochs=16 schedule=cosine",
            "try: tiedae.train(..., epochs=16, schedule='cosine')",
        ),
        ("--set 'data.ignore=[a b, 3]' or", "ignore=['a b', 3] or"),
        ("nothing to change", "nothing to change"),
    ],
)
def test_messages_speak_python(said: str, meant: str) -> None:
    assert python_words(said) == meant


def test_a_script_is_told_in_python_too(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    import tiedae

    tiedae.train(np.random.default_rng(0).random((60, 5)), epochs=1, hidden_sizes=[3], linear_path="none")
    out, err = capsys.readouterr()
    assert out == "" and "try: tiedae.train(..., " in err and "tiedae train" not in err and "/tiedae-" not in err
