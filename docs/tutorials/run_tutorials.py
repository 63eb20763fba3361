"""Execute the tutorials from beginning to end: renew the outputs and pictures in the pages, and make a notebook of each page.

    python docs/tutorials/run_tutorials.py [NAME...]

In a page, blocks of ``bash`` and ``python`` are executed in an empty folder, in order; the ``text`` block after one is what it printed.
Pictures that the page shows are copied from that folder. ``notebook_of`` makes the notebook from the page alone, and a test holds the two
together. Tutorials on MNIST need ``$TIEDAE_DATA``.
"""

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from pictures import record  # noqa: E402

HERE = Path(__file__).parent
BLOCK = re.compile(r"```(bash|python)\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", re.DOTALL)
PICTURE = re.compile(r"!\[[^\]]*\]\(([\w-]+\.png)\)")
LARGE = 100_000  # bytes of a picture
MOST_LINES, KEPT_LINES = 30, 4  # an output longer than this keeps as many of its first lines, and fills up with its last ones


def main() -> None:
    """Run the tutorials that are named, or all."""
    pages = [HERE / f"{name}.md" for name in sys.argv[1:]] or sorted(HERE.glob("*.md"))
    for page in pages:
        text = page.read_text(encoding="utf-8")
        if "tiedae train mnist" in text and not os.environ.get("TIEDAE_DATA"):
            print(f"{page.name}: skipped, because $TIEDAE_DATA does not name a folder with MNIST")
            continue
        started = time.monotonic()
        text = executed(text)
        page.write_text(text, encoding="utf-8")
        page.with_suffix(".ipynb").write_text(notebook_of(text), encoding="utf-8")
        record(*(f"docs/tutorials/{picture}" for picture in PICTURE.findall(text)))
        print(f"{page.name}: {time.monotonic() - started:.0f} s")


def executed(text: str) -> str:
    """Return a page with the outputs of its blocks, after running all of them in an empty folder."""
    names: dict[str, Any] = {"__name__": "tutorial"}
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            made = BLOCK.sub(lambda found: _with_output(found, names), text)
            for picture in PICTURE.findall(text):
                _small(Path(picture), HERE / picture)
        finally:
            os.chdir(here)
    return made


def _small(source: Path, target: Path) -> None:
    """Copy a PNG, with 128 colors if it would be slow to load."""
    if source.stat().st_size < LARGE:
        shutil.copyfile(source, target)
    else:
        Image.open(source).convert("RGB").quantize(128, method=Image.Quantize.MEDIANCUT).save(target, optimize=True)


def _with_output(found: re.Match[str], names: dict[str, Any]) -> str:
    kind, code, _ = found.groups()
    output = _shell(code) if kind == "bash" else _python(code, names)
    output = output.replace(f"{Path.cwd()}/", "")
    lines = [line.rstrip() for line in output.strip("\n").splitlines()]
    if len(lines) > MOST_LINES:
        lines = [*lines[:KEPT_LINES], "...", *lines[KEPT_LINES - MOST_LINES + 1 :]]
    block = f"```{kind}\n{code}```\n"
    return block if not lines else f"{block}\n```text\n" + "\n".join(lines) + "\n```\n"


def _shell(code: str) -> str:
    environment = {
        **os.environ,
        "COLUMNS": "110",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    command = ["bash", "-uo", "pipefail", "-c", code]
    ran = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if ran.returncode not in (0, 3):  # 3: score --fail-above found outliers
        raise SystemExit(f"{code}\n{ran.stdout}\nexit code {ran.returncode}")
    return ran.stdout


def _python(code: str, names: dict[str, Any]) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "tutorial", "exec"), names)
    return printed.getvalue()


def notebook_of(text: str) -> str:
    """Return the notebook (nbformat 4.5) of a page: its text as Markdown cells, its blocks as code cells with their outputs."""
    cells: list[dict[str, Any]] = []
    end = 0

    def add(kind: str, source: str, **others: Any) -> None:
        lines = source.strip("\n").splitlines(keepends=True)
        if lines:
            cells.append({"cell_type": kind, "id": f"cell{len(cells)}", "metadata": {}, "source": lines, **others})

    for found in BLOCK.finditer(text):
        add("markdown", text[end : found.start()])
        kind, code, output = found.groups()
        source = code if kind == "python" else "".join(f"!{line}\n" for line in _joined(code) if not line.startswith("#"))
        stream = [{"output_type": "stream", "name": "stdout", "text": output.splitlines(keepends=True)}] if output else []
        add("code", source, execution_count=None, outputs=stream)
        end = found.end()
    add("markdown", text[end:])
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return (
        json.dumps({"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}, indent=1, ensure_ascii=False)
        + "\n"
    )


def _joined(code: str) -> list[str]:
    """Return the lines of shell code, those that end with a backslash joined with the next."""
    return code.replace("\\\n", "").strip().splitlines()


if __name__ == "__main__":
    main()
