"""Each recipe of docs/architecture.md is followed in a copy of the package: it touches the files it names, and the addition works."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
SECTIONS = dict(
    re.findall(
        r"^### Example: adding (.+?)\n(.*?)(?=^##|\Z)", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE | re.DOTALL
    )
)
SCHEMA = "config/schema.py"
ROWS = np.random.default_rng(0).standard_normal((40, 5)).astype(np.float32)

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

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        product = torch.einsum("bgi,goi->bgo", x.unflatten(1, (self.groups, -1)), weight).flatten(1)
        return product if bias is None else product + bias

    def transposed_product(self, h: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
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

LARGEST_ERROR = '''
class LargestError(Stateless):
    """Ranks items by their largest single squared error."""

    def scores(self, x: Tensor, reconstruction: Tensor) -> Tensor:
        return squares(reconstruction - x).amax(1)


RANKERS: dict[Rank, type[Ranker]] = {"largest_error": LargestError, '''

ABSOLUTE_ERROR = """
    Metric(
        "absolute_error_per_value",
        "absolute error per {value}",
        "mean absolute error over all items and values",
        6,
        lambda errors, mean: errors.own["absolute_error_per_value"] / errors.items,
        per_item=lambda items, reconstructions, form: in_float64(reconstructions - items).abs().mean(1),
    ),
)


