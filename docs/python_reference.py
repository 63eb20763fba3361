"""Print the reference for docs/python.md, made from the docstrings: ``python docs/python_reference.py``."""

import inspect
from collections.abc import Iterator
from typing import Any

import tiedae

FUNCTIONS = ("train", "tune", "load", "cross_validate")
CLASSES = ("Run", "Tuning", "Model", "TiedAutoencoder", "TiedOutlierDetector")
ERRORS = (
    "InputError",
    "ConfigError",
    "DataError",
    "DeviceError",
    "CheckpointError",
    "StorageError",
    "ExportError",
    "DivergedError",
)


def text() -> str:
    """Return the reference as Markdown."""
    return "\n".join([*_functions(), *_classes(), *_errors()]) + "\n"


def _functions() -> Iterator[str]:
    for name in FUNCTIONS:
        function = getattr(tiedae, name)
        yield from (f"### tiedae.{name}", "", "```text", f"tiedae.{name}({_names(function)})", "")
        yield from (inspect.getdoc(function) or "", "```", "")


def _classes() -> Iterator[str]:
    for name in CLASSES:
        kind = getattr(tiedae, name)
        yield from (f"### tiedae.{name}", "", "```text", (inspect.getdoc(kind) or "").partition("\n\nExamples:")[0], "```", "")
        yield from ("| member | does |", "|---|---|")
        for member, value in vars(kind).items():
            doc = inspect.getdoc(value)
            if member.startswith("_") or not doc or value is None:
                continue
            function = inspect.isfunction(getattr(value, "__func__", value))
            called = f"({_names(value)})" if function else ""
            yield f"| `{member}{called}` | {_sentence(doc)} |"
        yield ""


def _errors() -> Iterator[str]:
    yield from ("### Errors", "", "All are `tiedae.TiedaeError`.", "", "| error | means |", "|---|---|")
    yield from (f"| `tiedae.{name}` | {_sentence(inspect.getdoc(getattr(tiedae, name)) or '')} |" for name in ERRORS)


def _names(function: Any) -> str:
    """Return the names of parameters with their defaults."""
    function = getattr(function, "__func__", function)
    parameters = [one for one in inspect.signature(function).parameters.values() if one.name not in ("self", "cls")]
    plain = [one.replace(annotation=inspect.Parameter.empty) for one in parameters]
    return str(inspect.Signature(plain))[1:-1]


def _sentence(doc: str) -> str:
    return " ".join(doc.split("\n\n")[0].split()).replace("``", "`").replace("|", "\\|")


if __name__ == "__main__":
    print(text(), end="")
