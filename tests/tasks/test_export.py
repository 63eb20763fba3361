"""Exported ONNX and safetensors files compute the same as the model."""

import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from small_runs import CPU, train_small, untrained
from typer.testing import CliRunner

from tiedae_cli.cli.app import app
from tiedae_cli.config import Activation, ModelConfig
from tiedae_cli.config.shareable import without_folders
from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.data.load_data import load_splits
from tiedae_cli.errors import DataError, ExportError, InputError
from tiedae_cli.model import onnx_graph
from tiedae_cli.model.autoencoder import build_autoencoder
from tiedae_cli.model.onnx_graph import Part
from tiedae_cli.runs import checkpoint as checkpoints
from tiedae_cli.runs.checkpoint import Checkpoint
from tiedae_cli.runs.run_folder import Run
from tiedae_cli.tasks import export
from tiedae_cli.tasks.export import check_onnx, onnx_file, safetensors_file

IMAGES = ItemForm((1, 4, 5), scale=1 / 255)
VECTORS = ItemForm((1, 1, 6), "vectors", np.arange(6.0), np.array([2.0, 0.5, 3.0, 1.0, 10.0, 0.1]))
ACTIVATIONS = Activation.__args__  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train_small(tmp_path_factory.mktemp("runs") / "small")


def answers(content: bytes, values: np.ndarray) -> dict[str, np.ndarray]:
    """Run a file with one input in onnxruntime; return the outputs by name."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    found = session.run(names, {session.get_inputs()[0].name: values.astype(np.float32)})
    return dict(zip(names, found, strict=True))


def initializers(content: bytes) -> dict[str, tuple[int, ...]]:
    return {constant.name: tuple(constant.dims) for constant in onnx.load_from_string(content).graph.initializer}


@pytest.mark.slow
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("output", ["linear", "sigmoid", "clip"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_onnx_equals_torch_for_every_activation(activation: str, output: str, tied: bool) -> None:
    following = ACTIVATIONS[(ACTIVATIONS.index(activation) + 1) % len(ACTIVATIONS)]
    trained = untrained(IMAGES, activation=activation, code_activation=following, output=output, tied=tied)
    content, model = onnx_file(trained, "both", raw=False), trained.model(CPU)
    for size in (1, 3, 17):
        x = 3 * torch.randn(size, 20)
        found = answers(content, x.numpy())
        with torch.inference_mode():
            np.testing.assert_allclose(found["code"], model.encode(x), atol=2e-5)
            np.testing.assert_allclose(found["reconstruction"], model(x), atol=2e-5)


def test_the_onnx_file_holds_each_tied_weight_once() -> None:
    weights, biases = (
        {"layers.0.weight": (7, 20), "layers.1.weight": (4, 7)},
        {"layers.0.encoder_bias": (7,), "layers.1.encoder_bias": (4,)},
    )
    decoder_biases = {"layers.0.decoder_bias": (20,), "layers.1.decoder_bias": (7,)}
    tied = untrained(IMAGES)
    assert initializers(onnx_file(tied, "both", raw=False)) == weights | biases | decoder_biases
    assert initializers(onnx_file(tied, "encoder", raw=False)) == weights | biases
    assert initializers(onnx_file(tied, "decoder", raw=False)) == weights | decoder_biases
    own = {"layers.0.decoder_weight": (7, 20), "layers.1.decoder_weight": (4, 7)}
    untied = untrained(IMAGES, tied=False)
    assert initializers(onnx_file(untied, "both", raw=False)) == weights | biases | decoder_biases | own


PATHS: dict[str, dict[str, Any]] = {
    "dense": {"hidden_sizes": [7, 4]},
    "one layer": {"hidden_sizes": [4]},
    "convolutions": {"hidden_sizes": None, "layers": ["conv 3 4 2", "dense 4"]},
}


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("part", ["encoder", "decoder", "both"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("net", PATHS)
def test_a_linear_path_answers_in_onnxruntime_as_in_torch(net: str, tied: bool, part: Part, raw: bool) -> None:
    trained = untrained(IMAGES, activation="silu", linear_path="pca", output="clip", tied=tied, **PATHS[net])
    generator = torch.Generator().manual_seed(2)
    weights = {name: value + 0.3 * torch.randn(value.shape, generator=generator) for name, value in trained.weights.items()}
    trained = replace(trained, weights=weights)
    content = onnx_file(trained, part, raw)
    check_onnx(content, trained, part, raw, None)
    found = initializers(content)
    weight = "layers.0.weight" if net == "one layer" else "path.layer.weight"
    copies = {name for name in found if name.endswith("weight") and found[name] == (4, 20)}
    assert copies == (
        {weight}
        if tied or part == "encoder"
        else {weight.replace("weight", "decoder_weight")} | ({weight} if part == "both" else set())
    )
    loaded = safetensors.torch.load(safetensors_file(trained, part))
    assert all(torch.equal(value, weights[name]) for name, value in loaded.items())
    assert {name for name in found if name in weights} == set(loaded)
    if part == "both":
        assert loaded.keys() == weights.keys()


CONVOLUTIONS = {
    "dense code": ("conv 3 4 2", "conv 5 3 1", "dense 4"),
    "code of channels": ("conv 3 3 2", "conv 2 2 2"),
}


@pytest.mark.parametrize("part", ["encoder", "decoder", "both"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("words", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
@pytest.mark.parametrize("form", [ItemForm((3, 7, 6), scale=1 / 255), ItemForm((1, 8, 8), scale=1 / 255)], ids=["odd", "even"])
def test_convolutions_in_onnxruntime_equal_torch(form: ItemForm, words: tuple[str, ...], tied: bool, part: Part) -> None:
    trained = untrained(form, hidden_sizes=None, layers=words, activation="silu", output="sigmoid", tied=tied)
    content = onnx_file(trained, part, raw=True)
    difference, _ = check_onnx(content, trained, part, True, None)
    assert difference < 1e-3  # of 255
    found = initializers(content)
    kernels = {name: shape for name, shape in found.items() if name.endswith("weight") and len(shape) == 4}
    expected = len([word for word in words if word.startswith("conv")])
    assert len(kernels) == (2 * expected if part == "both" and not tied else expected)
    if part == "both":
        graph = onnx.load_from_string(content).graph
        uses = [node.input[1] for node in graph.node if node.op_type in ("Conv", "ConvTranspose")]
        assert len(uses) == 2 * expected and set(uses) == set(kernels)


@pytest.mark.parametrize("words", [["dense 12", "dense 9"], ["conv 3 3 2", "conv 2 2 2"]], ids=["dense", "code of channels"])
def test_onnx_keeps_only_the_largest_units_of_a_k_sparse_code(words: list[str]) -> None:
    trained = untrained(ItemForm((3, 7, 6)), hidden_sizes=None, layers=words, activation="silu", code_top_k=3)
    content, x = onnx_file(trained, "both", raw=False), torch.rand(5, 126)
    found = answers(content, x.numpy())
    assert ((found["code"] != 0).sum(1) == 3).all()
    with torch.inference_mode():
        np.testing.assert_allclose(found["code"], trained.model(CPU).encode(x), atol=1e-5)
        np.testing.assert_allclose(found["reconstruction"], trained.model(CPU)(x), atol=1e-5)
    code = answers(onnx_file(trained, "encoder", raw=False), x.numpy())["code"]
    np.testing.assert_allclose(code, found["code"], atol=1e-6)


def test_exported_encoder_and_decoder_together_equal_the_model() -> None:
    trained, x = untrained(IMAGES), np.random.default_rng(0).random((5, 20))
    both = answers(onnx_file(trained, "both", raw=False), x)
    code = answers(onnx_file(trained, "encoder", raw=False), x)
    assert list(code) == ["code"]
    np.testing.assert_allclose(code["code"], both["code"], rtol=1e-6)
    reconstruction = answers(onnx_file(trained, "decoder", raw=False), code["code"])
    assert list(reconstruction) == ["reconstruction"]
    np.testing.assert_allclose(reconstruction["reconstruction"], both["reconstruction"], rtol=1e-5)


def test_raw_images_are_0_to_255_on_both_sides() -> None:
    trained, levels = untrained(IMAGES, output="sigmoid"), np.random.default_rng(0).integers(0, 256, (5, 20))
    found = answers(onnx_file(trained, "both", raw=True), levels)
    with torch.inference_mode():
        expected = 255 * trained.model(CPU)(torch.from_numpy(levels / 255).float())
    np.testing.assert_allclose(found["reconstruction"], expected, atol=1e-3)


def test_raw_vectors_are_standardized_inside_the_file() -> None:
    trained, own = untrained(VECTORS), np.random.default_rng(0).normal(2, 3, (5, 6))
    assert isinstance(VECTORS.scale, np.ndarray) and VECTORS.offset is not None
    offset, scale = VECTORS.offset, VECTORS.scale
    with torch.inference_mode():
        seen = trained.model(CPU)(torch.from_numpy((own - offset) * scale).float()).numpy()
    found = answers(onnx_file(trained, "both", raw=True), own)["reconstruction"]
    np.testing.assert_allclose(found, seen / scale + offset, atol=1e-4)


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("part", ["encoder", "decoder", "both"])
@pytest.mark.parametrize("form", [IMAGES, VECTORS], ids=["images", "vectors"])
def test_the_check_accepts_a_right_file(form: ItemForm, part: Part, raw: bool) -> None:
    trained = untrained(form)
    difference, items = check_onnx(onnx_file(trained, part, raw), trained, part, raw, None)
    assert items == 1 + 2 + 7 + 64
    assert difference < 1e-3


def test_the_check_includes_real_items() -> None:
    test = load_splits(untrained(IMAGES).config.data).test
    trained = untrained(test.form)
    _, items = check_onnx(onnx_file(trained, "both", raw=False), trained, "both", False, test)
    assert items == 2 * (1 + 2 + 7 + 64)


@pytest.mark.parametrize("part", ["encoder", "decoder", "both"])
def test_the_check_refuses_a_file_with_one_changed_weight(part: Part) -> None:
    trained = untrained(IMAGES)
    content = onnx_file(trained, part, raw=False)
    trained.weights["layers.1.weight"][0, 0] += 0.1
    with pytest.raises(ExportError, match="differs from the model's by"):
        check_onnx(content, trained, part, False, None)


def test_the_check_refuses_nan() -> None:
    trained = untrained(IMAGES)
    trained.weights["layers.0.weight"][0, 0] = math.nan
    with pytest.raises(ExportError, match="differs from the model's by nan"):
        check_onnx(onnx_file(trained, "both", raw=False), trained, "both", False, None)


def test_onnx_carries_config_form_and_a_free_batch() -> None:
    trained = untrained(VECTORS, run="mine")
    model = onnx.load_from_string(onnx_file(trained, "both", raw=False))
    properties = {item.key: item.value for item in model.metadata_props}
    assert json.loads(properties["config"]) == without_folders(trained.config).model_dump(mode="json")
    assert json.loads(properties["form"])["offset"] == [0, 1, 2, 3, 4, 5]
    assert (properties["run"], properties["part"]) == ("mine", "both")
    sizes = [(dimension.dim_param, dimension.dim_value) for dimension in model.graph.input[0].type.tensor_type.shape.dim]
    assert sizes == [("batch", 0), ("", 6)]


def test_onnx_beyond_two_gigabytes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_graph, "LARGEST_ONNX", 100)
    with pytest.raises(ExportError, match="limited to 2 GiB"):
        onnx_file(untrained(IMAGES), "both", raw=False)


@pytest.mark.parametrize("tied", [True, False])
def test_safetensors_round_trip_is_bit_identical(tied: bool, tmp_path: Path) -> None:
    trained, path = untrained(VECTORS, tied=tied, activation="gelu"), tmp_path / "model.safetensors"
    path.write_bytes(safetensors_file(trained, "both"))
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        assert {key.rpartition(".")[2] for key in file.keys()} == {
            *("weight", "encoder_bias", "decoder_bias"),
            *([] if tied else ["decoder_weight"]),
        }
    config, form = json.loads(metadata["config"]), json.loads(metadata["form"])
    model = build_autoencoder(math.prod(form["shape"]), ModelConfig.model_validate(config["model"]))
    model.load_state_dict(safetensors.torch.load_file(path))
    offset, scale = torch.tensor(form["offset"]), torch.tensor(form["scale"])
    raw = torch.randn(9, 6)
    assert torch.equal((raw - offset) * scale, torch.from_numpy(VECTORS.normalize(raw.numpy())))
    with torch.inference_mode():
        assert torch.equal(model((raw - offset) * scale), trained.model(CPU)(torch.from_numpy(VECTORS.normalize(raw.numpy()))))


def test_safetensors_can_hold_one_half() -> None:
    tied, untied = untrained(IMAGES, hidden_sizes=[3]), untrained(IMAGES, hidden_sizes=[3], tied=False)
    assert set(safetensors.torch.load(safetensors_file(tied, "encoder"))) == {"layers.0.weight", "layers.0.encoder_bias"}
    assert set(safetensors.torch.load(safetensors_file(tied, "decoder"))) == {"layers.0.weight", "layers.0.decoder_bias"}
    assert set(safetensors.torch.load(safetensors_file(untied, "decoder"))) == {
        "layers.0.decoder_weight",
        "layers.0.decoder_bias",
    }


@pytest.mark.parametrize(
    ("make", "package", "extra"),
    [
        (lambda trained: onnx_file(trained, "both", raw=False), "onnx", "onnx"),
        (lambda trained: check_onnx(b"", trained, "both", False, None), "onnxruntime", "onnx"),
    ],
)
def test_a_missing_package_is_reported_with_its_install_command(
    make: Callable[[Checkpoint], object], package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError) as caught:
        make(untrained(IMAGES))
    assert f"pip install 'tiedae[{extra}]'" in str(caught.value)
    assert package.partition(".")[0] in str(caught.value)


def test_export_prints_the_path_of_a_checked_file(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    result = CliRunner().invoke(app, ["export", str(run.folder), "-o", str(path)])
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{path}\n"
    assert "checked with onnxruntime on 148 items" in result.stderr
    test = load_splits(checkpoints.load(run.best).config.data).test
    x = torch.from_numpy(test.batch(0, 10))
    with torch.inference_mode():
        expected = checkpoints.load(run.best).model(CPU)(x)
    np.testing.assert_allclose(answers(path.read_bytes(), x.numpy())["reconstruction"], expected, atol=1e-5)


def test_export_prints_json_and_format_overrides_the_suffix(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    arguments = ["export", str(run.folder), "-o", str(path), "--format", "safetensors", "--part", "encoder", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout)
    assert (values["output"], values["format"], values["part"]) == (str(path), "safetensors", "encoder")
    assert values["bytes"] == path.stat().st_size
    assert torch.equal(
        safetensors.torch.load_file(path)["layers.0.weight"], checkpoints.load(run.best).weights["layers.0.weight"]
    )


def test_export_writes_to_stdout(run: Run) -> None:
    result = CliRunner().invoke(app, ["export", str(run.folder), "-o", "-", "--format", "onnx", "--part", "decoder"])
    assert result.exit_code == 0, result.output
    assert answers(result.stdout_bytes, np.zeros((2, 3)))["reconstruction"].shape == (2, 64)


def test_a_file_that_fails_its_check_replaces_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = onnx_file(untrained(ItemForm((1, 8, 8)), hidden_sizes=[12, 3]), "both", raw=False)
    monkeypatch.setattr(export, "onnx_file", lambda *_: wrong)
    path = tmp_path / "model.onnx"
    path.write_bytes(b"what was there before")
    result = CliRunner().invoke(app, ["export", str(run.folder), "-o", str(path)])
    assert result.exit_code == 1
    assert "differs from the model's" in result.stderr
    assert path.read_bytes() == b"what was there before"
    assert list(tmp_path.iterdir()) == [path]


def test_without_the_data_the_check_uses_random_values_and_warns(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(*_: Any) -> None:
        raise DataError("digits: gone")

    monkeypatch.setattr("tiedae_cli.runs.trained_run.load_splits", absent)
    result = CliRunner().invoke(app, ["export", str(run.folder), "-o", str(tmp_path / "model.onnx")])
    assert result.exit_code == 0, result.output
    assert "checked with random values only, because the data cannot be read: digits: gone" in result.stderr
    assert "on 74 items" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["-o", "model.pt"],
            "--output model.pt: unknown format; use a file name that ends in .onnx or .safetensors, or --format",
        ),
        (["-o", "-"], "--output -: unknown format"),
        (["-o", "model.safetensors", "--raw"], "--raw: needs --format onnx"),
        (["-o", "model.onnx", "--part", "middle"], "middle"),
    ],
)
def test_wrong_options_are_refused(arguments: list[str], message: str, run: Run) -> None:
    result = CliRunner().invoke(app, ["export", str(run.folder), *arguments])
    assert result.exit_code == 2
    assert message in result.stderr
