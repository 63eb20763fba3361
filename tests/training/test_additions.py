"""What the training is open for: each addition touches the promised number of files, and a config's words then train it."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PACKAGE = Path(__file__).parent.parent.parent / "tiedae_cli"
SCHEMA = "config/schema.py"

LION = '''"""Lion (Chen et al. 2023, algorithm 2): the sign of the momentum."""

from torch import Tensor

from tiedae_cli.config import TrainingConfig
from tiedae_cli.training.step.optimizer import Optimizer
from tiedae_cli.training.step.parameters import FlatParameters


class Lion:
    def __init__(self, parameters: FlatParameters) -> None:
        self.parameters, self.momentum = parameters, parameters.master.new_zeros(len(parameters.master))

    def prepare(self, step: int) -> None: ...

    def step(self, learning_rate: float | Tensor) -> None:
        gradient = self.parameters.gradient
        self.parameters.master.sub_(self.momentum.lerp(gradient, 0.1).sign_() * learning_rate)
        self.momentum.lerp_(gradient, 0.01)

    def buffers(self) -> dict[str, Tensor]:
        return {"momentum": self.momentum}


def create(parameters: FlatParameters, training: TrainingConfig) -> Optimizer:
    return Lion(parameters)
'''

GROUPED = '''"""A dense layer in groups: W is block diagonal."""

from typing import Any

import torch
from torch import Tensor

from tiedae_cli.config import Activation
from tiedae_cli.model.layers.layer import Layer


class Grouped(Layer):
    def __init__(
        self, inputs: int, outputs: int, groups: int, activation: Activation, decoder_activation: Activation, tied: bool
    ) -> None:
        weight = (groups, outputs // groups, inputs // groups)
        super().__init__((inputs,), (outputs,), weight, activation, decoder_activation, tied)
        self.groups = groups

    def describe(self) -> str:
        return f"grouped {self.outputs} {self.groups}"

    def fan_in(self, part: str) -> float:
        return (self.inputs if part == "encoder" else self.outputs) / self.groups

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        product = torch.einsum("bgi,goi->bgo", x.unflatten(1, (self.groups, -1)), weight).flatten(1)
        return product if bias is None else product + bias

    def transposed_product(self, h: Tensor, weight: Tensor, bias: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        product = torch.einsum("bgo,goi->bgi", h.unflatten(1, (self.groups, -1)), weight).flatten(1)
        return product if bias is None else product + bias

    def operator(self, part: str) -> tuple[str, dict[str, Any]]:
        return "Grouped", {}
'''

GROUPED_WORDS = '''@dataclass(frozen=True)
class GroupedWords:
    """What ``grouped UNITS GROUPS`` says."""

    units: int
    groups: int
    takes_images: ClassVar = False
    gives_images: ClassVar = False

    @property
    def size(self) -> int | None:
        """Its outputs."""
        return self.units


LayerWords = DenseWords | ConvolutionWords | GroupedWords
'''


class Copy:
    """A copy of the package that additions edit."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "tiedae_cli"
        shutil.copytree(PACKAGE, self.root, ignore=shutil.ignore_patterns("__pycache__"))
        self.touched: set[str] = set()

    def write(self, name: str, text: str) -> None:
        assert not (self.root / name).exists()
        (self.root / name).write_text(text)
        self.touched.add(name)

    def replace(self, name: str, old: str, new: str) -> None:
        text = (self.root / name).read_text()
        assert text.count(old) == 1, f"{name}: {old}"
        (self.root / name).write_text(text.replace(old, new))
        self.touched.add(name)


def add_optimizer(copy: Copy) -> None:
    copy.replace(SCHEMA, 'Optimizer = Literal["adam"', 'Optimizer = Literal["lion", "adam"')
    copy.write("training/step/optimizers/lion.py", LION)


def add_activation(copy: Copy) -> None:
    copy.replace(SCHEMA, 'Activation = Literal["elu"', 'Activation = Literal["mish", "elu"')
    row = '"mish": ActivationKind(F.mish, (("Softplus", {}), ("Tanh", {}), ("Mul", {})))'
    copy.replace("model/activations.py", '    "linear": Activ', f'    {row},\n    "linear": Activ')


def add_loss(copy: Copy) -> None:
    copy.replace(SCHEMA, 'Loss = Literal["mse"', 'Loss = Literal["huber", "mse"')
    row = '"huber": LossKind(lambda y, z, x: F.huber_loss(y, x, reduction="none").sum(1))'
    copy.replace("training/step/losses.py", '    "mse": Loss', f'    {row},\n    "mse": Loss')


