"""Pages of the documentation site (``mkdocs.yml``) that do not lie in ``docs/``: the README and others, and the help of all commands."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from typer.testing import CliRunner

from tiedae_cli.cli.app import app

ROOT = Path(__file__).parent.parent
OTHERS = {"README.md": "index.md", "CHANGELOG.md": "CHANGELOG.md", "CONTRIBUTING.md": "CONTRIBUTING.md"}
FILE_OF_THE_REPOSITORY = re.compile(r"\[([^\]]+)\]\((?!http|#)([^)#]*/)?[^)#./]*(?:\.(?!md|png)\w+)?\)")  # such as LICENSE


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie elsewhere (called by mkdocs)."""
    for source, page in OTHERS.items():
        text = (
            (ROOT / source)
            .read_text(encoding="utf-8")
            .replace("](docs/", "](")
            .replace('"docs/', '"')
            .replace("](README.md", "](index.md")
        )
        files.append(File.generated(config, page, content=FILE_OF_THE_REPOSITORY.sub(r"\1", text)))
    files.append(File.generated(config, "reference.md", content=reference()))
    return files


def reference() -> str:
    """Return a page with the complete help of each command, in the order of ``tiedae --help``."""
    names = [command.name for command in app.registered_commands if command.name and not command.hidden]
    parts = [
        "# Commands and options\n\nAfter this page you know every option. `tiedae help COMMAND --all` prints the same text.\n"
    ]
    for name in names:
        shown = CliRunner().invoke(app, ["help", name, "--all"], env={"COLUMNS": "110", "NO_COLOR": "1"})
        parts.append(f"## `tiedae {name}`\n\n```text\n{shown.stdout.strip()}\n```\n")
    return "\n".join(parts)
