"""What the fields of a config say against each other; these rules hold for YAML files and for checkpoints alike."""

from collections.abc import Iterator
from itertools import pairwise

from tiedae_cli.config.schema import Config, ModelConfig


def contradictions(config: Config) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield what the fields say against each other: (key path, message)."""
    if config.training.loss == "cross_entropy" and config.model.output != "sigmoid":
        yield ("training", "loss"), "training.loss: cross_entropy needs model.output: sigmoid"
    code = config.model.code_activation or config.model.activation
    if config.training.cross_entropy_weight and (config.training.loss == "cross_entropy" or config.model.output != "sigmoid"):
        reason = "training.cross_entropy_weight: adds to mse or squared_error with model.output: sigmoid"
        yield ("training", "cross_entropy_weight"), reason
    if config.training.sparsity == "kl" and code != "sigmoid":
        yield ("training", "sparsity"), "training.sparsity: kl needs codes in (0, 1): model.code_activation: sigmoid"
    yield from _layers(config.model)
    if config.training.early_stopping and config.data.validation == 0:
        yield ("training", "early_stopping"), "training.early_stopping: needs validation images, but data.validation is 0"
    if config.training.pretraining_epochs and config.training.init_from:
        yield (
            ("training", "pretraining_epochs"),
            "training.pretraining_epochs: init_from already gives trained layers; remove one",
        )
    portions = [portion or 0 for portion in (config.data.validation, config.data.test)]
    if sum(portion for portion in portions if isinstance(portion, float)) >= 1:
        yield (
            ("data", "test"),
            "data.test: together with data.validation nothing is left for training; their sum must be below 1",
        )
    if config.data.stride > config.data.window:
        yield ("data", "stride"), f"data.stride: above data.window, {config.data.window}, it would leave rows out"
    if config.data.window > 1 and config.data.missing == "drop":
        yield ("data", "missing"), "data.missing: drop would tear windows apart; use mean"
    if config.data.window > 1 and config.data.split_seed:
        yield ("data", "split_seed"), "data.split_seed: the splits of windows are ranges of rows, not drawn; remove it"
    if config.training.warmup and config.training.schedule == "one_cycle":
        yield ("training", "warmup"), "training.warmup: one_cycle has its own warm-up; remove one of the two"
    if config.score.rank != "squared_error" and config.data.window > 1:
        what = "images" if config.score.rank == "region" else "single rows"
        instead = "windows of rows are ranked by squared_error: --set score.rank=squared_error"
        yield ("score", "rank"), f"score.rank: {config.score.rank} ranks {what}; {instead}"
    if config.training.steps and "epochs" in config.training.model_fields_set:
        yield (
            ("training", "steps"),
            "training.steps: training.epochs already says how long; remove one of the two, or set training.steps=null",
        )


def _layers(model: ModelConfig) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield what the keys of the layers say against each other."""
    if model.layers is not None and model.hidden_sizes is not None:
        yield ("model", "layers"), "model.layers: takes the place of model.hidden_sizes; set one of the two to null"
    elif not model.encoder:
        yield ("model", "hidden_sizes"), "model.hidden_sizes: null, and model.layers says nothing; expected one of them"
    else:
        if any(after.takes_images and not words.gives_images for words, after in pairwise(model.encoder)):
            yield ("model", "layers"), "model.layers: a dense layer leaves no image to convolve; convolutions come first"
        size = model.encoder[-1].size
        if size and model.code_top_k and model.code_top_k > size:
            yield ("model", "code_top_k"), f"model.code_top_k: the code has only {size} units"
