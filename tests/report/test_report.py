"""The report: its content, the escaping of names and, in a real browser, that its model equals the Python model."""

import base64
import hashlib
import html
import json
import re
import time
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accessible_pages import VIEWS, show, violations
from conftest import Tiedae
from PIL import Image
from small_runs import train_small

import tiedae_cli
from tiedae_cli.model.activations import ACTIVATIONS
from tiedae_cli.report import live_network as network
from tiedae_cli.report.live_network import LEVELS, rounded
from tiedae_cli.runs import checkpoint as checkpoints
from tiedae_cli.runs.trained_run import open_run

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


@pytest.mark.slow
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
    assert browser.execute_script(CURVES) == [True, True]  # of epoch 0 too


CURVES = """const curves = document.querySelector('svg[aria-label^="Errors by epoch"]');
    curves.dispatchEvent(new KeyboardEvent('keydown', { key: 'Home' }));
    const lefts = (kind) => [...curves.querySelectorAll(kind)].map((one) => one.getBoundingClientRect().left);
    const named = document.querySelector('.reading').textContent.startsWith('epoch 0');
    return [Math.min(...lefts('.curve')) >= Math.min(...lefts('.curve.pca')) - 2, named];"""


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
    wide = "(box) => box.scrollWidth > box.clientWidth + 1"
    cut = f"return [...document.querySelectorAll('.scroll')].filter({wide}).map((box) => box.innerText)"
    assert shown.execute_script(cut) == []  # no table
    assert shown.get_log("browser") == []


@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_the_page_has_no_violation_of_accessibility(browser: Any, page: Path, width: int, scheme: str) -> None:
    show(browser, page, width, scheme)
    wait_until_ready(browser)
    assert violations(browser) == []


def test_the_menu_has_the_names_of_the_chapters_and_tables_are_reached_by_keyboard(page: Path) -> None:
    text = html.unescape(page.read_text())
    menu = dict(re.findall(r'<a href="#(\w+)">([^<]+)</a>', text[text.index("<nav") : text.index("</nav>")]))
    chapters = dict(re.findall(r'<section id="(\w+)">\s*<h2>([^<]+)</h2>', text))
    assert menu == chapters and len(menu) == 7
    assert text.count('class="scroll"') == text.count('class="scroll" tabindex="0"') and "<th></th>" not in text


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


@pytest.fixture(scope="module")
def series_page(tmp_path_factory: pytest.TempPathFactory, tiedae: Tiedae) -> Path:
    """The report of a model of windows whose rows have time stamps."""
    folder = tmp_path_factory.mktemp("series")
    count = 90
    values = np.random.default_rng(0).normal(size=(count, 10)).cumsum(0)
    names = ",".join(f"sensor {number}" for number in range(10))
    times = np.datetime64("2024-03-01T10:14:33") + np.arange(count)
    lines = [
        f"{str(when).replace('T', ' ')},{','.join(map(repr, map(float, row)))}" for when, row in zip(times, values, strict=True)
    ]
    (folder / "x.csv").write_text("\n".join([f"time,{names}", *lines]))
    keys = ["data.window=5", "epochs=1", "hidden_sizes=[4]", "data.test=30", "data.validation=30"]
    result = tiedae("train", "-q", str(folder / "x.csv"), *keys, "--run-dir", str(folder / "run"))
    assert result.code == 0, result.err
    result = tiedae("report", str(folder / "run"), "-q")
    assert result.code == 0, result.err
    return folder / "run" / "report.html"