def metrics_of("""

WRITE_TSV = """
def _write_tsv(file: IO[bytes], blocks: Iterator["Records"], layout: Layout) -> None:
    for block in blocks:
        for item, code in zip(block.columns["item"], block.columns["code"].tolist(), strict=True):
            file.write("\\t".join(map(str, [item, *code])).encode() + b"\\n")


FORMATS: dict[str, ItemFormat] = {
    "tsv": ItemFormat("TSV", _write_tsv),
"""

TOY = '''"""A file of float32 numbers, five per row."""

from pathlib import Path

import numpy as np

from tiedae_cli.data.sources.part import Part, array_part
from tiedae_cli.data.sources.source import ReadOptions, Source


def _parts(path: Path, options: ReadOptions) -> dict[str, Part]:
    return {"train": array_part(np.fromfile(path, np.float32).reshape(-1, 5), str(path))}


TOY = Source("toy", "a toy", _parts, (".toy",))
'''

DRAWER = '''"""A folder with a file of float32 numbers per split."""

from pathlib import Path

import numpy as np

from tiedae_cli.data.sources.part import Part, array_part
from tiedae_cli.data.sources.source import ReadOptions, Source


def _parts(path: Path, options: ReadOptions) -> dict[str, Part]:
    files = {split: path / f"{split}.bin" for split in ("train", "test")}
    return {split: array_part(np.fromfile(file, np.float32).reshape(-1, 5), str(file)) for split, file in files.items()}


DRAWER = Source("drawer", "a drawer", _parts, recognizes=lambda path, head: (path / "drawer.json").exists(), is_folder=True)
'''

EPOCH_FILE = '''"""Each epoch as a line of a text file."""

from tiedae_cli.runs.observer import Observer, TrainingStart
from tiedae_cli.runs.training_state import EpochReport


class EpochFile(Observer):
    name = "epochs.txt"

    def started(self, start: TrainingStart) -> None:
        self.path = start.run.folder / self.name

    def epoch(self, report: EpochReport) -> None:
        with self.path.open("a") as file:
            file.write(f"{report.epoch}\\n")
'''

DIARY = (
    EPOCH_FILE.replace("EpochFile", "Diary").replace("epochs.txt", "diary.txt")
    + """

def create() -> Observer:
    return Diary()
"""
)

SIZES_COMMAND = '''"""``tiedae sizes``: print the sizes of a model's layers."""

import typer

from tiedae_cli.cli.commands.options import Model


def sizes(model: Model = None) -> None:
    from tiedae_cli.runs.trained_run import open_run
    from tiedae_cli.tasks.sizes import sizes_of

    typer.echo(" ".join(map(str, sizes_of(open_run(model, "cpu")))))
'''

SIZES_TASK = '''"""What ``sizes`` does."""

from collections.abc import Sequence

from tiedae_cli.runs.trained_run import OpenRun


def sizes_of(run: OpenRun) -> Sequence[int]:
    return run.network.sizes
'''


class Copy:
    """A copy of the package that additions edit."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "tiedae_cli"
        shutil.copytree(ROOT / "tiedae_cli", self.root, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "sample_configs", folder / "sample_configs")
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


def add_rank(copy: Copy) -> None:
    copy.replace(SCHEMA, 'Rank = Literal["squared_error"', 'Rank = Literal["largest_error", "squared_error"')
    copy.replace("scoring/rankers.py", "\nRANKERS: dict[Rank, type[Ranker]] = {", LARGEST_ERROR)


def add_metric(copy: Copy) -> None:
    copy.replace("model/metrics.py", "\n)\n\n\ndef metrics_of(", ABSOLUTE_ERROR)


def add_format(copy: Copy) -> None:
    copy.replace("output/item_writer.py", "\nFORMATS: dict[str, ItemFormat] = {\n", WRITE_TSV)


def add_file_source(copy: Copy) -> None:
    copy.write("data/sources/toy.py", TOY)
    _list_source(copy, "toy", "TOY")


def add_folder_source(copy: Copy) -> None:
    copy.write("data/sources/drawer.py", DRAWER)
    _list_source(copy, "drawer", "DRAWER")


def _list_source(copy: Copy, module: str, name: str) -> None:
    detection = "data/sources/detection.py"
    copy.replace(detection, "SOURCES = [", f"SOURCES = [{name}, ")
    copy.replace(
        detection,
        "from tiedae_cli.data.sources.source import",
        f"from tiedae_cli.data.sources.{module} import {name}\nfrom tiedae_cli.data.sources.source import",
    )


def add_observer(copy: Copy) -> None:
    copy.write("output/epoch_file.py", EPOCH_FILE)
    copy.replace("tasks/train.py", "        OutcomeFile(run,", "        EpochFile(),\n        OutcomeFile(run,")
    terminal = "from tiedae_cli.output.terminal import"
    copy.replace("tasks/train.py", terminal, f"from tiedae_cli.output.epoch_file import EpochFile\n{terminal}")


def add_tracker(copy: Copy) -> None:
    copy.replace(SCHEMA, 'Tracker = Literal["tensorboard"', 'Tracker = Literal["diary", "tensorboard"')
    copy.write("output/trackers/diary.py", DIARY)


def add_command(copy: Copy) -> None:
    copy.write("cli/commands/sizes.py", SIZES_COMMAND)
    copy.write("tasks/sizes.py", SIZES_TASK)
    score = "from tiedae_cli.cli.commands import score as score_command\n"
    copy.replace("cli/app.py", score, f"{score}from tiedae_cli.cli.commands import sizes as sizes_command\n")
    registered = 'app.command("score")(score_command.score)\n'
    copy.replace("cli/app.py", registered, f'{registered}app.command("sizes")(sizes_command.sizes)\n')


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
TRAINED = {  # what is used by training, and which step trains it
    "an optimizer": (f"model: {{hidden_sizes: [24, 8]}}\ntraining: {{{TRAINING}, optimizer: lion}}", "Gradient"),
    "an activation": (f"model: {{hidden_sizes: [24, 8], activation: mish}}\ntraining: {{{TRAINING}}}", "AutogradGradient"),
    "a loss": (f"model: {{hidden_sizes: [24, 8]}}\ntraining: {{{TRAINING}, loss: huber}}", "AutogradGradient"),
    "a penalty": (f"model: {{hidden_sizes: [24, 8]}}\ntraining: {{{TRAINING}, sparsity: squares}}", "AutogradGradient"),
    "a kind of layer": (f"model: {{layers: [grouped 32 4, dense 8]}}\ntraining: {{{TRAINING}}}", "AutogradGradient"),
}
RECIPES: dict[str, Callable[[Copy], None]] = {
    "a way to rank": add_rank,
    "an optimizer": add_optimizer,
    "a metric": add_metric,
    "a format to write": add_format,
    "a source that is a file": add_file_source,
    "a source that is a folder": add_folder_source,
    "an observer": add_observer,
    "a tracker": add_tracker,
    "an activation": add_activation,
    "a kind of layer": add_layer,
    "a loss": add_loss,
    "a penalty": add_penalty,
    "a command": add_command,
}
TRAIN = """
import json, sys
import torch
import tiedae_cli
from tiedae_cli.config.yaml_reader import parse_config
from tiedae_cli.data.load_data import load_splits
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
COMMANDS = """
import json, sys
from typer.testing import CliRunner
from tiedae_cli.cli.app import app

results = [CliRunner().invoke(app, words) for words in json.load(sys.stdin)]
print(json.dumps([[result.exit_code, result.stdout, result.stderr] for result in results]))
"""
BY_HAND = """
import json, numpy, tiedae_cli, torch
from tiedae_cli.data.load_data import load_splits
model, x = tiedae_cli.load("run"), numpy.load("x.npy")
seen = torch.from_numpy(x.reshape(5, 64).astype("float32") / 255)
squares = (model.module(seen) - seen).detach().double().square()
items = load_splits(model.config.data).test
test = torch.from_numpy(items.batch(0, len(items)))
absolute = (model.module(test) - test).detach().double().abs().mean().item()
print(json.dumps([model.score(x).tolist(), squares.amax(1).tolist(), absolute]))
"""


@dataclass(frozen=True)
class Added:
    """A copy of the package to which all recipes were applied, one after the other."""

    copy: Copy
    touched: dict[str, set[str]]

    def python(self, program: str, read: object = None) -> Any:
        """Run a program that imports the copy; return the JSON that it prints."""
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=self.copy.root.parent,
            input=json.dumps(read),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def commands(self, *lines: str, code: int = 0) -> list[tuple[str, str]]:
        """Run commands, each given as a line; return what each wrote to stdout and to stderr."""
        results = self.python(COMMANDS, [line.split() for line in lines])
        assert [result[0] for result in results] == [code] * len(lines), results
        return [(out, err) for _, out, err in results]


@pytest.fixture(scope="module")
def added(tmp_path_factory: pytest.TempPathFactory) -> Added:
    copy = Copy(tmp_path_factory.mktemp("copy"))
    touched: dict[str, set[str]] = {}
    for name, add in RECIPES.items():
        copy.touched = touched[name] = set()
        add(copy)
    return Added(copy, touched)


@pytest.fixture(scope="module")
def trained(added: Added) -> dict[str, Any]:
    results: dict[str, Any] = added.python(TRAIN, {name: text for name, (text, _) in TRAINED.items()})
    assert Path(results["package"]).is_relative_to(added.copy.root)
    return results


@pytest.fixture(scope="module")
def run(added: Added) -> Added:
    """The copy, with a run beside it that was trained with the new rank and tracker, and five images."""
    np.save(added.copy.root.parent / "x.npy", np.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=np.uint8))
    options = "--score.rank largest_error --trackers diary --epochs 2 --run-dir run"
    added.commands(f"train digits -q {options}")
    return added


def test_the_recipes_are_those_of_the_page() -> None:
    assert {heading.partition(" (")[0] for heading in SECTIONS} == set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_touches_the_files_that_the_page_promises(name: str, added: Added) -> None:
    ((heading, section),) = ((heading, text) for heading, text in SECTIONS.items() if heading.partition(" (")[0] == name)
    files = re.search(r"\((\d) files?\)$", heading)
    assert files is not None and len(added.touched[name]) == int(files[1]), added.touched[name]
    for file in added.touched[name]:
        exists = (ROOT / "tiedae_cli" / file).exists()
        assert f"`{file}`" in section or (not exists and f"`{Path(file).parent}/" in section), f"{file} is not in: {section}"


@pytest.mark.parametrize("name", TRAINED)
def test_an_addition_trains(name: str, trained: dict[str, Any]) -> None:
    first, *_, last = trained[name]["errors"]
    assert last < 0.9 * first
    assert trained[name]["step"] == TRAINED[name][1]


def test_the_shell_and_python_score_by_a_new_rank(run: Added) -> None:
    ((scored, _),) = run.commands("score run x.npy -q")
    found, expected, _ = run.python(BY_HAND)
    assert [json.loads(line)["score"] for line in scored.splitlines()] == pytest.approx(expected, rel=1e-4)
    assert found == pytest.approx(expected, rel=1e-4)


def test_eval_and_compare_show_a_new_metric(run: Added) -> None:
    (evaluated, _), (table, _), (compared, _) = run.commands("eval run --json", "eval run", "compare run --json")
    expected = pytest.approx(run.python(BY_HAND)[2], rel=1e-5)
    assert json.loads(evaluated)["absolute_error_per_value"] == expected
    assert f'"absolute_error_per_value": {json.loads(evaluated)["absolute_error_per_value"]}' in compared
    assert "absolute" in table


def test_encode_writes_a_new_format(run: Added) -> None:
    folder = run.copy.root.parent
    run.commands("encode run x.npy -q -o codes.tsv", "encode run x.npy -q -o codes.npy")
    lines = [line.split("\t") for line in (folder / "codes.tsv").read_text().splitlines()]
    assert [int(item) for item, *_ in lines] == list(range(5))
    codes = np.array([code for _, *code in lines], np.float32)
    assert codes.tolist() == np.load(folder / "codes.npy").tolist()


def test_observers_and_trackers_follow_a_training(run: Added) -> None:
    for name in ("epochs.txt", "diary.txt"):
        assert (run.copy.root.parent / "run" / name).read_text() == "1\n2\n"


def test_a_new_command(run: Added) -> None:
    ((sizes, _), (usage, _)) = run.commands("sizes run", "--help")
    first, *_, last = map(int, sizes.split())
    assert first == 64 and last < 64
    assert "sizes" in usage


SMALL = "model.hidden_sizes=[3] training.epochs=1 training.batch_size=10"


def test_a_file_of_a_new_kind_trains_and_is_scored(added: Added) -> None:
    (added.copy.root.parent / "x.toy").write_bytes(ROWS.tobytes())
    _, (scored, _) = added.commands(f"train x.toy {SMALL} --run-dir toy", "score toy x.toy --json")
    assert [json.loads(line)["item"] for line in scored.splitlines()] == list(range(40))
    (added.copy.root.parent / "one.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    lines = ("train data.dataset=one.png", "train x.toy data.label=y", "score x.toy -q")
    (_, formats), (_, label), _ = added.commands(*lines, code=2)
    assert "a toy (.toy)" in formats
    assert "data.label: x.toy: is only for a table" in label


def test_a_folder_of_a_new_kind_goes_before_a_folder_of_images(added: Added) -> None:
    folder = added.copy.root.parent / "drawer"
    folder.mkdir()
    (folder / "drawer.json").write_text("{}")
    (folder / "train.bin").write_bytes(ROWS.tobytes())
    (folder / "test.bin").write_bytes(ROWS[:7].tobytes())
    _, (scored, _) = added.commands(f"train drawer {SMALL} --run-dir from_drawer", "score from_drawer drawer --json")
    items = [f"train[{row}]" for row in range(40)] + [f"test[{row}]" for row in range(7)]
    assert [json.loads(line)["item"] for line in scored.splitlines()] == items
    added.commands("score drawer -q", code=2)
