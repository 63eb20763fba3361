"""The commands in the README and in docs/ are run, what they name exists, their tables are the schema's and the tests'."""

import ast
import glob
import importlib.util
import json
import re
import shlex
import shutil
import struct
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from tiedae_cli.cli.app import app
from tiedae_cli.config import Config, keys
from tiedae_cli.config.samples import sample_configs
from tiedae_cli.config.yaml_reader import parse_config

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
PAGES = {"README.md": (ROOT / "README.md").read_text()}
for _name in (
    "config",
    "data",
    "tables",
    "anomalies",
    "tune",
    "scale-out",
    "commands",
    "deploy",
    "pipelines",
    "report",
    "python",
    "recipes",
    "promises",
    "pca",
    "linear-path",
    "known-settings",
    "what-scores-find",
    "thresholds",
    "survival",
    "tied-weights",
    "speed",
    "scaling",
    "machines",
    "metrics",
    "architecture",
):
    PAGES[f"docs/{_name}.md"] = (ROOT / "docs" / f"{_name}.md").read_text()
README = "\n".join(PAGES.values())
PROSE = re.sub(r"```.*?```", "", README, flags=re.DOTALL)  # without the blocks of output
LINES = re.findall(r"^    (.*)$", PROSE, re.MULTILINE)
INLINE = re.findall(r"`([^`\n]+)`", PROSE)
NAMED = [line for line in (*LINES, *INLINE) if line.startswith("tiedae ") and "--install-completion" not in line]
WITHOUT = [
    option
    for option, name in {
        "--trackers mlflow": "mlflow",
        "--trackers tensorboard": "tensorboard",
        "--minutes": "optuna",
        "--trials": "optuna",
    }.items()
    if importlib.util.find_spec(name) is None
]  # options of extras that are not installed
RUN = [line for line in dict.fromkeys(LINES) if line in NAMED and not any(option in line for option in WITHOUT)]
MAY_BE_EMPTY = ("select(.outlier)",)  # what a filter of real data may well leave out


@dataclass(frozen=True)
class Stage:
    """One program of a pipeline."""

    words: list[str]
    source: str | None = None
    """The file after ``<``."""


def stages(line: str) -> list[Stage]:
    """Return the programs of a line: words, pipes and ``<``, as a shell reads them; comments go."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|<>&;")
    lexer.whitespace_split = True
    found = [Stage([])]
    tokens = iter(lexer)
    for token in tokens:
        if token == "|":
            found.append(Stage([]))
        elif token == "<":
            found[-1] = Stage(found[-1].words, next(tokens))
        else:
            assert not set(token) <= set("|<>&;"), f"{token} in {line}: not a line that this test can run"
            found[-1].words.extend(sorted(glob.glob(token)) or [token] if token.startswith("runs/") else [token])
    return found


def section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


# Running the commands


def shortened(words: list[str]) -> list[str]:
    """Return a training's words with one epoch, and with a validation split that fits the few images of the MNIST here."""
    if words[0] not in ("train", "tune") or {"--resume", "--print-config"} & set(words):
        return words
    if "--minutes" in words:
        words = [*words, "--minutes", "0.05"]  # the last one counts
    fitting = ["--set", "data.validation=50"] if any(word.startswith(("mnist", "denoise")) for word in words) else []
    length = "training.steps=1" if {"anomalies", "defects"} & set(words) else "training.epochs=1"
    return [*words, "--set", length, *fitting]


