"""The Python API: the page's own code, and the same answers as the module's, for every form of input."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiedae
from tiedae_cli.config import Config
from tiedae_cli.errors import ConfigError, DataError, InputError

PAGE = Path(__file__).parent.parent.parent / "docs" / "python.md"
X = np.random.default_rng(1).integers(0, 256, (5, 8, 8), dtype=np.uint8)


def tool(name: str) -> Any:
    """Return a program of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, PAGE.parent / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_that_of_the_docstrings() -> None:
    pytest.importorskip("sklearn")
    assert PAGE.read_text().endswith(tool("python_reference").text()), "put the output of python docs/python_reference.py there"


def test_keyword_arguments_are_those_of_the_schema() -> None:
    module = tool("config_keys")
    assert module.FILE.read_text() == module.text(), "run python docs/config_keys.py"


@pytest.mark.slow
def test_the_page_runs(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("pandas")
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) >= 3
    for block in blocks:
        exec(block, names)
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("named", ["runs/digits", "digits", "runs/digits/best.safetensors", Path("runs/digits"), None])
def test_a_model_is_found_by_whatever_names_it(digits_run: Path, named: object) -> None:
    assert tiedae.load(named).path == Path("runs/digits/best.safetensors")  # type: ignore[arg-type]


def test_answers_are_those_of_the_module(digits_run: Path) -> None:
    model = tiedae.load(digits_run)
    seen = torch.from_numpy(X.reshape(5, 64) / 255).float()
    with torch.no_grad():
        codes, answers = model.module.encode(seen), model.module(seen)
    np.testing.assert_allclose(model.encode(X), codes.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.score(X), ((answers - seen) ** 2).sum(1).double().numpy(), rtol=1e-5)
    assert model.reconstruct(X).dtype == np.uint8
    assert np.abs(model.reconstruct(X).astype(int).reshape(5, 64) - (answers * 255).numpy()).max() <= 0.51
    assert model.encode(X[:0]).shape == (0, 8) and model.score(X[:0]).shape == (0,)


def test_every_form_of_the_same_images_gives_the_same_codes(digits_run: Path) -> None:
    model = tiedae.load(digits_run)
    codes = model.encode(X)
    forms = [torch.from_numpy(X), X.astype(np.int64), X[:, None], X[..., None], X.reshape(5, 64), np.asfortranarray(X)]
    for form in forms:
        np.testing.assert_array_equal(model.encode(form), codes)
    np.testing.assert_allclose(model.encode(X / 255), codes, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.encode(X[2]), codes[2], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (np.zeros((3, 7, 8), np.uint8), "this model takes 8x8 gray images"),
        (np.full((3, 8, 8), 300), "images of whole numbers must be in 0..255"),
        (np.full((3, 8, 8), np.nan), "holds NaN"),
        (np.full((3, 8, 8), "a"), "not numbers"),
    ],
)
def test_wrong_input_gets_one_sentence(digits_run: Path, x: np.ndarray, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        tiedae.load(digits_run).encode(x)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_vectors_come_back_in_their_own_units(empty_folder: Path) -> None:
    rows = np.random.default_rng(0).normal([5.0, -300.0, 1e4], [1.0, 20.0, 500.0], (200, 3)).astype(np.float32)
    np.save("rows.npy", rows)
    config = {"data": {"dataset": "rows.npy"}, "model": {"hidden_sizes": [3], "activation": "linear"}}
    run = tiedae.train(config, epochs=30, batch_size=20, l2=0, quiet=True)
    assert run.name == "rows"
    model = tiedae.load(run)
    assert np.abs(model.reconstruct(rows) - rows).mean(0) == pytest.approx([0, 0, 0], abs=100)
    assert np.abs((model.reconstruct(rows) - rows).mean(0) / rows.std(0)).max() < 0.2


@pytest.mark.slow
def test_training_takes_what_names_a_config(empty_folder: Path) -> None:
    Path("my.yaml").write_text("training: {epochs: 1}\n")
    for config, name in (("my.yaml", "my"), (Path("my.yaml"), "my-2"), (Config(), "digits"), ({}, "digits-2")):
        assert tiedae.train(config, epochs=1, hidden_sizes=[4], runs="runs", quiet=True).name == name
    assert tiedae.train("my.yaml", run_dir="here", quiet=True).folder == Path("here")


def test_wrong_keys_and_names_are_told(empty_folder: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean training.epochs=3"):
        tiedae.train("digits", epohs=3)
    with pytest.raises(ConfigError, match="training.epochs"):
        tiedae.train("digits", epochs=0)
    with pytest.raises(InputError, match="no run under runs/"):
        tiedae.load()
    with pytest.raises(AttributeError, match="nothing"):
        tiedae.nothing  # noqa: B018
