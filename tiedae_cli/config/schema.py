"""The YAML schema: every field with its default, range and docstring. It imports no torch, so it loads fast.

The defaults are the reference model (the tied-weights notebook of "Hands-On Machine Learning", chapter 15):
a config that names only the data set trains that model on it.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

Activation = Literal["elu", "relu", "silu", "gelu", "selu", "softplus", "sigmoid", "tanh", "linear"]
Output = Literal["linear", "sigmoid", "clip"]
LinearPath = Literal["none", "pca"]
Loss = Literal["mse", "squared_error", "cross_entropy"]
Optimizer = Literal["adam", "muon", "soap"]
Schedule = Literal["constant", "cosine", "one_cycle"]
Corruption = Literal["none", "gaussian", "masking", "salt_and_pepper"]
Edges = Literal["zero", "mirror"]
Sparsity = Literal["none", "l1", "kl"]
Shuffle = Literal["auto", "items", "blocks"]
Precision = Literal["float32", "bfloat16", "auto"]
Engine = Literal["auto", "autograd"]
Rank = Literal["squared_error", "neighbours", "region"]
Transform = Literal["none", "log1p", "log1p_per_10k"]
Tracker = Literal["tensorboard", "mlflow"]
LARGEST_LAYER = 65_536
HiddenSize = Annotated[int, Field(ge=1, le=LARGEST_LAYER)]
LARGEST_SIDE = 16_384
LONGEST_PATH, MOST_FILES = 4096, 100_000  # of data.dataset


def _portion(value: Any) -> Any:
    """Refuse values that are neither a count nor a fraction, with one message for both."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1_000_000_000:
        raise PydanticCustomError("portion", "must be a count of items, or a fraction between 0 and 1")
    if isinstance(value, float) and not 0 < value < 1:
        raise PydanticCustomError("portion", "must be a fraction between 0 and 1, or a count without a decimal point")
    return value


def _size(value: Any) -> Any:
    """Turn one number into [height, width]."""
    sides = [value, value] if isinstance(value, int) else value
    numbers = isinstance(sides, (list, tuple)) and len(sides) == 2 and all(type(side) is int for side in sides)
    if not numbers or not all(1 <= side <= LARGEST_SIDE for side in sides):
        raise PydanticCustomError("size", f"must be [height, width], or one number for both, from 1 to {LARGEST_SIDE}")
    return tuple(sides)


def _sizes(value: Any) -> Any:
    """Turn one number, or numbers in a text (``300,150``), into a list."""
    if isinstance(value, int) and not isinstance(value, bool):
        return [value]
    parts = re.split(r"[\s,x-]+", value.strip()) if isinstance(value, str) else []
    return [int(part) for part in parts] if parts and all(part.isdecimal() and len(part) < 7 for part in parts) else value


Portion = Annotated[int | float, BeforeValidator(_portion)]
ImageSize = Annotated[tuple[int, int], BeforeValidator(_size)]


def _names(value: Any) -> Any:
    """Turn one name into a list, and numbers (labels may be numbers) into text."""
    names = [value] if isinstance(value, (str, int, float)) and not isinstance(value, bool) else value
    if not isinstance(names, (list, tuple)) or any(
        isinstance(name, bool) or not isinstance(name, (str, int, float)) for name in names
    ):
        raise PydanticCustomError("names", "must be a name, or a list of names")
    return tuple(str(name) for name in names)


def _labels(value: Any) -> Any:
    """Do the same as ``_names``, and turn booleans (labels may be yes and no) into text."""
    labels = value if isinstance(value, (list, tuple)) else [value]
    return _names([str(label) if isinstance(label, bool) else label for label in labels])


