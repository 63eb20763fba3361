"""Counts: ``data.transform`` is part of the model, in every command, in Python and in ONNX; ``decode`` undoes the logarithm."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Tiedae
from log_capture import captured_log

import tiedae_cli
from tiedae_cli.config import DataConfig
from tiedae_cli.data.item_reader import ItemReader
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.errors import ConfigError, DataError
from tiedae_cli.runs.trained_run import open_run

pytestmark = pytest.mark.slow

TRANSFORMS = ["log1p", "log1p_per_10k"]


def counts(rows: int = 60) -> np.ndarray:
    chance = np.random.default_rng(4)
    drawn = chance.poisson(chance.gamma(1, 20, (rows, 1)) * np.array([0.2, 1, 3, 0.5, 9]))
    return np.asarray(drawn, np.int64)


def transformed(x: np.ndarray, transform: str) -> np.ndarray:
    """The definition, as scanpy has it: counts per 10,000 of each row (an empty row stays empty), then ln(1 + x)."""
    total = x.sum(1, keepdims=True)
    own: np.ndarray = x / np.where(total > 0, total, 1) * 1e4 if transform == "log1p_per_10k" else x
    return np.asarray(np.log1p(own))


def write(x: np.ndarray, name: str = "x.csv") -> str:
    Path(name).write_text("g0,g1,g2,g3,g4\n" + "\n".join(",".join(map(str, row)) for row in x.tolist()) + "\n")
    return name


def train(data: Any, transform: str, **keys: Any) -> Any:
    keys |= {"transform": transform, "epochs": 2, "hidden_sizes": [3, 2]}
    return tiedae_cli.train(data, run_dir="run", quiet=True, **keys)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("source", ["csv", "npy", "bytes"])
def test_training_sees_transformed_values(source: str, transform: str) -> None:
    x = counts()
    x[3] = 0
    if source == "csv":
        name = write(x)
    else:
        x = np.minimum(x, 255)
        name = "x.npy"
        np.save(name, x.astype(np.uint8 if source == "bytes" else np.int32))
    found = load_splits(DataConfig.model_validate({"dataset": name, "validation": 0, "test": 0, "transform": transform})).train
    expected = transformed(x, transform)
    np.testing.assert_allclose(found.raw(0, 99), expected, rtol=1e-6)
    standardized = (expected - expected.mean(0)) / expected.std(0)
    np.testing.assert_allclose(found.batch(0, 99), standardized, atol=1e-4)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_every_way_in_gives_the_same_values(transform: str) -> None:
    x = counts()
    run = train(write(x), transform)
    form = open_run("run").form
    assert form.transform == transform
    seen = (transformed(x, transform) - form.offset) * form.scale
    blocks = ItemReader(form, 16, data=run.config.data).open(["x.csv"]).blocks
    np.testing.assert_allclose(np.concatenate([block.values for block in blocks]), seen, atol=2e-5)
    module = tiedae_cli.load("run").as_module()
    np.testing.assert_allclose(module.seen(torch.from_numpy(x)).numpy(), seen, atol=2e-5)
    with torch.inference_mode():
        np.testing.assert_allclose(module.encode(torch.from_numpy(x)).numpy(), run.model.encode(x), atol=2e-5)
        np.testing.assert_allclose(module(torch.from_numpy(x)).numpy(), run.model.reconstruct(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_decode_undoes_the_logarithm(transform: str, tiedae: Tiedae) -> None:
    x = counts()
    train(write(x), transform)
    run = open_run("run")
    assert tiedae("encode", "run", "x.csv", "-o", "codes.npy", "-q").code == 0
    made = tiedae("decode", "run", "codes.npy", "--format", "jsonl")
    decoded = np.array([[line[f"g{place}"] for place in range(5)] for line in made.lines])
    with torch.inference_mode():
        assert run.form.offset is not None
        answer = run.network.decode(torch.from_numpy(np.load("codes.npy"))).double().numpy()
    np.testing.assert_allclose(decoded, np.expm1(answer / run.form.scale + run.form.offset), rtol=1e-5, atol=1e-5)
    assert ("counts per 10,000" in made.err) == (transform == "log1p_per_10k")
    evaluated = tiedae("eval", "run", "x.csv")
    assert f"errors are of transformed values (data.transform: {transform})" in evaluated.err
    reasons = tiedae("score", "run", "x.csv", "--explain", 1, "--threshold", 0, "-q").lines[7]["because"][0]
    own = x[7] / x[7].sum() * 1e4 if transform == "log1p_per_10k" else x[7]
    assert reasons["value"] == pytest.approx(own[int(reasons["column"][1])], rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_onnx_of_raw_values_has_the_transform(transform: str, tiedae: Tiedae) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    x = counts()
    run = train(write(x), transform)
    made = tiedae("export", "run", "--raw", "--output", "x.onnx", "-q")
    assert made.code == 0, made.err
    session = runtime.InferenceSession("x.onnx", providers=["CPUExecutionProvider"])
    made_by_onnx, code = session.run(["reconstruction", "code"], {"input": x.astype(np.float32)})
    np.testing.assert_allclose(code, run.model.encode(x), atol=1e-4)
    np.testing.assert_allclose(made_by_onnx, run.model.reconstruct(x), rtol=1e-3, atol=1e-3)
    made = tiedae("export", "run", "--part", "score", "--threshold", 1, "--output", "score.onnx", "-q")
    assert made.code == 0, made.err
    session = runtime.InferenceSession("score.onnx", providers=["CPUExecutionProvider"])
    (scores,) = session.run(["squared_error"], {"input": x.astype(np.float64)})
    np.testing.assert_allclose(scores, run.model.score(x), rtol=1e-4)


def test_a_value_below_0_names_its_row_and_column(tiedae: Tiedae) -> None:
    x = counts()
    run = train(write(x), "log1p")
    x[4, 2] = -1
    message = "row 5 (line 6), column g2 holds -1; data.transform: log1p takes values of 0 and above"
    with captured_log(), pytest.raises(DataError, match=re.escape(message)):
        load_splits(DataConfig(dataset=write(x), transform="log1p"))
    scored = tiedae("score", str(run.folder), "x.csv", "-q")
    assert scored.code == 1 and message in scored.err and len(scored.lines) == 59


def test_images_have_no_logarithm() -> None:
    np.save("x.npy", np.zeros((30, 8, 8), np.uint8))
    with pytest.raises(ConfigError, match=r"data\.transform: x\.npy: is only for feature vectors"):
        load_splits(DataConfig(dataset="x.npy", transform="log1p"))


def test_windows_are_transformed_row_by_row() -> None:
    x = counts()
    found = load_splits(DataConfig(dataset=write(x), transform="log1p_per_10k", window=4, validation=0, test=0)).train
    expected = transformed(x, "log1p_per_10k")
    np.testing.assert_allclose(found.raw(0, 1).reshape(4, 5), expected[:4], rtol=1e-6)
    np.testing.assert_allclose(found.form.transformed(x[:8].reshape(2, 20)).reshape(8, 5), expected[:8], rtol=1e-6)
