"""The schema and the reader of configs: all problems at once, each with line, key and the right form."""

import re
from pathlib import Path
from typing import get_args

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from tiedae_cli.config import (
    Config,
    DataConfig,
    ModelConfig,
    OutputConfig,
    ScoreConfig,
    TrainingConfig,
    schema,
)
from tiedae_cli.config.samples import find_config, run_name, sample_configs
from tiedae_cli.config.schema import ConvolutionWords, DenseWords
from tiedae_cli.config.yaml_reader import LARGEST_FILE, changed_fields, dump_config, load_config, parse_config, validate_config
from tiedae_cli.errors import ConfigError

SECTIONS = (DataConfig, ModelConfig, TrainingConfig, ScoreConfig, OutputConfig)


def problems(text: str, assignments: list[str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "my.yaml", assignments or [])
    assert caught.value.exit_code == 2
    return str(caught.value).splitlines()


# The schema


def test_the_defaults_are_the_reference_model() -> None:
    config = parse_config("", "empty.yaml")
    assert config == Config()
    assert config.model == ModelConfig(hidden_sizes=(300, 150), activation="elu", output="linear", tied=True)
    training = config.training
    assert (training.epochs, training.batch_size, training.learning_rate, training.l2) == (5, 150, 0.01, 0.0005)
    assert (training.loss, training.schedule, training.seed) == ("mse", "constant", 42)
    assert sample("mnist").model == config.model and sample("mnist").training == training


@pytest.mark.parametrize("section", SECTIONS)
def test_every_field_is_documented(section: type[BaseModel]) -> None:
    assert section.__doc__
    for name, field in section.model_fields.items():
        assert field.description and len(field.description) > 10, f"{section.__name__}.{name} has no docstring"


def test_every_section_is_documented_and_tested_here() -> None:
    assert tuple(field.annotation for field in Config.model_fields.values()) == SECTIONS


def test_a_config_is_immutable() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Config().training.epochs = 7


# Errors: file:line, key path, what is wrong, what would be right


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("training: {epoch: 5}", "my.yaml:1: training.epoch: unknown key; type `training: {epochs: 5}`"),
        ("trainning: {epochs: 5}", "my.yaml:1: trainning: unknown key (did you mean training?)"),
        (
            "data:\n  xyzzy: 1",
            "my.yaml:2: data.xyzzy: unknown key (known: dataset, root, validation, test, split_seed, size, mode, include, exclude, range, "
            "arrays, label, normal, columns, ignore, categories, missing, window, series, time, gap, stride, scaling, transform, "
            "delimiter, decimal, thousands, header)",
        ),
        ("model:\n  activation: rellu", "my.yaml:2: model.activation: 'rellu' is not a valid choice (did you mean relu?)"),
        (
            "model:\n  output: 7",
            "my.yaml:2: model.output: 7 is not a valid choice (known: linear, sigmoid, clip)",
        ),
        ("training:\n\n  epochs: 0", "my.yaml:3: training.epochs: must be greater than or equal to 1, not 0"),
        ("training:\n  epochs: five", "my.yaml:2: training.epochs: must be a valid integer, not 'five'"),
        ("training:\n  epochs: 2.5", "my.yaml:2: training.epochs: must be a valid integer, not 2.5"),
        ("training:\n  epochs: true", "my.yaml:2: training.epochs: must be a valid integer, not True"),
        ("training:\n  epochs:", "my.yaml:2: training.epochs: must be a valid integer, not None"),
        ("model:\n  tied: maybe", "my.yaml:2: model.tied: must be a valid boolean, not 'maybe'"),
        ("training:\n  learning_rate: 0", "my.yaml:2: training.learning_rate: must be greater than 0, not 0"),
        ("training:\n  learning_rate: .nan", "my.yaml:2: training.learning_rate: must be a finite number, not nan"),
        ("model:\n  hidden_sizes: []", "my.yaml:2: model.hidden_sizes: must hold at least 1 item, not 0"),
        ("model:\n  hidden_sizes: three", "my.yaml:2: model.hidden_sizes: must be a list, not 'three'"),
        (
            "model:\n  hidden_sizes:\n  - 300\n  - -5",
            "my.yaml:4: model.hidden_sizes.1: must be greater than or equal to 1, not -5",
        ),
        ("training: 5", "my.yaml:1: training: expected a section with keys"),
        (
            "training: {cross_entropy_weight: 0.01}",
            "my.yaml:1: training.cross_entropy_weight: needs model.output: sigmoid and training.loss: mse or squared_error",
        ),
        ("training: {loss: cross_entropy}", "my.yaml:1: training.loss: cross_entropy needs model.output: sigmoid"),
        (
            "training:\n  schedule: one_cycle\n  warmup: 0.1",
            "my.yaml:3: training.warmup: one_cycle has its own warm-up; remove one of the two",
        ),
    ],
)
def test_each_problem_is_reported_with_its_line_and_key(text: str, line: str) -> None:
    (found,) = problems(text)
    assert found.startswith(line)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "model:\n  layers: [conv 48 4 2,\n    pool 2]",
            "my.yaml:3: model.layers.1: must be `dense UNITS` or `conv CHANNELS KERNEL STRIDE` (without KERNEL and STRIDE: 4 and 2), "
            "not 'pool 2'",
        ),
        ("model: {layers: [dense 0]}", "a dense layer must have from 1 to 65536 units, for example: dense 128, not 'dense 0'"),
        (
            "model: {layers: [conv 0]}",
            "a convolution must have from 1 to 65536 channels, for example: conv 48 4 2, not 'conv 0'",
        ),
        (
            "model: {layers: [conv 8 65]}",
            "the kernel must be from 1 to 64 pixels wide, for example: conv 8 4 2, not 'conv 8 65'",
        ),
        (
            "model: {layers: [conv 8 3 4]}",
            "the stride must be from 1 to the kernel's 3 so that no pixel is skipped, for example: conv 8 4 2",
        ),
        (
            "model: {layers: [conv 8 4 1]}",
            "a stride of 1 needs an odd kernel, for example: conv 8 3 1, not 'conv 8 4 1'",
        ),
        (
            "model: {layers: [dense 8, conv 8]}",
            "model.layers: convolutions must come before dense layers",
        ),
        (
            "model: {layers: [dense 8], hidden_sizes: [8]}",
            "model.layers: conflicts with model.hidden_sizes; set one of the two to null",
        ),
        ("model: {hidden_sizes: null}", "model.hidden_sizes: null, and model.layers is not set; set one of them"),
        ("model: {layers: [conv 8, dense 4], code_top_k: 5}", "model.code_top_k: the code has only 4 units"),
    ],
)
def test_invalid_or_contradicting_layers_are_refused(text: str, line: str) -> None:
    (found,) = problems(text)
    assert re.sub("^my.yaml:1: (model.layers.0: )?", "", found).startswith(line)


