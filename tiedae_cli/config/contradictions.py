"""Rules between two keys of a config, for YAML files and checkpoints alike."""

from collections.abc import Iterator
from itertools import pairwise

from tiedae_cli.config.schema import Config, DenseWords, ModelConfig


def contradictions(config: Config) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield each contradiction between keys as (key path, message)."""
    if config.training.loss == "cross_entropy" and config.model.output != "sigmoid":
        yield ("training", "loss"), "training.loss: cross_entropy needs model.output: sigmoid"
    code = config.model.code_activation or config.model.activation
    if config.training.cross_entropy_weight and (config.training.loss == "cross_entropy" or config.model.output != "sigmoid"):
        reason = "training.cross_entropy_weight: needs model.output: sigmoid and training.loss: mse or squared_error"
        yield ("training", "cross_entropy_weight"), reason
    if config.training.sparsity == "kl" and code != "sigmoid":
        yield ("training", "sparsity"), "training.sparsity: kl needs codes in (0, 1): model.code_activation: sigmoid"
    yield from _layers(config.model)
    yield from _linear_path(config)
    if config.training.early_stopping and config.data.validation == 0:
        yield ("training", "early_stopping"), "training.early_stopping: needs validation items, but data.validation is 0"
    if config.training.pretraining_epochs and config.training.init_from:
        yield (
            ("training", "pretraining_epochs"),
            "training.pretraining_epochs: training.init_from already provides trained layers; remove one of the two",
        )
    portions = [portion or 0 for portion in (config.data.validation, config.data.test)]
    if sum(portion for portion in portions if isinstance(portion, float)) >= 1:
        yield (
            ("data", "test"),
            "data.test: nothing is left for training; data.test + data.validation must be below 1",
        )
    if config.data.stride > config.data.window:
        yield ("data", "stride"), f"data.stride: must be at most data.window ({config.data.window}); a larger stride skips rows"
    if config.data.window == 1 and config.data.gap is not None:
        yield ("data", "gap"), "data.gap: has an effect only with data.window above 1"
    if config.data.window == 1 and config.data.missing == "forward_fill":
        yield ("data", "missing"), "data.missing: forward_fill is for time series, with data.window above 1; use mean or drop"
    if config.data.window > 1 and config.data.split_seed:
        yield (
            ("data", "split_seed"),
            "data.split_seed: has no effect with data.window, whose splits are ranges of rows; remove it",
        )
    if config.training.warmup and config.training.schedule == "one_cycle":
        yield ("training", "warmup"), "training.warmup: one_cycle has its own warm-up; remove one of the two"
    if config.score.rank != "squared_error" and config.data.window > 1:
        what = "images" if config.score.rank == "region" else "single rows"
        instead = "use --set score.rank=squared_error for windows"
        yield ("score", "rank"), f"score.rank: {config.score.rank} works on {what} only; {instead}"
    if config.training.steps and "epochs" in config.training.model_fields_set:
        yield (
            ("training", "steps"),
            "training.steps: conflicts with training.epochs; remove one of the two, or set training.steps=null",
        )


def _layers(model: ModelConfig) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield the contradictions between the keys that describe layers."""
    if model.layers is not None and model.hidden_sizes is not None:
        yield ("model", "layers"), "model.layers: conflicts with model.hidden_sizes; set one of the two to null"
    elif not model.encoder:
        yield ("model", "hidden_sizes"), "model.hidden_sizes: null, and model.layers is not set; set one of them"
    else:
        if model.code_size is not None:  # the schema has resolved it unless the code is a convolution's
            reason = f"model.layers ends with a convolution, {model.layers[-1]}" if model.layers else "there is no layer"
            yield ("model", "code_size"), f"model.code_size: {reason}; end model.layers with `dense {model.code_size}`"
        if any(after.takes_images and not words.gives_images for words, after in pairwise(model.encoder)):
            yield ("model", "layers"), "model.layers: convolutions must come before dense layers"
        size = model.encoder[-1].size
        if size and model.code_top_k and model.code_top_k > size:
            yield ("model", "code_top_k"), f"model.code_top_k: the code has only {size} units"


def _linear_path(config: Config) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield the contradictions of ``model.linear_path``."""
    model, training, key = config.model, config.training, ("model", "linear_path")
    if model.linear_path == "none":
        return
    if model.encoder and not isinstance(model.encoder[-1], DenseWords):
        yield key, "model.linear_path: needs a dense code; end model.layers with `dense UNITS`"
    if model.output == "sigmoid":
        yield key, "model.linear_path: conflicts with model.output: sigmoid; use clip for pixels, else linear"
    if model.code_top_k:
        yield key, "model.linear_path: conflicts with model.code_top_k, because principal components are not sparse"
    if training.sparsity == "kl":
        yield key, "model.linear_path: conflicts with training.sparsity: kl, because the code is not limited to (0, 1)"
    if len(model.encoder) == 1 and model.code_activation not in (None, "linear"):
        reason = "a single layer with model.linear_path is linear"
        yield ("model", "code_activation"), f"model.code_activation: {reason}; remove the activation or add a hidden layer"
    if len(model.encoder) == 1 and training.pretraining_epochs:
        yield (
            ("training", "pretraining_epochs"),
            "training.pretraining_epochs: there is no network to pretrain beside the linear path",
        )
