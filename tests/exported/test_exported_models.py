"""An exported file as MODEL: the commands give the answers of the checkpoint, without torch."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import Tiedae

from tiedae_cli.runs.export_document import HEAD, KEY


def vectors() -> str:
    generator = np.random.default_rng(5)
    np.save("x.npy", generator.standard_normal((300, 3)) @ generator.standard_normal((3, 6)) + generator.standard_normal(6))
    return "x.npy"


def sensors() -> str:
    """Sensors around 1e8 that differ by units: float32 would round their values away."""
    generator = np.random.default_rng(5)
    np.save("x.npy", 1e8 + np.round(generator.standard_normal((300, 5)) * 3))
    return "x.npy"


def float32_sensors() -> str:
    """Sensors in float32 around 400 deviations: the program scales them in float64, as the graph does."""
    generator = np.random.default_rng(5)
    hidden = generator.standard_normal((300, 2)) @ generator.standard_normal((2, 5))
    np.save("x.npy", (400 + hidden + 0.1 * generator.standard_normal((300, 5))).astype(np.float32))
    return "x.npy"


def color_images() -> str:
    generator = np.random.default_rng(5)
    np.save("x.npy", generator.integers(0, 256, (150, 6, 5, 3), dtype=np.uint8))
    return "x.npy"


def deep_images() -> str:
    generator = np.random.default_rng(5)
    np.save("x.npy", generator.integers(0, 4096, (150, 8, 6), dtype=np.uint16))
    return "x.npy"


def mixed_table() -> str:
    generator = np.random.default_rng(5)
    numbers = generator.standard_normal((300, 3))
    rows = [
        f"{a:.4f},{'' if index % 9 == 0 else f'{b:.4f}'},{('red', 'green')[index % 2]},{c:.4f}"
        for index, (a, b, c) in enumerate(numbers)
    ]
    Path("x.csv").write_text("\n".join(["a,b,color,c", *rows, ""]))
    return "x.csv"


def series() -> str:
    generator = np.random.default_rng(5)
    steps = np.arange(400.0)
    values = np.stack([np.sin(steps / 9), np.cos(steps / 7)], 1) + 0.05 * generator.standard_normal((400, 2))
    Path("x.csv").write_text("\n".join(["u,v", *(f"{u:.5f},{v:.5f}" for u, v in values), ""]))
    return "x.csv"


def counts() -> str:
    np.save("x.npy", np.random.default_rng(5).poisson(np.random.default_rng(6).gamma(2, 3, 6), (300, 6)))
    return "x.npy"


KINDS: dict[str, tuple[Callable[[], str], tuple[str, ...]]] = {
    "vectors": (vectors, ("model.hidden_sizes=[8, 2]", "training.corruption=gaussian")),
    "neighbours": (vectors, ("model.hidden_sizes=[8, 2]", "score.rank=neighbours")),
    "linear path": (vectors, ("model.hidden_sizes=[8, 2]", "model.linear_path=pca")),
    "sensors": (sensors, ("model.hidden_sizes=[8, 2]",)),
    "float32 sensors": (float32_sensors, ("model.hidden_sizes=[8, 2]",)),
    "color images": (color_images, ("model.hidden_sizes=[8, 2]", "score.rank=region")),
    "convolutions": (color_images, ("model.layers=[conv 4 4 2, dense 3]", "model.output=clip")),
    "12 bits": (deep_images, ("model.hidden_sizes=[8, 2]",)),
    "mixed table": (mixed_table, ("model.hidden_sizes=[8, 2]", "data.missing=mean", "data.categories=one_hot")),
    "counts": (counts, ("model.hidden_sizes=[8, 2]", "data.transform=log1p_per_10k")),
    "windows": (series, ("model.hidden_sizes=[8, 2]", "data.window=12", "data.stride=5")),
}


def trained_and_exported(kind: str, tiedae: Tiedae) -> str:
    """Train for an epoch, export to ``model.onnx``; return the data."""
    make, words = KINDS[kind]
    data = make()
    sets = [word for key in ("training.epochs=1", "data.validation=0.4", *words) for word in ("--set", key)]
    assert tiedae("train", data, "-q", "--run-dir", "runs/m", *sets).code == 0
    ran = tiedae("export", "m", "-q", "-o", "model.onnx", "--part", "score")
    assert ran.code == 0, ran.err
    return data


def assert_alike(found: list[dict[str, object]], expected: list[dict[str, object]]) -> None:
    assert len(found) == len(expected) > 0
    for mine, own in zip(found, expected, strict=True):
        assert list(mine) == list(own)
        for key, value in own.items():
            if isinstance(value, float):
                assert mine[key] == pytest.approx(value, rel=2e-5, abs=1e-6), key
            elif isinstance(value, dict):
                assert mine[key] == {name: pytest.approx(one, rel=2e-5) for name, one in value.items()}, key
            elif key == "outliers":  # an item whose score is the threshold may be one in one arithmetic and not in the other
                assert mine[key] == pytest.approx(value, abs=1)
            elif key != "outlier" or own.get("score", own["squared_error"]) != own["threshold"]:
                assert mine[key] == value, key


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_an_exported_file_scores_and_encodes_as_its_checkpoint_does(kind: str, tiedae: Tiedae) -> None:
    data = trained_and_exported(kind, tiedae)
    for options in ([], ["--top", "5", "--false-alarms", "0.05"], ["--no-threshold"]):
        found, expected = (tiedae("score", model, data, "-q", *options) for model in ("model.onnx", "m"))
        assert (found.code, expected.code) == (0, 0), found.err + expected.err
        assert_alike(found.lines, expected.lines)
    found, expected = (tiedae("score", model, data, "-q", "--summary") for model in ("model.onnx", "m"))
    assert_alike(found.lines, [{key: value for key, value in expected.lines[0].items() if key != "drift"}])
    for model in ("model.onnx", "m"):
        assert tiedae("encode", model, data, "-q", "-o", f"{model}.npy").code == 0
        assert tiedae("decode", model, f"{model}.npy", "-q", "-o", f"{model}-made.npy").code == 0
    codes, own = (np.load(f"{model}.npy") for model in ("model.onnx", "m"))
    np.testing.assert_allclose(codes, own, rtol=1e-3, atol=1e-4)
    made, own = (np.load(f"{model}-made.npy") for model in ("model.onnx", "m"))
    assert (made.shape, made.dtype) == (own.shape, own.dtype)
    np.testing.assert_allclose(made, own, rtol=1e-5, atol=1 if made.dtype == np.uint8 else 1e-3)
    shown, own_values = (tiedae("decode", model, "m.npy", "-q", "--format", "jsonl").lines for model in ("model.onnx", "m"))
    assert [list(row) for row in shown] == [list(row) for row in own_values]


@pytest.fixture
def exported(digits_run: Path, tiedae: Tiedae) -> str:
    """The trained digits as ``model.onnx``, and four of them as ``x.npy``."""
    ran = tiedae("export", "digits", "-q", "-o", "model.onnx", "--part", "score")
    assert ran.code == 0, ran.err
    np.save("x.npy", np.random.default_rng(5).integers(0, 256, (4, 8, 8), dtype=np.uint8))
    return "model.onnx"


IN_A_PROCESS = """
import sys
from typer.testing import CliRunner
from tiedae_cli.cli.app import app
for words in (["score", "model.onnx", "x.npy"], ["encode", "model.onnx", "x.npy", "-o", "c.npy"], ["inspect", "model.onnx"],
              ["decode", "model.onnx", "c.npy", "-o", "d.npy"], ["reconstruct", "model.onnx", "x.png", "-o", "r.png"]):
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, (words, result.stderr)
    assert "torch" not in sys.modules, words
