"""Any config file or ``--set`` gives a config or a ``ConfigError`` (HYPOTHESIS_PROFILE=soak: 2,000 examples)."""

import os

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tiedae_cli.config import Config
from tiedae_cli.config.yaml_reader import LARGEST_FILE, dump_config, load_config, parse_config
from tiedae_cli.errors import ConfigError

pytestmark = pytest.mark.slow

COMMON = {"suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]}
settings.register_profile("suite", max_examples=100, **COMMON)
settings.register_profile("soak", max_examples=2000, **COMMON)
PROFILE = settings.get_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))

LEAVES = {section: list(field.annotation.model_fields) for section, field in Config.model_fields.items()}
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**400), 10**400),
    st.floats(),
    st.text(max_size=30),
    st.sampled_from(
        [
            "elu",
            "sigmoid",
            "cross_entropy",
            "kl",
            "one_cycle",
            "linear",
            "none",
            "conv 8 4 2",
            "dense 3",
            "conv 9",
            "digits",
            "../..",
            "~",
            "\0",
        ]
    ),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=8,
)
DOTTED = st.sampled_from([f"{section}.{key}" for section, keys in LEAVES.items() for key in keys])
NEAR_SCHEMA = st.fixed_dictionaries(
    {}, optional={name: st.one_of(VALUES, st.dictionaries(st.sampled_from(keys), VALUES)) for name, keys in LEAVES.items()}
)
PIECES = st.sampled_from(
    "data: model: training: output: epochs: seed: hidden_sizes: learning_rate: dataset: \n \n\n \t {} [] { } [ ] , - ? : | > & * ! "
    "!!int !!float !!timestamp !!binary !!set !!omap !!python/name:os.system &a *a << % %YAML %TAG --- ... # ' \" \\ \\0 \\x \\U00FFFFFF "
    "0x 0o7 0b1 1_000 1:99 .nan -.inf 1e999 3e-3 9 -1 true null ~ = \x00 \x85 \u2028 \ud800 \ufeff digits".split(" ")
)
RAW_TEXT = st.one_of(
    st.text(max_size=200),
    st.lists(st.one_of(PIECES, st.just(" "), st.just("\n"), st.text(max_size=4)), max_size=40).map("".join),
)


def check(text: str, assignments: tuple[str, ...] = ()) -> None:
    """Check for a config that survives a round trip, or a ``ConfigError`` with a location in each line."""
    try:
        config = parse_config(text, "fuzz.yaml", assignments)
    except ConfigError as error:
        assert str(error).strip()
        assert len(str(error)) < 100_000
        return
    assert parse_config(dump_config(config), "again.yaml") == config


@settings(PROFILE)
@given(NEAR_SCHEMA)
def test_values_near_the_schema_load_or_are_refused(values):
    check(yaml.safe_dump(values, allow_unicode=True))


@settings(PROFILE)
@given(RAW_TEXT)
@example("[" * 60_000)
@example("{a: " * 15_000)
@example("- " * 30_000)
@example("? " * 30_000)
@example("&a [*a]")
@example("a: &a [x]\n" + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20)))
@example("\n".join(f"k{i}: 1" for i in range(6000)))
@example("training: {seed: !!int ''}")
@example("training: {seed: !!float ''}")
@example("data: {dataset: !!timestamp x}")
@example("%YAML 1." + "9" * 5000 + "\n---\n{}")
@example('data: {dataset: "\\UFFFFFFFF"}')
@example('data: {dataset: "\\ud800"}')
@example("model: {activation: 0x" + "f" * 60_000 + "}")
@example("data:\n\tdataset: digits")
@example("data: {}\ndata: {}")
def test_any_text_loads_or_is_refused(text):
    check(text)


@settings(PROFILE)
@given(st.one_of(RAW_TEXT, st.builds("{}={}".format, DOTTED, RAW_TEXT)))
@example("training.seed=!!int ''")
@example("training.seed=1\ntraining: {seed: 2}")
@example("training.seed=*a")
@example("=")
@example("model.hidden_sizes=[" + "1," * 30_000 + "]")
def test_any_assignment_is_accepted_or_refused(assignment):
    check("training: {epochs: 2}", (assignment,))


@settings(PROFILE)
@given(raw=st.one_of(st.binary(max_size=300), RAW_TEXT.map(lambda text: text.encode(errors="surrogatepass"))))
@example(raw=b"\xff\xfe")
@example(raw=b"data: {dataset: \xc3\x28}")
@example(raw=b"\xef\xbb\xbfdata: {}")
@example(raw=b"#" * (LARGEST_FILE + 1))
def test_any_bytes_load_or_are_refused(raw, tmp_path):
    path = tmp_path / "fuzz.yaml"
    path.write_bytes(raw)
    try:
        config = load_config(path)
    except ConfigError as error:
        assert str(error).startswith(str(path))
    else:
        assert isinstance(config, Config)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data:\n\tdataset: digits", "fuzz.yaml:2: not valid YAML: found character '\\t' that cannot start any token"),
        ("data: {}\ndata: {}", "fuzz.yaml:2: data: duplicate key; first given at fuzz.yaml:1"),
        ("a: &a [x]\nb: *a", "fuzz.yaml:2: b: YAML aliases (*name) are not supported in configs; repeat the value"),
        ("[" * 1000, "fuzz.yaml:1: not valid YAML: nested too deeply; a config has sections and keys"),
        (
            "training:\n  seed: !!int ''",
            "fuzz.yaml:2: training.seed: '' is not a valid value (\"invalid literal for int() with base 10: ''\")",
        ),
        ('data: {dataset: "a\\0b"}', "fuzz.yaml:1: data.dataset: contains the character U+0000"),
        ("training: {epochs: -1e30}", "fuzz.yaml:1: training.epochs: must be a valid integer, not -1e+30"),
        ("training: {learning_rate: .nan}", "fuzz.yaml:1: training.learning_rate: must be a finite number, not nan"),
    ],
)
def test_each_malformed_document_has_one_message(text, message):
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "fuzz.yaml")
    assert str(caught.value) == message


def test_thousands_of_problems_stay_readable():
    with pytest.raises(ConfigError) as caught:
        parse_config("\n".join(f"k{i}: 1" for i in range(6000)), "fuzz.yaml")
    lines = str(caught.value).splitlines()
    assert len(lines) == 51
    assert lines[-1] == "and 5,950 more like these"
