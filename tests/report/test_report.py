"""The report: its content, the escaping of names and, in a real browser, that its model equals the Python model."""

import base64
import hashlib
import html
import json
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Tiedae
from PIL import Image
from small_runs import train_small

from tiedae_cli.model.activations import ACTIVATIONS
from tiedae_cli.report import live_network as network
from tiedae_cli.report.live_network import LEVELS, rounded
from tiedae_cli.runs import checkpoint as checkpoints

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)<∕script>"
NAMES = ("plain", HOSTILE, "convolutions")
CPU = torch.device("cpu")
READY = "return document.documentElement.classList.contains('ready') || document.documentElement.classList.contains('failed')"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, tiedae: Tiedae) -> Path:
    """The report of three runs, one of them with a hostile name."""
    folder = tmp_path_factory.mktemp("reports")
    runs = [
        train_small(folder / "plain", activation="silu"),
        train_small(folder / HOSTILE, tied=False, activation="gelu"),
        train_small(
            folder / "convolutions", hidden_sizes=None, layers=["conv 3 3 2", "conv 4 4 3", "dense 5"], activation="elu"
        ),
    ]
    target = folder / "all.html"
    result = tiedae("report", *(str(run.folder) for run in runs), "-o", str(target), "-q")
    assert result.code == 0, result.err
    assert result.out == f"{target}\n"
    return target


def test_the_page_names_layers_that_it_cannot_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiedae: Tiedae) -> None:
    monkeypatch.setattr(network, "LIVE", {"Gemm"})
    run = train_small(tmp_path / "run", hidden_sizes=None, layers=["conv 3 3 2", "dense 5"])
    result = tiedae("report", str(run.folder), "-o", str(tmp_path / "run.html"), "-q")
    assert result.code == 0, result.err
    said = "small cannot run in this page: a page cannot run its Conv layers."
    assert said.replace("small", "run") in (tmp_path / "run.html").read_text()


def test_the_page_names_an_activation_that_it_cannot_run(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiedae: Tiedae
) -> None:
    """If the page cannot compute an activation, the model is not live, but everything else is shown."""
    run = train_small(tmp_path / "run", activation="tanh")
    monkeypatch.setitem(ACTIVATIONS, "tanh", replace(ACTIVATIONS["tanh"], page=None))
    target = tmp_path / "run.html"
    result = tiedae("report", str(run.folder), "-o", str(target), "-q")
    assert result.code == 0, result.err
    assert document(target)["runs"][0]["network"] == {"missing": "a page cannot run the activation tanh"}
    browser.get(target.as_uri())
    wait_until_ready(browser)
    assert browser.get_log("browser") == []
    text = browser.execute_script("return [document.documentElement.classList.contains('ready'), document.body.textContent]")
    assert text[0] and "run cannot run in this page: a page cannot run the activation tanh." in text[1]


def document(page: Path) -> dict[str, Any]:
    text = page.read_text()
    found: dict[str, Any] = json.loads(
        re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1]
    )
    return found


@pytest.mark.slow
def test_hostile_names_are_text(page: Path) -> None:
    text = page.read_text()
    assert "<img" not in text and html.escape(HOSTILE) in text
    assert document(page)["runs"][1]["name"] == HOSTILE


def test_the_security_policy_allows_one_script_and_nothing_else(page: Path) -> None:
    text = page.read_text()
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1])
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert len(scripts) == 1 and f"script-src 'sha256-{digest}'" in policy and policy.startswith("default-src 'none'")
    assert not re.findall(r"(?:src|href)=\"(?!#|data:)", text) and " style=" not in text.partition("<script>")[0]


def test_the_page_has_the_numbers_of_compare(page: Path, tiedae: Tiedae) -> None:
    names = [str(page.parent / name) for name in NAMES]
    found = tiedae("compare", *names, "--json", "-q")
    told = [run["squared_error_per_item"] for run in json.loads(found.out)["runs"]]
    assert [run["errors"][0]["values"]["squared_error_per_item"] for run in document(page)["runs"]] == pytest.approx(told)