def write_mnist(raw: Path) -> None:
    """Write 300 training and 40 test images of random rectangles in MNIST's own format."""
    raw.mkdir(parents=True)
    chance = np.random.default_rng(5)
    for stem, count in (("train", 300), ("t10k", 40)):
        images = np.zeros((count, 28, 28), np.uint8)
        for image in images:
            top, left = chance.integers(2, 14, 2)
            image[top : top + chance.integers(3, 12), left : left + chance.integers(3, 12)] = chance.integers(100, 256)
        header = struct.pack(">4B3I", 0, 0, 8, 3, count, 28, 28)
        (raw / f"{stem}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        labels = bytes(chance.integers(0, 10, count).astype(np.uint8))
        (raw / f"{stem}-labels-idx1-ubyte").write_bytes(struct.pack(">4BI", 0, 0, 8, 1, count) + labels)


def write_own_data() -> None:
    """Write the files that the README's lines name as the reader's own."""
    chance = np.random.default_rng(6)
    Path("photos").mkdir()
    for number in range(70):
        Image.fromarray(chance.integers(0, 256, (20, 24), dtype=np.uint8)).save(f"photos/{number:02}.png")
    np.save("x.npy", chance.integers(0, 256, (30, 28, 28), dtype=np.uint8))
    np.save("intruders.npy", chance.integers(0, 256, (30, 28, 28), dtype=np.uint8))
    np.save("features.npy", chance.standard_normal((90, 12)).astype(np.float32))
    np.save("factors.npy", chance.standard_normal((90, 12)).astype(np.float32))
    for name in ("rows", "far"):
        np.savetxt(f"{name}.csv", chance.standard_normal((60, 3)), delimiter=",", header="a,b,c", comments="")
    np.savez("arrays.npz", a=chance.standard_normal((90, 12)), b=chance.standard_normal((30, 12)))
    rows = (
        ",".join(f"{value:.3f}" for value in row) + f",{'good' if index % 9 else 'bad'}"
        for index, row in enumerate(chance.normal(size=(90, 12)))
    )
    Path("table.csv").write_text(",".join("abcdefghijkl") + ",kind\n" + "\n".join(rows))
    times = (f"2026-01-01 {i // 60:02}:{i % 60:02},{value:.3f}" for i, value in enumerate(chance.normal(size=400)))
    Path("sensor.csv").write_text("time,temperature\n" + "\n".join(times))
    counts = (",".join(map(str, row)) for row in chance.poisson(5, (90, 6)).tolist())
    Path("features-counts.csv").write_text("g0,g1,g2,g3,g4,g5\n" + "\n".join(counts))
    Path("days").mkdir()
    for day in (1, 2, 10):
        days = (f"{first:.3f},{second:.3f}" for first, second in chance.normal(size=(60, 2)))
        Path(f"days/{day}.csv").write_text("load,heat\n" + "\n".join(days))
    Path("my.yaml").write_text("data: {dataset: digits}\nmodel: {hidden_sizes: [32, 8]}\n")


def run_tiedae(line: str) -> bytes:
    """Run the stages of a line that are the tool; return the last one's stdout."""
    piped = b""
    for stage in stages(line):
        if stage.words[0] != "tiedae":
            break
        given = Path(stage.source).read_bytes() if stage.source else piped
        result = CliRunner().invoke(app, shortened(stage.words[1:]), input=given)
        assert result.exit_code == 0, f"{line}\n{result.stderr}"
        piped = result.stdout_bytes
    return piped


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What each line prints, all of them run one after the other in one folder, as a reader would."""
    folder = tmp_path_factory.mktemp("readme")
    write_mnist(folder / "data" / "MNIST" / "raw")
    (folder / "work").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIEDAE_DATA", str(folder / "data"))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.chdir(folder / "work")
        write_own_data()
        found = {line: run_tiedae(line) for line in RUN}
        for line in RUN:
            words = shlex.split(line, comments=True)
            for option in ("-o", "--output", "--features", "--codes", "--contact-sheet"):
                target = words[words.index(option) + 1] if option in words else "-"
                assert target == "-" or Path(target).stat().st_size > 0, line
    return found


@pytest.mark.parametrize("line", RUN)
def test_every_line_works_in_its_turn(line: str, printed: dict[str, bytes]) -> None:
    """A training tells its checkpoint, a picture its path, and with --json every line is JSON."""
    words = stages(line)[0].words
    assert printed[line], line
    if "--json" in words or (words[1] == "score" and "--format" not in words and "--contact-sheet" not in words):
        assert [json.loads(text) for text in printed[line].splitlines()]
    elif words[1] == "train" and "--print-config" not in words:
        assert re.fullmatch(rb"runs/[a-z0-9-]+/best\.safetensors\n", printed[line])


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
@pytest.mark.parametrize("line", [line for line in RUN if "| jq " in line])
def test_every_filter_works_on_what_the_tool_prints(line: str, printed: dict[str, bytes]) -> None:
    jq = stages(line)[-1].words
    found = subprocess.run(jq, input=printed[line], capture_output=True, check=False)
    assert (found.returncode, found.stderr) == (0, b"")
    assert any(text in line for text in MAY_BE_EMPTY) or found.stdout.strip() not in (b"", b"null"), found.stdout


def test_the_two_lines_of_a_fresh_machine_do_their_own_set_up() -> None:
    """``.ci/newest`` executes the second one: the first indented line under its heading."""
    first, second = (line for line in LINES if line.startswith("python3 -m venv"))
    assert (
        first
        == "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/tiedae train && .venv/bin/tiedae reconstruct --n 2"
    )
    environment = "python3 -m venv --upgrade-deps .venv && .venv/bin/pip install "
    assert second == f"{environment}-e . --group test && .venv/bin/python -m pytest"
    assert re.search(r"^    (.*)$", section("Run the tests"), re.MULTILINE)[1] == second


# What the text names


@pytest.fixture(scope="module")
def options() -> dict[str, set[str]]:
    """The options of each command, as its help names them; "" is the tool's own."""
    names = ["", *app.registered_commands]
    found = {}
    for command in names:
        name = command if isinstance(command, str) else str(command.name)
        shown = CliRunner().invoke(
            app, [name, "--help", *(["--all"] if name in ("train", "tune") else [])] if name else ["--help"]
        )
        assert shown.exit_code == 0, shown.output
        found[name] = set(re.findall(r"(?<![\w-])--?[a-z][a-z0-9-]*", shown.stdout.split("\nOptions:\n")[1]))
    found["tune"] |= {"--all"}
    found["train"] |= {"--all"} | {f"--{name.replace('_', '-')}" for name in keys.SYNONYMS}
    return found


@pytest.mark.parametrize("line", dict.fromkeys(NAMED))
def test_every_command_and_option_exists(line: str, options: dict[str, set[str]]) -> None:
    for stage in stages(line):
        if stage.words[0] == "tiedae" and len(stage.words) > 1:
            command = "" if stage.words[1].startswith("-") else stage.words[1]  # options of the program itself
            given = {word for word in stage.words if re.match(r"--?[a-z]", word)}
            assert command in options and given <= options[command], (command, given - options[command])


def test_every_option_in_the_text_exists(options: dict[str, set[str]]) -> None:
    known = set().union(*options.values())
    named = {match for code in INLINE for match in re.findall(r"^--[a-z-]+", code)}
    assert named and named <= known, named - known


@pytest.mark.parametrize("line", [line for line in (*LINES, *INLINE) if "--config " in line])
def test_every_config_is_a_sample(line: str) -> None:
    name = line.split("--config ")[1].split()[0]
    assert name in sample_configs() or name in ("-", "NAME", "runs/mnist-best/config.yaml")


def test_every_sample_config_in_the_text_exists() -> None:
    run = {name for line in LINES for name in re.findall(r"--config ([\w-]+)", line)}
    run |= {name for line in LINES for name in re.findall(r"tiedae train ([\w-]+)$", line) if name in sample_configs()}
    assert {"mnist", "mnist-best", "folder", "vectors"} <= run <= {*sample_configs(), "-"}


@pytest.mark.parametrize(
    "key",
    sorted(
        set(re.findall(r"\b((?:data|model|training|output)\.(?!onnx|safetensors|md\b|module\b|config\b)[a-z_0-9]+)\b", PROSE))
    ),
)
def test_every_key_exists(key: str) -> None:
    name, field = key.split(".")
    assert field in type(getattr(Config(), name)).model_fields


@pytest.mark.parametrize("cell", re.findall(r"^\| (`(?:model|training): \{.*?) \|", README, re.MULTILINE))
def test_the_variants_are_configs(cell: str) -> None:
    values: dict = {}
    for part in re.findall(r"`([^`]+)`", cell):
        values |= yaml.safe_load(part)
    assert parse_config(yaml.safe_dump(values), "README") != Config()


def test_the_config_table_is_the_schemas() -> None:
    spec = importlib.util.spec_from_file_location("config_table", ROOT / "docs" / "config_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert f"\n{module.table()}\n" in section("All keys"), "put the output of python docs/config_table.py into docs/config.md"
    fields = sum(len(type(getattr(Config(), name)).model_fields) for name in Config.model_fields)
    assert module.table().count("\n") == fields + 1


def test_the_metric_table_is_the_list_of_metrics() -> None:
    spec = importlib.util.spec_from_file_location("metric_table", ROOT / "docs" / "metric_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = PAGES["docs/metrics.md"]
    assert f"\n{module.table()}\n" in text, "put the output of python docs/metric_table.py into docs/metrics.md"


def test_every_page_is_among_the_pages() -> None:
    assert set(PAGES) == {"README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))}


def test_the_readme_and_every_page_are_short() -> None:
    assert PAGES["README.md"].count("\n") <= 120
    assert (
        max(text.partition("\n## Reference\n")[0].count("\n") for text in PAGES.values()) <= 200
    )  # without the generated part


@pytest.mark.parametrize("page", PAGES)
def test_no_paragraph_has_more_than_five_lines(page: str) -> None:
    text = re.sub(r"```.*?```", "", PAGES[page], flags=re.DOTALL)
    for block in re.split(r"\n\s*\n|\n(?=- |\d\. )", text):
        assert block.startswith(("|", "    ")) or block.strip().count("\n") < 5, block


LINKS = [(page, target) for page, text in PAGES.items() for target in re.findall(r"\]\(([^)]+)\)", text)]


@pytest.mark.parametrize(("page", "target"), LINKS)
def test_links_lead_somewhere(page: str, target: str) -> None:
    path, _, place = target.partition("#")
    titles = re.findall(r"^#+ (.*)$", PAGES[page], re.MULTILINE)
    headings = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
    assert ((ROOT / page).parent / path).exists() if path else place in headings


def test_pictures_load_fast() -> None:
    pictures = {f"docs/{name}" for name in re.findall(r"\((?:docs/)?(\w+\.png)\)", README)}
    assert pictures == {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.png")}
    assert all((ROOT / picture).stat().st_size < 150_000 for picture in pictures)


@pytest.mark.parametrize("check", re.findall(r"^\|.*\| `([^`|]*(?:pytest|benchmarks/)[^`|]*)` \|$", README, re.MULTILINE))
def test_every_promise_has_its_check(check: str) -> None:
    """The files are there, -k finds a test, and a benchmark has the option."""
    words = shlex.split(check)
    if "pytest" not in words:
        script = (ROOT / words[1]).read_text()
        assert all(f'"{word}"' in script for word in words if word.startswith("--"))
        return
    for path in (word for word in words if word.endswith(".py")):
        tests = [node.name for node in ast.parse((ROOT / path).read_text()).body if isinstance(node, ast.FunctionDef)]
        wanted = words[words.index("-k") + 1].split(" or ") if "-k" in words else ["test_"]
        assert all(any(part in name for name in tests) for part in wanted)


def test_every_script_extra_and_group_exists() -> None:
    for script in re.findall(r"python ((?:benchmarks|docs)/\w+\.py)", README):
        assert (ROOT / script).exists(), script
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    named = {extra for group in re.findall(r"\.\[([a-z0-9,]+)\]", PROSE) for extra in group.split(",")}
    assert {"hdf5", "onnx"} <= named <= pyproject["project"]["optional-dependencies"].keys()
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    assert (
        {"test", "dev", "bench", "docs"}
        == set(re.findall(r"--group (\w+)", PROSE + guide))
        == pyproject["dependency-groups"].keys()
    )


def test_every_benchmark_is_in_the_table_of_scripts() -> None:
    table = re.findall(r"^\| `benchmarks/.*$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    named = re.findall(r"`benchmarks/(\w+\.py)", "\n".join(table))
    scripts = [path.name for path in (ROOT / "benchmarks").glob("*.py") if '__name__ == "__main__"' in path.read_text()]
    assert sorted(named) == sorted(scripts)