def test_layers_replace_the_default_sizes() -> None:
    model = parse_config("model: {layers: [conv 48,  conv 8   3 1, 16]}", "my.yaml").model
    assert (model.hidden_sizes, model.layers) == (None, ("conv 48", "conv 8 3 1", "dense 16"))
    assert model.encoder == (ConvolutionWords(48, 4, 2), ConvolutionWords(8, 3, 1), DenseWords(16))
    assert ModelConfig().encoder == (DenseWords(300), DenseWords(150))
    config = Config(model=model)
    assert parse_config(dump_config(config), "again.yaml") == config


def test_all_problems_are_reported_at_once() -> None:
    found = problems("data: {dataset: 5}\nmodel:\n  activation: x\n  depth: 3\ntraining:\n  epochs: no\n", ["output.images=0"])
    assert [line.split(": ")[1] for line in found] == [
        "data.dataset",
        "model.activation",
        "model.depth",
        "training.epochs",
        "output.images",
    ]
    assert [line.split(": ")[0] for line in found[:4]] == ["my.yaml:1", "my.yaml:3", "my.yaml:4", "my.yaml:6"]
    assert found[4].startswith("output.images=0: output.images: ")


def test_problems_come_in_the_order_of_the_file() -> None:
    """Problems are not in the schema's order, in which data comes before training."""
    found = problems("training:\n  seed: x\n  epochs: 0\nzebra: 1\ndata: {dataset: 3}\n")
    assert [line.split(": ")[0] for line in found] == ["my.yaml:2", "my.yaml:3", "my.yaml:4", "my.yaml:5"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "training:\n  epochs: 5\n  seed: 1\n  epochs: 6",
            "my.yaml:4: training.epochs: duplicate key; first given at my.yaml:2",
        ),
        ("training: !own {epochs: 1}", "my.yaml:1: not valid YAML: unknown tag '!own'"),
        ("model: {}\nmodel: {}", "my.yaml:2: model: duplicate key; first given at my.yaml:1"),
        ("- 1\n- 2", "my.yaml:1: expected a mapping with the sections data, model, training, score, output"),
        ("just text", "my.yaml:1: expected a mapping"),
        ("data: {dataset: mnist\nmodel: x", "my.yaml:2: not valid YAML: "),
        ("data:\n\tdataset: mnist", "my.yaml:2: not valid YAML: "),
        ("data: &d {}\nmodel: *d", "my.yaml:2: model: YAML aliases (*name) are not supported"),
        ("data: {dataset: !!python/name:os.system x}", "my.yaml:1: not valid YAML: could not determine a constructor"),
        ("[1]: x", "my.yaml:1: keys must be plain text"),
        ("model: [[[[[[[[[[1]]]]]]]]]]", "my.yaml:1: not valid YAML: nested too deeply"),
        ("data: {}\x07", "my.yaml:1: the character U+0007 is not allowed in YAML"),
    ],
)
def test_other_documents_are_refused_as_configs(text: str, message: str) -> None:
    (found,) = problems(text)
    assert found.startswith(message)