def test_the_report_is_written_to_the_run_folder(digits_run: Path, tiedae: Tiedae) -> None:
    result = tiedae("report", "digits", "-q")
    assert (result.code, result.out) == (0, "runs/digits/report.html\n"), result.err
    facts = document(digits_run / "report.html")
    keys = {setting["key"] for setting in facts["runs"][0]["settings"]}
    assert {"model.hidden_sizes", "training.epochs"} <= keys and "training.seed" not in keys
    assert facts["runs"][0]["command"] == "tiedae train --config runs/digits/config.yaml"


def test_a_report_reads_the_last_checkpoint_once(digits_run: Path, monkeypatch: pytest.MonkeyPatch, tiedae: Tiedae) -> None:
    read: list[str] = []
    load = checkpoints.load
    monkeypatch.setattr(checkpoints, "load", lambda path, *rest: (read.append(path.name), load(path, *rest))[1])
    assert tiedae("report", "digits", "-q").code == 0
    assert sorted(read) == ["best.safetensors", "last.safetensors"]


def test_vectors_have_tables_in_the_datas_units(tmp_path: Path, tiedae: Tiedae) -> None:
    rows = np.random.default_rng(0).normal(100, 5, (120, 6))
    header = "a,b,c,d,e,</script><b>f"
    np.savetxt(tmp_path / "table.csv", rows, delimiter=",", header=header, comments="")
    settings = [
        f"data.dataset={tmp_path / 'table.csv'}",
        "model.output=linear",
        "model.hidden_sizes=[4, 2]",
        "training.epochs=1",
        "training.batch_size=20",
    ]
    given = [word for setting in settings for word in ("--set", setting)]
    assert tiedae("train", "-q", "--run-dir", "run", *given).code == 0
    result = tiedae("report", "run", "-q")
    assert result.code == 0, result.err
    facts = document(Path("run/report.html"))
    assert facts["form"]["columns"] == header.split(",")
    values = [cell["value"] for vector in facts["shown"]["values"] for cell in vector]
    assert 70 < min(values) <= max(values) < 130
    assert "<b>f" not in Path("run/report.html").read_text()


@pytest.mark.slow
def test_training_writes_a_report_if_configured_and_otherwise_prints_the_command(tmp_path: Path, tiedae: Tiedae) -> None:
    given = ["--set", "training.epochs=1", "--set", "model.hidden_sizes=[8]"]
    asked = tiedae("train", "--run-dir", "asked", *given, "--set", "output.report=true")
    silent = tiedae("train", "--run-dir", "silent", *given)
    assert (asked.code, silent.code) == (0, 0)
    assert "report: asked/report.html" in asked.err and document(Path("asked/report.html"))["split"] == "test"
    assert "\n      tiedae report silent\n" in silent.err and not Path("silent/report.html").exists()


def test_more_runs_than_a_page_holds_are_refused(digits_run: Path, tiedae: Tiedae) -> None:
    result = tiedae("report", *["digits"] * 9)
    assert result.code == 2 and "at most 8" in result.err


def test_rounding_keeps_each_weight_within_half_a_step() -> None:
    weight = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    levels, scale = rounded(weight)
    assert np.abs(levels * scale[:, None] - weight.numpy()).max() <= 0.51 * weight.abs().max().item() / LEVELS


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


@pytest.fixture(scope="module")
def shown(browser: Any, page: Path) -> Any:
    browser.get(page.as_uri())
    wait_until_ready(browser)
    return browser


def wait_until_ready(browser: Any) -> None:
    end = time.monotonic() + 60
    while not browser.execute_script(READY) and time.monotonic() < end:
        time.sleep(0.05)


def test_the_page_loads_without_console_messages(shown: Any) -> None:
    assert shown.get_log("browser") == []
    assert shown.execute_script("return document.documentElement.classList.contains('ready')")
    assert shown.execute_script(
        "return [document.images.length, document.querySelector('h1').textContent.includes('<img')]"
    ) == [0, True]


