"""Renders the page: template, style, scripts and data in one self-contained file that cannot reach the network."""

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from tiedae_cli.report.page.arrays_block import Arrays, embeddable
from tiedae_cli.system.json_text import json_text

SCRIPTS = ("data", "network", "pictures", "windows", "charts", "codes", "live", "main")  # concatenated in this order


def render(document: Mapping[str, Any], arrays: Arrays, sizes: object = None) -> bytes:
    """Render a document as a page, UTF-8.

    All text of the document is escaped, by the template or as JSON. The content security policy allows one script and one style by
    their digests and nothing else, so text in the data cannot run and nothing is fetched.

    Args:
        document: facts for the template and the scripts.
        arrays: the arrays that its ``array`` entries refer to.
        sizes: the chapter on code sizes, for the template alone; None if there is none.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(figures=_figures, thousands=lambda value: f"{value:,}")
    style = _read("report.css")
    script = '"use strict";\n(() => {\n' + "\n".join(_read(f"scripts/{name}.js") for name in SCRIPTS) + "})();\n"
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    plain = dict(document)
    page = environment.from_string(_read("template.html")).render(
        plain, sizes=sizes, style=style, script=script, policy=policy, data=embeddable(json_text(plain)), block=arrays.text()
    )
    return page.encode(errors="backslashreplace")  # names may not be UTF-8


def _read(name: str) -> str:
    return files("tiedae_cli.report.page").joinpath(name).read_text("utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _figures(value: float | None, digits: int = 4) -> str:
    """Format a number with ``digits`` significant digits, without an exponent unless it is very large or small."""
    if value is None:
        return "–"
    size = abs(value)
    if value == 0 or not 1e-6 <= size < 1e7:
        return f"{value:.{digits - 1}e}" if value else "0"
    places = max(0, digits - 1 - _magnitude(size))
    return f"{value:,.{places}f}"


def _magnitude(size: float) -> int:
    return int(f"{size:e}".partition("e")[2])
