"""Names of config keys as people type them: in full, by their last part, or as other tools call them."""

import difflib
from collections.abc import Sequence
from functools import cache
from typing import Any, get_args

from tiedae_cli.config.schema import Config, Tracker
from tiedae_cli.errors import ConfigError

Key = tuple[str, str]  # (section, key)
INSTEAD: dict[Key, Key] = {  # alternatives: typing one key unsets the other
    ("model", "hidden_sizes"): ("model", "layers"),
    ("model", "layers"): ("model", "hidden_sizes"),
    ("training", "epochs"): ("training", "steps"),
    ("training", "steps"): ("training", "epochs"),
}
NULLS = ("", "~", "null")
TRACKERS = get_args(Tracker)  # people also type these as keys
LAYER_COUNTS = (
    "layers",
    "layer",
    "hidden_layers",
    "n_layers",
    "num_layers",
    "n_hidden",
    "depth",
)  # names that a count may follow
SYNONYMS: dict[str, Key] = {
    **dict.fromkeys(("data", "dataset_path", "data_path"), ("data", "dataset")),
    **dict.fromkeys(("data_dir", "data_root"), ("data", "root")),
    **dict.fromkeys(("val", "val_split", "validation_split", "valid"), ("data", "validation")),
    **dict.fromkeys(("test_split", "test_size"), ("data", "test")),
    **dict.fromkeys(("image_size", "img_size", "resize"), ("data", "size")),
    **dict.fromkeys(("label_column", "labels"), ("data", "label")),
    **dict.fromkeys(("sep", "delim", "separator"), ("data", "delimiter")),
    **dict.fromkeys(("scaler",), ("data", "scaling")),
    **dict.fromkeys(("drop_columns",), ("data", "ignore")),
    **dict.fromkeys(("window_size", "seq_len", "sequence_length"), ("data", "window")),
    **dict.fromkeys(
        ("hidden", "hidden_size", "hidden_layers", "hidden_dims", "hidden_dim", "hidden_units", "hidden_layer_sizes"),
        ("model", "hidden_sizes"),
    ),
    **dict.fromkeys(
        ("latent_dim", "latent", "latent_size", "code_dim", "bottleneck", "encoding_dim", "z_dim", "n_components"),
        ("model", "code_size"),
    ),
    **dict.fromkeys(("act", "activation_function", "nonlinearity"), ("model", "activation")),
    **dict.fromkeys(("tie_weights", "tied_weights"), ("model", "tied")),
    **dict.fromkeys(("epoch", "n_epochs", "num_epochs", "max_epochs", "nb_epoch"), ("training", "epochs")),
    **dict.fromkeys(("batch", "bs", "batchsize"), ("training", "batch_size")),
    **dict.fromkeys(("lr", "learningrate", "learning_rate_init"), ("training", "learning_rate")),
    **dict.fromkeys(("lr_schedule", "scheduler", "lr_scheduler"), ("training", "schedule")),
    **dict.fromkeys(("loss_fn", "criterion"), ("training", "loss")),
    **dict.fromkeys(("random_state", "random_seed", "manual_seed"), ("training", "seed")),
    **dict.fromkeys(("dtype",), ("training", "precision")),
    **dict.fromkeys(("noise_type",), ("training", "corruption")),
    **dict.fromkeys(("noise", "noise_level", "noise_std", "noise_factor"), ("training", "corruption_level")),
    **dict.fromkeys(("patience",), ("training", "early_stopping")),
    **dict.fromkeys(("grad_clip", "max_grad_norm", "global_clipnorm"), ("training", "gradient_clip")),
    **dict.fromkeys(("opt",), ("training", "optimizer")),
    **dict.fromkeys(("pretrain_epochs",), ("training", "pretraining_epochs")),
}


CLOSE = 0.8  # difflib's ratio: about one wrong letter in five
VAGUE = ("alpha", "rate", "units", "target", "drop", "code", "clip", "input")  # too many meanings in other tools
_DECOUPLED = "decoupled weight decay is not offered; training.l2 is an L2 penalty in the loss, which Adam scales differently"
NOT_OFFERED = {"weight_decay": _DECOUPLED, "wd": _DECOUPLED}  # names from other tools without a matching key


@cache
def properties() -> dict[Key, dict[str, Any]]:
    """Return the JSON schema of each key, in the schema's order."""
    schema = Config.model_json_schema()
    return {
        (section, key): field
        for section in schema["properties"]
        for key, field in schema["$defs"][f"{section.capitalize()}Config"]["properties"].items()
    }