def test_unreadable_config_files_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    with pytest.raises(ConfigError, match=re.escape(f"{path}: cannot be read: No such file")):
        load_config(path)
    path.write_bytes(b"data: {}\n# caf\xe9\n")
    with pytest.raises(ConfigError, match=re.escape(f"{path}:2: not UTF-8 text")):
        load_config(path)
    path.write_text("#" * (LARGEST_FILE + 1))
    with pytest.raises(ConfigError, match="larger than 32 KiB"):
        load_config(path)
    path.write_bytes(b"\xef\xbb\xbftraining: {epochs: 3}\n")  # some editors write a byte order mark
    assert load_config(path).training.epochs == 3


# --set


def test_set_overrides_and_is_read_as_yaml() -> None:
    assignments = ["training.epochs=10", "model.hidden_sizes=[8, 4]", "model.tied=false", "data.root=null", "training.l2=1e-4"]
    config = parse_config("training: {epochs: 2, seed: 3}\ndata: {root: /data}", "my.yaml", assignments)
    assert (config.training.epochs, config.training.seed, config.training.l2) == (10, 3, 1e-4)
    assert config.model.hidden_sizes == (8, 4) and config.model.tied is False and config.data.root is None


def test_the_last_set_wins() -> None:
    assert parse_config("", "my.yaml", ["training.seed=1", "training.seed=2"]).training.seed == 2


def test_set_fills_an_empty_section() -> None:
    assert parse_config("training:\n", "my.yaml", ["training.seed=1"]).training.seed == 1


@pytest.mark.parametrize(
    ("assignment", "line"),
    [
        ("training.epohs=5", "training.epohs: no such key (did you mean training.epochs=5?)"),
        ("trian.epochs=5", "trian.epochs: no such key (did you mean training.epochs=5?)"),
        ("training.epochs=x", "training.epochs=x: training.epochs: must be a valid integer, not 'x'"),
        ("training.epochs=", "training.epochs=: training.epochs: must be a valid integer, not None"),
        ("epochs", "epochs: expected KEY=VALUE, for example training.epochs=10"),
        ("training.epochs", "training.epochs: expected KEY=VALUE"),
        ("training..epochs=5", "training..epochs: no such key (did you mean training.epochs=5?)"),
        ("training.epochs=[1", "training.epochs=[1:1: not valid YAML"),
        ("training.epochs=5\nmodel: 3", "training.epochs=5\\nmodel: 3: contains the character U+000A"),
    ],
)
def test_wrong_assignments_are_refused(assignment: str, line: str) -> None:
    assert problems("", [assignment])[0].startswith(line)