def _name(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _pair(value: Any) -> Any:
    """Refuse anything but two numbers, the smaller one first."""
    plain = isinstance(value, (list, tuple)) and len(value) == 2
    if not plain or not all(type(bound) in (int, float) and abs(bound) < 1e30 for bound in value) or value[0] >= value[1]:
        raise PydanticCustomError("pair", "must be [lowest, highest]")
    return (float(value[0]), float(value[1]))


ValuePair = Annotated[tuple[float, float], BeforeValidator(_pair)]


def _array_names(value: Any) -> Any:
    """Turn one name into a mapping that names the items."""
    names = {"train": value} if isinstance(value, str) else value
    if not isinstance(names, dict) or not all(isinstance(part, str) and part for pair in names.items() for part in pair):
        raise PydanticCustomError(
            "names", "must be the name of an array, or names by role: {train: NAME, test: NAME, labels: NAME}"
        )
    return names


ArrayNames = Annotated[dict[str, str], BeforeValidator(_array_names)]


def _dataset(value: Any) -> Any:
    """Turn a list into a tuple, and a list of one name into that name."""
    names = value if isinstance(value, (list, tuple)) else [value]
    if (
        not names
        or len(names) > MOST_FILES
        or not all(isinstance(name, str) and 0 < len(name) <= LONGEST_PATH for name in names)
    ):
        raise PydanticCustomError("dataset", "must be a name or a path, or a list of paths of tables")
    return tuple(names) if len(names) > 1 else names[0]


Dataset = Annotated[
    Annotated[str, Field(min_length=1, max_length=LONGEST_PATH)] | Annotated[tuple[str, ...], Field(max_length=MOST_FILES)],
    BeforeValidator(_dataset),
]
Name = Annotated[str, Field(min_length=1, max_length=4096), BeforeValidator(_name)]
NameList = Annotated[tuple[str, ...], BeforeValidator(_names), Field(max_length=10_000)]
LabelList = Annotated[tuple[str, ...], BeforeValidator(_labels), Field(max_length=10_000)]


@dataclass(frozen=True)
class DenseWords:
    """A dense layer: ``dense UNITS``."""

    units: int
    takes_images: ClassVar = False
    gives_images: ClassVar = False

    @property
    def size(self) -> int | None:
        """Number of outputs, if it does not depend on the image."""
        return self.units


@dataclass(frozen=True)
class ConvolutionWords:
    """A convolution: ``conv CHANNELS KERNEL STRIDE``."""

    channels: int
    kernel: int = 4
    stride: int = 2
    takes_images: ClassVar = True
    gives_images: ClassVar = True

    @property
    def size(self) -> int | None:
        """None: the number of outputs depends on the image."""
        return None


LayerWords = DenseWords | ConvolutionWords


LARGEST_KERNEL = 64
LAYER_FORMS = "`dense UNITS` or `conv CHANNELS KERNEL STRIDE`"


def layer_words(text: str) -> LayerWords:
    """Parse the words of one layer.

    Raises:
        ValueError: the words are not a layer; the message says what would be right.
    """
    kind, _, rest = text.partition(" ")
    numbers = [int(number) if re.fullmatch("[0-9]{1,9}", number) else 0 for number in rest.split()]
    if kind == "dense" and len(numbers) == 1:
        if not 1 <= numbers[0] <= 65_536:
            raise ValueError("a dense layer must have from 1 to 65536 units, for example: dense 128")
        return DenseWords(*numbers)
    if kind == "conv" and 1 <= len(numbers) <= 3:
        words = ConvolutionWords(*numbers)
        example = f"conv {words.channels or 48}"
        if not 1 <= words.channels <= 65_536:
            raise ValueError("a convolution must have from 1 to 65536 channels, for example: conv 48 4 2")
        if not 1 <= words.kernel <= LARGEST_KERNEL:
            raise ValueError(f"the kernel must be from 1 to {LARGEST_KERNEL} pixels wide, for example: {example} 4 2")
        if not 1 <= words.stride <= words.kernel:
            raise ValueError(
                f"the stride must be from 1 to the kernel's {words.kernel} so that no pixel is skipped, for example: {example} 4 2"
            )
        if words.stride == 1 and words.kernel % 2 == 0:
            raise ValueError(f"a stride of 1 needs an odd kernel, for example: {example} {words.kernel - 1} 1")
        return words
    raise ValueError(f"must be {LAYER_FORMS} (without KERNEL and STRIDE: 4 and 2)")


def _layer(value: Any) -> Any:
    """Turn a number into a dense layer, put one blank between words, and refuse anything else."""
    text = f"dense {value}" if type(value) is int else value
    if not isinstance(text, str) or len(text) > 80:
        raise PydanticCustomError("layer", LAYER_MESSAGE, {"forms": LAYER_FORMS})
    try:
        layer_words(" ".join(text.split()))
    except ValueError as error:
        raise PydanticCustomError("layer", "{reason}", {"reason": str(error)}) from None
    return " ".join(text.split())


LAYER_MESSAGE = "must be {forms} (without KERNEL and STRIDE: 4 and 2)"
LayerText = Annotated[
    str, Field(pattern="^(dense|conv)( [0-9]+)+$", examples=["conv 48 4 2", "dense 128"]), BeforeValidator(_layer)
]


def _choice(kind: Any, value: Any) -> Any:
    """Return text in lower case if that is one of a key's choices (a Literal, or a Literal or None)."""
    choices = {choice for part in (kind, *get_args(kind)) for choice in get_args(part) if isinstance(choice, str)}
    return value.lower() if isinstance(value, str) and value.lower() in choices else value


class Section(BaseModel):
    """A section of the config: frozen and strict; unknown keys are errors, and docstrings are the documentation."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True, validate_default=True
    )

    @model_validator(mode="before")
    @classmethod
    def _ignore_case(cls, values: Any) -> Any:
        """Accept the choices of a key in any case (``ReLU``)."""
        if not isinstance(values, dict):
            return values
        return {
            name: _choice(cls.model_fields[name].annotation, value) if name in cls.model_fields else value
            for name, value in values.items()
        }


class DataConfig(Section):
    """Which data to read, and how it is split."""

    dataset: Dataset = "digits"
    """The data: a name, or the path of a folder, an array or a table (of a file, also its URL); of tables also a glob pattern or
    a list of paths, which are read as one table. Names: `digits` (bundled); `mnist`, `fashion-mnist`, `kmnist`, `qmnist`,
    `emnist-...`, `usps`, `cifar10` (downloaded once). Paths: a folder of images; an array of N x D feature vectors or N x H x W,
    N x C x H x W or N x H x W x C images (whole numbers from 0 to 255, or floats in [0, 1]); a table. docs/data.md lists the
    formats."""
    root: str | None = None
    """Folder of the downloaded data sets. Default: `$TIEDAE_DATA`, else the user's cache folder."""
    validation: Portion | None = None
    """Items held out of the training split for validation: a count, or a fraction of the split. From a downloaded data
    set these are the first items (default: the usual number for the set; MNIST: 5,000), from a folder or an array a random
    sample (default: 0.1, unless the source has its own validation split)."""
    test: Portion | None = None
    """Items of a folder or an array held out for the test split: a count, or a fraction. Default: 0.1, unless the source
    has its own test split."""
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the random choice of `validation` and `test`. It is separate from `training.seed`, so runs with
    different seeds share one test split."""
    size: ImageSize | None = None
    """Size in pixels to which the images of a folder are resized: [height, width], or one number for both. The aspect ratio
    is not kept. Default: the size that all images share."""
    mode: Literal["gray", "color"] | None = None
    """Color mode to which the images of a folder are converted. Default: `color` if any image has color, else `gray`."""
    include: NameList = ()
    """Glob patterns of the files to read (folders only), matched against file names and paths below the folder.
    Default: all."""
    exclude: NameList = ()
    """Glob patterns of files to skip (folders only), for example `*mask*`."""
    range: ValuePair | None = None
    """Raw values of images that map to 0 and 1: [lowest, highest]. Default: 0 and 255 for bytes, 0 and 1 for floats; for
    deeper integers the largest value of the bit depth in use (10, 12, 14 or 16 bits)."""
    arrays: ArrayNames = {}
    """Names of the arrays to read from a file that holds several (such as `.npz`): the name of the items, or names
    by role (`train`, `validation`, `test`, `labels`, `train_labels`, ...). Default: detected from the names in the file."""
    label: Name | None = None
    """Column of a table that labels the items; it is not fed to the model."""
    normal: LabelList = ()
    """Labels of the normal items, the only ones to train on (labelled data only). All other items go to the test split."""
    columns: NameList | None = None
    """Columns of a table to feed to the model, by name or glob pattern. Default: all numeric columns except those named
    like a label."""
    ignore: NameList = ()
    """Columns of a table to ignore, by name or glob pattern."""
    categories: Literal["error", "one_hot"] = "error"
    """How to treat text columns of a table: `error` refuses them by name, `one_hot` makes one feature per distinct value."""
    missing: Literal["error", "drop", "mean", "forward_fill", "fill"] = "error"
    """How to treat missing values in feature vectors: `error` refuses them with a count per column, `drop` skips the rows
    that have any, `mean` fills in the column's mean; `forward_fill` repeats the column's last value (tables with `window`
    above 1; rows before its first value are skipped); `fill` accepts parts of an HDF5 file that were never written as its
    fill value."""
    window: Annotated[int, Field(ge=1, le=65_536)] = 1
    """Consecutive rows that form one item of a time series (a window). Above 1 the splits are ranges of rows: training
    first, then validation, then test."""
    series: Name | None = None
    """Column of a table that names the series of each row (time series only); no window spans two series. The rows are sorted
    by series. Default: the table is one series."""
    time: Name | None = None
    """Column of a table with the time of each row, which sorts the rows of a time series. Default: the first column of dates
    or Unix times; its rows must be in order."""
    gap: Annotated[float, Field(gt=0)] | None = None
    """Seconds between two rows beyond which a time series ends. Default: twice the median step if at least 95% of the steps
    are within 10% of it; otherwise no gap ends a series."""
    stride: Annotated[int, Field(ge=1, le=65_536)] = 1
    """Rows from the start of one window to the start of the next; at most `window`."""
    scaling: Literal["standard", "robust", "minmax", "none"] = "standard"
    """Scaling of feature vectors, from statistics of the training split: `standard` (mean 0, standard deviation 1),
    `robust` (median 0, interquartile range 1), `minmax` (0 to 1) or `none`."""
    transform: Transform = "none"
    """Transform of feature vectors before they are scaled, for counts: `log1p` (ln(1 + x)), or `log1p_per_10k` (the values of each
    row become counts per 10,000 first). Errors are of transformed values; `decode` undoes the logarithm."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    """Character between two cells of a text table; a space stands for any run of white space. Default: detected from the
    file."""
    decimal: Literal[".", ","] | None = None
    """Decimal mark of a text table. Default: detected from the file."""
    thousands: Literal[".", ",", "'", " "] | None = None
    """Character between groups of three digits in the numbers of a text table (`1.234.567`); a space also stands for narrow
    and no-break spaces. Default: detected, if the file shows which mark it is; single groups alone (`1.234`) are decimals."""
    header: bool | None = None
    """Whether the first row of a text table names the columns. Default: detected from the file."""

    @property
    def sources(self) -> tuple[str, ...]:
        """What ``dataset`` names: one name or path, or the paths of several tables."""
        return (self.dataset,) if isinstance(self.dataset, str) else self.dataset

    @property
    def data_name(self) -> str:
        """``dataset`` as text, for messages."""
        first, *others = self.sources
        return f"{first} and {len(others):,} more" if others else first


class ModelConfig(Section):
    """The shape of the autoencoder: D values -> hidden layers -> the same layers mirrored -> D values."""

    hidden_sizes: Annotated[
        Annotated[tuple[HiddenSize, ...], Field(min_length=1, max_length=64, strict=False)] | None, BeforeValidator(_sizes)
    ] = (300, 150)
    """Units of each encoder layer, all dense; the last is the code size. The decoder mirrors them."""
    layers: Annotated[tuple[LayerText, ...], Field(min_length=1, max_length=64, strict=False)] | None = None
    """Encoder layers of an image model, in place of `hidden_sizes`: `conv CHANNELS KERNEL STRIDE` (default: kernel 4,
    stride 2), then optionally `dense UNITS`. A convolution maps H x W pixels to ceil(H / STRIDE) x ceil(W / STRIDE); the
    decoder mirrors every layer."""
    code_size: HiddenSize | None = None
    """Numbers in the code. It replaces the last of `hidden_sizes` or `layers` when the config is read, so a stored config
    has `null` here. Default: the last of `hidden_sizes` or `layers`."""
    activation: Activation = "elu"
    """Activation after each hidden layer."""
    code_activation: Activation | None = None
    """Activation of the code layer, for example `linear`. Default: `activation`."""
    code_top_k: Annotated[int, Field(ge=1, le=65_536)] | None = None
    """Number of code units to keep per item; all but the largest are set to 0 (a k-sparse autoencoder). Default: all."""
    output: Output = "linear"
    """Activation of the output layer: `linear`; for pixels in [0, 1] also `sigmoid`, or `clip` (min(max(y, 0), 1), with
    gradient 0 outside), which suits images with many pixels of exactly 0 or 1."""
    linear_path: LinearPath = "none"
    """Linear path beside the network: `none`, or `pca`, a tied linear layer that starts as the principal components of the
    training split. The network is added through gates that start at 0, so epoch 0 is PCA and the best epoch is at least as
    good on the validation split. With a single layer there is only the linear path."""
    tied: bool = True
    """Whether the decoder uses the transposed encoder weights. `false` gives the decoder its own weights in the same
    shapes."""

    @model_validator(mode="before")
    @classmethod
    def _layers_replace_sizes(cls, values: Any) -> Any:
        """Let ``layers`` take the place of the default of ``hidden_sizes``."""
        if isinstance(values, dict) and values.get("layers") is not None and "hidden_sizes" not in values:
            return {**values, "hidden_sizes": None}
        return values

    @model_validator(mode="before")
    @classmethod
    def _resolve_code_size(cls, values: Any) -> Any:
        """Put a valid ``code_size`` at the end of ``layers`` or ``hidden_sizes``; leave it alone after a convolution."""
        size = values.get("code_size") if isinstance(values, dict) else None
        if type(size) is not int or not 1 <= size <= LARGEST_LAYER:
            return values
        layers, sizes = values.get("layers"), _sizes(values.get("hidden_sizes"))
        if layers is not None:
            dense = isinstance(layers, (list, tuple)) and layers and str(layers[-1]).split()[:1] != ["conv"]
            return {**values, "layers": [*layers[:-1], f"dense {size}"], "code_size": None} if dense else values
        if sizes is None:
            sizes = cls.model_fields["hidden_sizes"].default
        if not isinstance(sizes, (list, tuple)) or not sizes:
            return values
        return {**values, "hidden_sizes": [*sizes[:-1], size], "code_size": None}

    @property
    def encoder(self) -> tuple[LayerWords, ...]:
        """The encoder's layers, from either key."""
        if self.layers is not None:
            return tuple(map(layer_words, self.layers))
        return tuple(DenseWords(units) for units in self.hidden_sizes or ())

    @property
    def path_beside_network(self) -> bool:
        """Whether there are both a linear path and a network; a single layer is the linear path itself."""
        return self.linear_path != "none" and len(self.encoder) > 1


class TrainingConfig(Section):
    """How the model is trained: mini-batches, reshuffled each epoch; the last, partial batch is dropped."""

    epochs: Annotated[int, Field(ge=1, le=1_000_000)] = 5
    """Passes over the training split."""
    steps: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """Length of the training in optimization steps, in place of `epochs`; rounded to whole epochs. Use it for recipes that
    should take the same time on small and large data."""
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 150
    """Items per optimization step, over all processes."""
    shuffle: Shuffle = "auto"
    """How the training items are shuffled each epoch: `items` uniformly; `blocks` in blocks of 8 MB, with 64 blocks mixed
    at a time, so data larger than memory is read sequentially; `auto` uses `blocks` for data larger than half of the
    memory. The order does not depend on the number of processes."""
    optimizer: Optimizer = "adam"
    """Optimizer: `adam`; `soap` (Adam in the eigenbasis of each weight's gradients: far fewer steps, about twice the
    arithmetic per step); or `muon` (orthogonalized momentum). Biases and weights with a single row or column are always
    updated by Adam."""
    momentum: Annotated[float, Field(ge=0, lt=1, strict=False)] | None = None
    """Decay rate of the running mean of gradients. Default: 0.9 for `adam` and `soap` (beta 1), 0.95 for `muon`."""
    learning_rate: Annotated[float, Field(gt=0, le=10, strict=False)] = 0.01
    """Learning rate at the peak of the schedule."""
    schedule: Schedule = "constant"
    """Learning-rate schedule: `constant`, `cosine` (decays to 0) or `one_cycle` (rises for 30% of the steps, then decays to
    almost 0)."""
    warmup: Annotated[float, Field(ge=0, le=0.5, strict=False)] = 0.0
    """Fraction of all steps in which the learning rate rises linearly from 0. Not used with `one_cycle`, which has its
    own warm-up."""
    l2: Annotated[float, Field(ge=0, le=10, strict=False)] = 0.0005
    """L2 penalty in the loss: l2 * 1/2 * sum of squared weights. Each tied weight counts once; biases are not penalized."""
    loss: Loss = "mse"
    """Loss: `mse` (mean over items and values), `squared_error` (sum over values, mean over items; keeps gradients well
    above Adam's epsilon) or `cross_entropy` (binary, sum over values, mean over items; needs `output: sigmoid`)."""
    cross_entropy_weight: Annotated[float, Field(ge=0, le=1, strict=False)] = 0.0
    """Weight of a cross-entropy term added to `mse` or `squared_error` (needs `output: sigmoid`). The gradient of a squared
    error vanishes when a sigmoid saturates, so wrong pixels can get stuck at 0 or 1; 0.01 frees them."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    """Random seed of the initial weights, the item order and every other random choice in training."""
    precision: Precision = "float32"
    """Precision of the matrix products: `float32`, `bfloat16` (with float32 master weights), or `auto` (bfloat16 if the
    hardware supports it)."""
    engine: Engine = "auto"
    """How the gradient is computed. `auto`: by hand, or by autograd if a layer, activation, loss or penalty has no
    hand-written derivative. `autograd`: always by autograd, which is slower; use it to check the hand-written step."""
    tf32: bool = False
    """Allow TF32 (10-bit mantissa) for float32 products on CUDA: faster, less exact."""
    corruption: Corruption = "none"
    """Noise added to the input while the loss compares with the clean item (a denoising autoencoder)."""
    corruption_level: Annotated[float, Field(gt=0, le=10, strict=False)] = 0.3
    """Strength of `corruption`: the standard deviation of `gaussian` noise, or the fraction of values that `masking` or
    `salt_and_pepper` replaces."""
    shift: Annotated[int, Field(ge=0, le=1000)] = 0
    """Largest random shift of each training image, in pixels, in both directions; redrawn each time an image is seen."""
    shift_edges: Edges = "zero"
    """Fill of the edge that a shift exposes: `zero`, or `mirror` (reflected pixels, for photographs)."""
    flip: bool = False
    """Mirror each training image horizontally with probability 1/2. For photographs, not for letters or digits."""
    sparsity: Sparsity = "none"
    """Sparsity penalty on the code: `l1` (sum of absolute values) or `kl` (divergence of each unit's mean activation from
    `sparsity_target`; needs a sigmoid code)."""
    sparsity_weight: Annotated[float, Field(gt=0, le=1e6, strict=False)] = 0.001
    """Weight of the sparsity penalty, in units of the loss."""
    sparsity_target: Annotated[float, Field(gt=0, lt=1, strict=False)] = 0.05
    """Mean activation per code unit that `kl` aims for."""
    gradient_clip: Annotated[float, Field(gt=0, le=1e9, strict=False)] | None = None
    """Largest gradient norm per step; longer gradients are scaled down to it. Default: no clipping."""
    pretraining_epochs: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Epochs of greedy layer-wise pretraining for each layer, before all layers are trained together."""
    early_stopping: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Stop after this many epochs without a lower validation error. Default: never."""
    init_from: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """Checkpoint, run folder or run name to start from, instead of random weights. An untied model can start from a tied one."""
    checkpoint_every: Annotated[float, Field(gt=0, le=1_000_000, strict=False)] = 60.0
    """Seconds between checkpoints within a long epoch. Epochs shorter than a second are saved about once per second."""


class ScoreConfig(Section):
    """How `score` ranks items."""

    rank: Rank = "squared_error"
    """How items are ranked: `squared_error` of the reconstruction; `region`, the largest squared error of any square with
    an eighth of the image's shorter side (recipe `defects`); or `neighbours`, the distance of an item and of its whitened
    reconstruction error to the nearest training items (recipe `anomalies`), which keeps up to 8,192 training items in
    `best.safetensors`."""
    neighbours: Annotated[int, Field(ge=1, le=1000)] = 3
    """Number of nearest training items that `neighbours` averages over."""


class OutputConfig(Section):
    """Where runs are written, and which files."""

    runs: Annotated[str, Field(min_length=1, max_length=4096)] = "runs"
    """Folder for run folders."""
    images: Annotated[int, Field(ge=1, le=100)] = 10
    """Number of test images in `reconstructions.png`."""
    report: bool = False
    """Write the report page `report.html` at the end of training."""
    trackers: Annotated[tuple[Tracker, ...], BeforeValidator(_names), Field(max_length=8, strict=False)] = ()
    """Experiment trackers to log to: `tensorboard` (scalars, reconstructions, the code projection), `mlflow` (parameters,
    metrics, pictures, the checkpoint), or both. Each needs the extra of its name."""


class Config(Section):
    """A complete config; an empty file is valid."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    score: ScoreConfig = ScoreConfig()
    output: OutputConfig = OutputConfig()