print("done")
"""


@pytest.mark.slow
def test_no_command_on_an_exported_file_imports_torch(exported: str, tiedae: Tiedae) -> None:
    from PIL import Image

    Image.fromarray(np.load("x.npy")[0]).save("x.png")
    root = str(Path(__file__).parent.parent.parent)
    code = f"import sys; sys.path.insert(0, {root!r})\n{IN_A_PROCESS}"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout == "done\n", ran.stderr
    assert Path("r.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.slow
def test_reconstruct_draws_what_the_checkpoint_draws(exported: str, tiedae: Tiedae) -> None:
    from PIL import Image

    Image.fromarray(np.load("x.npy")[0]).save("x.png")
    found, expected = (
        tiedae("reconstruct", model, "x.png", "-q", "--json", "-o", f"{model}.png") for model in (exported, "digits")
    )
    assert found.code == expected.code == 0, found.err
    assert found.lines[0]["squared_errors"] == pytest.approx(expected.lines[0]["squared_errors"], rel=1e-5)


def test_more_outliers_than_allowed_end_with_exit_code_3(exported: str, tiedae: Tiedae) -> None:
    ran = tiedae("score", exported, "x.npy", "--fail-above", "0")
    assert ran.code == 3 and "4 outliers, --fail-above allows 0" in ran.err
    assert all(row["outlier"] for row in ran.lines)


def test_the_file_is_told_apart_by_what_it_is(exported: str, tiedae: Tiedae) -> None:
    Path(exported).rename("production")
    assert Path("production").read_bytes().startswith(HEAD)
    assert tiedae("score", "production", "x.npy", "-q").code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["score", "model.onnx"], "an exported file names no data of its own; type: tiedae score model.onnx DATA"),
        (["encode", "model.onnx"], "type: tiedae encode model.onnx DATA"),
        (["score", "model.onnx", "x.npy", "--explain", "3"], "--explain: needs the checkpoint"),
        (["score", "model.onnx", "x.npy", "--against", "x.npy"], "--against: needs the checkpoint"),
        (["score", "model.onnx", "x.npy", "--device", "cuda"], "onnxruntime computes on the CPU"),
        (["score", "model.onnx", "x.npy", "--false-alarms", "0.03"], "it has those for 0.5, 0.2, 0.1, 0.05, 0.02, 0.01"),
        (["inspect", "model.onnx", "--features", "f.png"], "--features: needs the checkpoint"),
        (["eval", "model.onnx", "x.npy"], "this command needs the checkpoint or the run that it was exported from"),
        (["compare", "model.onnx", "digits"], "this command needs the checkpoint"),
        (["report", "model.onnx"], "this command needs the checkpoint"),
        (["export", "model.onnx", "-o", "y.onnx"], "this command needs the checkpoint"),
        (["score", "both.onnx", "x.npy"], "holds the part both, which gives no score"),
    ],
)
def test_what_an_exported_file_cannot_answer_is_refused(words: list[str], message: str, exported: str, tiedae: Tiedae) -> None:
    if "both.onnx" in words:
        assert tiedae("export", "digits", "-q", "-o", "both.onnx").code == 0
    ran = tiedae(*words)
    assert ran.code == 2 and message in ran.err, ran.err


def test_inspect_shows_what_the_file_takes_and_how_it_judges(exported: str, tiedae: Tiedae) -> None:
    (values,) = tiedae("inspect", exported, "--json", "-q").lines
    assert values["inputs"][0] == {
        "name": "input",
        "type": "uint8",
        "shape": ["batch", 8, 8],
        "meaning": "pixels as bytes, 0 to 255",
    }
    assert [one["name"] for one in values["outputs"]] == [
        *("score", "outlier", "threshold", "squared_error", "reconstruction", "code", "because"),
    ]
    assert values["run"] == "digits" and len(values["checkpoint_sha256"]) == 64
    shown = tiedae("inspect", exported).out
    assert "pixels as bytes, 0 to 255" in shown and "expected false alarms" in shown


def changed(name: str, change: Callable[[dict[str, object]], object]) -> None:
    """Rewrite the document of an exported file."""
    model = onnx.load(name)
    (entry,) = (entry for entry in model.metadata_props if entry.key == KEY)
    document = json.loads(entry.value)
    change(document)
    entry.value = json.dumps(document)
    onnx.save(model, name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda document: document.update(shape=[1, 9, 8]), "damaged"),
        (lambda document: document.update(version=99), "export the model again"),
        (lambda document: document.pop("threshold"), "damaged: threshold"),
        (lambda document: document["config"].update(model=3), "model"),
        (lambda document: document["outputs"].pop(), "its graph is not the one that its metadata describe"),
    ],
)
def test_a_forged_document_is_refused(
    change: Callable[[dict[str, object]], object], message: str, exported: str, tiedae: Tiedae
) -> None:
    changed(exported, change)
    ran = tiedae("score", exported, "x.npy")
    assert ran.code == 1 and message in ran.err, ran.err


@pytest.mark.parametrize("content", [b"", b"no model at all", HEAD + b"\0\0\0"])
def test_a_damaged_file_is_refused(content: bytes, tiedae: Tiedae) -> None:
    Path("model.onnx").write_bytes(content)
    np.save("x.npy", np.zeros((2, 3)))
    ran = tiedae("score", "model.onnx", "x.npy")
    assert (
        ran.code == 1 and "model.onnx: damaged, or not an ONNX file" in ran.err or "not a model that tiedae exported" in ran.err
    )


def test_pixels_between_the_levels_of_bytes_are_refused(exported: str, tiedae: Tiedae) -> None:
    np.save("levels.npy", (np.load("x.npy") / 255).astype(np.float32))
    found, expected = (tiedae("score", exported, name, "-q") for name in ("levels.npy", "x.npy"))
    assert found.lines == expected.lines
    np.save("between.npy", np.full((2, 8, 8), 0.3337, np.float32))
    ran = tiedae("score", exported, "between.npy")
    assert ran.code == 2 and "pixels between the 256 levels of bytes" in ran.err


def test_exported_weights_are_told_apart_from_a_checkpoint(digits_run: Path, tiedae: Tiedae) -> None:
    assert tiedae("export", "digits", "-q", "-o", "weights.safetensors").code == 0
    ran = tiedae("score", "weights.safetensors")
    assert ran.code == 1 and "weights.safetensors: exported weights (part both)" in ran.err
