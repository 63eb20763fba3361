"""The YAML schema: every field with its default, range and docstring; no torch here, so that it loads at once.

The defaults are the reference model (the tied-weights notebook of "Hands-On Machine Learning", chapter 15):
a config that names only the data set trains that model on it.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Activation = Literal["elu", "relu", "silu", "gelu", "selu", "sigmoid", "tanh", "linear"]
Output = Literal["linear", "sigmoid"]
Loss = Literal["mse", "squared_error", "cross_entropy"]
Schedule = Literal["constant", "cosine", "one_cycle"]
Corruption = Literal["none", "gaussian", "masking", "salt_and_pepper"]
Sparsity = Literal["none", "l1", "kl"]
Precision = Literal["float32", "bfloat16", "auto"]
HiddenSize = Annotated[int, Field(ge=1, le=65_536)]


class Section(BaseModel):
    """A part of the config: frozen, strict, unknown keys are errors, docstrings are the documentation."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True, validate_default=True
    )


class DataConfig(Section):
    """Which images or vectors, and how they are split."""

    dataset: Annotated[str, Field(min_length=1, max_length=4096)] = "digits"
    """A name (`digits` is bundled; `mnist`, `fashion-mnist`, `kmnist`, `qmnist`, `emnist-...`, `usps`, `cifar10` are downloaded once)."""
    root: str | None = None
    """Folder of the downloaded data sets; without it `$TIEDAE_DATA`, else the user's cache folder."""
    validation: Annotated[int, Field(ge=0, le=10_000_000)] | None = None
    """Images kept from the training split for validation, the first ones; without it the data set's own number (MNIST: 5,000)."""


class ModelConfig(Section):
    """The autoencoder's shape: D pixels -> hidden sizes -> the same sizes backwards -> D pixels."""

    hidden_sizes: Annotated[tuple[HiddenSize, ...], Field(min_length=1, max_length=64, strict=False)] = (300, 150)
    """Units of each encoder layer; the last is the code size. The decoder mirrors them."""
    activation: Activation = "elu"
    """After every hidden layer."""
    code_activation: Activation | None = None
    """After the code layer, when it differs from `activation` (`linear` for a linear code)."""
    code_top_k: Annotated[int, Field(ge=1, le=65_536)] | None = None
    """Only this many units of each code, the largest, stay; the others become 0 (a k-sparse autoencoder)."""
    output: Output = "linear"
    """Output layer: `linear`, or `sigmoid` for pixels in [0, 1]."""
    tied: bool = True
    """The decoder uses the transposed encoder weights; `false` gives it weights of its own in the same shape."""


class TrainingConfig(Section):
    """The optimisation: Adam on mini-batches, reshuffled each epoch, the last partial batch dropped."""

    epochs: Annotated[int, Field(ge=1, le=1_000_000)] = 5
    """Passes over the training split."""
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 150
    """Images per optimisation step (over all processes)."""
    learning_rate: Annotated[float, Field(gt=0, le=10, strict=False)] = 0.01
    """Adam's step size; the highest value of the schedule."""
    schedule: Schedule = "constant"
    """How the learning rate moves: `constant`, `cosine` (down to 0) or `one_cycle` (up for 30%, then down to almost 0)."""
    warmup: Annotated[float, Field(ge=0, le=0.5, strict=False)] = 0.0
    """Fraction of all steps in which the learning rate first rises linearly (not with `one_cycle`, which has its own)."""
    l2: Annotated[float, Field(ge=0, le=10, strict=False)] = 0.0005
    """L2 penalty: l2 * 1/2 * sum of squared weights, each tied weight once, no bias."""
    loss: Loss = "mse"
    """`mse` (mean over images and pixels), `squared_error` (mean over images, sum over pixels: Adam's epsilon then never matters)
    or `cross_entropy` (binary, mean over images, sum over pixels; needs `output: sigmoid`)."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    """Seed of the initial weights, the order of the images and every other random choice."""
    precision: Precision = "float32"
    """Arithmetic of the matrix products: `float32`, `bfloat16` (float32 master weights), or `auto`: bfloat16 where the hardware has it."""
    tf32: bool = False
    """On CUDA: let float32 products use TF32 (10-bit mantissa), faster and less exact."""
    corruption: Corruption = "none"
    """Noise on the input, while the error is still taken against the clean image (a denoising autoencoder)."""
    corruption_level: Annotated[float, Field(gt=0, le=10, strict=False)] = 0.3
    """Of the noise: the standard deviation of `gaussian`, the fraction of values that `masking` and `salt_and_pepper` change."""
    shift: Annotated[int, Field(ge=0, le=1000)] = 0
    """Pixels by which each training image is moved at random, in both directions, each time that it is seen."""
    sparsity: Sparsity = "none"
    """Penalty on the code: `l1` (sum of |code|) or `kl` (divergence of each unit's mean from `sparsity_target`; needs a sigmoid code)."""
    sparsity_weight: Annotated[float, Field(gt=0, le=1e6, strict=False)] = 0.001
    """Factor of the sparsity penalty, in the unit of the loss."""
    sparsity_target: Annotated[float, Field(gt=0, lt=1, strict=False)] = 0.05
    """Mean activation of a code unit that `kl` asks for."""
    gradient_clip: Annotated[float, Field(gt=0, le=1e9, strict=False)] | None = None
    """Largest norm of a step's gradient; a longer one is scaled down to it."""
    pretraining_epochs: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Epochs in which each layer is first trained alone, greedily from the pixels upwards, before all are trained together."""
    early_stopping: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Stop after this many epochs without a lower validation error."""
    init_from: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """Checkpoint or run folder whose weights training starts from; an untied model may start from a tied one."""
    checkpoint_every: Annotated[float, Field(gt=0, le=1_000_000, strict=False)] = 60.0
    """Seconds after which a long epoch is also saved in its middle."""


class OutputConfig(Section):
    """Where a run goes and what it draws."""

    runs: Annotated[str, Field(min_length=1, max_length=4096)] = "runs"
    """Folder that holds the run folders."""
    images: Annotated[int, Field(ge=1, le=100)] = 10
    """Test images in `reconstructions.png`."""


class Config(Section):
    """A whole config; an empty file is a valid one."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    output: OutputConfig = OutputConfig()