@pytest.mark.slow
def test_a_window_is_lines_of_its_columns_titled_by_its_time_stamps(series_page: Path) -> None:
    facts = document(series_page)
    windows = facts["shown"]["windows"]
    rows = np.array([line.split(",")[1:] for line in (series_page.parents[1] / "x.csv").read_text().splitlines()[1:]], float)
    packed = zlib.decompress(base64.b64decode(re.findall(r'id="block">([^<]*)<', series_page.read_text())[0]))
    count = int(np.prod(windows["originals"]["shape"]))
    lines = np.frombuffer(packed, np.float32, count, windows["originals"]["offset"]).reshape(windows["originals"]["shape"])
    items = [item["item"] for group in facts["shown"]["groups"] for item in group["items"]]
    assert lines.shape == (len(items), 8, 5) and windows["of"] == 10
    for number, item in enumerate(items):
        start = 60 + item  # the test split is the last 30 rows
        first, last = (np.datetime64("2024-03-01T10:14:33") + at for at in (start, start + 4))
        assert windows["titles"][number] == f"{first} to {last}".replace("T", " ")
        places = [int(name.removeprefix("sensor ")) for name in windows["columns"][number]]
        assert places == sorted(set(places))
        np.testing.assert_allclose(lines[number], rows[start : start + 5, places].T, rtol=1e-4, atol=1e-4)
    assert windows["titles"][0] in series_page.read_text().split("<script")[0]
    assert facts["form"]["item_name"] == "window" and facts["form"]["error_name"] == "window score"


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_draws_a_line_per_column_of_a_window(browser: Any, series_page: Path, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get_log("browser")  # those of other pages
    browser.get(series_page.as_uri())
    wait_until_ready(browser)
    script = "return [...document.querySelectorAll('[data-window=\"0\"] svg[role]')].map((plot) => plot.querySelectorAll('.curve').length)"
    assert browser.execute_script(script) == [3] * 8  # the original, the reconstruction and PCA's
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.get_log("browser") == []


@pytest.fixture(scope="module")
def retrained(tmp_path_factory: pytest.TempPathFactory, tiedae: Tiedae) -> tuple[Path, np.ndarray]:
    """The report of two models of the same columns, trained on files of other means and deviations, and the first one's test rows."""
    folder, random = tmp_path_factory.mktemp("retrained"), np.random.default_rng(0)
    for name, mean, deviation in (("old", 100, 5), ("new", 120, 9)):
        rows = random.normal(size=(120, 3)) @ random.normal(size=(3, 5)) * [deviation, 1, 1, 1, 1] + [mean, 0, 1, 2, 3]
        np.save(folder / f"{name}.npy", rows)
        words = ["epochs=3", "hidden_sizes=[4,2]", "data.test=40", "data.validation=20", "--run-dir", folder / name]
        assert tiedae("train", "-q", folder / f"{name}.npy", *words).code == 0
    result = tiedae("report", folder / "old", folder / "new", "-o", folder / "both.html", "-q")
    assert result.code == 0, result.err
    test = open_run(folder / "old", "cpu").split("test")
    return folder / "both.html", test.raw(0, len(test))


@pytest.mark.slow
def test_models_that_scale_differently_are_compared_in_the_datas_own_units(retrained: tuple[Path, np.ndarray]) -> None:
    page, rows = retrained
    facts = document(page)
    models = [tiedae_cli.load(page.parent / name) for name in ("old", "new")]
    made = [model.reconstruct(rows) for model in models]
    errors = np.stack([np.square(answer - rows).sum(1) for answer in made])
    assert facts["in_raw_units"]
    items = [item for group in facts["shown"]["groups"] for item in group["items"]]
    for place, item in enumerate(items):
        np.testing.assert_allclose(item["errors"], errors[:, item["item"]], rtol=2e-3, atol=1e-3)
        for cell in facts["shown"]["values"][place]:
            column = int(cell["name"].split()[1])
            assert cell["answers"] == pytest.approx([answer[item["item"], column] for answer in made], abs=2e-3)
    np.testing.assert_allclose(facts["histogram"]["medians"], np.sort(errors)[:, 19], rtol=2e-3)  # the lower one of two
    for run, model in zip(facts["runs"], models, strict=True):
        assert run["threshold"] == pytest.approx(model.threshold().value)  # in the model's own units
        assert run["above"] == (model.score(rows) > run["threshold"]).sum()


def test_the_page_gives_the_answers_of_each_model_in_shared_units(browser: Any, retrained: tuple[Path, np.ndarray]) -> None:
    page, rows = retrained
    browser.get(page.as_uri())
    wait_until_ready(browser)
    old, new = (tiedae_cli.load(page.parent / name) for name in ("old", "new"))
    seen = old.form.normalize(rows[:1])[0]
    script = "const n = tiedae.runs[1].network, x = Float32Array.from(arguments[0]), y = n.reconstruct(x); return [[...y], n.error(y, x)]"
    answer, error = browser.execute_script(script, seen.tolist())
    np.testing.assert_allclose(old.form.denormalize(np.array(answer)), new.reconstruct(rows[:1])[0], rtol=1e-3, atol=5e-3)
    assert error == pytest.approx(new.score(rows[:1])[0], rel=2e-3)


def test_images_are_compared_with_clipped_pca(page: Path) -> None:
    facts = document(page)
    run = open_run(page.parent / "plain", "cpu")
    images = torch.from_numpy(run.split("test").batch(0, 10_000)).double()
    clipped = run.components().reconstruct_clipped(images)
    errors = (clipped - images).square().sum(1).numpy()
    edges = np.array(facts["histogram"]["edges"])
    expected = np.histogram(errors.clip(max=edges[-1]), edges)[0]
    assert abs(np.array(facts["histogram"]["pca_clipped"]) - expected).sum() <= 2  # an error on an edge
    assert sum(facts["histogram"]["pca_clipped"]) == sum(facts["histogram"]["pca"]) == len(images)
    history = facts["runs"][0]["history"]
    assert 0 < history["pca_clipped"] < history["pca"]
    assert "PCA, 3 components, clipped" in page.read_text()