def kinds(key: Key) -> list[dict[str, Any]]:
    """Return the JSON schemas of a key's values, without null."""
    return alternatives(properties()[key])


def alternatives(field: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the JSON schemas of a field's values, without null."""
    return [kind for kind in field.get("anyOf", [field]) if kind.get("type") != "null"]


def is_text(key: Key) -> bool:
    """Return whether a key holds free text, alone or in a list."""
    return any(kind.get("type") == "string" and "enum" not in kind for kind in kinds(key))


def is_list(key: Key) -> bool:
    """Return whether a key holds a list."""
    return not is_text(key) and any(kind.get("type") == "array" for kind in kinds(key))


def find_key(name: str) -> Key | None:
    """Return the key for ``section.key``, its last part or a synonym (``-`` may replace ``_``); None if there is none."""
    plain = name.strip().replace("-", "_")
    section, dot, last = plain.rpartition(".")
    known = properties()
    if dot and (section, last) in known:
        return section, last
    if dot and section in Config.model_fields:
        return _synonym(last, section)
    found = [key for key in known if key[1] == plain]
    return found[0] if len(found) == 1 else _synonym(plain)


def _synonym(name: str, section: str | None = None) -> Key | None:
    key = SYNONYMS.get(name.lower())
    return key if key in properties() and key is not None and section in (None, key[0]) else None


def resolve(name: str, value: str) -> Key:
    """Return the key for a typed name.

    Args:
        name: the name as typed.
        value: its value, for the suggested line.

    Raises:
        ConfigError: no key has that name; the message says what to type.
    """
    key = find_key(name)
    if key is None:
        raise ConfigError(f"{name}: no such key{line_to_type(name, value)}")
    return key


def line_to_type(name: str, value: str, as_option: bool = False) -> str:
    """Return a suggestion for an unknown key: the closest KEY=VALUE or option, a reason, or where all keys are listed."""
    last = name.rpartition(".")[2].replace("-", "_")
    if last in TRACKERS:
        name, last, value = "output.trackers", "trackers", last
    if last.lower() in NOT_OFFERED:
        return f": {NOT_OFFERED[last.lower()]}"
    vague = last.lower() in VAGUE
    key = find_key(name) or find_key(last) or (None if vague else _misspelled(last.lower()))
    if key is None:
        return f" (all {'options' if as_option else 'keys'}: tiedae train --help --all)"
    if as_option:
        return f" (did you mean --{key[1].replace('_', '-')} {value}?)"
    return f" (did you mean {'.'.join(key)}={value}?)"


def _misspelled(name: str) -> Key | None:
    """Return the key with a name or synonym one typing error away; worse matches would mislead."""
    known = [key for _, key in properties()] + list(SYNONYMS)
    near = [other for other in known if other[0] == name[:1] and abs(len(other) - len(name)) <= 1]
    close = difflib.get_close_matches(name, near, n=1, cutoff=0.8)
    return find_key(close[0]) if close else None


def refuse_layer_count(name: str, value: str) -> None:
    """Refuse a number of layers where their sizes are expected.

    Raises:
        ConfigError: the name means layers and the value is a single number; the message has the line to type.
    """
    plain = name.rpartition(".")[2].replace("-", "_").lower()
    if plain in LAYER_COUNTS and value.strip().isdecimal():
        count = int(value) if len(value) < 3 else 0
        sizes = ",".join(map(str, (512, 256, 128, 32)[-count:] if 1 <= count <= 4 else (128, 32)))
        raise ConfigError(f"{name}={value.strip()}: give one number per layer, its units; for example hidden_sizes={sizes}")


def real_names(texts: Sequence[str]) -> list[str]:
    """Return "NAME: SECTION.KEY" for each assignment that uses another tool's name."""
    notes = []
    for text in texts:
        name = text.partition("=")[0].strip()
        key = find_key(name)
        if key is not None and key[1] != name.rpartition(".")[2].replace("-", "_"):
            notes.append(f"{name}: {'.'.join(key)}")
    return notes


def assignment(text: str) -> tuple[str, str] | None:
    """Return name and value of ``KEY=VALUE``; None for any other text."""
    name, equals, value = text.partition("=")
    plain = name.strip().replace("-", "_").replace(".", "_")
    return (name.strip(), value) if equals and plain.isidentifier() else None
