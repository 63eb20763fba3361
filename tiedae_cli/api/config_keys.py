"""The keyword arguments of ``tiedae.train``: the keys of the config by their last part.

Made by ``python docs/config_keys.py``; do not edit.
"""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Literal, TypedDict


class ConfigKeys(TypedDict, total=False):
    """Keys of the config; ``tiedae schema`` and docs/config.md say what each means."""

    dataset: str | PathLike[str] | Sequence[str | PathLike[str]]
    root: str | PathLike[str] | None
    split_seed: int
    size: int | Sequence[int] | None
    mode: Literal["gray", "color"] | None
    include: str | Sequence[str]
    exclude: str | Sequence[str]
    range: float | Sequence[float] | None
    arrays: str | Mapping[str, str]
    label: str | None
    normal: str | int | bool | Sequence[str | int | bool]
    columns: str | Sequence[str] | None
    ignore: str | Sequence[str]
    categories: Literal["error", "one_hot"]
    missing: Literal["error", "drop", "mean", "forward_fill", "fill"]
    window: int
    series: str | None
    time: str | None
    gap: float | None
    stride: int
    scaling: Literal["standard", "robust", "minmax", "none"]
    transform: Literal["none", "log1p", "log1p_per_10k"]
    delimiter: str | None
    decimal: Literal[".", ","] | None
    thousands: Literal[".", ",", "'", " "] | None
    header: bool | None
    hidden_sizes: int | Sequence[int] | None
    layers: str | Sequence[str] | None
    code_size: int | None
    activation: Literal["elu", "relu", "silu", "gelu", "selu", "softplus", "sigmoid", "tanh", "linear"]
    code_activation: Literal["elu", "relu", "silu", "gelu", "selu", "softplus", "sigmoid", "tanh", "linear"] | None
    code_top_k: int | None
    output: Literal["linear", "sigmoid", "clip"]
    linear_path: Literal["none", "pca"]
    tied: bool
    epochs: int
    steps: int | None
    batch_size: int
    shuffle: Literal["auto", "items", "blocks"]
    optimizer: Literal["adam", "muon", "soap"]
    momentum: float | None
    learning_rate: float
    schedule: Literal["constant", "cosine", "one_cycle"]
    warmup: float
    l2: float
    loss: Literal["mse", "squared_error", "cross_entropy"]
    cross_entropy_weight: float
    seed: int
    precision: Literal["float32", "bfloat16", "auto"]
    engine: Literal["auto", "autograd"]
    tf32: bool
    corruption: Literal["none", "gaussian", "masking", "salt_and_pepper"]
    corruption_level: float
    shift: int
    shift_edges: Literal["zero", "mirror"]
    flip: bool
    sparsity: Literal["none", "l1", "kl"]
    sparsity_weight: float
    sparsity_target: float
    gradient_clip: float | None
    pretraining_epochs: int
    early_stopping: int | None
    init_from: str | PathLike[str] | None
    checkpoint_every: float
    rank: Literal["squared_error", "neighbours", "region"]
    neighbours: int
    runs: str | PathLike[str]
    images: int
    report: bool
    trackers: Literal["tensorboard", "mlflow"] | Sequence[Literal["tensorboard", "mlflow"]]
