"""The rules of wording that can be checked: phrases to avoid, short first sentences, American spelling, valid commands.

``python tests/promises/wording_rules.py`` prints every violation as ``file:line: problem``.
"""

import ast
import functools
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/*.md", "sample_configs/*.yaml")
ASSETS = ("tiedae_cli/report/page/*.html", "tiedae_cli/report/page/*.css", "tiedae_cli/report/page/scripts/*.js")
MOST_WORDS = 25  # in the first sentence of a docstring

PHRASES = {  # a pattern to avoid: what to write instead
    r"\b(?:is|are|was|were|be|been) told\b|\btold (?:of|as|apart)\b": "say who reports, logs or raises what",
    r"\b(?:goes|go|went) on\b": "resumes, continues",
    r"\bsame bits\b|\bto the bit\b": "bit-identical",
    r"\bbeliev": "validated, parsed, checked",
    r"\byardstick": "baseline",
    r"\bnot belong\b|\bbelongs? into\b": "anomaly, outlier; goes in",
    r"\bstrange": "anomaly, anomalous",
    r"\busual (?:items?|ones?|rows?|images?|data)\b|\bitems are usual\b": "normal",
    r"\bwithout it (?:it )?(?:is|the|no|a|,)": "default: ...",
    r"\bit is found\b": "detected",
    r"\bnoted by\b|\bof no account\b": "ignored",
    r"\bleft out\b|\bleave out\b|\bleaves out\b|\bleaving out\b": "skipped, ignored, excluded",
    r"\bsays? not\b": "does not say",
    r"\bwhat is no\b|(?<!there )\b(?:is|are) no [a-z]+(?=[.;:,)]|$)": "is not a ...",
    r"\btells? nothing\b|\bsays? nothing\b": "constant; carries no information",
    r"\bwhere (?:there (?:is|are)|it is|none|nothing|no)\b": "if ...",
    r"\b(?:items?|rows?|files?|objects?|lines?|values?|pixels?|images?|numbers?|weights?|bits|bytes|units?|calls?|steps?|columns?) an? "
    r"(?:item|row|file|object|epoch|line|value|pixel|image|second|weight|block|batch|unit|character|call|step|code|column)\b": "per",
    r"\bof which\b|\bwhose .*\bwhose\b": "two sentences",
    r"\bin (?:the|their|its) place of\b|\bprolong": "instead of; extend",
}
BRITISH = re.compile(
    r"\b(?:colou?r(?<=colour)\w*|grey\w*|centre\w*|behaviour\w*|favour\w*|honour\w*|analyse\w*|judgement\w*|licence\w*|whilst|"
    r"(?:normal|standard|initial|optim|recogn|organ|summar|minim|maxim|quant|serial|random|visual|special|general|regular|util|"
    r"synchron|token|vector|local|emphas|penal|final|capital|custom)is(?:e|ed|es|er|ing|ation)\b)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Text:
    """A text that people read."""

    path: str
    """Below the root of the checkout."""
    line: int
    text: str
    kind: str
    """docstring, comment, literal or page."""


@functools.cache
def texts() -> tuple[Text, ...]:
    """Return every docstring, comment and string literal of the package, and every line of its pages and of the docs."""
    return tuple(_texts())


def _texts() -> Iterator[Text]:
    for path in sorted((ROOT / "tiedae_cli").rglob("*.py")):
        yield from _python_texts(path)
    for pattern in (*PAGES, *ASSETS):
        for path in sorted(ROOT.glob(pattern)):
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                yield Text(str(path.relative_to(ROOT)), number, line, "page")


def _python_texts(path: Path) -> Iterator[Text]:
    source, name = path.read_text(encoding="utf-8"), str(path.relative_to(ROOT))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield Text(name, token.start[0], token.string, "comment")
    tree = ast.parse(source)
    docstrings = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    parts: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts |= {id(part) for part in ast.walk(node) if isinstance(part, ast.Constant)}
            joined = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
            yield Text(name, node.lineno, joined, "literal")
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield Text(name, node.lineno, node.value, "docstring" if id(node) in docstrings else "literal")


def avoided_phrases(text: Text) -> Iterator[str]:
    """Yield the phrases in a text that the style avoids."""
    flat = " ".join(text.text.split())
    for pattern, instead in PHRASES.items():
        for found in re.finditer(pattern, flat, re.IGNORECASE):
            yield f"{found[0]!r} ({instead})"


def british_words(text: Text) -> Iterator[str]:
    """Yield the words of a text in British spelling."""
    for found in BRITISH.finditer(text.text):
        yield f"{found[0]!r} (American spelling)"


def long_first_sentence(text: Text) -> Iterator[str]:
    """Yield a complaint about a docstring with a first sentence of more than 25 words."""
    if text.kind == "docstring":
        first = re.split(r"(?<=[.:;])\s|\n\n", text.text.strip())[0]
        if len(first.split()) > MOST_WORDS:
            yield f"{len(first.split())} words in the first sentence"


def problems(text: Text) -> list[str]:
    """Return all violations in a text."""
    return [*avoided_phrases(text), *british_words(text), *long_first_sentence(text)]


if __name__ == "__main__":
    for each in texts():
        for problem in problems(each):
            print(f"{each.path}:{each.line}: {problem}")  # noqa: T201