DRAW = """const [number, done] = arguments, { bench } = tiedae, { board } = bench;
    board.set(new Float32Array(64)); board.line([2, 1], [5, 1]); board.line([5, 1], [3, 7]);
    requestAnimationFrame(() => requestAnimationFrame(() => done([[...board.values], [...bench.answers[number].value]])));"""


@pytest.mark.parametrize("number", range(3))
def test_the_page_reconstructs_a_drawing_as_python_does(shown: Any, page: Path, number: int) -> None:
    drawn, answer = shown.execute_async_script(DRAW, number)
    assert_is_pythons(page.parent / NAMES[number], drawn, answer)


@pytest.mark.parametrize("sizes", [[12, 3], [3]])
def test_a_linear_path_answers_to_a_drawing_as_in_python(
    browser: Any, tmp_path: Path, sizes: list[int], tiedae: Tiedae
) -> None:
    run = train_small(tmp_path / "path", hidden_sizes=sizes, linear_path="pca", output="clip")
    target = tmp_path / "path.html"
    assert tiedae("report", str(run.folder), "-o", str(target), "-q").code == 0
    browser.get(target.as_uri())
    wait_until_ready(browser)
    drawn, answer = browser.execute_async_script(DRAW, 0)
    assert_is_pythons(run.folder, drawn, answer)


def assert_is_pythons(run: Path, drawn: list[float], answer: list[float]) -> None:
    trained = checkpoints.load(run / "best.safetensors").model(CPU)
    assert max(drawn) > 0.9
    with torch.inference_mode():
        expected = trained(torch.tensor([drawn]))[0].tolist()
    assert answer == pytest.approx(expected, abs=1e-3)


def test_every_activation_equals_pythons(shown: Any) -> None:
    """The page's activations, read from its script, on a few numbers."""
    script = Path(network.__file__).parent / "page" / "scripts" / "network.js"
    source = script.read_text().partition("function activate(")[0]
    values = [-30.0, -3.0, -0.5, 0.0, 1e-3, 0.7, 2.0, 25.0]
    found = shown.execute_script(
        source + "return Object.fromEntries(Object.entries(ACTIVATIONS).map(([name, f]) => [name, arguments[0].map(f)]))",
        values,
    )
    assert found.keys() == {kind.page for kind in ACTIVATIONS.values()}
    for name, kind in ACTIVATIONS.items():
        assert kind.page is not None
        assert found[kind.page] == pytest.approx(kind.function(torch.tensor(values, dtype=torch.float64)).tolist(), abs=1e-6), (
            name
        )


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_and_its_pictures_are_painted(shown: Any, tmp_path: Path, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    shown.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    from selenium.webdriver.support.ui import WebDriverWait

    fits = "return innerWidth == arguments[0] && document.documentElement.scrollWidth <= arguments[0]"
    WebDriverWait(shown, 60).until(lambda browser: browser.execute_script(fits, width))  # a busy machine lays it out later
    taken = tmp_path / f"report-{width}.png"
    taken.write_bytes(
        base64.b64decode(shown.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})["data"])
    )
    assert len(np.unique(np.asarray(Image.open(taken).convert("L")))) > 50
    assert shown.get_log("browser") == []


def test_the_page_cannot_reach_the_network(shown: Any) -> None:
    """The security policy refuses a request, even from the page's scripts."""
    refused = shown.execute_async_script(
        "const done = arguments[0]; document.addEventListener('securitypolicyviolation', (event) => done(event.effectiveDirective));"
        "fetch('http://127.0.0.1:9/').catch(() => {});"
    )
    assert refused == "connect-src"
    shown.get_log("browser")  # discard the log entry about the refusal


