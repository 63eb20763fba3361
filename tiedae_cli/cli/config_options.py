"""Every key of the config as an option: ``--epochs 10`` is ``--set training.epochs=10``; help and completion are made from the schema."""

import re
from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand

from tiedae_cli.errors import InputError

ELSEWHERE = {  # options that other tools have and that are no keys of the config
    "gpu": "--device cuda",
    "cuda": "--device cuda",
    "cpu": "--device cpu",
    "untied": "--tied false",
    "verbose": "(progress is shown unless -q is given)",
    **dict.fromkeys(("out", "output", "output_dir", "out_dir", "save_dir"), "--run-dir DIR"),
    **dict.fromkeys(("name", "run_name"), "--run-dir runs/NAME"),
    **dict.fromkeys(("restart", "continue"), "--resume RUN"),
    **dict.fromkeys(("yaml", "conf", "cfg"), "--config FILE"),
}


class WithSettings(TyperCommand):
    """A command that takes every key of the config as an option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line, with the keys among its options turned into ``--set``.

        Raises:
            InputError: an option that is neither the command's nor a key; the message says what to type.
        """
        if not ctx.resilient_parsing:  # completion parses what is not finished yet
            args = as_assignments(args, self._own_options())
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the command's own options, then a panel for each section of the config."""
        from tiedae_cli.config import keys

        super().format_options(ctx, formatter)
        sections: dict[str, list[tuple[str, str]]] = {}
        for key, field in keys.properties().items():
            sections.setdefault(key[0], []).append((f"--{key[1].replace('_', '-')} {_values(field)}", _sentence(field)))
        for section, rows in sections.items():
            with formatter.section(f"Keys of the config, {section}"):
                formatter.write_dl(rows, col_max=28)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Complete the names of keys too."""
        from tiedae_cli.config import keys

        found = list(super().shell_complete(ctx, incomplete))
        if not incomplete.startswith("-"):
            return found
        item, known = (type(found[0]) if found else _completion_item()), {item.value for item in found}
        names = {f"--{key.replace('_', '-')}": _sentence(field) for (_, key), field in keys.properties().items()}
        more = [item(name, help=text) for name, text in names.items() if name.startswith(incomplete) and name not in known]
        return [*found, *more]

    def _own_options(self) -> dict[str, bool]:
        """Return the command's own options, and whether each takes a value."""
        options = {name: not getattr(param, "is_flag", False) for param in self.params for name in param.opts}
        options |= {name: False for param in self.params for name in param.secondary_opts}
        return {name: takes for name, takes in options.items() if name.startswith("-")} | {"--help": False, "-h": False}


def as_assignments(args: Sequence[str], own: dict[str, bool]) -> list[str]:
    """Return a command line whose options that are keys of the config are ``--set KEY=VALUE``.

    Args:
        args: the words.
        own: the command's own options, and whether each takes a value.

    Raises:
        InputError: an option that is neither.
    """
    words, result = list(args), list[str]()
    while words:
        word = words.pop(0)
        if word == "--":
            return [*result, word, *words]
        name, equals, value = word.partition("=")
        if not word.startswith("--") or name in own:
            result.append(word)
            if own.get(word) and words:
                result.append(words.pop(0))
            continue
        result += ["--set", _setting(name[2:], value if equals else None, words)]
    return result


def _completion_item() -> Any:
    import typer.core

    return vars(typer.core)["CompletionItem"]


def _setting(name: str, value: str | None, words: list[str]) -> str:
    """Return ``KEY=VALUE`` of an option; its value is taken from the words that follow where it has none."""
    from tiedae_cli.config import keys

    key = keys.find_key(name)
    negated = keys.find_key(name.removeprefix("no-")) if key is None and name.startswith("no-") else None
    if negated is not None and _is_switch(negated):
        return f"{'.'.join(negated)}=false"
    following = words[0] if words and not words[0].startswith("--") else None
    if key is None:
        shown = value or following or "VALUE"
        if name.replace("-", "_") in ELSEWHERE:
            raise InputError(f"--{name}: no such option; here it is {ELSEWHERE[name.replace('-', '_')]}")
        raise InputError(f"--{name}: no such option{keys.line_to_type(name, shown, as_option=True)}")
    if value is None and _is_switch(key) and following not in ("true", "false"):
        return f"{'.'.join(key)}=true"
    if value is None:
        if following is None:
            raise InputError(f"--{name}: needs a value: --{name} {_values(keys.properties().get(key, {}))}")
        value = words.pop(0)
    return f"{name}={value}"


def _is_switch(key: tuple[str, str]) -> bool:
    from tiedae_cli.config import keys

    return key != keys.CODE_SIZE and [kind.get("type") for kind in keys.kinds(key)] == ["boolean"]


def _values(field: dict[str, Any]) -> str:
    """Return what a key's value looks like, as help shows it."""
    from tiedae_cli.config import keys

    kind = keys.alternatives(field)[0] if field else {}
    if "enum" in kind:
        return "|".join(map(str, kind["enum"]))
    names = {"integer": "N", "number": "X", "boolean": "", "array": "A,B,...", "object": "NAME", "string": "TEXT"}
    return names.get(kind.get("type", ""), "VALUE")


def _sentence(field: dict[str, Any]) -> str:
    """Return a key's first sentence, its range and its default."""
    text = " ".join(field["description"].split())
    first = re.split(r"[.;] (?![^(]*\))", text)[0].rstrip(".").replace("`", "")
    bounds = [f"{words} {field[name]:,}" for name, words in _BOUNDS.items() if name in field and abs(field[name]) < 2**32 - 1]
    default = field.get("default")
    shown = (
        "" if default in (None, [], {}) else f"default {','.join(map(str, default)) if isinstance(default, list) else default}"
    )
    told = "; ".join(part for part in (", ".join(bounds), shown) if part)
    return f"{first}. [{told}]" if told else f"{first}."


_BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
