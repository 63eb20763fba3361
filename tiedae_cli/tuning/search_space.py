"""What a search varies, in which ranges: the one list of dimensions, each keyed to the config keys that it sets.

A dimension has a value for every config, so that the config a search starts from is a point of the space as well.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from tiedae_cli.config import Config, Schedule
from tiedae_cli.config.keys import Key
from tiedae_cli.config.yaml_reader import with_assignments
from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.errors import ConfigError

Value = float | int | str
ACTIVATIONS = ("relu", "silu", "gelu", "elu", "tanh")
OPTIMIZERS = ("adam", "soap", "muon")
NOISE = (0.0, 0.05, 0.1, 0.2, 0.4)  # deviations of the Gaussian noise on the input; 0 means without noise
L2 = (0.0, 1e-6, 1e-5, 1e-4, 1e-3)  # 0 means without penalty
SCHEDULES: tuple[str, ...] = get_args(Schedule)
PCA_CLIP = "clip, from PCA"
LINEAR, LIKE_OTHERS = "linear", "as other layers"  # activation of the code


@dataclass(frozen=True)
class Dimension:
    """One thing that a search varies."""

    name: str
    keys: tuple[Key, ...]
    """The keys that it sets; it is not searched if the user has set one of them."""
    now: Callable[[Config], Value | None]
    """Returns the value of a config, moved into the range; None if it does not apply to the config."""
    assign: Callable[[Config, Value], Sequence[str]]
    """Returns the assignments that give a config this value."""
    choices: tuple[Value, ...] = ()
    """All values; empty for a range."""
    low: float = 0.0
    high: float = 0.0
    """Bounds of a range, both included."""
    whole: bool = False
    """Whether a range holds whole numbers."""
    logarithmic: bool = True
    images: bool | None = None
    """Whether it applies to images only (True) or to vectors only (False)."""


def _clipped(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def _nearest(value: float, choices: Sequence[float]) -> float:
    return min(choices, key=lambda choice: abs(choice - value))


def _hidden(config: Config) -> tuple[int, ...] | None:
    """Return the dense layers before the code; None if the model has convolutions or no hidden layer."""
    sizes = config.model.hidden_sizes
    return None if sizes is None or len(sizes) < 2 else sizes[:-1]


def _sizes(config: Config, width: int, depth: int) -> list[str]:
    """Return hidden sizes that narrow evenly, on a logarithmic scale, from the width to the code."""
    assert config.model.hidden_sizes is not None  # ``_hidden`` is not None
    code = config.model.hidden_sizes[-1]
    if (width, depth) == (max(config.model.hidden_sizes[:-1]), len(config.model.hidden_sizes) - 1):
        return []  # as they are
    ratio = min(1.0, code / width)
    sizes = [max(code, round(width * ratio ** (layer / depth))) for layer in range(depth)]
    return [f"model.hidden_sizes={','.join(map(str, [*sizes, code]))}"]


def _width(config: Config) -> Value | None:
    hidden = _hidden(config)
    return None if hidden is None else int(_clipped(max(hidden), 32, 1024))


def _depth(config: Config) -> Value | None:
    hidden = _hidden(config)
    return None if hidden is None else int(_clipped(len(hidden), 1, 3))


def _noise(config: Config) -> Value | None:
    if config.training.corruption not in ("none", "gaussian"):
        return None
    return _nearest(0.0 if config.training.corruption == "none" else config.training.corruption_level, NOISE)


def _with_noise(config: Config, value: Value) -> Sequence[str]:
    return ["training.corruption=none"] if not value else ["training.corruption=gaussian", f"training.corruption_level={value}"]


def _fits_linear_path(config: Config) -> bool:
    dense = config.model.encoder[-1].size is not None
    return dense and not config.model.code_top_k and config.training.sparsity != "kl"


def _image_output(config: Config) -> Value | None:
    """Return how the output of images is limited, and whether it starts at PCA; None if the loss fixes that."""
    if config.training.loss == "cross_entropy" or config.training.cross_entropy_weight or not _fits_linear_path(config):
        return None
    return PCA_CLIP if config.model.linear_path == "pca" else "sigmoid" if config.model.output == "sigmoid" else "clip"


def _with_image_output(config: Config, value: Value) -> Sequence[str]:
    path, output = ("pca", "clip") if value == PCA_CLIP else ("none", value)
    return [f"model.linear_path={path}", f"model.output={output}"]


def _code_activation(config: Config) -> Value | None:
    """Return whether the code is linear; None if it has an activation of its own, or one that the sparsity needs."""
    own = config.model.code_activation
    if own not in (None, "linear") or config.training.sparsity == "kl":
        return None
    return LINEAR if own == "linear" else LIKE_OTHERS


def _one(key: Key) -> Callable[[Config, Value], Sequence[str]]:
    return lambda config, value: [f"{'.'.join(key)}={value}"]


SPACE = (
    Dimension(
        "learning_rate",
        (("training", "learning_rate"),),
        lambda config: _clipped(config.training.learning_rate, 1e-4, 0.05),
        _one(("training", "learning_rate")),
        low=1e-4,
        high=0.05,
    ),
    Dimension(
        "optimizer",
        (("training", "optimizer"), ("training", "momentum")),
        lambda config: config.training.optimizer,
        _one(("training", "optimizer")),
        choices=OPTIMIZERS,
    ),
    Dimension(
        "batch_size",
        (("training", "batch_size"),),
        lambda config: int(_clipped(config.training.batch_size, 16, 512)),
        _one(("training", "batch_size")),
        low=16,
        high=512,
        whole=True,
    ),
    Dimension(
        "activation",
        (("model", "activation"),),
        lambda config: config.model.activation if config.model.activation in ACTIVATIONS else None,
        _one(("model", "activation")),
        choices=ACTIVATIONS,
    ),
    Dimension(
        "code_activation",
        (("model", "code_activation"),),
        _code_activation,
        lambda config, value: [f"model.code_activation={'linear' if value == LINEAR else 'null'}"],
        choices=(LINEAR, LIKE_OTHERS),
    ),
    Dimension(
        "width",
        (("model", "hidden_sizes"), ("model", "layers")),
        _width,
        lambda config, value: [],  # set together with the depth
        low=32,
        high=1024,
        whole=True,
    ),
    Dimension(
        "depth",
        (("model", "hidden_sizes"), ("model", "layers")),
        _depth,
        lambda config, value: [],
        low=1,
        high=3,
        whole=True,
        logarithmic=False,
    ),
    Dimension(
        "schedule",
        (("training", "schedule"), ("training", "warmup")),
        lambda config: config.training.schedule,
        lambda config, value: [f"training.schedule={value}", *(["training.warmup=0"] if value == "one_cycle" else [])],
        choices=SCHEDULES,
    ),
    Dimension(
        "l2",
        (("training", "l2"),),
        lambda config: _nearest(config.training.l2, L2),
        _one(("training", "l2")),
        choices=L2,
    ),
    Dimension(
        "noise",
        (("training", "corruption"), ("training", "corruption_level")),
        _noise,
        _with_noise,
        choices=NOISE,
    ),
    Dimension(
        "output",
        (("model", "output"), ("model", "linear_path")),
        _image_output,
        _with_image_output,
        choices=("sigmoid", "clip", PCA_CLIP),
        images=True,
    ),
    Dimension(
        "linear_path",
        (("model", "linear_path"),),
        lambda config: config.model.linear_path if _fits_linear_path(config) else None,
        _one(("model", "linear_path")),
        choices=("none", "pca"),
        images=False,
    ),
)


MOVES: tuple[Mapping[str, Value], ...] = (  # what the first trials change in the best one so far
    {
        "schedule": "one_cycle",
        "l2": 0.0,
        "code_activation": LINEAR,
        "output": PCA_CLIP,
        "linear_path": "pca",
    },  # as most sample configs
    {"width": 2.0, "depth": 2.0, "batch_size": 2.0, "learning_rate": 2.0},
    {"optimizer": "soap"},
    {"learning_rate": 0.5},
    {"activation": "silu"},
    {"width": 2.0},
    {"batch_size": 0.5},
)


def dimensions(base: Config, fixed: Sequence[Key], form: ItemForm) -> list[Dimension]:
    """Return the dimensions that a search of this config varies.

    Args:
        base: the config that the search starts from.
        fixed: keys that the user has set.
        form: of the items.

    Raises:
        ConfigError: nothing is left to search.
    """
    is_image = form.kind == "images"
    found = [
        one for one in SPACE if not set(one.keys) & set(fixed) and one.images in (None, is_image) and one.now(base) is not None
    ]
    if not found:
        raise ConfigError("nothing is left to search: every setting that a search varies is given")
    return found


def start(base: Config, space: Sequence[Dimension]) -> dict[str, Value]:
    """Return the point of the space that a config is, or is nearest to."""
    found = {one.name: one.now(base) for one in space}
    return {name: value for name, value in found.items() if value is not None}


def moved(params: Mapping[str, Value], move: Mapping[str, Value], space: Sequence[Dimension]) -> dict[str, Value]:
    """Return a point of the space with the values of a move; a dimension that is not searched does not move."""
    found = dict(params)
    for one in space:
        if one.name in move:
            found[one.name] = move[one.name] if one.choices else _times(one, params[one.name], move[one.name])
    return found


def _times(one: Dimension, value: Value, factor: Value) -> Value:
    product = _clipped(float(value) * float(factor), one.low, one.high)
    return round(product) if one.whole else product


def config_at(base: Config, space: Sequence[Dimension], values: dict[str, Value]) -> Config | None:
    """Return the config at a point; None if two of its values contradict each other or another key.

    A value that equals the base config's changes nothing, so the base config itself is a point.

    Args:
        base: the config that the search starts from.
        space: its dimensions.
        values: one per dimension.
    """
    begin, assignments = start(base, space), list[str]()
    for one in space:
        if values[one.name] != begin[one.name]:
            assignments += one.assign(base, values[one.name])
    if {"width", "depth"} & {one.name for one in space if values[one.name] != begin[one.name]}:
        assignments += _sizes(base, int(values["width"]), int(values["depth"]))
    try:
        return with_assignments(base, assignments)
    except ConfigError:
        return None
