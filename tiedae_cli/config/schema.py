"""The YAML schema: every field with its default, range and docstring; no torch here, so that it loads at once.

The defaults are the reference model (the tied-weights notebook of "Hands-On Machine Learning", chapter 15):
a config that names only the data set trains that model on it.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

Activation = Literal["elu", "relu", "silu", "gelu", "selu", "softplus", "sigmoid", "tanh", "linear"]
Output = Literal["linear", "sigmoid"]
Loss = Literal["mse", "squared_error", "cross_entropy"]
Optimizer = Literal["adam", "muon", "soap"]
Schedule = Literal["constant", "cosine", "one_cycle"]
Corruption = Literal["none", "gaussian", "masking", "salt_and_pepper"]
Edges = Literal["zero", "mirror"]
Sparsity = Literal["none", "l1", "kl"]
Shuffle = Literal["auto", "items", "blocks"]
Precision = Literal["float32", "bfloat16", "auto"]
HiddenSize = Annotated[int, Field(ge=1, le=65_536)]
LARGEST_SIDE = 16_384


def _portion(value: Any) -> Any:
    """Refuse what is neither a count nor a fraction, in one sentence for both."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1_000_000_000:
        raise PydanticCustomError("portion", "must be a count of items, or a fraction between 0 and 1")
    if isinstance(value, float) and not 0 < value < 1:
        raise PydanticCustomError("portion", "must be a fraction between 0 and 1, or a count without a decimal point")
    return value


def _size(value: Any) -> Any:
    """Turn one number into two."""
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
    """Turn one name into a list of one, and numbers, which labels may be, into text."""
    names = [value] if isinstance(value, (str, int, float)) and not isinstance(value, bool) else value
    if not isinstance(names, (list, tuple)) or any(
        isinstance(name, bool) or not isinstance(name, (str, int, float)) for name in names
    ):
        raise PydanticCustomError("names", "must be a name, or a list of names")
    return tuple(str(name) for name in names)


def _labels(value: Any) -> Any:
    """Do what ``_names`` does, and turn yes and no, which labels may be, into text."""
    labels = value if isinstance(value, (list, tuple)) else [value]
    return _names([str(label) if isinstance(label, bool) else label for label in labels])


