"""The space that a search varies: keyed to the schema, and the config that it starts from is one of its points."""

import itertools

import numpy as np
import pytest

from tiedae_cli.config import Config, keys
from tiedae_cli.config.samples import sample_configs
from tiedae_cli.config.yaml_reader import load_config, parse_config
from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.errors import ConfigError
from tiedae_cli.tuning.search_space import MOVES, PCA_CLIP, SPACE, Dimension, Value, config_at, dimensions, moved, start

IMAGES, VECTORS = ItemForm((1, 28, 28)), ItemForm((1, 1, 30), "vectors")


def form_of(name: str) -> ItemForm:
    return VECTORS if name in ("vectors", "anomalies") else IMAGES


def test_the_space_sets_keys_of_the_schema_to_values_of_the_schema() -> None:
    for one in SPACE:
        assert set(one.keys) <= keys.properties().keys() and bool(one.choices) != (one.low < one.high)
    assert {name for one in SPACE for _, name in one.keys} >= {
        "linear_path",
        "output",
        "optimizer",
        "hidden_sizes",
        "corruption",
    }


@pytest.mark.parametrize("name", sorted(sample_configs()))
def test_every_sample_config_is_a_point_of_its_space(name: str) -> None:
    base = load_config(sample_configs()[name])
    space = dimensions(base, [], form_of(name))
    assert {"learning_rate", "optimizer", "batch_size"} <= {one.name for one in space}
    assert config_at(base, space, start(base, space)) == base


@pytest.mark.parametrize("name", ["digits", "mnist-best", "vectors", "photographs", "anomalies"])
def test_points_of_the_space_are_configs_with_these_values(name: str) -> None:
    base = load_config(sample_configs()[name])
    space, chance = dimensions(base, [], form_of(name)), np.random.default_rng(0)
    valid = [config_at(base, space, {one.name: drawn(one, chance) for one in space}) for _ in range(40)]
    assert sum(config is not None for config in valid) >= 36  # few values contradict each other
    for one in space:
        ends: list[Value] = [*one.choices] or [int(one.low) if one.whole else one.low, int(one.high) if one.whole else one.high]
        for value in ends:
            config = config_at(base, space, {**start(base, space), one.name: value})
            code = config.model.encoder[-1].size if config is not None and one.name == "width" else None
            assert config is not None and one.now(config) == (max(int(value), code) if code else value), (one.name, value)


def drawn(one: Dimension, chance: np.random.Generator) -> Value:
    """Return any value of a dimension."""
    if one.choices:
        return one.choices[chance.integers(len(one.choices))]
    value = np.exp(chance.uniform(np.log(one.low), np.log(one.high))) if one.logarithmic else chance.uniform(one.low, one.high)
    return round(value) if one.whole else float(value)


def test_width_and_depth_narrow_evenly_to_the_code() -> None:
    base = parse_config("model: {hidden_sizes: [300, 16]}", "x")
    space = dimensions(base, [], VECTORS)
    config = config_at(base, space, {**start(base, space), "width": 1024, "depth": 3})
    assert config is not None and config.model.hidden_sizes == (1024, 256, 64, 16)
    narrow = config_at(base, space, {**start(base, space), "width": 32, "depth": 2})
    assert narrow is not None and narrow.model.hidden_sizes == (32, 23, 16)


def test_the_first_move_is_to_what_most_sample_configs_have() -> None:
    base = load_config(sample_configs()["mnist"])
    space = dimensions(base, [], IMAGES)
    config = config_at(base, space, moved(start(base, space), MOVES[0], space))
    assert config is not None and (config.model.linear_path, config.model.output) == ("pca", "clip")
    assert (config.training.l2, config.training.schedule, config.training.learning_rate) == (0, "one_cycle", 0.01)
    settled = load_config(sample_configs()["vectors"])
    space = dimensions(settled, [], VECTORS)
    assert moved(start(settled, space), MOVES[0], space) == start(settled, space)


@pytest.mark.parametrize("name", sorted(sample_configs()))
def test_all_moves_stay_in_the_space(name: str) -> None:
    base = load_config(sample_configs()[name])
    space = dimensions(base, [], form_of(name))
    assert {key for move in MOVES for key in move} <= {one.name for one in SPACE}
    for move in MOVES:
        params = moved(start(base, space), move, space)
        assert all(params[one.name] in one.choices or one.low <= float(params[one.name]) <= one.high for one in space)
        config = config_at(base, space, params)
        assert config is not None and (config != base or params == start(base, space))


def test_a_schedule_with_its_own_warm_up_takes_no_other() -> None:
    base = parse_config("training: {warmup: 0.1}", "x")
    space = dimensions(base, [], VECTORS)
    config = config_at(base, space, {**start(base, space), "schedule": "one_cycle"})
    assert config is not None and (config.training.schedule, config.training.warmup) == ("one_cycle", 0)


def test_images_start_at_pca_with_a_clipped_output_only() -> None:
    base = load_config(sample_configs()["digits"])
    space = dimensions(base, [], IMAGES)
    config = config_at(base, space, {**start(base, space), "output": PCA_CLIP})
    assert config is not None and (config.model.linear_path, config.model.output) == ("pca", "clip")


def test_keys_that_the_user_has_set_are_not_searched() -> None:
    base = Config()
    names = {one.name for one in dimensions(base, [("model", "hidden_sizes"), ("training", "optimizer")], VECTORS)}
    assert names == {"learning_rate", "batch_size", "activation", "code_activation", "schedule", "l2", "noise", "linear_path"}
    everything = list(itertools.chain.from_iterable(one.keys for one in SPACE))
    with pytest.raises(ConfigError, match="nothing is left to search"):
        dimensions(base, everything, VECTORS)


@pytest.mark.parametrize(
    ("model", "training", "missing"),
    [
        ("{layers: [conv 8 4 2, dense 16]}", "{}", {"width", "depth"}),
        ("{layers: [conv 8 4 2]}", "{}", {"width", "depth", "output"}),
        ("{output: sigmoid}", "{loss: cross_entropy}", {"output"}),
        ("{code_top_k: 3}", "{corruption: masking}", {"output", "noise"}),
    ],
)
def test_what_does_not_fit_the_config_is_not_searched(model: str, training: str, missing: set[str]) -> None:
    base = parse_config(f"{{model: {model}, training: {training}}}", "x")
    found = {one.name for one in dimensions(base, [], IMAGES)}
    assert {one.name for one in SPACE if one.images is not False} - found == missing
