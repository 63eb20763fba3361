"""Each key of the config as an option: ``--epochs 10`` is ``--set training.epochs=10``. Help and completion come from the schema."""

import os
import re
from collections.abc import Sequence
from typing import Any, get_args

from typer.core import TyperCommand

from tiedae_cli.cli.commands.options import ALL
from tiedae_cli.errors import InputError
from tiedae_cli.system.portability import quoted

ELSEWHERE = {  # options of other tools that are not keys of the config
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
MOST_USED_KEYS = (
    ("training", "epochs"),
    ("model", "hidden_sizes"),
    ("training", "learning_rate"),
    ("training", "batch_size"),
    ("model", "activation"),
    ("data", "label"),
)
MOST_USED_OPTIONS = {
    "train": ("--config", "--run-dir", "--resume", "--device"),
    "tune": ("--explain", "--minutes", "--trials", "--jobs", "--split", "--run-dir"),
}
MOST_TUNED_KEYS = (("model", "code_size"), ("training", "seed"), *MOST_USED_KEYS)


class WithSettings(TyperCommand):
    """A command that takes each key of the config as an option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line; options that are keys become ``--set``.

        Raises:
            InputError: an option is neither the command's own nor a key; the message says what to type.
        """
        if "--all" in args and {"--help", "-h"} & set(args):
            ctx.meta[ALL] = True
            args = [word for word in args if word != "--all"]
        if not ctx.resilient_parsing:  # completion parses a line that is not finished yet
            args = as_assignments(args, self._own_options(), str(ctx.info_name))
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options that people use most or, with ``--all``, the command's own and a panel per section of the config."""
        from tiedae_cli.config import keys

        if not ctx.meta.get(ALL):
            self._format_most_used(ctx, formatter)
            return
        super().format_options(ctx, formatter)
        sections: dict[str, list[tuple[str, str]]] = {}
        for key, field in keys.properties().items():
            sections.setdefault(key[0], []).append(_row(key, field))
        for section, rows in sections.items():
            with formatter.section(f"Keys of the config, {section}"):
                formatter.write_dl(rows, col_max=28)

    def _format_most_used(self, ctx: Any, formatter: Any) -> None:
        from tiedae_cli.config import keys

        own = [param.get_help_record(ctx) for param in self.params if set(param.opts) & set(MOST_USED_OPTIONS[ctx.info_name])]
        words = [param.get_help_record(ctx) for param in self.params if param.param_type_name == "argument"]
        with formatter.section("Arguments"):
            formatter.write_dl([record for record in words if record])
        with formatter.section("Most used options"):
            most_used = MOST_TUNED_KEYS if ctx.info_name == "tune" else MOST_USED_KEYS
            rows = [_row(key, keys.properties()[key]) for key in most_used]
            formatter.write_dl([*rows, *(record for record in own if record)], col_max=28)
        formatter.write_paragraph()
        formatter.write_text(f"All options and all keys of the config: tiedae {ctx.info_name} --help --all")

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


def as_assignments(args: Sequence[str], own: dict[str, bool], command: str = "train") -> list[str]:
    """Return a command line with ``--set KEY=VALUE`` for each option that is a key of the config.

    Args:
        args: the words.
        own: the command's own options, and whether each takes a value.
        command: its name.

    Raises:
        InputError: an option is neither.
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
        _refuse_loose_numbers(args, words, name[2:], command)
    return result


def _refuse_loose_numbers(args: Sequence[str], rest: Sequence[str], name: str, command: str) -> None:
    """Refuse ``--hidden-sizes 300 150``: the numbers after the first would be taken for data sets."""
    from tiedae_cli.config import keys

    key = keys.find_key(name)
    count = next((i for i, word in enumerate(rest) if not word.isdecimal() or os.path.exists(word)), len(rest))
    if key is None or not (command == "tune" or keys.is_list(key)) or not count:
        return
    before = args[: len(args) - len(rest)]
    joined = ",".join([before[-1].rstrip(","), *rest[:count]])
    line = " ".join(map(quoted, [*before[:-1], joined, *rest[count:]]))
    raise InputError(
        f"{' '.join((f'--{name}', before[-1], *rest[:count]))}: separate numbers by commas; type: tiedae {command} {line}"
    )


def _completion_item() -> Any:
    import typer.core

    return vars(typer.core)["CompletionItem"]


def _setting(name: str, value: str | None, words: list[str]) -> str:
    """Return ``KEY=VALUE`` for an option; without a value of its own it takes the next word."""
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
    if key == ("model", "output"):
        _refuse_folder_as_activation(name, value)
    return f"{name}={value}"


def _refuse_folder_as_activation(name: str, value: str) -> None:
    """Refuse ``--output FOLDER``: the option means the activation of the output layer."""
    from tiedae_cli.config.schema import Activation, Output

    if value.lower() not in (*get_args(Output), *get_args(Activation)):
        choices = " or ".join(get_args(Output))
        raise InputError(
            f"--{name} {value}: --{name} is the activation of the output layer ({choices}); for the run folder type: "
            f"--run-dir {quoted(value)}"
        )


def _is_switch(key: tuple[str, str]) -> bool:
    from tiedae_cli.config import keys

    return [kind.get("type") for kind in keys.kinds(key)] == ["boolean"]


def _row(key: tuple[str, str], field: dict[str, Any]) -> tuple[str, str]:
    """Return a key as an option with its value, and its help."""
    return f"--{key[1].replace('_', '-')} {_values(field)}", _sentence(field)


def _values(field: dict[str, Any]) -> str:
    """Return the form of a key's value for help."""
    from tiedae_cli.config import keys

    kind = keys.alternatives(field)[0] if field else {}
    if "enum" in kind:
        return "|".join(map(str, kind["enum"]))
    names = {"integer": "N", "number": "X", "boolean": "", "array": "A,B,...", "object": "NAME", "string": "TEXT"}
    return names.get(kind.get("type", ""), "VALUE")


def _sentence(field: dict[str, Any]) -> str:
    """Return the first sentence of a key's description, its range and its default."""
    text = " ".join(field["description"].split())
    first = re.split(r"[.;] (?![^(]*\))", text)[0].rstrip(".").replace("`", "")
    bounds = [f"{words} {field[name]:,}" for name, words in _BOUNDS.items() if name in field and abs(field[name]) < 2**32 - 1]
    default = field.get("default")
    shown = (
        "" if default in (None, [], {}) else f"default {','.join(map(str, default)) if isinstance(default, list) else default}"
    )
    limits = "; ".join(part for part in (", ".join(bounds), shown) if part)
    return f"{first}. [{limits}]" if limits else f"{first}."


_BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