def _name(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _pair(value: Any) -> Any:
    """Refuse what is not two numbers, the smaller first."""
    plain = isinstance(value, (list, tuple)) and len(value) == 2
    if not plain or not all(type(bound) in (int, float) and abs(bound) < 1e30 for bound in value) or value[0] >= value[1]:
        raise PydanticCustomError("pair", "must be [lowest, highest]")
    return (float(value[0]), float(value[1]))


ValuePair = Annotated[tuple[float, float], BeforeValidator(_pair)]


def _array_names(value: Any) -> Any:
    """Turn one name into that of the items."""
    names = {"train": value} if isinstance(value, str) else value
    if not isinstance(names, dict) or not all(isinstance(part, str) and part for pair in names.items() for part in pair):
        raise PydanticCustomError(
            "names", "must be the name of an array, or names by role: {train: NAME, test: NAME, labels: NAME}"
        )
    return names


ArrayNames = Annotated[dict[str, str], BeforeValidator(_array_names)]
Name = Annotated[str, Field(min_length=1, max_length=4096), BeforeValidator(_name)]
NameList = Annotated[tuple[str, ...], BeforeValidator(_names), Field(max_length=10_000)]
LabelList = Annotated[tuple[str, ...], BeforeValidator(_labels), Field(max_length=10_000)]


@dataclass(frozen=True)
class DenseWords:
    """What ``dense UNITS`` says."""

    units: int
    takes_images: ClassVar = False
    gives_images: ClassVar = False

    @property
    def size(self) -> int | None:
        """Its outputs, where the words alone say them."""
        return self.units


@dataclass(frozen=True)
class ConvolutionWords:
    """What ``conv CHANNELS KERNEL STRIDE`` says."""

    channels: int
    kernel: int = 4
    stride: int = 2
    takes_images: ClassVar = True
    gives_images: ClassVar = True

    @property
    def size(self) -> int | None:
        """None: the outputs depend on the image."""
        return None


LayerWords = DenseWords | ConvolutionWords


LARGEST_KERNEL = 64
LAYER_FORMS = "`dense UNITS` or `conv CHANNELS KERNEL STRIDE`"


def layer_words(text: str) -> LayerWords:
    """Return what the words of one layer say.

    Raises:
        ValueError: they are no layer; says what would be right.
    """
    kind, _, rest = text.partition(" ")
    numbers = [int(number) if re.fullmatch("[0-9]{1,9}", number) else 0 for number in rest.split()]
    if kind == "dense" and len(numbers) == 1:
        if not 1 <= numbers[0] <= 65_536:
            raise ValueError("a dense layer has from 1 to 65536 units, for example: dense 128")
        return DenseWords(*numbers)
    if kind == "conv" and 1 <= len(numbers) <= 3:
        words = ConvolutionWords(*numbers)
        example = f"conv {words.channels or 48}"
        if not 1 <= words.channels <= 65_536:
            raise ValueError("a convolution has from 1 to 65536 channels, for example: conv 48 4 2")
        if not 1 <= words.kernel <= LARGEST_KERNEL:
            raise ValueError(f"a kernel has from 1 to {LARGEST_KERNEL} pixels a side, for example: {example} 4 2")
        if not 1 <= words.stride <= words.kernel:
            raise ValueError(f"a stride from 1 to the kernel's {words.kernel} leaves no pixel out, for example: {example} 4 2")
        if words.stride == 1 and words.kernel % 2 == 0:
            raise ValueError(f"a stride of 1 needs a kernel with a middle, for example: {example} {words.kernel - 1} 1")
        return words
    raise ValueError(f"must be {LAYER_FORMS} (without KERNEL and STRIDE: 4 and 2)")


def _layer(value: Any) -> Any:
    """Turn a number into a dense layer, and one blank between words; refuse what is no layer."""
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


class Section(BaseModel):
    """A part of the config: frozen, strict, unknown keys are errors, docstrings are the documentation."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True, validate_default=True
    )


class DataConfig(Section):
    """Which images or vectors, and how they are split."""

    dataset: Annotated[str, Field(min_length=1, max_length=4096)] = "digits"
    """A name (`digits` is bundled; `mnist`, `fashion-mnist`, `kmnist`, `qmnist`, `emnist-...`, `usps`, `cifar10` are downloaded once),
    or the path of a folder of images, of an array (N x D feature vectors, N x H x W, N x C x H x W or N x H x W x C images; whole numbers
    from 0 to 255, or floats in [0, 1]) or of a table, in any format of docs/data.md."""
    root: str | None = None
    """Folder of the downloaded data sets; without it `$TIEDAE_DATA`, else the user's cache folder."""
    validation: Portion | None = None
    """Items kept from the training split for validation: a count, or a fraction of the split. Of a downloaded data set the first
    ones, without it the set's own number (MNIST: 5,000); of a folder or array a random choice, without it 0.1 unless the source
    has a split of that name."""
    test: Portion | None = None
    """Items of a folder or array kept for the test, as `validation`; without it 0.1 unless the source has a split of that name."""
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the random choice of `validation` and `test`; not `training.seed`, so that trainings with several seeds share a test."""
    size: ImageSize | None = None
    """[height, width] in pixels, or one number for both, to which the images of a folder are resized (stretched where the
    proportions differ); without it the size that they all have."""
    mode: Literal["gray", "colour"] | None = None
    """What the images of a folder are converted to; without it `colour` if any file is in colour."""
    include: NameList = ()
    """Of a folder: globs of the names or paths below it of the images that are taken; without it all."""
    exclude: NameList = ()
    """Of a folder: globs of the names or paths below it of files that are left out, for example `*mask*`."""
    range: ValuePair | None = None
    """Of images: [lowest, highest] raw value, which become 0 and 1; without it 0 and 255 of bytes, 0 and 1 of floats, and of more bits the
    largest value of the bit depth in use (10, 12, 14 or 16)."""
    arrays: ArrayNames = {}
    """Of a file that holds several arrays (`.npz`, `.h5`, `.mat`): the name of the items, or names by role: `train`, `validation`, `test`,
    `labels` (or `train_labels`, ...); without it they are found by their names."""
    label: Name | None = None
    """Of a table: the column that labels the items and is not fed to the model."""
    normal: LabelList = ()
    """Labels of the items to train on; all others are kept for the test. For data with labels."""
    columns: NameList | None = None
    """Of a table: the columns that are fed, by names or globs; without it all that hold numbers, but none that is called like a label."""
    ignore: NameList = ()
    """Of a table: columns that are left out, by names or globs."""
    categories: Literal["error", "one_hot"] = "error"
    """Of a table: what becomes of columns of text: an error that names them, or `one_hot`, a value for each distinct cell."""
    missing: Literal["error", "drop", "mean"] = "error"
    """Of feature vectors: what becomes of missing values: an error that counts them, the items are left out, or the feature's mean."""
    window: Annotated[int, Field(ge=1, le=65_536)] = 1
    """Of rows that follow each other in time: how many make an item (a window). The splits are then ranges of rows: first training, then
    validation, last test."""
    stride: Annotated[int, Field(ge=1, le=65_536)] = 1
    """Rows from the beginning of a window to that of the next; at most `window`."""
    scaling: Literal["standard", "robust", "minmax", "none"] = "standard"
    """Of feature vectors: mean 0 and deviation 1, median 0 and interquartile range 1, from 0 to 1, or as they are."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    """Of a table in text: what stands between two cells (a blank for any white space); without it it is found."""
    decimal: Literal[".", ","] | None = None
    """Of a table in text: what stands before a fraction; without it it is found."""
    header: bool | None = None
    """Of a table in text: whether its first row names the columns; without it it is found."""


class ModelConfig(Section):
    """The autoencoder's shape: D pixels -> hidden layers -> the same layers backwards -> D pixels."""

    hidden_sizes: Annotated[
        Annotated[tuple[HiddenSize, ...], Field(min_length=1, max_length=64, strict=False)] | None, BeforeValidator(_sizes)
    ] = (300, 150)
    """Units of each encoder layer, all dense; the last is the code size. The decoder mirrors them."""
    layers: Annotated[tuple[LayerText, ...], Field(min_length=1, max_length=64, strict=False)] | None = None
    """Instead of `hidden_sizes`, for images: the encoder's layers in words, `conv CHANNELS KERNEL STRIDE` (without KERNEL and STRIDE: 4
    and 2) and, after them, `dense UNITS`. A convolution makes H x W pixels ceil(H / STRIDE) x ceil(W / STRIDE); the decoder mirrors all."""
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

    @model_validator(mode="before")
    @classmethod
    def _layers_replace_sizes(cls, values: Any) -> Any:
        """Let ``layers`` take the place of the default of ``hidden_sizes``."""
        if isinstance(values, dict) and values.get("layers") is not None and "hidden_sizes" not in values:
            return {**values, "hidden_sizes": None}
        return values

    @property
    def encoder(self) -> tuple[LayerWords, ...]:
        """The encoder's layers, however they were worded."""
        if self.layers is not None:
            return tuple(map(layer_words, self.layers))
        return tuple(DenseWords(units) for units in self.hidden_sizes or ())


class TrainingConfig(Section):
    """The optimisation: on mini-batches, reshuffled each epoch, the last partial batch dropped."""

    epochs: Annotated[int, Field(ge=1, le=1_000_000)] = 5
    """Passes over the training split."""
    steps: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """Optimisation steps of the whole training, instead of `epochs`: as many whole passes as come closest. For recipes that
    are to take the same time on small and large data."""
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 150
    """Images per optimisation step (over all processes)."""
    shuffle: Shuffle = "auto"
    """The order of each epoch: `items`, every order equally likely; `blocks`, for data larger than the memory: blocks of 8 MB in random
    order, the items of 64 of them mixed, so that the disk is read forwards; `auto`: `blocks` of data larger than half of the memory."""
    optimizer: Optimizer = "adam"
    """`adam`; `soap`: Adam in the eigenbasis of each weight's gradients, which needs far fewer steps, each with about twice the arithmetic;
    or `muon`: the momentum of each weight is made orthogonal. Biases, and weights of one row or column, are always moved by Adam."""
    momentum: Annotated[float, Field(ge=0, lt=1, strict=False)] | None = None
    """Weight of the past in the running mean of the gradients; without it 0.9 with `adam` and `soap` (beta 1), 0.95 with `muon`."""
    learning_rate: Annotated[float, Field(gt=0, le=10, strict=False)] = 0.01
    """Step size, about how far a step moves a weight (with `muon` a fifth of it); the highest value of the schedule."""
    schedule: Schedule = "constant"
    """How the learning rate moves: `constant`, `cosine` (down to 0) or `one_cycle` (up for 30%, then down to almost 0)."""
    warmup: Annotated[float, Field(ge=0, le=0.5, strict=False)] = 0.0
    """Fraction of all steps in which the learning rate first rises linearly (not with `one_cycle`, which has its own)."""
    l2: Annotated[float, Field(ge=0, le=10, strict=False)] = 0.0005
    """L2 penalty: l2 * 1/2 * sum of squared weights, each tied weight once, no bias."""
    loss: Loss = "mse"
    """`mse` (mean over images and pixels), `squared_error` (mean over images, sum over pixels: Adam's epsilon then never matters)
    or `cross_entropy` (binary, mean over images, sum over pixels; needs `output: sigmoid`)."""
    cross_entropy_weight: Annotated[float, Field(ge=0, le=1, strict=False)] = 0.0
    """Of `mse` and `squared_error` with `output: sigmoid`: how much cross-entropy is added to the loss. Alone their gradient vanishes where
    an output is 0 or 1, so a pixel that got there by mistake stays; 0.01 brings it back."""
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
    shift_edges: Edges = "zero"
    """What moves in at the edges of an image that is shifted: `zero`, or `mirror`, its own pixels mirrored, for photographs."""
    flip: bool = False
    """Each training image is mirrored, left for right, half of the times that it is seen: for photographs, not for letters or digits."""
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
    """Seconds after which a long epoch is also saved in its middle; of epochs that take less than a second about one a second is saved."""


class ScoreConfig(Section):
    """By what `score` ranks items."""

    rank: Literal["squared_error", "neighbours", "region"] = "squared_error"
    """`squared_error` of the reconstruction; `region`: the largest squared error of a square of an eighth of an image's shorter side
    (recipe `defects`); `neighbours`: the distance of an item, and of its whitened reconstruction error, to the nearest training items
    (recipe `anomalies`), whose statistics, and up to 8,192 training items, are kept in `best.safetensors`."""
    neighbours: Annotated[int, Field(ge=1, le=1000)] = 3
    """How many of the nearest training items `neighbours` looks at."""


class OutputConfig(Section):
    """Where a run goes and what it draws."""

    runs: Annotated[str, Field(min_length=1, max_length=4096)] = "runs"
    """Folder that holds the run folders."""
    images: Annotated[int, Field(ge=1, le=100)] = 10
    """Test images in `reconstructions.png`."""
    report: bool = False
    """Also write the report, `report.html`, at the end of a training."""
    tensorboard: bool = False
    """Also write scalars, reconstructions and the code projection for TensorBoard (needs the extra `tensorboard`)."""


class Config(Section):
    """A whole config; an empty file is a valid one."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    score: ScoreConfig = ScoreConfig()
    output: OutputConfig = OutputConfig()