def add_penalty(copy: Copy) -> None:
    copy.replace(SCHEMA, 'Sparsity = Literal["none"', 'Sparsity = Literal["squares", "none"')
    row = '"squares": PenaltyKind(lambda code, penalty: code.square().sum() / penalty.items)'
    copy.replace("training/step/penalty.py", '    "l1": Penalty', f'    {row},\n    "l1": Penalty')


def add_layer(copy: Copy) -> None:
    copy.replace(SCHEMA, "LayerWords = DenseWords | ConvolutionWords\n", GROUPED_WORDS)
    words = '    if kind == "grouped" and len(numbers) == 2:\n        return GroupedWords(*numbers)\n'
    copy.replace(SCHEMA, '    if kind == "dense" and', f'{words}    if kind == "dense" and')
    copy.replace(SCHEMA, "^(dense|conv)", "^(dense|conv|grouped)")
    copy.write("model/layers/grouped.py", GROUPED)
    kinds, build = (
        "model/layers/kinds.py",
        "Grouped(math.prod(shape), words.units, words.groups, activation, decoder_activation, tied)",
    )
    copy.replace(kinds, "ConvolutionWords, DenseWords,", "ConvolutionWords, DenseWords, GroupedWords,")
    copy.replace(kinds, "import Dense\n", "import Dense\nfrom tiedae_cli.model.layers.grouped import Grouped\n")
    case = "        case GroupedWords():\n            return " + build + "\n"
    copy.replace(kinds, "        case DenseWords():\n", f"{case}        case DenseWords():\n")


TRAINING = "epochs: 3, batch_size: 100, learning_rate: 0.003, l2: 0"
ADDITIONS: dict[str, tuple[Callable[[Copy], None], int, str]] = {
    "optimizer": (add_optimizer, 2, f"model: {{hidden_sizes: [24, 8]}}\ntraining: {{{TRAINING}, optimizer: lion}}"),
    "activation": (add_activation, 2, f"model: {{hidden_sizes: [24, 8], activation: mish}}\ntraining: {{{TRAINING}}}"),
    "loss": (add_loss, 2, f"model: {{hidden_sizes: [24, 8]}}\ntraining: {{{TRAINING}, loss: huber}}"),
    "penalty": (add_penalty, 2, f"model: {{hidden_sizes: [24, 8]}}\ntraining: {{{TRAINING}, sparsity: squares}}"),
    "layer": (add_layer, 3, f"model: {{layers: [grouped 32 4, dense 8]}}\ntraining: {{{TRAINING}}}"),
}
TRAIN = """
import json, sys
import torch
import tiedae_cli
from tiedae_cli.config.yaml_reader import parse_config
from tiedae_cli.data import load_splits
from tiedae_cli.runs.training_state import EpochReport
from tiedae_cli.system.devices import Place
from tiedae_cli.training.trainer import Trainer

results = {"package": tiedae_cli.__file__}
for name, text in json.load(sys.stdin).items():
    config = parse_config(text, name)
    trainer = Trainer(config, load_splits(config.data), Place(torch.device("cpu")))
    errors = [report.train_mse_per_value for report in trainer.train() if isinstance(report, EpochReport)]
    results[name] = {"errors": errors, "step": type(trainer.step.gradient).__name__}
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def additions(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, set[str]], dict[str, dict[str, Any]]]:
    """The files that each addition touched in one copy of the package, and how a program that has them all trains with each."""
    copy = Copy(tmp_path_factory.mktemp("copy"))
    touched: dict[str, set[str]] = {}
    for name, (add, _, _) in ADDITIONS.items():
        copy.touched = touched[name] = set()
        add(copy)
    texts = json.dumps({name: text for name, (_, _, text) in ADDITIONS.items()})
    done = subprocess.run(
        [sys.executable, "-c", TRAIN], cwd=copy.root.parent, input=texts, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert Path(results["package"]).is_relative_to(copy.root)
    return touched, results


@pytest.mark.parametrize("name", ADDITIONS)
def test_an_addition_touches_as_many_files_as_promised_and_trains(
    name: str, additions: tuple[dict[str, set[str]], dict[str, dict[str, Any]]]
) -> None:
    touched, results = additions
    assert len(touched[name]) == ADDITIONS[name][1], touched[name]
    first, *_, last = results[name]["errors"]
    assert last < 0.9 * first
    assert results[name]["step"] == ("Gradient" if name == "optimizer" else "AutogradGradient")
