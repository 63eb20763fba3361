"""Which code draws each picture of the docs, and which pictures are older than that code: docs/pictures.json has their digests.

    python docs/gallery.py --list

A record is made when a picture is drawn. It holds a digest of the code that draws it, without comments, docstrings and white space, and
one of the picture file. Data and models are not part of it, but sample configs are.
"""

import ast
import hashlib
import io
import json
import re
import tokenize
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECORDS = ROOT / "docs" / "pictures.json"
BLOCK = re.compile(r"```(?:bash|python)\n(.*?)```", re.DOTALL)
NEITHER_CODE = {".yaml": r"#.*", ".js": r"^\s*//.*", ".css": r"/\*.*?\*/", ".html": r"<!--.*?-->"}  # comments by suffix

FIGURES = "tiedae_cli/output/figures"
CANVAS, ROWS, WEIGHTS = (f"{FIGURES}/{name}.py" for name in ("canvas", "rows", "weights"))
CURVES, RATE, SERIES = (f"{FIGURES}/{name}.py" for name in ("curves", "rate_curve", "series_curve"))
RECONSTRUCTIONS = (CANVAS, ROWS, "tiedae_cli/output/reconstruction_picture.py")
TERMINAL = ("docs/terminal_picture.py", "tiedae_cli/output/training_display.py", "tiedae_cli/output/preview.py")
PAGE = ("template.html", "report.css", *(f"scripts/{name}.js" for name in ("charts", "live", "main", "pictures")))


@dataclass(frozen=True)
class Drawn:
    """How a picture is made.

    Attributes:
        command: makes it anew.
        code: files below the root, or ``file:function``. Of a page the blocks that are executed.
    """

    command: str
    code: tuple[str, ...]


def _gallery(name: str, *code: str, config: str = "mnist-best") -> Drawn:
    draws = f"docs/gallery.py:draw_{name}"
    return Drawn(f"python docs/gallery.py --only {name}", (draws, *code, f"sample_configs/{config}.yaml"))


def _tutorial(page: str, *code: str) -> Drawn:
    return Drawn(f"python docs/tutorials/run_tutorials.py {page}", (f"docs/tutorials/{page}.md", CANVAS, *code))


PICTURES = {
    "docs/codes.png": _gallery("codes", CANVAS, WEIGHTS),
    "docs/comparison.png": _gallery("comparison", CANVAS, ROWS, "tiedae_cli/tasks/compare.py:comparison_picture"),
    "docs/denoising.png": _gallery("denoising", CANVAS, ROWS, config="denoise"),
    "docs/features.png": _gallery("features", CANVAS, WEIGHTS, config="sparse"),
    "docs/loss.png": _gallery("loss", CANVAS, CURVES),
    "docs/photographs.png": _gallery("photographs", *RECONSTRUCTIONS, config="cifar10"),
    "docs/quality.png": Drawn(  # measured once
        "python benchmarks/quality.py small --processor --seeds 0 --epochs 1 2 3 5 8 --picture docs/quality.png", ()
    ),
    "docs/reconstructions.png": _gallery("reconstructions", *RECONSTRUCTIONS),
    "docs/report.png": _gallery("report", *(f"tiedae_cli/report/page/{name}" for name in PAGE)),
    "docs/tune.png": _gallery("tune", CANVAS, RATE, config="digits"),
    "docs/terminal-dark.svg": Drawn("python docs/terminal_picture.py", TERMINAL),
    "docs/terminal-light.svg": Drawn("python docs/terminal_picture.py", TERMINAL),
    "docs/tutorials/comparison.png": _tutorial("notebook", ROWS),
    "docs/tutorials/features-both.png": _tutorial("notebook", WEIGHTS),
    "docs/tutorials/features-mnist.png": _tutorial("notebook", WEIGHTS),
    "docs/tutorials/loss-embeddings.png": _tutorial("embeddings", CURVES),
    "docs/tutorials/map.png": _tutorial("notebook", WEIGHTS),
    "docs/tutorials/pump.png": _tutorial("sensor", SERIES),
    "docs/tutorials/rate.png": _tutorial("numbers", RATE),
    "docs/tutorials/two.png": _tutorial("notebook", *RECONSTRUCTIONS[1:]),
}


def code_digest(drawn: Drawn) -> str:
    """Return the digest of the code that draws a picture."""
    digest = hashlib.sha256()
    for name in drawn.code:
        path, _, function = name.partition(":")
        digest.update(bare(Path(path), (ROOT / path).read_text(encoding="utf-8"), function).encode())
    return digest.hexdigest()[:16]


def bare(path: Path, text: str, function: str = "") -> str:
    """Return a text without white space and what changes no picture: comments, docstrings, other functions, prose."""
    if path.suffix == ".md":
        text = "".join(BLOCK.findall(text))
    elif path.suffix == ".py":
        text = _bare_python(text, function)
    else:
        text = re.sub(NEITHER_CODE[path.suffix], "", text, flags=re.MULTILINE if path.suffix in (".js", ".yaml") else re.DOTALL)
    return re.sub(r",(?=[)\]}])", "", "".join(text.split()))


def _bare_python(text: str, function: str) -> str:
    lines, tree = text.splitlines(keepends=True), ast.parse(text)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    strings = [node.body[0] for node in ast.walk(tree) if isinstance(node, documented) and ast.get_docstring(node) is not None]
    removed = [(one.lineno, one.col_offset, one.end_lineno or 0, one.end_col_offset or 0) for one in strings]
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, start = token.start[0], len(lines[token.start[0] - 1][: token.start[1]].encode())  # ast counts bytes
            removed.append((row, start, row, start + len(token.string.encode())))
    kept = [bytearray(line.encode()) for line in lines]
    for first, start, last, end in removed:
        for number in range(first, last + 1):
            line = kept[number - 1]
            low, high = (start if number == first else 0), (end if number == last else len(line))
            line[low:high] = b" " * (high - low)
    if function:
        (node,) = (one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name == function)
        kept = kept[node.lineno - 1 : node.end_lineno]
    return b"".join(kept).decode()


def picture_digest(name: str) -> str:
    """Return the digest of a picture file; git may have changed the ends of an SVG's lines."""
    return hashlib.sha256((ROOT / name).read_bytes().replace(b"\r\n", b"\n")).hexdigest()[:16]


def records() -> dict[str, dict[str, str]]:
    """Return what was recorded of each picture when it was drawn."""
    found: dict[str, dict[str, str]] = json.loads(RECORDS.read_text(encoding="utf-8")) if RECORDS.exists() else {}
    return found


def record(*names: str) -> None:
    """Record that these pictures were drawn just now, by the code as it is."""
    known = records() | {name: {"code": code_digest(PICTURES[name]), "picture": picture_digest(name)} for name in names}
    RECORDS.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n", encoding="utf-8")


def state(name: str) -> str:
    """Return "" if a picture is as its code draws it, otherwise what is wrong and the command that makes it anew."""
    known, drawn = records().get(name), PICTURES[name]
    if known is None:
        wrong = "was never recorded"
    elif known["code"] != code_digest(drawn):
        wrong = f"is older than the code that draws it ({', '.join(drawn.code)})"
    elif known["picture"] != picture_digest(name):
        wrong = "is not the file that was recorded"
    else:
        return ""
    return f"{name} {wrong}; make it anew: {drawn.command}"
