"""The words after ``tiedae tune``: which keys vary, and the config of each combination."""

import pytest

from tiedae_cli.config import Config
from tiedae_cli.config.grid import MOST, combinations, parse_grid, plain
from tiedae_cli.errors import ConfigError, InputError


def test_a_comma_separates_values_of_a_key_that_holds_one_value() -> None:
    grid = parse_grid(["code_size=2,4, 8", "lr=0.1", "seed=1", "seed=2,3", "epochs=5"])
    assert grid.varied == {("model", "code_size"): ("2", "4", "8"), ("training", "seed"): ("1", "2", "3")}
    assert grid.fixed == ("lr=0.1", "epochs=5")


def test_the_whole_word_is_one_value_of_a_key_that_holds_a_list() -> None:
    grid = parse_grid(["hidden_sizes=64,8", "hidden_sizes=128,16", "data.columns=a,b", "range=0,1"])
    assert grid.varied == {("model", "hidden_sizes"): ("64,8", "128,16")}
    assert grid.fixed == ("data.columns=a,b", "range=0,1")


@pytest.mark.parametrize("text", ["delimiter=,", "dataset=a,b.npy", "data.label='a,b'"])
def test_a_comma_that_is_part_of_a_value_separates_nothing(text: str) -> None:
    assert parse_grid([text]).fixed == (text,)


def test_every_combination_has_a_config_and_a_folder_of_its_own() -> None:
    grid = parse_grid(["code_size=2,4", "activation=relu,silu", "seed=1,2", "seed=02"])
    found = combinations(Config(), grid.varied)
    assert len({one.name for one in found}) == len(found) == 8
    assert [one.config.training.seed for one in found] == [1] * 4 + [2] * 4  # a whole curve before the next seed
    assert found[-1].name == "code_size=4,activation=silu,seed=2"
    assert found[-1].config.model.hidden_sizes == (300, 4) and found[-1].config.model.activation == "silu"
    assert found[-1].settings == {"model.code_size": 4, "model.activation": "silu", "training.seed": 2}


def test_values_of_the_data_change_least_often() -> None:
    found = combinations(Config(), parse_grid(["seed=1,2", "split_seed=1,2"]).varied)
    assert [one.config.data.split_seed for one in found] == [1, 1, 2, 2]


def test_steps_and_epochs_replace_each_other_in_a_combination() -> None:
    found = combinations(Config(), parse_grid(["steps=10,20"]).varied)
    assert [one.config.training.steps for one in found] == [10, 20]
    again = combinations(found[0].config, parse_grid(["epochs=2,3"]).varied)
    assert [(one.config.training.steps, one.config.training.epochs) for one in again] == [(None, 2), (None, 3)]


def test_a_wrong_combination_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"^training.loss=cross_entropy: training.loss: cross_entropy needs"):
        combinations(Config(), parse_grid(["loss=mse,cross_entropy"]).varied)
    with pytest.raises(ConfigError, match=r"^model.code_size=x: model.code_size: must be"):
        combinations(Config(), parse_grid(["code_size=2,x"]).varied)


@pytest.mark.parametrize("text", ["output.runs=a,b", "data.root=a,b"])
def test_keys_that_change_no_model_do_not_vary(text: str) -> None:
    with pytest.raises(ConfigError, match="cannot vary; give one value"):
        parse_grid([text])


def test_more_combinations_than_anybody_can_train_are_refused() -> None:
    values = ",".join(map(str, range(200)))
    with pytest.raises(InputError, match=f"40,000 combinations of values; expected at most {MOST:,}"):
        combinations(Config(), parse_grid([f"seed={values}", f"code_size={values.replace('0,', '200,', 1)}"]).varied)


def test_long_and_odd_values_still_give_names_of_folders() -> None:
    found = combinations(Config(), parse_grid(["data.label=../../x", "data.label=" + "y" * 300]).varied)
    assert all(len(one.name) <= 120 and "/" not in one.name for one in found)
    assert len({one.name for one in found}) == 2


def test_values_are_shown_as_people_type_them() -> None:
    assert [plain(value) for value in (True, None, 0.001, 3, (64, 8), "relu")] == ["true", "null", "0.001", "3", "64-8", "relu"]