def test_the_keyboard_draws_on_the_board(shown: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    shown.execute_script("tiedae.bench.board.set(new Float32Array(64))")
    shown.find_element("css selector", "canvas.board").send_keys(" ", Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, " ")
    values = shown.execute_script("return [...tiedae.bench.board.values]")
    assert values[4 * 8 + 4] == values[4 * 8 + 6] == 1 and values[0] == 0


def test_pins_change_the_morph(shown: Any) -> None:
    before, after = shown.execute_script(
        """const canvas = tiedae.bench.morph.through[0], read = () => [...canvas.getContext('2d').getImageData(0, 0, 8, 8).data];
        const before = read(); tiedae.pin(7, 1); return [before, read()];"""
    )
    assert before != after


def test_moving_a_slider_back_restores_the_pixels(shown: Any) -> None:
    before, moved, back = shown.execute_script(
        """const { sliders } = tiedae.bench; sliders.start(sliders.network.meanCode);
        const input = sliders.rows[0].input, pixels = () => [...sliders.canvas.getContext('2d').getImageData(0, 0, 8, 8).data];
        const set = (value) => { input.value = value; input.dispatchEvent(new Event('input')); return pixels(); };
        return [pixels(), set(2), set(0)];"""
    )
    assert before != moved and before == back


@pytest.mark.parametrize("rank", ["squared_error", "region"])
def test_the_page_judges_an_image_as_score_does(browser: Any, rank: str, tiedae: Tiedae) -> None:
    """A drawn image is scored by ``score.rank``; the images are in color and not square."""
    images = np.random.default_rng(0).integers(0, 256, (80, 3, 16, 24)).astype(np.uint8)
    np.save("x.npy", images)
    given = ["--set", "model.layers=[conv 4 4 2, dense 6]", "--set", f"score.rank={rank}", "--epochs", "1"]
    assert tiedae("train", "x.npy", "-q", "--run-dir", "run", *given).code == 0
    assert tiedae("report", "run", "-q", "-o", "run.html", "--quantile", "0.5").code == 0
    run = document(Path("run.html"))["runs"][0]
    told = tiedae("score", "run", "--split", "validation", "-q").out.splitlines()
    scores = sorted(json.loads(line).get("score", json.loads(line)["squared_error"]) for line in told)
    assert run["threshold"] == pytest.approx(scores[4]) and run["region"] == (2 if rank == "region" else None)
    tested = [json.loads(line) for line in tiedae("score", "run", "--threshold", str(run["threshold"]), "-q").out.splitlines()]
    assert run["above"] == sum(line["outlier"] for line in tested)
    browser.get(Path("run.html").resolve().as_uri())
    wait_until_ready(browser)
    drawn = images[7].reshape(-1).astype(np.float32) / 255
    found, said = browser.execute_async_script(
        """const [values, done] = arguments, { bench } = tiedae;
        bench.board.set(new Float32Array(values));
        requestAnimationFrame(() => requestAnimationFrame(() => done([bench.answers[0].score, bench.answers[0].text.textContent])));""",
        drawn.tolist(),
    )
    np.save("one.npy", images[7:8])
    (line,) = tiedae("score", "run", "one.npy", "-q").out.splitlines()
    expected = json.loads(line).get("score", json.loads(line)["squared_error"])
    assert found == pytest.approx(expected, rel=0.01)
    assert ("Most anomalous 2 x 2 pixels" in said) == (rank == "region") and "the threshold" in said


@pytest.mark.slow
def test_runs_of_several_code_sizes_get_a_chapter_beside_pca(tmp_path: Path, tiedae: Tiedae) -> None:
    runs = [train_small(tmp_path / f"k{size}", epochs=1, hidden_sizes=[12, size]) for size in (2, 4)]
    other = train_small(tmp_path / "relu", epochs=1, hidden_sizes=[12, 8], activation="relu")
    target = tmp_path / "all.html"
    assert tiedae("report", *(str(run.folder) for run in runs), "-o", str(target), "-q").code == 0
    page = target.read_text()
    assert 'id="sizes"' in page and 'src="data:image/png;base64,' in page
    assert "90% of the variance: PCA 22 numbers, the autoencoder more than 4" in html.unescape(page)
    assert tiedae("report", str(runs[0].folder), str(other.folder), "-o", str(target), "-q").code == 0
    assert 'id="sizes"' not in target.read_text()
