"""The documentation site builds without a warning, and each command, key and page is in it."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
from accessible_pages import VIEWS, show, violations

from tiedae_cli.cli.app import app
from tiedae_cli.config.schema import Config

ROOT = Path(__file__).parents[2]
CONTENT, BUTTONS = ".md-content", ".md-code__nav"  # the pages themselves, and in them what the theme adds to blocks of code


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site; strict, so a broken link, anchor or picture, or a page that the menu lacks, is an error."""
    pytest.importorskip("material", reason="needs mkdocs-material: pip install -e . --group docs")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder))
    build(config)
    return folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of mkdocs itself
def test_the_site_has_every_page_command_and_key_and_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = {path.stem for path in site.glob("*.html")} - {"404"}
    assert pages == {"index", "reference", "CHANGELOG", "CONTRIBUTING", *(path.stem for path in ROOT.glob("docs/*.md"))}
    reference, keys = (re.sub(r"<[^>]+>", "", (site / f"{name}.html").read_text()) for name in ("reference", "config"))
    for command in app.registered_commands:
        assert command.hidden or f"tiedae {command.name}" in reference
    for section, field in Config.model_fields.items():
        for key in getattr(field.annotation, "model_fields", {}):
            assert f"{section}.{key}" in keys
    for page in site.glob("*.html"):
        loaded = re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=[\"']?(https?:)?//", page.read_text())
        assert not loaded, page
    assert (site / "search" / "search_index.json").stat().st_size > 100_000


@pytest.mark.filterwarnings("ignore")  # of mkdocs itself
@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_pages_of_the_site_have_no_violation_of_accessibility(browser: Any, site: Path, width: int, scheme: str) -> None:
    for page in ("index", "commands", "tutorials/notebook"):
        show(browser, site / f"{page}.html", width, scheme)
        found = violations(browser, CONTENT, BUTTONS)
        # On a machine with a mouse the theme lets the keyboard scroll wide blocks; a headless browser has none.
        assert [one for one in found if one[0] != "scrollable-region-focusable"] == [], page


@pytest.mark.parametrize("name", [path.stem for path in sorted(ROOT.glob("docs/tutorials/*.md"))])
def test_each_tutorial_has_the_notebook_of_its_page_and_real_outputs(name: str) -> None:
    folder = ROOT / "docs" / "tutorials"
    spec = importlib.util.spec_from_file_location("run_tutorials", folder / "run_tutorials.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = (folder / f"{name}.md").read_text(encoding="utf-8")
    assert module.notebook_of(page) == (folder / f"{name}.ipynb").read_text(encoding="utf-8"), (
        "run docs/tutorials/run_tutorials.py"
    )
    assert all((folder / picture).stat().st_size < 300_000 for picture in module.PICTURE.findall(page))
    assert page.count("```text") >= 3 and "Traceback" not in page and "/tmp/" not in page