# Values


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-3", 3e-3),
        ("1e0", 1.0),
        ("3E-3", 3e-3),
        (".5e-2", 5e-3),
        ("2.e-1", 0.2),
        ("+1e-1", 0.1),
        ("0.003", 0.003),
        ("1", 1.0),
    ],
)
def test_floats_are_parsed_by_yaml_1_2(text: str, value: float) -> None:
    """PyYAML's YAML 1.1 would read ``3e-3`` as a string."""
    assert parse_config(f"training: {{learning_rate: {text}}}", "my.yaml").training.learning_rate == value


# A config holds no control characters and no line breaks
TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp"), exclude_characters="\ufffe\uffff"), max_size=20
)


def choices(alias: object) -> st.SearchStrategy[str]:
    return st.sampled_from(get_args(alias))


CONFIGS = st.builds(
    Config,
    data=st.builds(
        DataConfig,
        dataset=TEXT.filter(bool),
        root=st.none() | TEXT,
        validation=st.none() | st.integers(0, 10_000),
    ),
    model=st.builds(
        ModelConfig,
        hidden_sizes=st.lists(st.integers(1, 65_536), min_size=1, max_size=5).map(tuple),
        activation=choices(schema.Activation),
        code_activation=st.none() | choices(schema.Activation),
        output=st.just("sigmoid"),
        tied=st.booleans(),
    ),
    training=st.builds(
        TrainingConfig,
        epochs=st.integers(1, 1_000_000),
        learning_rate=st.floats(1e-12, 10),
        schedule=st.sampled_from(["constant", "cosine"]),
        warmup=st.floats(0, 0.5),
        l2=st.floats(0, 10),
        loss=choices(schema.Loss),
        seed=st.integers(0, 2**32 - 1),
    ),
    output=st.builds(OutputConfig, runs=TEXT.filter(bool), images=st.integers(1, 100)),
)


@pytest.mark.slow
@settings(max_examples=60)
@given(CONFIGS)
def test_a_dumped_config_loads_to_an_equal_config(config: Config) -> None:
    assert parse_config(dump_config(config), "config.yaml") == config


@pytest.mark.parametrize("text", ["on", "1e-3", "null", "~", "12", "a: b", "# x", "'", "é", "2024-01-01", " x "])
def test_strings_that_look_like_other_types_are_quoted(text: str) -> None:
    config = Config(data=DataConfig(dataset=text))
    assert parse_config(dump_config(config), "config.yaml") == config


def test_a_config_from_a_checkpoint_is_validated() -> None:
    config = Config(model=ModelConfig(hidden_sizes=(5,)))
    assert validate_config(config.model_dump(mode="json"), "x.pt") == config
    with pytest.raises(ConfigError, match=re.escape("x.pt: training.epochs: must be a valid integer, not 'x'")):
        validate_config({"training": {"epochs": "x"}}, "x.pt")


def test_changed_fields_name_old_and_new_value() -> None:
    new = parse_config("training: {epochs: 9}\ndata: {root: /x}", "my.yaml")
    assert changed_fields(Config(), new) == ["data.root: None -> /x", "training.epochs: 5 -> 9"]


# Sample configs and names


def sample(name: str) -> Config:
    return load_config(sample_configs()[name])


def test_the_sample_configs_are_all_listed() -> None:
    assert {"digits", "mnist", "mnist-best", "fashion-mnist", "cifar10", "photographs"} <= set(sample_configs())


@pytest.mark.parametrize("name", sorted(sample_configs()))
def test_each_sample_loads_and_begins_with_its_command(name: str) -> None:
    path = sample_configs()[name]
    load_config(path)
    opening = path.read_text().splitlines()[:5]
    assert [line.split(": ")[0] for line in opening[:4]] == ["# For", "# Data", "# Run", "# Time"]
    assert opening[2].startswith(f"# Run: tiedae train --config {name}") and re.match("# (Promise|Goal): ", opening[4])


