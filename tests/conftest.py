"""What the tests share: an empty working folder, small IDX files, a trained run, and the data and devices that not every machine has."""

import gc
import importlib.util
import json
import os
import shutil
import signal
import struct
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

# Before torch is imported: on a busy machine two threads of one small product wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a script started the suite in the background; its signals are tested
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # by nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
if not torch.cuda.is_available():  # before torch imports Triton: without a GPU its kernels can only be interpreted
    os.environ.setdefault("TRITON_INTERPRET", "1")

if importlib.util.find_spec("hypothesis") is not None:  # a machine with a GPU may lack it
    from hypothesis import settings

    settings.register_profile("untimed", deadline=None)  # shared machines are slow at times
    settings.load_profile("untimed")
gc.set_threshold(50_000)  # as the program does: importing torch leaves 200,000 objects that are looked at in each collection

IDX_TYPES = {np.dtype(np.uint8): 8, np.dtype(np.int32): 12}
WriteMnist = Callable[..., Path]


class Ran(NamedTuple):
    """What a command left: its exit code and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        """The lines of stdout, each read as JSON."""
        return [json.loads(line) for line in self.out.splitlines()]


Tiedae = Callable[..., Ran]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that look at a page in a browser."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in an empty folder of its own, not the checkout and not ``tmp_path``, where tests lay out what they need."""
    folder = tmp_path_factory.mktemp("work")
    monkeypatch.chdir(folder)
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reaches the network: torchvision's downloads go through urlopen."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise urllib.error.URLError("no network in the tests")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


@pytest.fixture
def mnist_root() -> str:
    """The folder of the real MNIST files; the test is skipped without them."""
    root = os.environ.get("TIEDAE_DATA", "")
    if not (Path(root) / "MNIST" / "raw" / "train-images-idx3-ubyte").exists():
        pytest.skip("needs the real MNIST files under TIEDAE_DATA")
    return root


@pytest.fixture
def cuda() -> torch.device:
    """The first CUDA device; the test is skipped without one."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return torch.device("cuda:0")


def idx_bytes(values: np.ndarray) -> bytes:
    """Return an array, uint8 or int32, in the IDX format: 0, 0, type, dimensions, sizes, values, all big-endian."""
    header = bytes([0, 0, IDX_TYPES[values.dtype], values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.astype(values.dtype.newbyteorder(">")).tobytes()


@pytest.fixture
def write_idx() -> Callable[[Path, np.ndarray], None]:
    """Return a writer of one IDX file: ``write_idx(path, values)``."""

    def write(path: Path, values: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(idx_bytes(values))

    return write


@pytest.fixture
def write_mnist(tmp_path: Path) -> WriteMnist:
    """Return a writer of a small data set in MNIST's layout: ``write_mnist(train=30, test=10, folder="MNIST")`` gives the root.

    Images are random, and the first pixels of each hold its number, so that a test can tell them apart.
    """

    def write(train: int = 30, test: int = 10, folder: str = "MNIST", size: int = 28) -> Path:
        raw = tmp_path / "data" / folder / "raw"
        raw.mkdir(parents=True, exist_ok=True)
        generator = np.random.default_rng(7)
        for stem, count in (("train", train), ("t10k", test)):
            images = generator.integers(0, 256, (count, size, size), dtype=np.uint8)
            images[:, 0, 0], images[:, 0, 1] = np.arange(count) // 256, np.arange(count) % 256
            labels = generator.integers(0, 10, count, dtype=np.uint8)
            (raw / f"{stem}-images-idx3-ubyte").write_bytes(idx_bytes(images))
            (raw / f"{stem}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
        return tmp_path / "data"

    return write


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small trained run on the digits; read-only: tests that use it take ``digits_run``."""
    from tiedae_cli.config.yaml_reader import parse_config
    from tiedae_cli.system.devices import Ranks
    from tiedae_cli.tasks import train as task

    folder = tmp_path_factory.mktemp("trained") / "digits"
    text = """
    model: {hidden_sizes: [32, 8], activation: silu, code_activation: linear, output: sigmoid}
    training: {epochs: 4, batch_size: 50, learning_rate: 0.005, schedule: one_cycle, l2: 0, loss: squared_error}
    output: {images: 3}
    """
    config = parse_config(text, "digits.yaml")
    with task.start(config, "digits", folder, torch.device("cpu"), Ranks()) as training:
        training.train()
    return folder


@pytest.fixture
def digits_run(trained_once: Path, empty_folder: Path) -> Path:
    """A copy of the trained run as ``runs/digits`` in the working folder."""
    copy = Path("runs") / "digits"
    shutil.copytree(trained_once, copy)
    return copy


@pytest.fixture(scope="session")
def tiedae() -> Tiedae:
    """Return a runner of commands in this process: ``tiedae("eval", "run", "--json").lines``; ``stdin`` is a keyword."""
    from typer.testing import CliRunner

    from tiedae_cli.cli.app import app

    def run(*words: object, stdin: str | bytes | None = None) -> Ran:
        result = CliRunner().invoke(app, list(map(str, words)), input=stdin)
        return Ran(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def make_set() -> Callable[..., Any]:
    """Return a maker of small sets of float32 images: ``make_set(values)``, values (N, D)."""
    from tiedae_cli.data.item_set import ItemForm, ItemSet

    def make(values: np.ndarray) -> ItemSet:
        rows = np.asarray(values, np.float32)
        return ItemSet(rows.reshape(len(rows), 1, 1, -1), None, ItemForm((1, 1, rows.shape[1])))

    return make


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium with the system's own driver; the test is skipped without one."""
    selenium = pytest.importorskip("selenium", reason="needs selenium (pip install -e . --group dev)")
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("needs chromium and chromedriver (apt-get install chromium chromium-driver)")
    from selenium import webdriver

    assert selenium
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()
