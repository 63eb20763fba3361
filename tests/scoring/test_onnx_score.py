"""The part ``score`` of an ONNX export: onnxruntime alone, fed with raw values, answers as the program does."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import Tiedae
from tiny_models import COLOR, DIGITS, parts_of

from tiedae_cli.config import Config
from tiedae_cli.data.item_set import ItemForm, ItemSet, ValueRange
from tiedae_cli.errors import ExportError, InputError
from tiedae_cli.model.autoencoder import build_autoencoder
from tiedae_cli.runs.calibration import calibrate
from tiedae_cli.runs.checkpoint import Checkpoint
from tiedae_cli.runs.export_document import KEY, as_input, from_input
from tiedae_cli.runs.trained_run import OpenRun
from tiedae_cli.runs.training_state import TrainingState
from tiedae_cli.scoring.onnx_proof import as_seen, prove
from tiedae_cli.scoring.onnx_score import JudgedBy, build_score_onnx, score_document
from tiedae_cli.scoring.rankers import RANKERS, Stateless
from tiedae_cli.scoring.scorer import Scorer

onnxruntime.set_default_logger_severity(3)
DEFAULT = JudgedBy()
CPU = torch.device("cpu")
WIDE = ItemForm(
    (1, 1, 6), "vectors", offset=np.array([1e8, -1e8, 0, 1, 2, 3.0]), scale=np.array([1.0, 2.0, 0.5, 1.0, 4.0, 0.25])
)
FILLED = replace(WIDE, fill=np.array([1e8, -1e8, 5, 1, 2, 3.0]))
DEEP = ItemForm((1, 8, 6), range=ValueRange(0.0, 4095.0, whole=True))
FLOATS = ItemForm((3, 5, 4))
COUNTS = replace(FILLED, transform="log1p", offset=np.arange(6.0) / 2, fill=np.ones(6))
PER_ROW = replace(COUNTS, transform="log1p_per_10k", offset=np.full(6, 7.0))
FORMS = {"gray": DIGITS, "color": COLOR, "12 bits": DEEP, "floats": FLOATS, "sensors": WIDE, "missing": FILLED}
FORMS |= {"counts": COUNTS, "counts per row": PER_ROW}
NETS: dict[str, dict[str, Any]] = {
    "dense": {"hidden_sizes": [12, 4], "activation": "silu"},
    "convolutions": {"hidden_sizes": None, "layers": ["conv 3 4 2", "dense 4"], "activation": "gelu", "output": "sigmoid"},
    "path": {"hidden_sizes": [12, 4], "linear_path": "pca", "output": "clip"},
    "sparse": {"hidden_sizes": [12, 9], "code_top_k": 2},
}


def raw_items(form: ItemForm, count: int, seed: int = 0) -> np.ndarray:
    """Return items in their own units and the type that the graph takes, (N, D)."""
    generator, shape = np.random.default_rng(seed), (count, form.values_per_item)
    if form.transform != "none":
        return generator.poisson(5, shape).astype(np.float64)
    if form.kind == "vectors":
        return form.denormalize(generator.standard_normal(shape))
    if form.eight_bit:
        return generator.integers(0, 256, shape, dtype=np.uint8)
    top = 1.0 if form.range is None else form.range.high
    return (generator.random(shape) * top).astype(np.float32)


def scorer_of(form: ItemForm, net: str, rank: str = "squared_error") -> Scorer:
    """Return the scorer of a model that nobody trained, with a ranker that was fitted."""
    config = Config.model_validate({"model": NETS[net], "score": {"rank": rank}, "data": {"dataset": "not-here.npy"}})
    network = build_autoencoder(form.shape, config.model, torch.Generator().manual_seed(0)).eval()
    for name, value in network.named_parameters():
        value.data += (0.3 if "path" in name else 0.05) * torch.randn(value.shape, generator=torch.Generator().manual_seed(1))
    seen = as_seen(raw_items(form, 60), form).reshape(60, *form.shape)
    plain = replace(form, scale=1.0, offset=None, range=None, fill=None, transform="none")
    ranker = RANKERS[rank].fit(network, ItemSet(seen, None, plain), config, CPU)  # type: ignore[index]
    parts = parts_of(form, network.sizes[-1], ranker.tensors())
    trained = Checkpoint(config, form, network.state_dict(), TrainingState(), "untrained", parts)
    scorer = Scorer(OpenRun(Path("runs/untrained/best.safetensors"), CPU, trained=trained))
    calibration = calibrate(scorer.scores(torch.from_numpy(as_seen(raw_items(form, 300, seed=1), form))))
    scorer.run.trained = replace(trained, finished=replace(parts, calibration=calibration))
    return Scorer(scorer.run)


def exported(scorer: Scorer, judged: JudgedBy = DEFAULT) -> bytes:
    document = score_document(scorer, judged)
    return build_score_onnx(scorer.run.network, scorer.run.form, scorer.ranker, document)


def answers(content: bytes | onnxruntime.InferenceSession, **values: np.ndarray) -> dict[str, np.ndarray]:
    """Run a file in onnxruntime; return the outputs by name."""
    session = onnxruntime.InferenceSession(content) if isinstance(content, bytes) else content
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, values), strict=True))


CASES = [
    (form, net, "squared_error") for form in FORMS for net in NETS if net != "convolutions" or FORMS[form].kind == "images"
]
CASES += [(form, "dense", "neighbours") for form in FORMS] + [("gray", "path", "region"), ("color", "convolutions", "region")]


QUICK = [
    ("counts per row", "dense", "squared_error"),
    ("color", "convolutions", "region"),
    ("missing", "dense", "neighbours"),
    ("12 bits", "path", "squared_error"),
]


@pytest.mark.parametrize(
    ("name", "net", "rank"), [case if case in QUICK else pytest.param(*case, marks=pytest.mark.slow) for case in CASES]
)
def test_onnxruntime_alone_answers_as_the_program_on_raw_values(name: str, net: str, rank: str) -> None:
    form, scorer = FORMS[name], scorer_of(FORMS[name], net, rank)
    session, network = onnxruntime.InferenceSession(exported(scorer)), scorer.run.network
    raw = raw_items(form, 1000, seed=2)
    if form.fill is not None:
        raw[::3, 2] = np.nan
    x = torch.from_numpy(as_seen(raw, form))
    with torch.inference_mode():
        code, made = network.encode(x), network(x)
        score = scorer.ranker.scores(x, made).numpy()
        errors = (made - x).double().square().numpy()
    limit = scorer.item_threshold(0.01)
    assert limit is not None
    for size in (0, 1, 7, 1000):
        found = answers(session, input=as_input(raw[:size], form))
        assert found["threshold"] == limit.value
        np.testing.assert_allclose(found["score"], score[:size], rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(found["outlier"], found["score"] > limit.value)
        np.testing.assert_allclose(found["squared_error"], errors[:size].sum(1), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found["code"], code[:size], atol=1e-5)
        shares = errors[:size] / errors[:size].sum(1, keepdims=True)
        np.testing.assert_allclose(from_input(found["because"], form), shares, atol=1e-4)
        own = from_input(found["reconstruction"], form)
        if form.transform == "none":
            np.testing.assert_allclose(as_seen(own, form), made[:size], atol=1e-4)
        else:  # a logarithm has no digits left near -1
            given = form.restored(np.asarray(made[:size], np.float64))
            np.testing.assert_allclose(own, given.reshape(own.shape), rtol=1e-4, atol=1e-4 * np.abs(given).max(initial=1))
        assert found["reconstruction"].shape == found["because"].shape == as_input(raw[:size], form).shape


@pytest.mark.slow
@pytest.mark.parametrize(("name", "net", "rank"), QUICK)
def test_the_proof_passes_on_extreme_values_and_without_the_data(name: str, net: str, rank: str) -> None:
    scorer = scorer_of(FORMS[name], net, rank)
    proof = prove(exported(scorer), scorer, score_document(scorer, DEFAULT))
    assert proof.source == "drawn from the reference statistics" and proof.items == 1000
    assert 0 < proof.share_of_allowed < 1


def test_a_threshold_that_is_given_takes_the_place_of_the_default() -> None:
    scorer = scorer_of(WIDE, "dense")
    content, raw = exported(scorer), raw_items(WIDE, 50)
    score = answers(content, input=raw)["score"]
    limit = np.array(float(np.median(score)))
    found = answers(content, input=raw, threshold=limit)
    assert found["threshold"] == limit
    np.testing.assert_array_equal(found["outlier"], score > limit)
    assert answers(exported(scorer, JudgedBy(limit=2.5)), input=raw)["threshold"] == 2.5


def test_what_is_not_a_number_is_an_outlier() -> None:
    raw = raw_items(WIDE, 3)
    raw[1, 4] = np.nan
    found = answers(exported(scorer_of(WIDE, "dense")), input=raw)
    assert np.isnan(found["score"]).tolist() == [False, True, False]
    assert found["outlier"][1]


def test_tied_kernels_and_reference_items_are_in_the_file_once() -> None:
    content = exported(scorer_of(COLOR, "convolutions", "neighbours"))
    shapes = [tuple(one.dims) for one in onnx.load_from_string(content).graph.initializer]
    assert shapes.count((3, 3, 4, 4)) == 1 and shapes.count((60, 60)) == 3  # whitening, and both halves of the 60 references


def test_the_metadata_say_what_the_graph_takes_and_how_it_judges() -> None:
    content = exported(scorer_of(FILLED, "dense", "neighbours"))
    properties = {item.key: item.value for item in onnx.load_from_string(content).metadata_props}
    document = json.loads(properties[KEY])
    assert properties["part"] == "score"
    assert document["inputs"][0] == {
        "name": "input",
        "type": "float64",
        "shape": ["batch", 6],
        "meaning": "the data's own units by column order; a category is 1 in its own column and 0 in the others",
    }
    assert document["missing"] == "replaced by the mean of the column"
    assert document["training_items_inside"] == 60
    facts = document["threshold"]
    assert facts["rate"] == 0.01 and facts["validation_items"] == 300
    low, high = facts["false_alarm_rate_interval"]
    assert low < facts["expected_false_alarm_rate"] <= 0.01 < high
    assert [one["rate"] for one in document["thresholds"]] == [
        0.5,
        0.2,
        0.1,
        0.05,
        0.02,
        0.01,
        0.005,
    ]  # 300 items allow no less


def test_a_model_without_validation_scores_needs_a_threshold() -> None:
    scorer = scorer_of(WIDE, "dense")
    assert scorer.run.trained.finished is not None
    scorer.run.trained = replace(scorer.run.trained, finished=replace(scorer.run.trained.finished, calibration=None))
    with pytest.raises(InputError, match="--threshold SCORE"):
        score_document(scorer, DEFAULT)
    assert score_document(scorer, JudgedBy(limit=3.0)).threshold.value == 3.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda scorer: scorer.run.network.layers[0].weight.data.mul_(1.01), "onnxruntime's (score|code) differs"),
        (lambda scorer: scorer.run.network.layers[0].decoder_bias.data.add_(0.01), "onnxruntime's score differs"),
    ],
)
def test_the_proof_refuses_a_graph_of_another_model(change: Callable[[Scorer], object], message: str) -> None:
    scorer = scorer_of(DIGITS, "dense")
    content, document = exported(scorer), score_document(scorer, DEFAULT)
    change(scorer)
    with pytest.raises(ExportError, match=message):
        prove(content, scorer, document)


def test_the_proof_refuses_another_threshold() -> None:
    scorer = scorer_of(DIGITS, "dense")
    with pytest.raises(ExportError, match="flags other items"):
        prove(exported(scorer, JudgedBy(limit=1.0)), scorer, score_document(scorer, JudgedBy(limit=1.5)))


def test_a_ranker_without_operators_is_refused() -> None:
    scorer = scorer_of(DIGITS, "dense")

    class Mine(Stateless):
        def scores(self, x: torch.Tensor, reconstruction: torch.Tensor) -> torch.Tensor:
            return x.new_zeros(len(x))

    with pytest.raises(ExportError, match="no ONNX operators"):
        build_score_onnx(scorer.run.network, DIGITS, Mine(DIGITS), score_document(scorer, DEFAULT))


def test_export_writes_a_checked_file_with_the_part_score(digits_run: Path, tiedae: Tiedae) -> None:
    ran = tiedae("export", "digits", "-o", "model.onnx", "--part", "score", "--json")
    assert ran.code == 0, ran.err
    assert "agree on 500 items of the validation and test split, and on extreme values" in ran.err
    (values,) = ran.lines
    assert (values["part"], values["raw"], values["bytes"]) == ("score", True, Path("model.onnx").stat().st_size)
    assert b"/tmp" not in Path("model.onnx").read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "model.safetensors", "--part", "score"], "--part score: needs --format onnx"),
        (["-o", "model.onnx", "--threshold", "3"], "--threshold: needs --part score"),
        (["-o", "model.onnx", "--part", "score", "--threshold", "3", "--false-alarms", "1%"], "only one of them"),
        (["-o", "model.onnx", "--part", "score", "--threshold", "nan"], "must be a finite number"),
        (["-o", "model.onnx", "--part", "score", "--false-alarms", "1e-5"], "too few for a false-alarm rate"),
    ],
)
def test_options_that_do_not_fit_are_refused(words: list[str], message: str, digits_run: Path, tiedae: Tiedae) -> None:
    ran = tiedae("export", "digits", *words)
    assert ran.code == 2 and message in ran.err
    assert not Path("model.onnx").exists()


def test_python_exports_the_part_score(digits_run: Path) -> None:
    import tiedae

    model = tiedae.load("digits")
    path = model.export_onnx("model.onnx", part="score", false_alarms=0.05)
    x = np.random.default_rng(1).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    found = answers(path.read_bytes(), input=x)
    np.testing.assert_allclose(found["score"], model.score(x), rtol=1e-5)
    assert found["threshold"] == model.threshold(0.05).value
    with pytest.raises(InputError, match="part 'both' has no threshold"):
        model.export_onnx("x.onnx", threshold=3.0)
    with pytest.raises(InputError, match="expected score, both, encoder or decoder"):
        model.export_onnx("x.onnx", part="all")
