"""Check a page in the browser with axe-core, as wide as a screen and as a phone, in light and in dark mode."""

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import pytest

VIEWS = [(width, scheme) for width in (1200, 390) for scheme in ("light", "dark")]
CHECK = """const done = arguments[arguments.length - 1];
    axe.run(arguments[0]).then((found) => done(found.violations.flatMap((rule) => rule.nodes.map((node) =>
        [rule.id, rule.help, node.target.join(' '), (node.any[0] || node.all[0] || node.none[0]).message]))));"""


@cache
def axe_core() -> str:
    """Return the script of axe-core (MPL 2.0) that axe-playwright-python ships; skip the test without it."""
    found = importlib.util.find_spec("axe_playwright_python")  # not imported: playwright itself is not needed
    if found is None or not found.submodule_search_locations:
        pytest.skip("needs axe-core (pip install -e . --group dev)")
    return (Path(found.submodule_search_locations[0]) / "axe.min.js").read_text(encoding="utf-8")


def show(browser: Any, page: Path, width: int, scheme: str) -> None:
    """Open a page in a window of this width, in ``light`` or ``dark`` mode."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    mode = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", mode)
    browser.get(page.as_uri())
    browser.execute_script("localStorage.clear()")  # the site keeps the mode of the first visit
    browser.refresh()


def violations(browser: Any, part: str = "html", without: str = "noscript") -> list[list[str]]:
    """Return axe-core's violations in a part of the page that is shown: rule, what it asks for, element, what is wrong.

    Args:
        browser: shows the page.
        part: selects what is checked.
        without: selects what is not.
    """
    browser.execute_script(axe_core())
    found: list[list[str]] = browser.execute_async_script(CHECK, {"include": [part], "exclude": [without]})
    return found