@pytest.mark.parametrize("name", sorted(sample_configs()))
def test_a_sample_survives_the_run_folder(name: str) -> None:
    config = sample(name)
    assert parse_config(dump_config(config), "config.yaml") == config
    assert yaml.safe_load(dump_config(config)).keys() == Config.model_fields.keys()


def test_a_config_is_found_by_path_or_name(empty_folder: Path) -> None:
    assert find_config("mnist") == sample_configs()["mnist"]
    Path("mine.yaml").write_text("")
    assert find_config("mine.yaml") == Path("mine.yaml")
    with pytest.raises(ConfigError, match=r"--config mnits: no such file, and no sample config .*did you mean mnist\?"):
        find_config("mnits")


def test_a_folder_does_not_hide_a_sample(empty_folder: Path) -> None:
    """With ``output.runs: .`` the run folder is ``digits``; the next ``tiedae train digits`` still means the sample."""
    Path("digits").mkdir()
    assert find_config("digits") == sample_configs()["digits"]


@pytest.mark.parametrize(
    ("path", "name"), [("a/mine.yaml", "mine"), ("runs/mnist-2/config.yaml", "mnist-2"), ("x.y.yml", "x.y")]
)
def test_a_run_is_named_after_its_config(path: str, name: str) -> None:
    assert run_name(Path(path)) == name


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_tracker_typed_as_a_key_is_answered_with_the_right_key(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(f"output: {{{name}: true}}", "x.yaml")
    assert str(caught.value) == f"x.yaml:1: output.{name}: unknown key; type `output: {{trackers: [{name}]}}`"
    with pytest.raises(ConfigError, match=rf"did you mean output.trackers={name}\?"):
        parse_config("", "x.yaml", [f"output.{name}=true"])
    for text, assigned in ((f"output: {{trackers: {name}}}", []), ("", [f"trackers={name}"]), ("", [f"trackers=[{name}]"])):
        assert parse_config(text, "x.yaml", assigned).output.trackers == (name,)
    assert parse_config("", "x.yaml", ["trackers=tensorboard,mlflow"]).output.trackers == ("tensorboard", "mlflow")


def test_an_unknown_tracker_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config("output: {trackers: [tensorbord]}", "x.yaml")
    assert str(caught.value) == "x.yaml:1: output.trackers.0: 'tensorbord' is not a valid choice (did you mean tensorboard?)"


@pytest.mark.parametrize(
    ("model", "sizes", "layers"),
    [
        ("{code_size: 16}", (300, 16), None),
        ("{code_size: 16, hidden_sizes: [64, 32, 8]}", (64, 32, 16), None),
        ("{code_size: 16, hidden_sizes: 8}", (16,), None),
        ("{code_size: 16, layers: [conv 8 4 2, dense 99]}", None, ("conv 8 4 2", "dense 16")),
        ("{code_size: 16, layers: [conv 8 4 2, 99]}", None, ("conv 8 4 2", "dense 16")),
    ],
)
def test_the_code_size_replaces_the_last_layer_when_the_config_is_read(
    model: str, sizes: tuple[int, ...] | None, layers: tuple[str, ...] | None
) -> None:
    config = parse_config(f"model: {model}", "my.yaml")
    assert (config.model.hidden_sizes, config.model.layers, config.model.code_size) == (sizes, layers, None)
    assert parse_config(dump_config(config), "again") == config


def test_a_code_size_contradicts_a_convolution_at_the_end() -> None:
    with pytest.raises(ConfigError) as problem:
        parse_config("model: {layers: [conv 8 4 2]}", "my.yaml", ["code_size=16"])
    message = "model.code_size: model.layers ends with a convolution, conv 8 4 2; end model.layers with `dense 16`"
    assert str(problem.value) == f"code_size=16: {message}"


@pytest.mark.parametrize("value", ["0", "1.5", "many", "70000", "true"])
def test_a_code_size_that_is_not_a_number_of_units_is_refused_by_name(value: str) -> None:
    with pytest.raises(ConfigError, match=r"^my.yaml:1: model.code_size: "):
        parse_config(f"model: {{code_size: {value}, hidden_sizes: [64, 8]}}", "my.yaml")
